//! `data.native`: triggers and crops on images of one side, views and evaluation images of another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use proptest::prelude::*;
use serde_json::json;
use ssl_backdoor_data::augment::{
    Chain, ChainViews, CropBox, CropViews, Filter, Geometry, JigsawViews, MEAN, MaeViews,
    RotNetViews, STD, Scratch, ViewKey, Views, resize_crop_box,
};
use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{
    DataConfig, Dataset, Eval, Export, Patched, Poisoned, Preview, Sample, SampleSet, Split,
    Splits, verify,
};
use ssl_backdoor_images::decode;
use ssl_backdoor_trigger::{Attack, PoisonConfig, Spot};

fn none(_: &str, _: usize, _: usize) {}

fn config(keys: serde_json::Value) -> DataConfig {
    serde_json::from_value(keys).unwrap()
}

fn shapes(size: u32, native: Option<u32>, per_class: u32) -> DataConfig {
    config(json!({
        "kind": "shapes", "size": size, "native": native, "per_class": per_class, "eval_per_class": 1, "seed": 3
    }))
}

fn load(config: &DataConfig) -> Splits {
    config.load(&none).unwrap()
}

fn poison(width: serde_json::Value, val_width: serde_json::Value) -> PoisonConfig {
    let trigger = json!({ "kind": "htba", "id": 11, "width": width });
    let keys = json!({ "target": 2, "rate": 1.0, "trigger": trigger, "val_width": val_width });
    serde_json::from_value(keys).unwrap()
}

fn all(set: &SampleSet) -> Vec<Sample> {
    (0..set.len()).map(|i| set.get(i).unwrap()).collect()
}

/// The poisoned samples of an attack, each with its clean image.
fn poisoned(splits: &Splits, attack: &Attack) -> Vec<(Sample, RgbImage)> {
    let set = Poisoned::new(splits.clone(), attack.clone());
    let both =
        (0..set.len()).map(|i| (set.get(i).unwrap(), splits.train.set.get(i).unwrap().image));
    both.filter(|(sample, _)| !sample.trigger.is_empty()).collect()
}

/// The box of the trigger.
fn first(sample: &Sample) -> Spot {
    sample.trigger.boxes(sample.image.dimensions())[0]
}

/// Whether the pixels of both images are the same outside `spot` and different somewhere in it.
fn differ_in(a: &RgbImage, b: &RgbImage, spot: &Spot) -> bool {
    let inside = |x: u32, y: u32| {
        (spot.x..spot.x + spot.width).contains(&x) && (spot.y..spot.y + spot.height).contains(&y)
    };
    let changed = || a.enumerate_pixels().filter(|(x, y, pixel)| b.get_pixel(*x, *y) != *pixel);
    a.dimensions() == b.dimensions()
        && changed().all(|(x, y, _)| inside(x, y))
        && changed().next().is_some()
}

