//! The structure of a JPEG: its segments and scans up to the marker that ends the image. Bytes after that marker
//! do not belong to the image: motion photographs, further pictures of a multi-picture file, padding.

use memchr::{memchr, memchr_iter};

use crate::ImageError;

/// The bytes of a JPEG, from its first marker to its last. What follows does not belong to the image.
///
/// # Errors
/// The image is truncated, or of an unsupported kind.
pub fn jpeg_bytes(bytes: &[u8]) -> Result<&[u8], ImageError> {
    Ok(image_of(bytes)?)
}

/// As [`jpeg_bytes`].
///
/// # Errors
/// The image is truncated, or of an unsupported kind.
pub(super) fn image_of(bytes: &[u8]) -> Result<&[u8], String> {
    let truncated = || "truncated JPEG: the end of the image is missing".to_owned();
    // After the marker that starts the image.
    let mut at = 2;
    loop {
        let marker = marker_at(bytes, &mut at).ok_or_else(truncated)?;
        match marker {
            END => return Ok(&bytes[..at]),
            // These markers have no segment.
            RESTART_0..=RESTART_7 | 0x01 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).ok_or_else(truncated)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let segment = bytes.get(at + 2..at + length.max(2)).ok_or_else(truncated)?;
        if is_frame(marker) {
            readable(marker, segment)?;
        }
        at += length.max(2);
        if marker == SCAN {
            at += scan_length(&bytes[at..]);
        }
    }
}

const RESTART_0: u8 = 0xd0;
const RESTART_7: u8 = 0xd7;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// The next marker at or after `at`, which moves past it. Bytes that belong to no segment are skipped, and a marker
/// may be preceded by any number of 0xff.
fn marker_at(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += memchr(0xff, bytes.get(*at..)?)? + 1;
        *at += bytes.get(*at..)?.iter().position(|&byte| byte != 0xff)?;
        let marker = bytes[*at];
        *at += 1;
        if marker != 0 {
            return Some(marker);
        }
    }
}

/// Length of the compressed data at the head of `bytes`: up to the next marker that is not part of them.
fn scan_length(bytes: &[u8]) -> usize {
    let ends = |&at: &usize| {
        bytes.get(at + 1).is_none_or(|next| !matches!(next, 0 | 0xff | RESTART_0..=RESTART_7))
    };
    memchr_iter(0xff, bytes).find(ends).unwrap_or(bytes.len())
}

/// Whether `marker` starts a frame (SOF): all of 0xc0 to 0xcf but those for tables and JPG.
fn is_frame(marker: u8) -> bool {
    (0xc0..=0xcf).contains(&marker) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

/// Checks that a frame with this header can be read.
fn readable(marker: u8, header: &[u8]) -> Result<(), String> {
    let unread = |what: &str| Err(format!("unsupported kind of JPEG: {what}"));
    match (marker, header) {
        (0xc3 | 0xc7 | 0xcb | 0xcf, _) => unread("lossless"),
        (0xc5 | 0xc6 | 0xcd | 0xce, _) => unread("hierarchical"),
        (0xc9 | 0xca, _) => unread("arithmetic coding"),
        (_, [bits, ..]) if *bits != 8 => unread(&format!("{bits} bits a sample")),
        (_, [_, 0, 0, ..]) => unread("its height follows the first scan"),
        _ => Ok(()),
    }
}
