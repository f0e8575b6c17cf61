//! The structure of a JPEG, and what cannot be one.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use image::RgbImage;
use ssl_backdoor_images::{JpegEncoder, jpeg, jpeg_bytes};

/// Start, a segment with an end marker in it, a frame, a scan with stuffing and a restart, the end.
const WHOLE: &[u8] = &[
    0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xda, 0xff, 0xff, 0xc0, 0, 7, 8, 0, 1, 0, 1,
    0xff, 0xda, 0, 3, 1, 7, 0xff, 0, 9, 0xff, 0xd0, 5, 0xff, 0xd9,
];

#[test]
fn field_f15_an_image_ends_with_its_own_end_marker() {
    assert_eq!(jpeg_bytes(WHOLE), Ok(WHOLE));
    for behind in [&b"\xff\xda more"[..], b"\xff\xd8\xff", b"\0\0\0", b"\xff", b"\xff\xd9"] {
        assert_eq!(jpeg_bytes(&[WHOLE, behind].concat()), Ok(WHOLE));
    }
    for length in 2..WHOLE.len() {
        let reason = jpeg_bytes(&WHOLE[..length]).unwrap_err().to_string();
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
        let reason = jpeg_bytes(&bytes).unwrap_err().to_string();
        assert!(reason.starts_with("unsupported kind of JPEG") && reason.contains(words));
    }
}

#[test]
fn what_no_jpeg_can_hold_is_refused() {
    for by in [JpegEncoder::FirstPixel, JpegEncoder::MeanPixel, JpegEncoder::Pil] {
        let reason = jpeg(&RgbImage::new(70_000, 1), by).unwrap_err().to_string();
        assert_eq!(reason, "70000 pixels are too many for a JPEG");
        for (width, height) in [(0, 3), (3, 0), (0, 0)] {
            assert!(jpeg(&RgbImage::new(width, height), by).is_err(), "{width} x {height}");
        }
    }
}