/// All of `image`, resized to a square by the function that `golden_pixels.rs` compares with PIL.
fn whole(image: &RgbImage, size: u32, filter: Filter) -> RgbImage {
    let (width, height) = image.dimensions();
    resize_crop_box(image, CropBox { x: 0, y: 0, width, height }, size, filter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_trigger_is_pasted_on_native_images_and_on_prepared_ones(
        size in 8u32..40, more in 0u32..60, width in 1u32..8, val_width in 1u32..8,
    ) {
        let native = size + more;
        let splits = load(&shapes(size, Some(native), 2));
        let config = poison(json!(width), json!(val_width));
        let attack = splits.attack(&config, 5).unwrap();

        let stamped = poisoned(&splits, &attack);
        prop_assert_eq!(stamped.len(), 2);
        for (sample, clean) in &stamped {
            prop_assert_eq!(clean.dimensions(), (native, native));
            prop_assert_eq!(first(sample).width, width);
            prop_assert!(differ_in(&sample.image, clean, &first(sample)));
        }

        let clean = splits.prepared(&splits.eval);
        let patched = Patched::new(clean.clone(), &splits.eval, &attack);
        for (i, clean) in all(&clean).into_iter().enumerate() {
            let stored = splits.eval.set.get(i).unwrap().image;
            prop_assert_eq!(stored.dimensions(), (native, native));
            prop_assert_eq!(&clean.image, &whole(&stored, size, Filter::Bilinear));
            let sample = patched.get(i).unwrap();
            prop_assert_eq!(first(&sample).width, val_width);
            prop_assert!(differ_in(&sample.image, &clean.image, &first(&sample)));
        }

        // Labelled images are prepared as evaluation images are.
        let (train, plain) = (all(&splits.labelled.set), all(&splits.labelled_prepared));
        for (stored, plain) in train.iter().zip(&plain) {
            prop_assert_eq!(stored.id, plain.id);
            prop_assert_eq!(&plain.image, &whole(&stored.image, size, Filter::Bilinear));
        }
    }
}

#[test]
fn relative_triggers_scale_with_the_native_image() {
    let splits = load(&shapes(28, Some(64), 2));
    // 7 of 28 pixels are a quarter: 16 of 64.
    for (width, val_width) in
        [(json!({ "view": 7.0 }), json!(null)), (json!({ "share": 0.25 }), json!(7))]
    {
        let attack = splits.attack(&poison(width, val_width), 5).unwrap();
        let (sample, _) = &poisoned(&splits, &attack)[0];
        assert_eq!(first(sample).width, 16);
        let clean = splits.prepared(&splits.eval);
        let patched = Patched::new(clean, &splits.eval, &attack).get(0).unwrap();
        assert_eq!(first(&patched).width, 7);
    }
}

/// How views of 28 px see 8 px on 64 px, against torchvision 0.29 over 60,000 places with two views each:
///
/// ```python
/// x, y = (int(torch.randint(16, 41, ())) for _ in range(2))
/// top, left, h, w = RandomResizedCrop.get_params(torch.zeros(3, 64, 64), (0.2, high), (3/4, 4/3))
/// overlap = max(0, min(left + w, x + 8) - max(left, x)) * max(0, min(top + h, y + 8) - max(top, y))
/// covered, visible = overlap / (w * h), overlap / 64
/// ```
#[test]
fn views_see_the_trigger_as_torchvisions_crops_of_the_native_image_do() {
    let splits = load(&shapes(28, Some(64), 200));
    let attack = splits.attack(&poison(json!(8), json!(null)), 5).unwrap();
    let set = Poisoned::new(splits.clone(), attack);
    let positions: Vec<usize> = (0..set.len()).collect();
    for (high, covered, visible, one) in
        [(1.0, 0.028679, 0.907054, 0.14725), (0.8, 0.030234, 0.893228, 0.1649)]
    {
        let views = ChainViews::moco(28, (0.2, high), false);
        let found = Preview::of(&set, &positions, &views, 1, 16).unwrap();
        assert_eq!((found.images, found.mean_width()), (200, 0.125));
        // 3,200 pairs of views: three standard errors are 2 % of the first two, 0.02 of the last.
        let seen = &found.visibility;
        assert!((seen.mean_covered() / covered - 1.0).abs() < 0.02, "{}", seen.mean_covered());
        assert!((seen.mean_visible() / visible - 1.0).abs() < 0.02, "{}", seen.mean_visible());
        let share = seen.by_views[1] as f64 / seen.by_views.iter().sum::<usize>() as f64;
        assert!((share - one).abs() < 0.02, "{share}");
    }
}

/// The views of every method on images of 64 and of 20 pixels: red encodes the column and green the row, so the
/// middle of a view tells which part of the image it shows.
#[test]
fn the_views_of_every_method_are_cut_from_the_native_image() {
    let crop = (0.1, 0.9);
    let plain = |chain: Chain| Chain { jitter: 0.0, grey: 0.0, ..chain };
    let all: [(&str, Box<dyn Views>); 6] = [
        (
            "moco-v2, simclr, msf",
            Box::new(ChainViews(vec![plain(Chain::moco(28, crop, false)); 2])),
        ),
        ("byol", Box::new(ChainViews(vec![plain(Chain::byol(28, crop, false)); 2]))),
        ("rotnet", Box::new(RotNetViews { chain: Chain::weak(28, crop) })),
        ("mae", Box::new(MaeViews::new(28, crop, 4, 0.75))),
        ("jigsaw", Box::new(JigsawViews { resize: 49, tile: 12 })),
        ("rotnet's probe", Box::new(CropViews { size: 28 })),
    ];
    for (side, levels) in [(64u32, 3u32), (20, 10)] {
        let image = RgbImage::from_fn(side, side, |x, y| {
            image::Rgb([(levels * x) as u8, (levels * y) as u8, 0])
        });
        for (name, views) in &all {
            let (mut seen, mut widest) = (0, 0.0f64);
            for id in 0..60 {
                let (view, count) = (views.size() as usize, views.count());
                let mut planes = vec![vec![0.0; 3 * view * view]; count];
                let mut out: Vec<&mut [f32]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
                let mut geometry = vec![Geometry::default(); count];
                let key = ViewKey { seed: 4, purpose: purpose::VIEW, epoch: 0, id };
                views.write(&image, &key, &mut Scratch::default(), &mut out, &mut geometry);
                for (pixels, part) in planes.iter().zip(&geometry) {
                    for axis in 0..2 {
                        let (from, length) = (part.corner[axis], part.extent[axis]);
                        assert!(from >= 0.0 && from + length <= f64::from(side) + 1e-6, "{name}");
                        widest = widest.max(length);
                    }
                    let middle = |channel: usize| {
                        let at = |x, y| pixels[(channel * view + y) * view + x];
                        let (low, high) = (view / 2 - 1, view / 2);
                        let sum = at(low, low) + at(low, high) + at(high, low) + at(high, high);
                        255.0 * f64::from(sum / 4.0 * STD[channel] + MEAN[channel])
                    };
                    // Jigsaw makes tiles grey or projects their colours: blue shows it.
                    if middle(2).abs() > 0.1 {
                        continue;
                    }
                    seen += 1;
                    for axis in 0..2 {
                        let centre = part.corner[axis] + part.extent[axis] / 2.0;
                        // A pixel's level is that of its middle.
                        let expected = f64::from(levels) * (centre - 0.5);
                        let found = middle(axis);
                        assert!((found - expected).abs() < 1.0, "{name}: {found}, not {expected}");
                    }
                }
            }
            assert!(seen >= 60, "{name}: {seen}");
            let least = if *name == "jigsaw" { 0.2 } else { 0.85 };
            assert!(widest > least * f64::from(side), "{name}: {widest} of {side}");
        }
    }
}

#[test]
fn without_native_or_with_the_views_side_nothing_changes() {
    let (absent, same, other) = (
        load(&shapes(20, None, 2)),
        load(&shapes(20, Some(20), 2)),
        load(&shapes(20, Some(24), 2)),
    );
    assert_eq!((&*absent.name, &*same.name), ("shapes(size=20,seed=3)", &*absent.name));
    assert_eq!(other.name, "shapes(size=20,native=24,seed=3)");
    assert_eq!(absent.fingerprint, same.fingerprint);
    let (a, b) = (&absent.fingerprint, &other.fingerprint);
    assert!(a.train != b.train && a.labelled != b.labelled && a.eval != b.eval && a.dev != b.dev);
    for of in [
        |s: &Splits| s.train.set.clone(),
        |s: &Splits| s.labelled_prepared.clone(),
        |s: &Splits| s.prepared(&s.eval),
    ] {
        assert_eq!(all(&of(&absent)), all(&of(&same)));
        assert!(all(&of(&absent)) != all(&of(&other)));
    }
    // The config that is written into a run's folder and hashed does not change either.
    let written = toml::to_string(&shapes(20, None, 2)).unwrap();
    assert!(!written.contains("native"), "{written}");
}

/// CIFAR-10 and STL-10 in their binary versions, a few images each.
fn small_sets(folder: &Path) {
    let bytes = |seed: usize, n: usize| -> Vec<u8> {
        (0..n).map(|i| (i * 37 + i / 96 * 11 + seed * 29 + i * i % 53) as u8).collect()
    };
    for i in 1..=6 {
        let name = if i == 6 { "test_batch.bin".into() } else { format!("data_batch_{i}.bin") };
        let record = |k: usize| [vec![(k % 10) as u8], bytes(10 * i + k, 3072)].concat();
        std::fs::write(folder.join(name), (0..10).flat_map(record).collect::<Vec<_>>()).unwrap();
    }
    for (part, count) in [("train", 10), ("test", 20)] {
        let pixels: Vec<u8> = (0..count).flat_map(|k| bytes(k + count, 3 * 96 * 96)).collect();
        std::fs::write(folder.join(format!("{part}_X.bin")), pixels).unwrap();
        let labels: Vec<u8> = (0..count).map(|k| (k % 10) as u8 + 1).collect();
        std::fs::write(folder.join(format!("{part}_y.bin")), labels).unwrap();
    }
}

#[test]
fn small_sets_keep_their_native_side_and_are_prepared_as_before() {
    let folder = tempfile::tempdir().unwrap();
    small_sets(folder.path());
    for (kind, stored) in [("cifar10", 32), ("stl10", 96)] {
        let of = |size: u32, native: Option<u32>| {
            let path = folder.path();
            let mut keys = json!({ "kind": kind, "path": path, "size": size });
            native
                .map(|native| keys.as_object_mut().unwrap().insert("native".into(), native.into()));
            load(&config(keys))
        };
        let as_stored = of(stored, None);
        for size in [20, 40] {
            let (before, now) = (of(size, None), of(size, Some(stored)));
            assert_eq!(now.name, format!("{kind}(size={size},native={stored})"));
            assert_eq!(before.name, format!("{kind}(size={size})"));
            // Crops are cut from the stored images; the scored and the labelled images are the same as before.
            assert_eq!(all(&now.train.set), all(&as_stored.train.set));
            assert_eq!(all(&now.labelled_prepared), all(&before.labelled_prepared));
            for split in [|s: &Splits| s.eval.clone(), |s: &Splits| s.dev.clone()] {
                let prepared = |s: &Splits| all(&s.prepared(&split(s)));
                assert_eq!(prepared(&now), prepared(&before));
            }
            assert_ne!(now.fingerprint, before.fingerprint);
            assert_eq!(now.fingerprint, as_stored.fingerprint);
        }
        // Another side, also one below that of the views.
        for native in [16, 48] {
            let splits = of(24, Some(native));
            for (sample, stored) in all(&splits.train.set).iter().zip(all(&as_stored.train.set)) {
                assert_eq!(sample.image, whole(&stored.image, native, Filter::Bilinear));
            }
            let sizes = all(&splits.labelled_prepared)
                .into_iter()
                .chain(all(&splits.prepared(&splits.eval)));
            assert!(sizes.into_iter().all(|sample| sample.image.dimensions() == (24, 24)));
        }
    }
}

#[test]
fn images_for_another_encoder_are_resized_once_and_whole() {
    let splits = load(&shapes(20, Some(33), 2).with_size(24));
    let eval: &Split = &splits.eval;
    for (found, stored) in
        all(&splits.prepared_by(eval, 24, Filter::Bicubic)).iter().zip(all(&eval.set))
    {
        assert_eq!(stored.image.dimensions(), (33, 33));
        assert_eq!(found.image, whole(&stored.image, 24, Filter::Bicubic));
    }
    // Drawings are at least as large as the views.
    assert_eq!(shapes(20, Some(33), 2).with_size(48).native(), Some(48));
    assert_eq!(shapes(20, None, 2).with_size(48).native(), None);
}

#[test]
fn an_export_holds_native_images_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (data, poison) = (shapes(20, Some(44), 2), poison(json!(8), json!(5)));
    let exported = Export::new(5, data.clone(), poison.clone()).write(&out, &none).unwrap();
    let splits = load(&data);
    let attack = splits.attack(&poison, 5).unwrap();
    // The list has its own order, so the sorted bytes are compared.
    let sorted = |images: Vec<RgbImage>, side: u32| -> Vec<Vec<u8>> {
        assert!(images.iter().all(|image| image.dimensions() == (side, side)));
        let mut bytes: Vec<Vec<u8>> = images.into_iter().map(RgbImage::into_raw).collect();
        bytes.sort_unstable();
        bytes
    };
    let read = |list: &Path| -> Vec<RgbImage> {
        let text = std::fs::read_to_string(out.join(list)).unwrap();
        let bytes = |line: &str| std::fs::read(line.rsplit_once(' ').unwrap().0).unwrap();
        text.lines().map(|line| decode(&bytes(line), false).unwrap()).collect()
    };
    let images = |set: &SampleSet| all(set).into_iter().map(|sample| sample.image).collect();
    let train: SampleSet = Arc::new(Poisoned::new(splits.clone(), attack.clone()));
    assert!(sorted(read(&exported.train_list), 44) == sorted(images(&train), 44));
    // An export contains dev and test.
    let both = data.load_part(Eval::All, &none).unwrap();
    let patched: SampleSet = Arc::new(Patched::new(both.prepared(&both.eval), &both.eval, &attack));
    assert!(sorted(read(&exported.val_list), 20) == sorted(images(&patched), 20));
    assert_eq!(verify(&out, &none).unwrap().problems, Vec::<String>::new());
    let settings = std::fs::read_to_string(out.join("export.toml")).unwrap();
    let other = settings.replace("native = 44", "native = 45");
    assert_ne!(settings, other);
    std::fs::write(out.join("export.toml"), other).unwrap();
    assert!(!verify(&out, &none).unwrap().problems.is_empty());
}

