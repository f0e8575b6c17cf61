//! Why bytes are not a supported image, without naming a library, and the limits of decoding.

use std::io::ErrorKind;

use image::error::{ImageError, UnsupportedErrorKind};

/// Bytes that decoding one image may take: limits what a wrong header can allocate.
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// The longest supported side in pixels (the limit of JPEG).
pub(super) const MAX_SIDE: u32 = 65_535;
pub(super) const NO_PIXELS: &str = "the image has no pixels";

/// Describes the content of a file of an unsupported format.
pub(super) fn foreign(bytes: &[u8]) -> String {
    let brand = bytes.get(4..12).unwrap_or_default();
    let head = bytes.trim_ascii_start();
    let known = match brand {
        b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1" | b"ftyphevc" => Some("HEIC"),
        b"ftypavif" | b"ftypavis" => Some("AVIF"),
        [b'f', b't', b'y', b'p', ..] => Some("video"),
        _ if bytes.starts_with(b"\xff\x0a") || brand == b"JXL \r\n\x87\n" => Some("JPEG XL"),
        _ if brand.starts_with(b"jP  ") => Some("JPEG 2000"),
        _ if head.starts_with(b"<svg") || head.starts_with(b"<?xml") => Some("SVG or XML"),
        _ if head.starts_with(b"<") => Some("HTML or XML"),
        _ if bytes.starts_with(b"8BPS") => Some("PSD"),
        _ if bytes.starts_with(b"%PDF") => Some("PDF"),
        _ => None,
    };
    match (known, image::guess_format(bytes)) {
        (Some(name), _) => format!("it contains {name}"),
        (None, Ok(format)) => format!("it contains {format:?}"),
        (None, Err(_)) => "it contains no image".into(),
    }
}

/// Why an image of the format `name` cannot be decoded, in words that name no library.
pub(super) fn reason(name: &str, error: &ImageError) -> String {
    match error {
        ImageError::Limits(_) => too_large(name),
        ImageError::Unsupported(error) => match error.kind() {
            UnsupportedErrorKind::GenericFeature(what) if what.contains("Palette") => {
                format!("unsupported kind of {name}: it has a palette")
            }
            _ => format!("unsupported kind of {name}"),
        },
        error => broken(name, error),
    }
}

pub(super) fn too_large(name: &str) -> String {
    let most = MAX_BYTES >> 20;
    format!("{name} is too large: allowed are {MAX_SIDE} pixels a side and {most} MiB of pixels")
}

/// Truncated if the decoder ran out of bytes, however it wraps that error; else damaged.
pub(super) fn broken(name: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        let text = error.to_string().to_lowercase();
        let ended =
            ["unexpected end", "unexpected eof", "failed to fill whole buffer", "no more bytes"];
        if io.is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof)
            || ended.iter().any(|words| text.contains(words))
        {
            return format!("truncated {name}");
        }
        cause = error.source();
    }
    format!("damaged {name}")
}
