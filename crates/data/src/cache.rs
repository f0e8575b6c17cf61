//! A packed cache of decoded images: the shorter side of each is resized once, and all pixels lie in one file that is
//! read by position. Decoding photographs costs more than augmenting them; the cache pays for itself in the second
//! epoch.
//!
//! Layout of the file: a line that names the format, the hash of the inputs (paths, sizes and times of the image files,
//! shorter side), the number of images, for each image its offset, width and height (0 = corrupt), and then the pixels.
//!
//! Several data sets and several processes may share a cache folder. The name of the file holds a hash of the image
//! paths, so two data sets never have the same cache; the hash of the inputs inside it tells whether it is up to date.
//! A builder holds a lock, writes to a scratch file of its own and renames it when it is complete; others wait for it.
//! Where the file system has no locks, each process builds its own scratch file and the last rename wins. A reader keeps
//! the file that it checked open, so a cache that is replaced meanwhile does not change what the reader sees.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;
use tempfile::NamedTempFile;

use crate::augment::resize_shorter;
use crate::sets::files::Files;
use crate::{DataError, Sample, Watch};

/// Version 2: the decoder reads files that the one behind version 1 called corrupt.
const MAGIC: &[u8] = b"ssl-backdoor packed images 2\n";
/// Images decoded at a time while the cache is built.
const CHUNK: usize = 256;
/// Bytes of an image's entry in the index.
const ENTRY: usize = 16;
/// Hexadecimal digits of the hash in a file name.
const NAME_DIGITS: usize = 16;
/// Time between two attempts to get the builder's lock.
const RETRY: Duration = Duration::from_millis(100);

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

/// What a cache is made from.
struct Inputs<'a> {
    files: &'a Files,
    shorter: u32,
    /// The file.
    path: PathBuf,
    /// Hash of all that decides its bytes.
    hash: [u8; 32],
}

impl<'a> Inputs<'a> {
    fn new(folder: &Path, files: &'a Files, stamp: &blake3::Hash, shorter: u32) -> Self {
        let set = paths_hash(&files.paths());
        let mut hasher = blake3::Hasher::new();
        hasher.update(stamp.as_bytes());
        hasher.update(&shorter.to_le_bytes());
        hasher.update(set.as_bytes());
        let name = format!("train-{shorter}-{}.pack", &set.to_hex()[..NAME_DIGITS]);
        Self { files, shorter, path: folder.join(name), hash: *hasher.finalize().as_bytes() }
    }

    /// The file beside the cache that a builder locks.
    fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    /// What the names of scratch files begin and end with.
    fn scratch_name(&self) -> (String, &'static str) {
        let name = self.path.file_name().unwrap_or_default();
        (format!("{}.", name.to_string_lossy()), ".tmp")
    }
}

/// Hash of the absolute paths of images, symbolic links in their folders resolved: the identity of a set on this machine.
fn paths_hash(paths: &[PathBuf]) -> blake3::Hash {
    let mut folders = HashMap::new();
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = folders.entry(folder).or_insert_with(|| {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
        });
        let name = path.file_name().unwrap_or(OsStr::new(""));
        for part in [folder.as_os_str(), name] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_encoded_bytes());
        }
    }
    hasher.finalize()
}

/// A corrupt file: its position in the set, and what is wrong with it.
type Bad = (usize, DataError);

/// A cache file that was checked, still open.
struct Packed {
    file: File,
    places: Vec<Place>,
    bad: Vec<Bad>,
}

/// An open cache.
pub(crate) struct Cache {
    path: PathBuf,
    file: File,
    places: Vec<Place>,
    labels: Vec<(u64, u32)>,
}

