//! The structure of a JPEG: its segments and scans up to the marker that ends the image. Bytes after that marker
//! do not belong to the image: motion photographs, further pictures of a multi-picture file, padding.

use memchr::{memchr, memchr_iter};

/// The bytes of the image, from its first marker to its last.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, a segment with an end marker in it, a frame, a scan with stuffing and a restart, the end.
    const WHOLE: &[u8] = &[
        0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xda, 0xff, 0xff, 0xc0, 0, 7, 8, 0, 1, 0,
        1, 0xff, 0xda, 0, 3, 1, 7, 0xff, 0, 9, 0xff, 0xd0, 5, 0xff, 0xd9,
    ];

    #[test]
    fn field_f15_an_image_ends_with_its_own_end_marker() {
        assert_eq!(image_of(WHOLE), Ok(WHOLE));
        for behind in [&b"\xff\xda more"[..], b"\xff\xd8\xff", b"\0\0\0", b"\xff", b"\xff\xd9"] {
            assert_eq!(image_of(&[WHOLE, behind].concat()), Ok(WHOLE));
        }
        for length in 2..WHOLE.len() {
            let reason = image_of(&WHOLE[..length]).unwrap_err();
            assert!(reason.starts_with("truncated JPEG"), "{length}: {reason}");
        }
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        for (at, value, words) in [
            (12, 0xc9, "arithmetic coding"),
            (12, 0xc3, "lossless"),
            (12, 0xc5, "hierarchical"),
            (15, 12, "12 bits a sample"),
            (17, 0, "its height"),
        ] {
            let mut bytes = WHOLE.to_vec();
            bytes[at] = value;
            let reason = image_of(&bytes).unwrap_err();
            assert!(reason.starts_with("unsupported kind of JPEG") && reason.contains(words));
        }
    }
}
