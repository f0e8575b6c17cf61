//! Where scans spend their time: the score of a patch in PatchSearch, and one step of a trigger inversion.
//!
//! ```sh
//! cargo bench --bench scan
//! ```

#![allow(clippy::expect_used, reason = "a bench may stop anywhere")]

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{RgbImage, imageops};
use rand::RngExt;
use ssl_backdoor_data::{InMemory, Normalization, Sample, SampleSet, plain_batch_by, purpose};
use ssl_backdoor_model::{Encoder, EncoderConfig, Stem};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_scan::{CosineClusters, FlipSet, Frozen, Inversion, Setting, UnitFeatures};

const SIDE: u32 = 32;
const IMAGES: usize = 250;
const CLUSTERS: usize = 16;
/// Images in a step of an inversion.
const STEP: usize = 128;

fn images() -> SampleSet {
    let sample = |id| {
        let mut rng = keyed(0, purpose::DRAW, 0, id, 0);
        Sample::new(id, RgbImage::from_fn(SIDE, SIDE, |_, _| image::Rgb(rng.random())), 0)
    };
    Arc::new(InMemory::new((0..IMAGES as u64).map(sample).collect()))
}

fn encoder(device: &Device) -> Encoder {
    let mut rng = keyed(0, ssl_backdoor_model::purpose::INIT, 0, 0, 0);
    EncoderConfig::Resnet18 { width: 16, stem: Stem::Small }.init(&mut rng, device).valid()
}

fn patch_search(c: &mut Criterion) {
    let (device, set, normalization) = (Device::flex(), images(), Normalization::default());
    let encoder = encoder(&device);
    let setting = Setting { device: &device, seed: 0, normalization, watch: &|_, _, _| {} };
    let features = UnitFeatures::of(&encoder, &set, &setting, ("bench", 1.0));
    let features = features.expect("the images have features");
    let clusters = CosineClusters::new(&features, CLUSTERS, 1, 0, &device);
    let clusters = clusters.expect("there are more images than clusters");
    let all = (set.clone(), (0..IMAGES).collect());
    let flips = FlipSet::new(&encoder, &clusters, (&all.0, all.1), (&device, 0), normalization);
    let flips = flips.expect("the images can be read");
    let image = set.get(0).expect("there is an image").image;
    let patch = imageops::crop_imm(&image, 4, 4, 9, 9).to_image();
    let mut group = c.benchmark_group("PatchSearch, ResNet-18 of width 16, 32 px");
    group.sample_size(10).throughput(Throughput::Elements(IMAGES as u64));
    group.bench_function("score of a patch on 250 images", |bencher| {
        bencher.iter(|| flips.flips(&patch, 0, 3));
    });
    group.finish();
}

fn inversion(c: &mut Criterion) {
    let (device, normalization) = (Device::flex(), Normalization::default());
    let frozen = Frozen::new(&encoder(&device), &device);
    let plain = Normalization { mean: [0.0; 3], std: [1.0; 3] };
    let (pixels, _) = plain_batch_by(&*images(), 0..STEP, &plain).expect("the images can be read");
    let on = frozen.device();
    let batch = Tensor::<4>::from_data(TensorData::new(pixels.values, pixels.shape), on);
    let mut inversion = Inversion::new(SIDE as usize, (0, 0), on);
    let mut group = c.benchmark_group("trigger inversion, ResNet-18 of width 16, 32 px");
    group.sample_size(10).throughput(Throughput::Elements(STEP as u64));
    group.bench_function("step on 128 images", |bencher| {
        bencher.iter(|| {
            let features = frozen.features(inversion.on(batch.clone()), &normalization);
            let loss = features.powi_scalar(2).mean() + inversion.area();
            inversion.step(loss, 0.1);
            // Fetched, so that the step is complete when it is counted.
            inversion.area().into_scalar::<f32>()
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default(); targets = patch_search, inversion }
criterion_main!(benches);
