//! Every supported format, against Pillow (`fixtures/formats.py`): the same pixels, and the same files refused.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::path::PathBuf;

use image::RgbImage;
use ssl_backdoor_data::read_image;
use ssl_backdoor_images::decode;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats")
}

/// The files, by name, with Pillow's pixels if it reads them.
fn files() -> Vec<(String, PathBuf, Option<RgbImage>)> {
    let names = std::fs::read_dir(folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names
        .filter(|name| !name.ends_with(".png"))
        .map(|name| {
            let expected = folder().join(format!("{}.png", name.replace('.', "-")));
            let expected = expected.exists().then(|| read_image(&expected, false).unwrap());
            (name.clone(), folder().join(name), expected)
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// Mean and largest difference in levels of 255.
fn difference(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    assert_eq!(a.dimensions(), b.dimensions());
    let each = || a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b));
    (each().map(f64::from).sum::<f64>() / a.as_raw().len() as f64, each().max().unwrap())
}

/// Mean and largest difference that is allowed. JPEG decoders may round differently in the inverse transform, the
/// chroma upsampling and the colour conversion; values of 5 or 6 bits, or of another range, are scaled to 8 bits in
/// one of two ways. Everything else is the same to the last bit.
fn allowed(name: &str) -> (f64, u8) {
    match name {
        "jpeg.tif" => (0.1, 2),
        "555.bmp" | "565.bmp" | "hundred.ppm" => (1.0, 1),
        _ if name.ends_with(".jpg") || name.ends_with(".jfif") => (1.0, 4),
        _ => (0.0, 0),
    }
}

#[test]
fn field_f08_and_f15_what_pillow_reads_is_read_with_its_pixels() {
    let (mut read, mut refused) = (0, 0);
    for (name, path, expected) in files() {
        let found = read_image(&path, false);
        let Some(expected) = expected else {
            let reason = found.unwrap_err().to_string();
            assert!(reason.contains(&name), "{reason}");
            refused += 1;
            continue;
        };
        if name == "palette.tif" {
            // The one kind that Pillow reads and we do not.
            let reason = found.unwrap_err().to_string();
            assert!(reason.ends_with("unsupported kind of TIFF: it has a palette"), "{reason}");
            continue;
        }
        let (mean, most) = difference(&found.unwrap(), &expected);
        let (mean_allowed, most_allowed) = allowed(&name);
        assert!(
            mean <= mean_allowed && most <= most_allowed,
            "{name}: mean {mean}, at most {most}"
        );
        read += 1;
    }
    assert_eq!((read, refused), (55, 4));
}

#[test]
fn field_f15_what_lies_behind_a_jpeg_changes_no_pixel() {
    let read = |name: &str| read_image(&folder().join(name), false).unwrap();
    let plain = read("plain.jpg");
    for name in [
        "thumbnail.jpg",
        "motion.jpg",
        "zeros-behind.jpg",
        "image-behind.jpg",
        "half-an-image-behind.jpg",
        "fill-bytes.jpg",
        "mpo.jpg",
    ] {
        assert_eq!(read(name), plain, "{name}");
    }
}

/// A truncated file is refused, or the missing bytes are not part of the image. Numbers in text have no end marker,
/// so the last one may be cut.
#[test]
fn a_truncated_file_is_refused_or_its_image_is_whole() {
    for (name, path, expected) in files() {
        let bytes = std::fs::read(&path).unwrap();
        let Ok(whole) = decode(&bytes, false) else { continue };
        assert!(expected.is_some());
        let mut reasons = std::collections::BTreeSet::new();
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            match decode(&bytes[..length], false) {
                Ok(_) if name.starts_with("text") && length + 5 > bytes.len() => {}
                Ok(image) => assert!(image == whole, "{name}: {length} of {} bytes", bytes.len()),
                Err(reason) => {
                    reasons.insert(reason.to_string());
                }
            }
        }
        for reason in reasons {
            let words = ["truncated ", "damaged ", "the file is empty", "it contains no image"];
            assert!(words.iter().any(|word| reason.starts_with(word)), "{name}: {reason}");
            println!("{name}: {reason}");
        }
    }
}