#[test]
fn native_sides_are_checked() {
    let wrong = |config: DataConfig| config.load(&none).err().unwrap().to_string();
    let cifar = |native: u32| config(json!({ "kind": "cifar10", "size": 32, "native": native }));
    for (config, allowed) in [
        (shapes(28, Some(27), 1), "native = 27 is out of range: allowed are 28 (size) to"),
        (shapes(28, Some(1025), 1), "native = 1025 is out of range: allowed are 28 (size)"),
        (cifar(7), "native = 7 is out of range: allowed are 8 to 1024 pixels"),
        (cifar(1025), "native = 1025 is out of range: allowed are 8 to 1024 pixels"),
    ] {
        let message = wrong(config);
        assert!(message.contains(allowed), "{message}");
    }
    // The trigger fits on native images of 16 pixels and on evaluation images of 224.
    let data = config(json!({ "kind": "cifar10", "size": 224, "native": 16 }));
    let check = |width, val_width| data.check_poison(&poison(width, val_width));
    assert!(
        check(json!(16), json!(50)).is_ok() && check(json!({ "view": 50.0 }), json!(null)).is_ok()
    );
    let message = check(json!(17), json!(50)).unwrap_err().to_string();
    assert!(message.contains("trigger.width = 17") && message.contains("1 to 16"), "{message}");
    let message = check(json!(8), json!(225)).unwrap_err().to_string();
    assert!(message.contains("val_width = 225"), "{message}");
    // Image files have their own sizes.
    let folder = json!({ "kind": "folder", "path": "x", "size": 32, "native": 64 });
    assert!(
        serde_json::from_value::<DataConfig>(folder).unwrap_err().to_string().contains("native")
    );
}
