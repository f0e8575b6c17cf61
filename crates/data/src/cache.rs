//! A packed cache of decoded images: each one's shorter side resized once, all in one file, read by
//! position. Decoding photographs costs more than augmenting them; the cache pays for itself in the
//! second epoch.
//!
//! The file: a line that names the format, the hash of what went in (paths, sizes and times of the
//! files, shorter side), the number of images, for each its offset, width and height (0 = corrupt), and
//! then the pixels.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;

use crate::augment::resize_shorter;
use crate::sets::files::Files;
use crate::{DataError, Sample, Watch};

const MAGIC: &[u8] = b"ssl-backdoor packed images 1\n";
/// Images decoded at a time while the cache is built.
const CHUNK: usize = 256;
/// Bytes of an image's entry in the index.
const ENTRY: usize = 16;

/// Where an image lies; width 0 for a corrupt one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    offset: u64,
    width: u32,
    height: u32,
}

impl Place {
    /// Bytes of the image; a lying index must not overflow it.
    fn len(&self) -> u64 {
        (u64::from(self.width) * u64::from(self.height)).saturating_mul(3)
    }
}

/// An open cache.
pub(crate) struct Cache {
    path: PathBuf,
    file: File,
    places: Vec<Place>,
    labels: Vec<(u64, u32)>,
}

impl Cache {
    /// Opens the cache of `files` (with their [stamp](Files::stamp)) at `path`, or builds it if there is none for just these files and
    /// `shorter`. With `skip` corrupt files are left out and their positions returned; without, the
    /// first one is an error.
    pub fn open(
        path: &Path,
        files: &Files,
        fingerprint: &blake3::Hash,
        shorter: u32,
        skip: bool,
        watch: &Watch<'_>,
    ) -> Result<(Self, Vec<usize>), DataError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(fingerprint.as_bytes());
        hasher.update(&shorter.to_le_bytes());
        let inputs = *hasher.finalize().as_bytes();
        let wrong = |source| DataError::Read { path: path.into(), source };
        let known = File::open(path).ok().and_then(|file| {
            let length = file.metadata().ok()?.len();
            Some((read_index(std::io::BufReader::new(&file), length, &inputs)?, file))
        });
        let (places, file) = match known {
            Some((places, file)) if places.len() == files.len() => (places, file),
            _ => {
                let places = build(path, files, shorter, &inputs, skip, watch)?;
                (places, File::open(path).map_err(wrong)?)
            }
        };
        let bad: Vec<usize> = (0..places.len()).filter(|&i| places[i].width == 0).collect();
        if let (Some(&first), false) = (bad.first(), skip) {
            // Says what is wrong with it.
            files.get(first)?;
        }
        let whole = |i: &usize| places[*i].width > 0;
        let labels = files.labels();
        let labels = (0..places.len()).filter(whole).map(|i| labels[i]).collect();
        let places = places.iter().copied().filter(|place| place.width > 0).collect();
        Ok((Self { path: path.into(), file, places, labels }, bad))
    }
}

/// The index, if a file of `length` bytes is a whole cache of these inputs.
fn read_index(mut reader: impl Read, length: u64, inputs: &[u8; 32]) -> Option<Vec<Place>> {
    let mut head = vec![0; MAGIC.len() + 32 + 8];
    reader.read_exact(&mut head).ok()?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (found, count) = rest.split_at(32);
    if magic != MAGIC || found != inputs {
        return None;
    }
    let count = u64::from_le_bytes(count.try_into().ok()?);
    let start = (head.len() as u64).checked_add(count.checked_mul(ENTRY as u64)?)?;
    if start > length {
        return None;
    }
    let mut index = vec![0; count as usize * ENTRY];
    reader.read_exact(&mut index).ok()?;
    let mut end = start;
    let mut places = Vec::with_capacity(count as usize);
    for entry in index.chunks_exact(ENTRY) {
        let (offset, size) = entry.split_at(8);
        let (width, height) = size.split_at(4);
        let place = Place {
            offset: u64::from_le_bytes(offset.try_into().ok()?),
            width: u32::from_le_bytes(width.try_into().ok()?),
            height: u32::from_le_bytes(height.try_into().ok()?),
        };
        if place.width > 0 {
            if place.offset != end || place.height == 0 {
                return None;
            }
            end = end.checked_add(place.len())?;
        }
        places.push(place);
    }
    (end == length).then_some(places)
}