impl Cache {
    /// Opens the cache of `files` (with their [stamp](Files::stamp)) in `folder`, and builds it if there is
    /// none for exactly these files and `shorter`. With `skip` corrupt files are left out and returned with their
    /// positions, in ascending order; without it the first one is an error.
    pub fn open(
        folder: &Path,
        files: &Files,
        stamp: &blake3::Hash,
        shorter: u32,
        skip: bool,
        watch: &Watch<'_>,
    ) -> Result<(Self, Vec<Bad>), DataError> {
        let inputs = Inputs::new(folder, files, stamp, shorter);
        let Packed { file, places, mut bad } = match find(&inputs) {
            Some(packed) => packed,
            None => {
                let wrong = |source| DataError::Write { path: folder.into(), source };
                std::fs::create_dir_all(folder).map_err(wrong)?;
                let _locked = lock(&inputs, watch);
                // Another process may have built it while this one waited.
                match find(&inputs) {
                    Some(packed) => packed,
                    None => build(&inputs, skip, watch)?,
                }
            }
        };
        if !skip && !bad.is_empty() {
            return Err(bad.swap_remove(0).1);
        }
        let whole = |i: &usize| places[*i].width > 0;
        let labels = files.labels();
        let labels = (0..places.len()).filter(whole).map(|i| labels[i]).collect();
        let places = places.iter().copied().filter(|place| place.width > 0).collect();
        Ok((Self { path: inputs.path, file, places, labels }, bad))
    }
}

/// The cache of these inputs, if there is a complete one. A file that it calls corrupt must still be: otherwise it is out
/// of date.
fn find(inputs: &Inputs<'_>) -> Option<Packed> {
    let file = File::open(&inputs.path).ok()?;
    let length = file.metadata().ok()?.len();
    let places = read_index(std::io::BufReader::new(&file), length, &inputs.hash)?;
    if places.len() != inputs.files.len() {
        return None;
    }
    let corrupt = (0..places.len()).filter(|&i| places[i].width == 0);
    let bad: Option<Vec<Bad>> = corrupt.map(|i| Some((i, inputs.files.get(i).err()?))).collect();
    Some(Packed { file, places, bad: bad? })
}

