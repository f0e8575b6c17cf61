//! Decoding, resizing, cropping, normalising and poisoning against PIL and torchvision
//! (`fixtures/pixels.py`). Errors are in levels of 255.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::path::{Path, PathBuf};

use image::RgbImage;
use ssl_backdoor_data::augment::{
    CropBox, Filter, normalize, random_resized_crop_box, resize_center_crop, resize_crop_box,
};
use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{Export, read_image};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_trigger::{Key, Patch, Perturbation, Phase, Place, Spot, TriggerConfig, stamp};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels").join(name)
}

fn read(name: &str) -> RgbImage {
    read_image(&path(name), false).unwrap()
}

/// Mean and largest difference.
fn difference(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    assert_eq!(a.dimensions(), b.dimensions());
    let each = || a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b));
    let total: f64 = each().map(f64::from).sum();
    (total / a.as_raw().len() as f64, each().max().unwrap())
}

/// The bound for everything but JPEG.
fn near(name: &str, a: &RgbImage, b: &RgbImage) {
    let (mean, most) = difference(a, b);
    assert!(mean <= 0.5 && most <= 2, "{name}: mean {mean}, at most {most}");
}

#[test]
fn files_decode_as_in_pil() {
    // Mean and largest difference allowed: JPEG decoders may round differently in the inverse transform,
    // the chroma upsampling and the colour conversion.
    for (name, mean_allowed, most_allowed) in [
        ("baseline.jpg", 1.0, 4),
        ("progressive.jpg", 1.0, 3),
        ("grey.jpg", 1.0, 2),
        ("cmyk.jpg", 1.0, 2),
        ("turned.jpg", 1.0, 4),
        ("palette.png", 0.0, 0),
        ("alpha.png", 0.0, 0),
        ("grey.png", 0.0, 0),
    ] {
        let expected = read(&format!("decoded-{}.png", name.replace('.', "-")));
        let (mean, most) = difference(&read(name), &expected);
        println!("{name}: mean {mean:.3}, at most {most}");
        assert!(
            mean <= mean_allowed && most <= most_allowed,
            "{name}: mean {mean}, at most {most}"
        );
    }
    // Orientation 6 is a quarter turn clockwise, applied on request.
    let upright = read_image(&path("turned.jpg"), true).unwrap();
    assert_eq!(upright, image::imageops::rotate90(&read("turned.jpg")));
}

#[test]
fn resize_and_centre_crop_are_torchvisions() {
    for size in ["53x38", "38x53", "19x90"] {
        let image = read(&format!("centre-{size}-in.png"));
        near(size, &resize_center_crop(image, 28), &read(&format!("centre-{size}.png")));
    }
}

