//! A packed cache of decoded images: the shorter side of each is resized once, and all pixels are in one file that is
//! read by position. Decoding photographs costs more than augmenting them; the cache pays for itself in the second
//! epoch.
//!
//! File layout: a line that names the format, the hash of the inputs (paths, sizes and times of images, shorter
//! side), the number of images, for each image its offset, width and height (0 = corrupt), then the pixels.
//!
//! Several data sets and several processes may share a cache folder. The name of the file holds a hash of the image
//! paths, so two data sets never share a cache; the hash of the inputs inside it tells whether it is up to date. A
//! builder holds a lock, writes to a temporary file of its own and renames it when it is complete; others wait for
//! it. Where the file system has no locks, each process builds its own temporary file and the last rename wins. A
//! reader keeps the file that it checked open, so a replacement of the cache does not affect it.

mod index;
mod inputs;
mod pack;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use burn_dataset::Dataset;
use image::RgbImage;

use crate::sets::files::Files;
use crate::{DataError, Sample, Watch};
use index::Place;
#[cfg(test)]
pub(crate) use index::read_any;
use inputs::{Inputs, lock};
use pack::{Bad, Packed, build, find};

/// An open cache.
pub(crate) struct Cache {
    path: PathBuf,
    file: File,
    places: Vec<Place>,
    labels: Vec<(u64, u32)>,
}

impl Cache {
    /// Opens the cache of `files` (with their [stamp](Files::stamp)) in `folder`, and builds it if there is none for
    /// exactly these files and `shorter`. With `skip`, corrupt files are left out and returned with their positions,
    /// in ascending order; without it, the first one is an error.
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

impl Dataset<Sample, DataError> for Cache {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let place = *DataError::at(&self.places, index)?;
        let (id, label) = *DataError::at(&self.labels, index)?;
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