/// Waits until no other process builds this cache; the lock ends with the value. Scratch files that a killed builder left
/// are removed. None where the file system has no locks: then scratch files may be in use.
fn lock(inputs: &Inputs<'_>, watch: &Watch<'_>) -> Option<File> {
    let path = inputs.lock_path();
    let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                watch("awaiting cache", 0, inputs.files.len());
                std::thread::sleep(RETRY);
            }
            Err(TryLockError::Error(_)) => return None,
        }
    }
    let (start, end) = inputs.scratch_name();
    for entry in inputs.path.parent()?.read_dir().ok()?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&start) && name.ends_with(end) {
            // At worst it stays where it is.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Some(file)
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

/// Writes the cache to a scratch file of its own and renames it. The scratch file goes when something fails.
fn build(inputs: &Inputs<'_>, skip: bool, watch: &Watch<'_>) -> Result<Packed, DataError> {
    let Inputs { files, shorter, path, hash } = inputs;
    let wrong = |source| DataError::Write { path: path.clone(), source };
    let mut file = BufWriter::with_capacity(1 << 20, scratch(inputs).map_err(wrong)?);
    let count = files.len();
    let start = MAGIC.len() + 32 + 8 + count * ENTRY;
    file.write_all(&vec![0; start]).map_err(wrong)?;
    let mut places = Vec::with_capacity(count);
    let mut bad = Vec::new();
    let mut offset = start as u64;
    for first in (0..count).step_by(CHUNK) {
        let some = first..count.min(first + CHUNK);
        watch("caching images", some.end, count);
        let images: Vec<Result<RgbImage, DataError>> = some
            .into_par_iter()
            .map(|i| files.get(i).map(|sample| resize_shorter(&sample.image, *shorter)))
            .collect();
        for image in images {
            match image {
                Ok(image) => {
                    let (width, height) = image.dimensions();
                    let place = Place { offset, width, height };
                    offset += place.len();
                    places.push(place);
                    let needed = |source| wrong(with_need(source, offset, places.len(), count));
                    file.write_all(image.as_raw()).map_err(needed)?;
                }
                Err(error) if skip => {
                    bad.push((places.len(), error));
                    places.push(Place::default());
                }
                Err(error) => return Err(error),
            }
        }
    }
    let needed = |source| wrong(with_need(source, offset, count, count));
    let mut head = [MAGIC, hash, &(count as u64).to_le_bytes()].concat();
    for place in &places {
        head.extend(place.offset.to_le_bytes());
        head.extend(place.width.to_le_bytes());
        head.extend(place.height.to_le_bytes());
    }
    file.seek(SeekFrom::Start(0)).map_err(needed)?;
    file.write_all(&head).map_err(needed)?;
    let file = file.into_inner().map_err(|e| needed(e.into_error()))?;
    file.as_file().sync_all().map_err(needed)?;
    // The very file that was written, whatever another process renames to this path next.
    let file = file.persist(path).map_err(|e| wrong(e.error))?;
    Ok(Packed { file, places, bad })
}

/// A new file beside the cache, readable as the user's other files are.
fn scratch(inputs: &Inputs<'_>) -> std::io::Result<NamedTempFile> {
    let (start, end) = inputs.scratch_name();
    let mut builder = tempfile::Builder::new();
    builder.prefix(&start).suffix(end);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(inputs.path.parent().unwrap_or(Path::new("")))
}

/// An error of writing with the size that the whole cache will have, estimated from its first `done` images of `count`.
fn with_need(source: std::io::Error, bytes: u64, done: usize, count: usize) -> std::io::Error {
    let whole = bytes as f64 * count as f64 / done.max(1) as f64;
    let text = format!("{source} (the cache of {count} images needs about {:.1} MB)", whole / 1e6);
    std::io::Error::new(source.kind(), text)
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sets::folder::Entry;

    /// Five images of one colour each, `first` and up, in `folder`.
    fn files(folder: &Path, first: u8) -> Files {
        std::fs::create_dir_all(folder).unwrap();
        let entry = |i: u32| {
            let path = folder.join(format!("{i}.png"));
            if !path.exists() {
                let color = image::Rgb([first + i as u8; 3]);
                RgbImage::from_pixel(20 + 4 * i, 12, color).save(&path).unwrap();
            }
            Entry { path, label: i }
        };
        Files::new((0..5).map(entry).collect(), folder, false).unwrap()
    }

    /// Opens a cache at shorter side 6; `builds` counts those that this call makes.
    fn open(
        folder: &Path,
        set: &Files,
        skip: bool,
        builds: &AtomicUsize,
    ) -> Result<(Cache, Vec<Bad>), DataError> {
        let watch = |what: &str, _, _| {
            if what == "caching images" {
                builds.fetch_add(1, Ordering::Relaxed);
            }
        };
        Cache::open(folder, set, &set.stamp().unwrap(), 6, skip, &watch)
    }

    /// The names in a folder that end so.
    fn ending(folder: &Path, end: &str) -> Vec<String> {
        let names = folder.read_dir().unwrap().map(|e| e.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name.ends_with(end)).collect()
    }

    #[track_caller]
    fn assert_packed(cache: &Cache, set: &Files) {
        assert_eq!(cache.len(), set.len());
        for i in 0..set.len() {
            let (plain, packed) = (set.get(i).unwrap(), cache.get(i).unwrap());
            assert_eq!((plain.id, plain.label), (packed.id, packed.label));
            assert_eq!(resize_shorter(&plain.image, 6), packed.image);
        }
    }

    #[test]
    fn the_cache_gives_the_resized_images_and_is_rebuilt_when_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let set = files(folder.path(), 0);
        let builds = AtomicUsize::new(0);
        let open = |set: &Files, skip| open(&packs, set, skip, &builds);
        let (cache, bad) = open(&set, false).unwrap();
        assert!(bad.is_empty());
        assert_packed(&cache, &set);
        assert_eq!(cache.get(4).unwrap().image.dimensions(), (18, 6));
        let built = || builds.load(Ordering::Relaxed);
        assert_eq!(built(), 1);
        open(&set, false).unwrap();
        assert_eq!(built(), 1);
        // A torn file is not trusted.
        let path = packs.join(&ending(&packs, ".pack")[0]);
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
            assert_eq!((bad.len(), bad[0].0, cache.len()), (1, 3, 4));
            assert!(bad[0].1.to_string().contains("3.png"));
            assert_eq!(cache.get(3).unwrap().label, 4);
        }
        assert_eq!(built(), 4);
        // Read again under the strict rule, the corrupt file is an error though the cache knows it.
        assert!(open(&set, false).is_err());
        // One cache in the folder, and no scratch file.
        assert_eq!((ending(&packs, ".pack").len(), ending(&packs, ".tmp").len()), (1, 0));
    }

    #[test]
    fn field_f02_builders_of_one_cache_wait_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let set = files(folder.path(), 0);
        let builds = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_packed(&open(&packs, &set, false, &builds).unwrap().0, &set));
            }
        });
        assert_eq!(builds.load(Ordering::Relaxed), 1);
        assert_eq!(ending(&packs, ".tmp").len(), 0);
    }

    #[test]
    fn field_f02_sets_in_one_cache_folder_keep_their_own_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let sets = ["a", "b"].map(|name| files(&folder.path().join(name), name.as_bytes()[0]));
        let builds = AtomicUsize::new(0);
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for set in &sets {
                    let open = || open(&packs, set, false, &builds).unwrap().0;
                    scope.spawn(move || assert_packed(&open(), set));
                }
            });
        }
        // Both stay.
        assert_eq!((builds.load(Ordering::Relaxed), ending(&packs, ".pack").len()), (2, 2));
    }

    #[test]
    #[cfg(unix)]
    fn field_f02_a_folder_behind_a_link_is_not_taken_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let (packs, link) = (folder.path().join("cache"), folder.path().join("link"));
        let builds = AtomicUsize::new(0);
        for name in ["a", "b"] {
            let real = folder.path().join(name);
            files(&real, name.as_bytes()[0]);
            // Same names, sizes and times: all that the fingerprint of the files looks at.
            for i in 0..5 {
                let file =
                    File::options().append(true).open(real.join(format!("{i}.png"))).unwrap();
                file.set_len(400).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&real, &link).unwrap();
            let set = files(&link, 0);
            assert_packed(&open(&packs, &set, false, &builds).unwrap().0, &set);
        }
    }

    #[test]
    fn field_f02_an_open_cache_survives_its_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let set = files(folder.path(), 0);
        let builds = AtomicUsize::new(0);
        let (cache, _) = open(&packs, &set, false, &builds).unwrap();
        let before = cache.get(0).unwrap();
        RgbImage::from_pixel(50, 12, image::Rgb([200; 3]))
            .save(folder.path().join("0.png"))
            .unwrap();
        let (after, _) = open(&packs, &set, false, &builds).unwrap();
        assert_eq!(builds.load(Ordering::Relaxed), 2);
        assert_eq!(cache.get(0).unwrap(), before);
        assert_packed(&after, &set);
    }

    #[test]
    fn field_f02_what_a_killed_builder_left_does_no_harm_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let set = files(folder.path(), 0);
        let inputs = Inputs::new(&packs, &set, &set.stamp().unwrap(), 6);
        std::fs::create_dir_all(&packs).unwrap();
        scratch(&inputs).unwrap().keep().unwrap();
        std::fs::write(inputs.lock_path(), "").unwrap();
        // A cache of an older version, whose pixels may be those of another decoder.
        std::fs::write(packs.join("train-6.pack"), b"ssl-backdoor packed images 1\n").unwrap();
        assert_eq!(ending(&packs, ".tmp").len(), 1);
        assert_packed(&open(&packs, &set, false, &AtomicUsize::new(0)).unwrap().0, &set);
        assert_eq!(ending(&packs, ".tmp").len(), 0);
    }

    #[test]
    fn field_f02_a_failed_build_leaves_nothing_but_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let set = files(folder.path(), 0);
        std::fs::write(folder.path().join("3.png"), b"not an image").unwrap();
        assert!(open(&packs, &set, false, &AtomicUsize::new(0)).is_err());
        let left = packs.read_dir().unwrap().map(|e| e.unwrap().path());
        assert!(left.map(|path| path.extension().unwrap().to_owned()).eq(["lock"]));
        // A cache folder that cannot be one.
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = open(&folder.path().join("file"), &set, false, &AtomicUsize::new(0));
        assert!(error.err().unwrap().to_string().contains("file"));
    }

    #[test]
    fn a_file_that_the_cache_calls_corrupt_and_that_is_not_makes_it_out_of_date() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("cache");
        let set = files(folder.path(), 0);
        let broken = folder.path().join("3.png");
        let whole = std::fs::read(&broken).unwrap();
        let write = |bytes: &[u8]| {
            let mut file = File::create(&broken).unwrap();
            file.write_all(bytes).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        // As long as the whole file, so that neither size nor time tell.
        write(&vec![7; whole.len()]);
        let builds = AtomicUsize::new(0);
        let (cache, bad) = open(&packs, &set, true, &builds).unwrap();
        assert_eq!((cache.len(), bad.len()), (4, 1));
        write(&whole);
        for skip in [true, false] {
            let (cache, bad) = open(&packs, &set, skip, &builds).unwrap();
            assert!(bad.is_empty());
            assert_packed(&cache, &set);
        }
        assert_eq!(builds.load(Ordering::Relaxed), 2);
    }
}
