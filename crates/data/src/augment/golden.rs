//! Colour operations, blur and resized crops against torchvision and PIL
//! (`tests/fixtures/augment.py`).

use std::collections::BTreeMap;

use image::RgbImage;
use serde::Deserialize;
use ssl_backdoor_images::Resizer;

use super::Filter;
use super::blur::{gaussian_blur, gaussian_blur_within};
use super::color;
use super::crop::crop_resize;
use super::crop_box::CropBox;
use super::views::to_planes;

#[derive(Deserialize)]
struct Golden {
    /// Name, then factor and planes for each case.
    colors: BTreeMap<String, Vec<(f32, Vec<f32>)>>,
    crops: Vec<Crop>,
}

#[derive(Deserialize)]
struct Crop {
    /// x, y, width, height.
    r#box: [u32; 4],
    size: u32,
    pixels: Vec<u8>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/fixtures/augment.json")).unwrap()
}

/// The script's `picture`.
fn picture(width: u32, height: u32) -> RgbImage {
    let value = |x: u32, y: u32, c: u32| (x * 37 + y * 59 + c * 101 + x * y * (c + 3)) % 256;
    RgbImage::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c) as u8)))
}

#[test]
fn colours_and_blur_are_those_of_torchvision() {
    let (width, height) = (12, 10);
    let mut start = vec![0.0; 3 * width * height];
    to_planes(&picture(width as u32, height as u32), &mut start);
    let mut cases = 0;
    for (name, results) in golden().colors {
        for (factor, expected) in results {
            let mut found = start.clone();
            match name.as_str() {
                "brightness" => color::adjust_brightness(&mut found, factor),
                "contrast" => color::adjust_contrast(&mut found, factor),
                "saturation" => color::adjust_saturation(&mut found, factor),
                "hue" => color::adjust_hue(&mut found, factor),
                "grayscale" => color::grayscale(&mut found),
                "small_blur" => {
                    let sides = [width, height];
                    gaussian_blur_within(&mut found, sides, factor, 1, &mut Vec::new());
                }
                "blur" => gaussian_blur(&mut found, width, height, factor, &mut Vec::new()),
                other => panic!("an unknown case {other}"),
            }
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!((a - b).abs() < 3e-6, "{name} {factor}, value {i}: {a}, torchvision {b}");
            }
            cases += 1;
        }
    }
    assert_eq!(cases, 14);
}

#[test]
fn resized_crops_are_those_of_pil() {
    let image = picture(40, 30);
    let mut resizer = Resizer::default();
    for Crop { r#box: [x, y, width, height], size, pixels } in golden().crops {
        let crop = CropBox { x, y, width, height };
        let mut out = RgbImage::new(size, size);
        crop_resize(&image, crop, Filter::Bilinear, &mut resizer, &mut out);
        for (i, (a, b)) in out.as_raw().iter().zip(&pixels).enumerate() {
            // Both round twice, each with its own fixed-point weights.
            assert!(a.abs_diff(*b) <= 1, "{crop:?} to {size}, byte {i}: {a}, PIL {b}");
        }
    }
}
