//! The head of a cache file: the position of each image.

use std::io::Read;

/// Version 2: its decoder reads files that the decoder of version 1 called corrupt.
pub(super) const MAGIC: &[u8] = b"ssl-backdoor packed images 2\n";
/// Bytes of an image's entry in the index.
pub(super) const ENTRY: usize = 16;

/// The position of an image; width 0 for a corrupt one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub width: u32,
    pub height: u32,
}

impl Place {
    /// Bytes of the image; saturates, so that a wrong index does not overflow it.
    pub fn len(&self) -> u64 {
        (u64::from(self.width) * u64::from(self.height)).saturating_mul(3)
    }
}

/// The index, if a file of `length` bytes is a complete cache of these inputs.
pub(super) fn read_index(
    mut reader: impl Read,
    length: u64,
    inputs: &[u8; 32],
) -> Option<Vec<Place>> {
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

/// For the test that feeds it arbitrary bytes.
#[cfg(test)]
pub(crate) fn read_any(bytes: &[u8]) -> Option<usize> {
    Some(read_index(bytes, bytes.len() as u64, &[7; 32])?.len())
}
