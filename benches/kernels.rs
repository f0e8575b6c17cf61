//! Each kernel and a whole training step, forward and backward.
//!
//! ```sh
//! cargo bench                                  # our kernels
//! SSL_BACKDOOR_KERNELS=off cargo bench         # the same operations composed of plain Burn
//! ```

use std::hint::black_box;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ssl_backdoor_kernels::{self as kernels, Unit};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, Stem};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::Sgd;

/// What computes, as part of the names of the groups.
fn by() -> &'static str {
    let off = std::env::var("SSL_BACKDOOR_KERNELS").is_ok_and(|path| path == "off");
    if off { "plain" } else { "kernels" }
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), device)
}

fn unit(from: usize, to: usize, kernel: usize, stride: usize, device: &Device) -> Unit {
    Unit {
        weight: random([to, from, kernel, kernel], device).set_require_grad(device.is_autodiff()),
        scale: Tensor::ones([to], device).set_require_grad(device.is_autodiff()),
        shift: Tensor::zeros([to], device).set_require_grad(device.is_autodiff()),
        running: None,
        epsilon: 1e-5,
        stride,
    }
}

/// Benches forward alone, and forward and backward, of a layer from images to images, built by `on` for a device.
/// Forward alone runs without autodiff: the tensors kept for a backward pass are freed only by that pass.
fn both<Run: Fn(Tensor<4>) -> Tensor<4>>(
    c: &mut Criterion,
    group: &str,
    shape: [usize; 4],
    on: impl Fn(&Device) -> Run,
) {
    let [batch, side, _, channels] = shape;
    let name = format!("{batch}x{side}x{side}x{channels}");
    let mut group = c.benchmark_group(format!("{group}/{}", by()));
    let device = Device::flex();
    let (run, images) = (on(&device), random(shape, &device));
    group.bench_function(BenchmarkId::new("forward", &name), |b| {
        b.iter(|| black_box(run(images.clone())));
    });
    let device = device.autodiff();
    let (run, images) = (on(&device), random(shape, &device));
    group.bench_function(BenchmarkId::new("forward and backward", &name), |b| {
        b.iter(|| black_box(run(images.clone().require_grad()).sum().backward()));
    });
    group.finish();
}

fn stems(c: &mut Criterion) {
    both(c, "stem", [64, 32, 32, 3], |device| {
        let small = unit(3, 16, 3, 1, device);
        move |x| kernels::stem(x, small.clone(), false).0
    });
    both(c, "stem", [8, 224, 224, 3], |device| {
        let imagenet = unit(3, 64, 7, 2, device);
        move |x| kernels::stem(x, imagenet.clone(), true).0
    });
}

fn blocks(c: &mut Criterion) {
    for [batch, side, channels, stride] in [
        [64, 32, 16, 1],
        [64, 32, 16, 2],
        [64, 16, 32, 1],
        [64, 8, 64, 1],
        [64, 4, 128, 1],
        [32, 32, 64, 1],
        [32, 8, 256, 1],
        [32, 4, 512, 1],
    ] {
        let to = channels * stride;
        let name = if stride > 1 { "basic block, stride 2" } else { "basic block" };
        both(c, name, [batch, side, side, channels], |device| {
            let (first, second) =
                (unit(channels, to, 3, stride, device), unit(to, to, 3, 1, device));
            let down = (stride > 1).then(|| unit(channels, to, 1, stride, device));
            move |x| kernels::basic_block(x, first.clone(), second.clone(), down.clone()).0
        });
    }
}

fn transformers(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("transformer/{}", by()));
    type Run = fn(Tensor<3>, &[Tensor<1>; 2]) -> Tensor<3>;
    let runs: [(&str, usize, Run); 3] = [
        ("gelu", 256, |x, _| kernels::gelu(x)),
        ("layer norm", 64, |x, [scale, shift]| {
            kernels::layer_norm(x, scale.clone(), shift.clone(), 1e-6)
        }),
        ("attention, 4 heads", 192, |x, _| kernels::attention(x, 4)),
    ];
    let on = |device: &Device, width| {
        let (scale, shift) = (Tensor::ones([64], device), Tensor::zeros([64], device));
        let tracked = device.is_autodiff();
        let affine = [scale, shift].map(|weight: Tensor<1>| weight.set_require_grad(tracked));
        (random([64, 65, width], device), affine)
    };
    for (name, width, run) in runs {
        // As in `both`.
        let (x, affine) = on(&Device::flex(), width);
        let size = format!("64x65x{width}");
        group.bench_function(BenchmarkId::new(format!("{name}, forward"), &size), |b| {
            b.iter(|| black_box(run(x.clone(), &affine)));
        });
        let (x, affine) = on(&Device::flex().autodiff(), width);
        group.bench_function(
            BenchmarkId::new(format!("{name}, forward and backward"), &size),
            |b| {
                b.iter(|| black_box(run(x.clone().require_grad(), &affine).sum().backward()));
            },
        );
    }
    group.finish();
}

fn updates(c: &mut Criterion) {
    const PARAMETERS: usize = 1 << 20;
    let device = Device::flex();
    let step = kernels::Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4 };
    let gradient = random([PARAMETERS], &device);
    let mut group = c.benchmark_group(format!("update/{}", by()));
    group.bench_function("sgd", |b| {
        let mut state = Some((random([PARAMETERS], &device), None));
        b.iter(|| {
            let Some((weight, velocity)) = state.take() else { return };
            let (weight, velocity) = kernels::sgd(weight, gradient.clone(), velocity, step);
            state = Some((weight, Some(velocity)));
        });
    });
    group.bench_function("ema", |b| {
        let mut target = Some(random([PARAMETERS], &device));
        b.iter(|| target = target.take().map(|t| kernels::ema(t, gradient.clone(), 0.99)));
    });
    group.finish();
}

#[derive(Module, Debug)]
struct Classifier {
    encoder: Encoder,
    head: Linear,
}

fn steps(c: &mut Criterion) {
    let device = Device::flex().autodiff();
    let mut group = c.benchmark_group(format!("step/{}", by()));
    group.sample_size(10);
    for (width, batch, size, stem) in
        [(16, 64, 32, Stem::Small), (64, 32, 32, Stem::Small), (64, 8, 224, Stem::Imagenet)]
    {
        let config = EncoderConfig::Resnet18 { width, stem };
        let mut rng = keyed(0, purpose::INIT, 0, 0, 0);
        let head = LinearConfig::new(config.dim(), 100).init(&device);
        let mut net = Some(Classifier { encoder: config.init(&mut rng, &device), head });
        let mut optimizer = ModuleOptimizer::from(Sgd { momentum: 0.9, weight_decay: 1e-4 });
        let images = random([batch, 3, size, size], &device);
        let labels = Tensor::<1, Int>::arange(0..batch as i64, &device);
        let loss = CrossEntropyLossConfig::new().init(&device);
        group.bench_function(format!("width {width} batch {batch} size {size}"), |b| {
            b.iter(|| {
                let Some(trained) = net.take() else { return };
                let logits = trained.head.forward(trained.encoder.forward(images.clone()));
                let grads = loss.forward(logits, labels.clone()).backward();
                let grads = GradientsParams::from_grads(grads, &trained);
                net = Some(optimizer.step(0.01, trained, grads));
            });
        });
    }
    group.finish();
}

fn all(c: &mut Criterion) {
    kernels::keep_freed_memory();
    for bench in [stems, blocks, transformers, updates, steps] {
        bench(c);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