#[test]
fn crops_are_torchvisions_bilinear_and_bicubic() {
    let photo = read("photo.png");
    for (x, y, width, height, size) in [(0, 0, 53, 38, 24), (7, 5, 20, 22, 32), (30, 20, 5, 4, 16)]
    {
        for (name, filter) in [("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)] {
            let name = format!("crop-{name}-{x}-{y}-{width}-{height}-{size}.png");
            let crop = CropBox { x, y, width, height };
            near(&name, &resize_crop_box(&photo, crop, size, filter), &read(&name));
        }
    }
}

#[test]
fn normalised_values_are_torchvisions() {
    let photo = read("photo.png");
    let [width, height] = [photo.width() as usize, photo.height() as usize];
    let mut planes = vec![0.0; 3 * width * height];
    for (i, pixel) in photo.pixels().enumerate() {
        for (c, &byte) in pixel.0.iter().enumerate() {
            planes[c * width * height + i] = f32::from(byte) / 255.0;
        }
    }
    normalize(&mut planes);
    let expected: Vec<f32> =
        serde_json::from_str(include_str!("fixtures/pixels/normalised.json")).unwrap();
    let found = planes
        .chunks_exact(width * height)
        .flat_map(|plane| plane.chunks_exact(width).step_by(7))
        .flat_map(|row| row.iter().step_by(9));
    let mut count = 0;
    for (a, b) in found.zip(&expected) {
        assert!((a - b).abs() < 2e-6, "{a} {b}");
        count += 1;
    }
    assert_eq!(count, expected.len());
}

#[test]
fn poisoned_pixels_are_those_that_pil_composes() {
    let photo = read("photo.png");
    let trigger =
        |file| TriggerConfig::Image { path: path(file), width: 12.into() }.build(32).unwrap();
    let (mark, transparent) = (trigger("mark.png"), trigger("mark-alpha.png"));
    for alpha in [0.0, 0.3] {
        let shown = format!("{alpha:.1}");
        let mut spot = photo.clone();
        stamp(
            &mut spot,
            &mark.picture((32, 32)),
            Spot { x: 21, y: 17, width: 12, height: 9 },
            alpha,
        );
        near("spot", &spot, &read(&format!("poison-spot-{shown}.png")));
        for (name, trigger, place) in [
            ("center", &mark, Place::Center {}),
            ("grid", &mark, Place::GRID),
            ("alpha", &transparent, Place::Center {}),
        ] {
            let patch = Patch { trigger: trigger.clone(), place, alpha };
            let mut image = photo.clone();
            patch.apply(&Key { seed: 0, phase: Phase::Training, id: 0 }, &mut image).unwrap();
            near(name, &image, &read(&format!("poison-{name}-{shown}.png")));
        }
    }
}

/// The files that an export writes are those that PIL writes of the same pixels, byte for byte: an attack whose trigger is
/// fully transparent leaves the pixels unchanged.
#[test]
fn review_1_02_exported_jpegs_are_those_that_pil_saves() {
    const NAMES: [&str; 6] =
        ["blocks", "blocks-odd", "edges", "edges-odd", "edges-tiny", "landscape"];
    let folder = tempfile::tempdir().unwrap();
    for part in ["train/a", "val/a"] {
        std::fs::create_dir_all(folder.path().join(part)).unwrap();
    }
    for name in NAMES {
        // The reader detects the format by content: these are lossless.
        let copy = folder.path().join(format!("train/a/{name}.JPEG"));
        std::fs::copy(path(&format!("jpeg-{name}.png")), copy).unwrap();
    }
    std::fs::copy(path("photo.png"), folder.path().join("val/a/photo.png")).unwrap();
    let data = serde_json::json!({ "kind": "folder", "path": folder.path(), "size": 16 });
    let poison = serde_json::json!({
        "target": 0, "rate": 1, "alpha": 1, "trigger": { "kind": "solid", "color": [255, 0, 0], "width": 3 },
    });
    let out = folder.path().join("out");
    let (data, poison) =
        (serde_json::from_value(data).unwrap(), serde_json::from_value(poison).unwrap());
    Export::new(0, data, poison).write(&out, &|_, _, _| {}).unwrap();
    let stem = std::fs::read_dir(out.join("train")).unwrap().next().unwrap().unwrap().path();
    let file = |path: &Path| std::fs::read(path).unwrap();
    for name in NAMES {
        let ours = file(&stem.join(format!("a/{name}.JPEG")));
        assert!(ours == file(&path(&format!("jpeg-{name}.jpg"))), "{name}");
    }
}

#[test]
fn crop_boxes_are_distributed_as_torchvisions() {
    let bytes = include_bytes!("fixtures/pixels/boxes.bin");
    let theirs: Vec<[u16; 4]> = bytes
        .chunks_exact(8)
        .map(|b| std::array::from_fn(|i| u16::from_le_bytes([b[2 * i], b[2 * i + 1]])))
        .collect();
    let ours: Vec<[u16; 4]> = (0..theirs.len() as u64)
        .map(|id| {
            let mut rng = keyed(0, purpose::VIEW, 0, id, 0);
            let c = random_resized_crop_box((500, 375), (0.2, 1.0), &mut rng);
            [c.x, c.y, c.width, c.height].map(|v| v as u16)
        })
        .collect();
    assert_eq!(ours.len(), 10_000);
    for (i, name) in ["x", "y", "width", "height"].iter().enumerate() {
        let column = |boxes: &[[u16; 4]]| boxes.iter().map(|b| b[i]).collect::<Vec<u16>>();
        let p = kolmogorov_smirnov(column(&ours), column(&theirs));
        println!("{name}: p = {p:.3}");
        assert!(p > 0.001, "{name}: p = {p}");
    }
    // The test detects a wrong scale.
    let other = (0..10_000).map(|id| {
        let mut rng = keyed(0, purpose::VIEW, 0, id, 0);
        random_resized_crop_box((500, 375), (0.25, 1.0), &mut rng).width as u16
    });
    let widths = theirs.iter().map(|b| b[2]).collect();
    assert!(kolmogorov_smirnov(other.collect(), widths) < 0.001);
}

/// The p-value of the two-sample test, by the asymptotic formula (Numerical Recipes 14.3).
fn kolmogorov_smirnov(mut a: Vec<u16>, mut b: Vec<u16>) -> f64 {
    a.sort_unstable();
    b.sort_unstable();
    let share = |of: &[u16], v: u16| of.partition_point(|&w| w <= v) as f64 / of.len() as f64;
    let gap = a.iter().chain(&b).map(|&v| (share(&a, v) - share(&b, v)).abs()).fold(0.0, f64::max);
    let n = (a.len() * b.len()) as f64 / (a.len() + b.len()) as f64;
    let lambda = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * gap;
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(k * k) * lambda * lambda).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}