/// Writes the cache under a temporary name and renames it.
fn build(
    path: &Path,
    files: &Files,
    shorter: u32,
    inputs: &[u8; 32],
    skip: bool,
    watch: &Watch<'_>,
) -> Result<Vec<Place>, DataError> {
    let wrong = |source| DataError::Write { path: path.into(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    let scratch = path.with_extension("tmp");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&scratch).map_err(wrong)?);
    let count = files.len();
    let start = MAGIC.len() + 32 + 8 + count * ENTRY;
    file.write_all(&vec![0; start]).map_err(wrong)?;
    let mut places = Vec::with_capacity(count);
    let mut offset = start as u64;
    for first in (0..count).step_by(CHUNK) {
        let some = first..count.min(first + CHUNK);
        watch("caching images", some.end, count);
        let images: Vec<Result<RgbImage, DataError>> = some
            .into_par_iter()
            .map(|i| files.get(i).map(|sample| resize_shorter(&sample.image, shorter)))
            .collect();
        for image in images {
            match image {
                Ok(image) => {
                    let (width, height) = image.dimensions();
                    file.write_all(image.as_raw()).map_err(wrong)?;
                    let place = Place { offset, width, height };
                    offset += place.len();
                    places.push(place);
                }
                Err(_) if skip => places.push(Place::default()),
                Err(error) => return Err(error),
            }
        }
    }
    let mut head = [MAGIC, inputs, &(count as u64).to_le_bytes()].concat();
    for place in &places {
        head.extend(place.offset.to_le_bytes());
        head.extend(place.width.to_le_bytes());
        head.extend(place.height.to_le_bytes());
    }
    file.seek(SeekFrom::Start(0)).map_err(wrong)?;
    file.write_all(&head).map_err(wrong)?;
    let file = file.into_inner().map_err(|e| wrong(e.into_error()))?;
    file.sync_all().and_then(|()| std::fs::rename(&scratch, path)).map_err(wrong)?;
    Ok(places)
}

impl Dataset<Sample, DataError> for Cache {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let place = self.places[index];
        let (id, label) = self.labels[index];
        let mut bytes = vec![0; place.len() as usize];
        read_at(&self.file, &mut bytes, place.offset)
            .map_err(|source| DataError::Read { path: self.path.clone(), source })?;
        let image = RgbImage::from_raw(place.width, place.height, bytes).unwrap_or_default();
        Ok(Sample::new(id, image, label))
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

/// For the test that feeds it anything.
#[cfg(test)]
pub(crate) fn read_any(bytes: &[u8]) -> Option<usize> {
    Some(read_index(bytes, bytes.len() as u64, &[7; 32])?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::folder::Entry;

    fn files(folder: &Path) -> Files {
        let entry = |i: u32| {
            let path = folder.join(format!("{i}.png"));
            if !path.exists() {
                RgbImage::from_pixel(20 + 4 * i, 12, image::Rgb([i as u8; 3])).save(&path).unwrap();
            }
            Entry { path, label: i }
        };
        Files::new((0..5).map(entry).collect(), folder, false).unwrap()
    }

    #[test]
    fn the_cache_gives_the_resized_images_and_is_rebuilt_when_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/train.pack");
        let set = files(folder.path());
        let builds = std::sync::atomic::AtomicUsize::new(0);
        let watch = |_: &str, _, _| {
            builds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let open =
            |set: &Files, skip| Cache::open(&path, set, &set.stamp().unwrap(), 6, skip, &watch);
        let (cache, bad) = open(&set, false).unwrap();
        assert!(bad.is_empty() && cache.len() == 5);
        for i in 0..5 {
            let (plain, packed) = (set.get(i).unwrap(), cache.get(i).unwrap());
            assert_eq!((plain.id, plain.label), (packed.id, packed.label));
            assert_eq!(resize_shorter(&plain.image, 6), packed.image);
            assert_eq!(packed.image.dimensions(), (10 + 2 * i as u32, 6));
        }
        let built = || builds.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(built(), 1);
        open(&set, false).unwrap();
        assert_eq!(built(), 1);
        // A torn file is not trusted.
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        open(&set, false).unwrap();
        assert_eq!(built(), 2);
        // A changed file, here to a corrupt one.
        std::fs::write(folder.path().join("3.png"), b"not an image").unwrap();
        let error = open(&set, false).err().unwrap().to_string();
        assert!(error.contains("3.png"), "{error}");
        for _ in 0..2 {
            let (cache, bad) = open(&set, true).unwrap();
            assert_eq!((bad, cache.len()), (vec![3], 4));
            assert_eq!(cache.get(3).unwrap().label, 4);
        }
        assert_eq!(built(), 4);
        // Read again under the strict rule, the corrupt file is an error though the cache knows it.
        assert!(open(&set, false).is_err());
    }
}
