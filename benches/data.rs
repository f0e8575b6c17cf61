//! The views of each method, and the poisoning of an image, on one thread; the choice of poisoned images by features.
//!
//! ```sh
//! cargo bench --bench data
//! ```

#![allow(clippy::expect_used, reason = "a bench may stop anywhere")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use image::{GrayImage, RgbImage};
use rand::RngExt;
use ssl_backdoor_data::augment::{Geometry, Scratch, ViewKey, Views};
use ssl_backdoor_data::purpose;
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::PretrainConfig;
use ssl_backdoor_trigger::{
    Blend, Compose, CorruptEncoder, Ctrl, FeatureRows, Key, NoisyAlignment, Patch, Perturbation,
    Phase, Place, PoisonConfig, Recipe, References, Setup, TrainingSet, TriggerConfig,
    TriggerError,
};

fn photo(width: u32, height: u32) -> RgbImage {
    let mut rng = keyed(0, purpose::DRAW, 0, 0, 0);
    RgbImage::from_fn(width, height, |_, _| image::Rgb(rng.random()))
}

/// A method for each augmentation: MoCo v3, Barlow Twins and VICReg have the same views, and so have SwAV and DeepCluster v2.
const METHODS: [&str; 10] =
    ["moco-v2", "byol", "msf", "jigsaw", "rotnet", "mae", "simclr-v2", "moco-v3", "swav", "dino"];

fn augmentation(c: &mut Criterion) {
    let mut group = c.benchmark_group("views of an image");
    group.throughput(Throughput::Elements(1));
    for (size, image) in [(32, photo(32, 32)), (224, photo(500, 375))] {
        for name in METHODS {
            let views = views(name, size);
            let plane = |view| vec![0.0; 3 * (views.size_of(view) as usize).pow(2)];
            let mut planes: Vec<Vec<f32>> = (0..views.count()).map(plane).collect();
            let mut geometry = vec![Geometry::default(); views.count()];
            let (mut scratch, mut id) = (Scratch::default(), 0);
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    id += 1;
                    let mut out: Vec<&mut [f32]> =
                        planes.iter_mut().map(Vec::as_mut_slice).collect();
                    let key = ViewKey { seed: 0, purpose: purpose::VIEW, epoch: 0, id };
                    views.write(&image, &key, &mut scratch, &mut out, &mut geometry);
                });
            });
        }
    }
    group.finish();
}

/// The views that a method takes of an image of `size` pixels, as in its reference.
fn views(method: &str, size: u32) -> Arc<dyn Views> {
    let own = match method {
        "jigsaw" => format!(", resize = {}, tile = {}", size + 1, size / 4),
        _ => String::new(),
    };
    let encoder = match method {
        "mae" => "{ kind = \"vit\", dim = 16, depth = 1, heads = 2, patch = 8 }",
        _ => "{ kind = \"resnet18\", width = 16, stem = \"small\" }",
    };
    let text = format!("method = {{ kind = \"{method}\"{own} }}\nencoder = {encoder}\nepochs = 1");
    let config: PretrainConfig = toml::from_str(&text).expect("the text is a [pretrain] table");
    config.views(size).expect("the method trains this encoder")
}

/// Attacks on the whole image, and two that compose it with another.
fn recipes(width: u32) -> [(&'static str, Recipe); 4] {
    let plain = |trigger| Recipe { trigger, place: None, alpha: None, compose: None };
    let blend = Blend { path: None, seed: Some(1), ratio: 0.2, val_ratio: None };
    let ctrl = Ctrl { magnitude: 50.0, val_magnitude: None };
    let patch = plain(TriggerConfig::Htba { id: 10, width: width.into() });
    let compose = Some(Compose::NoisyAlignment(NoisyAlignment::default()));
    let corrupt =
        Compose::CorruptEncoder(CorruptEncoder { references: 1, ..CorruptEncoder::default() });
    [
        ("blend", plain(TriggerConfig::Blend(blend))),
        ("ctrl", plain(TriggerConfig::Ctrl(ctrl))),
        ("noisy-alignment", Recipe { compose, ..patch.clone() }),
        ("corrupt-encoder", Recipe { compose: Some(corrupt), ..patch }),
    ]
}

/// One reference image of this side, with an object in the middle.
#[derive(Debug)]
struct Photos(u32);

impl References for Photos {
    fn ids(&self) -> &[u64] {
        &[1]
    }

    fn get(&self, _: u64) -> Result<RgbImage, TriggerError> {
        Ok(RgbImage::new(self.0, self.0))
    }

    fn mask(&self, _: u64) -> Result<GrayImage, TriggerError> {
        let inside = self.0 / 4..3 * self.0 / 4;
        let level =
            |x, y| image::Luma([255 * u8::from(inside.contains(&x) && inside.contains(&y))]);
        Ok(GrayImage::from_fn(self.0, self.0, level))
    }
}

fn poisoning(c: &mut Criterion) {
    let mut group = c.benchmark_group("poisoning of an image");
    group.throughput(Throughput::Elements(1));
    for (side, width) in [(32, 8u32), (375, 50)] {
        let trigger = TriggerConfig::Htba { id: 10, width: width.into() };
        let Ok(trigger) = trigger.build(side) else { continue };
        let clean = photo(side, side);
        for (name, place) in [("random", Place::VAL), ("grid", Place::GRID)] {
            let trigger = trigger.clone();
            let patch = Patch { trigger, place, alpha: 0.0 };
            let (mut image, mut id) = (clean.clone(), 0);
            group.bench_function(BenchmarkId::new(name, side), |b| {
                b.iter(|| {
                    id += 1;
                    let key = Key { seed: 0, phase: Phase::Training, id };
                    let _ = black_box(patch.apply(&key, &mut image));
                });
            });
        }
        for (name, recipe) in recipes(width) {
            let setup = Setup { view: side, references: Arc::new(Photos(side)) };
            let Ok(perturbation) = recipe.build(Phase::Training, &setup) else { continue };
            let mut id = 0;
            group.bench_function(BenchmarkId::new(name, side), |b| {
                b.iter(|| {
                    id += 1;
                    let key = Key { seed: 0, phase: Phase::Training, id };
                    let mut image = clean.clone();
                    let _ = black_box(perturbation.apply(&key, &mut image));
                });
            });
        }
    }
    group.finish();
}

/// The choice of 300 of 5,000 images by their features of 128 values.
fn selection(c: &mut Criterion) {
    const IMAGES: u64 = 5_000;
    const DIM: usize = 128;
    let mut rng = keyed(0, purpose::DRAW, 1, 0, 0);
    let values: Vec<f32> =
        (0..IMAGES as usize * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels: Vec<(u64, u32)> = (0..IMAGES).map(|id| (id, (id % 10) as u32)).collect();
    let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    let set = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
    let mut group = c.benchmark_group("choice among 5,000 images");
    group.sample_size(10);
    for rule in ["con", "kmean"] {
        let text = format!(
            "rate = 0.6\nselect = {{ kind = \"{rule}\", encoder = \"-\" }}\n\
             trigger = {{ kind = \"htba\", id = 10, width = 7 }}"
        );
        let config: PoisonConfig = toml::from_str(&text).expect("the text is a [poison] table");
        group.bench_function(rule, |b| {
            b.iter(|| {
                let rows = FeatureRows { values: &values, dim: DIM };
                config.choose(&set, Some(rows), None, 0).expect("300 images can be chosen")
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default(); targets = augmentation, poisoning, selection }
criterion_main!(benches);
