//! Parts of images at other sizes. `golden_pixels.rs` of the crate `data` compares their pixels with PIL's.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use image::{GrayImage, Luma, Rgb, RgbImage, RgbaImage};
use ssl_backdoor_images::{Filter, Resizer, resize_mask, resize_rgba};

fn picture() -> RgbImage {
    RgbImage::from_fn(12, 9, |x, y| Rgb([x as u8 * 20, y as u8 * 28, (x * y) as u8]))
}

/// A part is resized as if the image ended at its edges, a window as if the whole image were resized and then cropped.
#[test]
fn a_part_reads_only_its_own_pixels_and_a_window_those_around_it() {
    let image = picture();
    let mut resizer = Resizer::default();
    let mut resized = |image: &RgbImage, corner, extent| {
        let mut out = RgbImage::new(2 * extent, 2 * extent);
        resizer.part(image, corner, (extent, extent), Filter::Bilinear, &mut out).unwrap();
        out
    };
    let part = resized(&image, (4, 2), 3);
    let alone = image::imageops::crop_imm(&image, 4, 2, 3, 3).to_image();
    assert_eq!(part, resized(&alone, (0, 0), 3));

    let mut whole = RgbImage::new(24, 18);
    resizer.part(&image, (0, 0), (12, 9), Filter::Bilinear, &mut whole).unwrap();
    let mut window = RgbImage::new(6, 6);
    resizer.window(&image, [4.0, 2.0], [3.0, 3.0], Filter::Bilinear, &mut window).unwrap();
    assert_eq!(window, image::imageops::crop_imm(&whole, 8, 4, 6, 6).to_image());
    assert_ne!(window, part);
}

#[test]
fn what_lies_outside_or_has_no_pixels_is_refused() {
    let image = picture();
    let mut resizer = Resizer::default();
    let mut part = |corner, extent, (width, height)| {
        let mut out = RgbImage::new(width, height);
        resizer.part(&image, corner, extent, Filter::Bicubic, &mut out)
    };
    assert!(part((0, 0), (12, 9), (3, 3)).is_ok());
    for (corner, extent, size) in [
        ((4, 0), (9, 9), (3, 3)),
        ((0, 9), (1, 1), (3, 3)),
        ((1, 1), (u32::MAX, 2), (3, 3)),
        ((1, 1), (0, 2), (3, 3)),
        ((1, 1), (2, 2), (3, 0)),
    ] {
        let reason = part(corner, extent, size).unwrap_err().to_string();
        assert!(reason.starts_with("cannot resize: "), "{reason}");
    }
    let mut out = RgbImage::new(3, 3);
    let outside =
        Resizer::default().window(&image, [11.0, 0.0], [2.0, 2.0], Filter::Lanczos, &mut out);
    assert!(outside.is_err());
    assert!(resize_rgba(&RgbaImage::new(2, 2), (0, 3)).is_err());
    assert!(resize_mask(&GrayImage::new(0, 2), (3, 3)).is_err());
}

#[test]
fn a_mask_keeps_its_levels() {
    let mask = GrayImage::from_fn(4, 4, |x, _| Luma([if x < 2 { 0 } else { 255 }]));
    let large = resize_mask(&mask, (7, 5)).unwrap();
    assert!(large.pixels().all(|pixel| [0, 255].contains(&pixel[0])));
}
