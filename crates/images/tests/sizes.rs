//! Sizes and alpha of images in every format.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use image::{ImageFormat, Rgba, RgbaImage};
use ssl_backdoor_images::{decode, decode_rgba, size};

#[test]
fn the_size_is_that_of_the_decoded_image() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    let folder = tempfile::tempdir().unwrap();
    let image = image::RgbImage::from_fn(9, 6, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 9]));
    for format in [Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP] {
        let path = folder.path().join("image");
        image.save_with_format(&path, format).unwrap();
        assert_eq!(size(&path).unwrap(), (9, 6), "{format:?}");
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(decode(&bytes, false).unwrap().dimensions(), (9, 6), "{format:?}");
    }
    let page = folder.path().join("page");
    std::fs::write(&page, "<html>").unwrap();
    assert!(size(&page).is_err() && size(&folder.path().join("absent")).is_err());
}

#[test]
fn alpha_is_kept_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let image =
        RgbaImage::from_fn(5, 4, |x, y| Rgba([x as u8 * 50, y as u8 * 60, 7, 80 + x as u8]));
    image.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(decode_rgba(&bytes).unwrap(), image);
    let opaque = decode(&bytes, false).unwrap();
    assert!(opaque.pixels().zip(image.pixels()).all(|(rgb, rgba)| rgb.0 == rgba.0[..3]));
}
