//! Building a cache file, and finding one that is complete and up to date.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;
use ssl_backdoor_files::Shared;

use super::index::{ENTRY, MAGIC, Place, read_index};
use super::inputs::Inputs;
use crate::augment::resize_shorter;
use crate::{DataError, Watch};

/// Images decoded at a time while the cache is built.
const CHUNK: usize = 256;

/// A corrupt file: its position in the set, and the error.
pub(crate) type Bad = (usize, DataError);

/// An open cache file that was checked.
pub(super) struct Packed {
    pub file: File,
    pub places: Vec<Place>,
    pub bad: Vec<Bad>,
}

/// The cache of these inputs, if there is a complete one. An image file that it calls corrupt must still be corrupt:
/// otherwise the cache is out of date.
pub(super) fn find(inputs: &Inputs<'_>) -> Option<Packed> {
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

/// Writes the cache to its own temporary file and renames it. The temporary file is removed on failure.
pub(super) fn build(
    inputs: &Inputs<'_>,
    skip: bool,
    watch: &Watch<'_>,
) -> Result<Packed, DataError> {
    let Inputs { files, shorter, path, hash } = inputs;
    let wrong = |source| DataError::Write { path: path.clone(), source };
    let mut file = BufWriter::with_capacity(1 << 20, Shared::beside(path).map_err(wrong)?);
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
    let file = file.finish(path).map_err(needed)?;
    Ok(Packed { file, places, bad })
}

/// Adds to a write error the size of the whole cache, estimated from its first `done` images of `count`.
fn with_need(source: std::io::Error, bytes: u64, done: usize, count: usize) -> std::io::Error {
    let whole = bytes as f64 * count as f64 / done.max(1) as f64;
    let text = format!("{source} (the cache of {count} images needs about {:.1} MB)", whole / 1e6);
    std::io::Error::new(source.kind(), text)
}
