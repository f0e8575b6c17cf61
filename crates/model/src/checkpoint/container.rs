//! The files of `torch.save`: a ZIP archive since PyTorch 1.6, before that pickles followed by the numbers.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Item, Node, Pickle};
use super::torch::Graph;

/// A checkpoint's pickle, and the positions of its storages in the file.
pub(super) struct Container {
    /// The bytes that `pickle` refers to: the pickle itself in an archive, otherwise the whole file.
    pub text: Range<usize>,
    pub pickle: Pickle,
    pub storages: BTreeMap<String, Stored>,
    pub big_endian: bool,
}

/// The position of a storage in the file.
pub(super) struct Stored {
    pub bytes: Range<usize>,
    /// The checksum of the bytes, in an archive.
    pub crc32: Option<u32>,
}

/// The integer 0x1950a86a20f9469cfc6c at the start of older files: in protocol 2 or later, and earlier ones.
const MAGIC: [&[u8]; 2] =
    [b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"L119547037146038801333356L"];

/// Finds the parts of a checkpoint in the bytes of its file.
///
/// # Errors
/// A message if it is not a checkpoint, or is damaged.
pub(super) fn open(file: &[u8]) -> Result<Container, String> {
    if file.starts_with(b"PK") {
        return archive(file);
    }
    let head = &file[..file.len().min(32)];
    if MAGIC.iter().any(|magic| head.windows(magic.len()).any(|part| part == *magic)) {
        return stream(file);
    }
    if file.get(257..262) == Some(b"ustar".as_slice()) {
        return Err(
            "is a TAR archive, as PyTorch wrote them before 2017: load it with PyTorch and \
                    save it again"
                .into(),
        );
    }
    if file.is_empty() {
        return Err("is empty".into());
    }
    Err("is not a PyTorch checkpoint: it is neither a ZIP archive nor a pickle of torch.save"
        .into())
}

fn archive(file: &[u8]) -> Result<Container, String> {
    let damaged = |_| "is a damaged or truncated ZIP archive".to_owned();
    let mut zip = ZipArchive::new(Cursor::new(file)).map_err(damaged)?;
    let mut entries = BTreeMap::new();
    for at in 0..zip.len() {
        let entry = zip.by_index_raw(at).map_err(damaged)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.zip(usize::try_from(entry.compressed_size()).ok());
        let end = end.and_then(|(start, length)| start.checked_add(length));
        let bytes = start.zip(end).map(|(start, end)| start..end);
        let bytes = bytes.filter(|range| file.get(range.clone()).is_some());
        let bytes =
            bytes.ok_or_else(|| format!("is a damaged ZIP archive: {name} is truncated"))?;
        let stored = entry.compression() == CompressionMethod::Stored;
        entries.insert(name, (Stored { bytes, crc32: Some(entry.crc32()) }, stored));
    }
    // `NAME/data.pkl` for any NAME; a TorchScript archive has its constants beside it.
    let main = entries.keys().filter(|name| name.ends_with("/data.pkl") || *name == "data.pkl");
    let main = main.min_by_key(|name| name.len()).cloned();
    let main =
        main.ok_or("is a ZIP archive without data.pkl, so it is not a PyTorch checkpoint")?;
    let folder = main.trim_end_matches("data.pkl").to_owned();
    let plain = |(part, plain): (Stored, bool), name: &str| match plain {
        true => Ok(part),
        false => Err(format!("{name} in it is compressed: load it with PyTorch and save it again")),
    };
    let order = entries.get(&format!("{folder}byteorder"));
    let big_endian = order.is_some_and(|(part, _)| file[part.bytes.clone()].starts_with(b"big"));
    let text = match entries.remove(&main) {
        Some(part) => plain(part, &main)?,
        None => return Err(format!("{main} is missing")),
    };
    checked(file, &text).map_err(|reason| format!("{main}: {reason}"))?;
    let text = text.bytes;
    let pickle = pickle::read(&file[text.clone()], 0).map_err(|e| e.to_string())?;
    let mut storages = BTreeMap::new();
    let data = format!("{folder}data/");
    for (name, part) in entries {
        if let Some(key) = name.strip_prefix(&data) {
            storages.insert(key.to_owned(), plain(part, &name)?);
        }
    }
    Ok(Container { text, pickle, storages, big_endian })
}

/// The bytes of a part of `file`.
///
/// # Errors
/// A message if they are truncated, or differ from those that were written.
pub(super) fn checked<'a>(file: &'a [u8], part: &Stored) -> Result<&'a [u8], String> {
    let bytes = file.get(part.bytes.clone()).ok_or("it is truncated")?;
    match part.crc32 {
        Some(wanted) if crc32fast::hash(bytes) != wanted => {
            Err("its checksum is wrong: the file is damaged".into())
        }
        _ => Ok(bytes),
    }
}

/// Five pickles (magic number, version, system, objects, and keys of the storages), then the storages, each preceded
/// by its length.
fn stream(file: &[u8]) -> Result<Container, String> {
    let next = |at: usize| pickle::read(file, at).map_err(|e| e.to_string());
    let magic = next(0)?;
    let version = next(magic.end)?;
    let system = next(version.end)?;
    let pickle = next(system.end)?;
    let keys = next(pickle.end)?;

    let graph = Graph { pickle: &system, bytes: file };
    let big_endian = match graph.node(system.root) {
        Some(Node::Dict(pairs)) => pairs.iter().any(|(key, value)| {
            graph.text(*key).as_deref() == Some("little_endian") && *value == Item::Bool(false)
        }),
        _ => false,
    };
    let graph = Graph { pickle: &pickle, bytes: file };
    let ids = pickle.nodes.iter().filter_map(|node| match node {
        Node::Persistent(id) => graph.storage(*id).ok(),
        _ => None,
    });
    let sizes: BTreeMap<String, usize> =
        ids.map(|storage| (storage.key, storage.kind.size())).collect();

    let graph = Graph { pickle: &keys, bytes: file };
    let (mut at, mut storages) = (keys.end, BTreeMap::new());
    for key in graph.sequence(keys.root).ok_or("has no list of its storages")? {
        let key = graph.text(*key).ok_or("has a storage without a name")?;
        // Nothing refers to it, so its size and the start of the next one are unknown.
        let Some(size) = sizes.get(&key) else { break };
        let head = file.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let count = head.map(|head| match big_endian {
            true => u64::from_be_bytes(*head),
            false => u64::from_le_bytes(*head),
        });
        let length = count.and_then(|count| usize::try_from(count).ok()?.checked_mul(*size));
        let start = at.saturating_add(8);
        let end = length.and_then(|length| start.checked_add(length));
        let end = end.filter(|end| *end <= file.len());
        at = end.ok_or_else(|| format!("is truncated: storage {key} is incomplete"))?;
        storages.insert(key, Stored { bytes: start..at, crc32: None });
    }
    Ok(Container { text: 0..file.len(), pickle, storages, big_endian })
}
