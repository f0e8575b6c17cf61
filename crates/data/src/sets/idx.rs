//! The IDX format of the MNIST family: a big-endian header, then bytes; plain or gzip.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::input::format;
use crate::DataError;

/// Images or labels of an IDX file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Idx {
    /// Sizes from the outermost: `[count]` or `[count, height, width]`.
    pub dims: Vec<usize>,
    /// The bytes, row by row.
    pub bytes: Vec<u8>,
}

/// No file of the family is larger (MNIST is 47 MB): limits what a wrong header can allocate.
const MAX_BYTES: usize = 1 << 30;

/// The file `stem` of `rank` dimensions in `folder`, plain or gzip.
pub(crate) fn find(folder: &Path, stem: &str, rank: usize) -> Result<PathBuf, DataError> {
    let name = format!("{stem}-idx{rank}-ubyte");
    // A common copy of MNIST has a dot here.
    let dotted = format!("{stem}.idx{rank}-ubyte");
    let names = [name.clone(), format!("{name}.gz"), dotted.clone(), format!("{dotted}.gz")];
    let looked: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    looked.iter().find(|path| path.is_file()).cloned().ok_or_else(|| DataError::Missing {
        name,
        looked: looked.clone(),
        hint: "Other files of the set exist, so it is incomplete.".into(),
    })
}

/// Reads `path`, which must hold `rank` dimensions of unsigned bytes.
pub(crate) fn read(path: &Path, rank: usize) -> Result<Idx, DataError> {
    let raw = fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    let raw = if raw.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        GzDecoder::new(raw.as_slice())
            .take(MAX_BYTES as u64)
            .read_to_end(&mut plain)
            .map_err(|e| format(path, format!("gzip stream is broken or truncated: {e}")))?;
        plain
    } else {
        raw
    };
    parse(&raw, rank).map_err(|reason| format(path, reason))
}

/// Parses an IDX file's bytes.
pub(crate) fn parse(raw: &[u8], rank: usize) -> Result<Idx, String> {
    let header = 4 + 4 * rank;
    if raw.len() < header {
        return Err(format!("truncated: {} bytes, but an IDX header has {header}", raw.len()));
    }
    if raw[0..3] != [0, 0, 8] || raw[3] as usize != rank {
        return Err(format!(
            "not the IDX file expected here: it starts with {:02x?}, expected [00, 00, 08, {rank:02x}]",
            &raw[0..4]
        ));
    }
    let dims: Vec<usize> = raw[4..header]
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize)
        .collect();
    let expected = dims
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_BYTES)
        .ok_or_else(|| {
            format!("its header claims {dims:?} bytes, more than any file of its kind")
        })?;
    let body = &raw[header..];
    if body.len() != expected {
        return Err(format!(
            "{}: its header claims {dims:?} = {expected} bytes, but it has {}",
            if body.len() < expected { "truncated" } else { "too long" },
            body.len()
        ));
    }
    Ok(Idx { dims, bytes: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(dims: &[u32], body: &[u8]) -> Vec<u8> {
        let mut raw = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|d| raw.extend(d.to_be_bytes()));
        raw.extend(body);
        raw
    }

    #[test]
    fn reads_plain_and_gzip_alike() {
        let raw = file(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, &raw).unwrap();
        let zipped = folder.path().join("zipped");
        let mut encoder =
            flate2::write::GzEncoder::new(fs::File::create(&zipped).unwrap(), Default::default());
        encoder.write_all(&raw).unwrap();
        encoder.finish().unwrap();
        let idx = read(&plain, 3).unwrap();
        assert_eq!(idx, Idx { dims: vec![2, 1, 3], bytes: vec![1, 2, 3, 4, 5, 6] });
        assert_eq!(idx, read(&zipped, 3).unwrap());
        let gz = fs::read(&zipped).unwrap();
        fs::write(&zipped, &gz[..gz.len() - 9]).unwrap();
        assert!(read(&zipped, 3).unwrap_err().to_string().contains("truncated"));
    }

    #[test]
    fn broken_files_are_refused_with_the_reason() {
        for (raw, word) in [
            (vec![], "truncated"),
            (file(&[2, 1, 3], &[1, 2, 3]), "truncated"),
            (file(&[2, 1, 3], &[0; 7]), "too long"),
            (file(&[12], &[0; 12]), "not the IDX file"),
            (file(&[u32::MAX, u32::MAX, u32::MAX], &[]), "claims"),
        ] {
            let reason = parse(&raw, 3).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
