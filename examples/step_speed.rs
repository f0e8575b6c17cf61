//! Images per second of a training step, of feature extraction, or of MoCo v2 end to end, as one JSON
//! line: the counterpart of the usual PyTorch benchmarks, on equal work.
//!
//! ```sh
//! cargo run --release --example step_speed -- --what step --width 16 --batch 64 --size 32
//! ```
//!
//! `step`: encoder, a linear classifier of 100 classes, cross entropy, SGD with momentum 0.9 and weight
//! decay 1e-4, batch norm in training mode. `infer`: the encoder in evaluation mode. `moco`: random RGB
//! images in memory, augmentation by worker threads, query and key encoder, queue, SGD.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use rand::RngExt;
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{EpochPlan, InMemory, Sample, ViewLoader};
use ssl_backdoor_kernels::{keep_freed_memory, on_pool};
use ssl_backdoor_model::{Encoder, EncoderConfig, Stem};
use ssl_backdoor_ssl::{Batch, Method, Moco, MocoConfig, Progress, Sgd};

/// Forces plain Burn operations when it is `off`.
const KERNELS: &str = "SSL_BACKDOOR_KERNELS";

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Step,
    Infer,
    Moco,
}

#[derive(Parser)]
#[command(about = "Images per second of training or inference, as one JSON line")]
struct Args {
    /// What to measure.
    #[arg(long, value_enum, default_value = "step")]
    what: What,
    /// Channels of the first stage (64: the standard ResNet-18).
    #[arg(long, default_value_t = 16)]
    width: usize,
    /// Images in a step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Side of the images in pixels; up to 64 the stem is the small one.
    #[arg(long, default_value_t = 32)]
    size: u32,
    /// Steps counted (the median time; for moco the total).
    #[arg(long, default_value_t = 12)]
    steps: usize,
    /// Steps before those.
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Threads of the tensor operations.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Threads that prepare views (moco).
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Keys in the queue (moco).
    #[arg(long, default_value_t = 4096)]
    queue: usize,
    /// Plain Burn operations instead of our kernels.
    #[arg(long)]
    plain: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // Both are read once, at the first operation, so they are set for a new process.
    let threads = ("RAYON_NUM_THREADS", args.threads.to_string());
    let kernels = (KERNELS, if args.plain { "off" } else { "" }.to_owned());
    if std::env::var(threads.0).as_ref() != Ok(&threads.1)
        || (args.plain && std::env::var(KERNELS).as_deref() != Ok("off"))
    {
        let mut again = std::process::Command::new(std::env::current_exe()?);
        again.args(std::env::args_os().skip(1)).env(threads.0, threads.1);
        if args.plain {
            again.env(kernels.0, kernels.1);
        }
        std::process::exit(again.status()?.code().unwrap_or(1));
    }
    keep_freed_memory();
    let (what, result) = match args.what {
        What::Step => ("step", on_pool(|| step(&args))?),
        What::Infer => ("infer", on_pool(|| infer(&args))),
        What::Moco => ("moco", on_pool(|| moco(&args))?),
    };
    let line = serde_json::json!({
        "what": what,
        "kernels": if args.plain { "plain Burn".into() } else { std::env::var(KERNELS).unwrap_or_default() },
        "width": args.width, "batch": args.batch, "size": args.size, "steps": args.steps,
        "threads": args.threads, "parameters": result.parameters,
        "loss": result.loss, "images_per_s": (result.rate * 10.0).round() / 10.0,
    });
    println!("{line}");
    Ok(())
}

struct Measured {
    parameters: usize,
    /// The first and the last loss.
    loss: Vec<f32>,
    /// Images per second.
    rate: f64,
}

fn encoder(args: &Args) -> EncoderConfig {
    let stem = if args.size <= 64 { Stem::Small } else { Stem::Imagenet };
    EncoderConfig::Resnet18 { width: args.width, stem }
}

/// Images of mean 0 and variance 1, `[batch, 3, size, size]`.
fn images(args: &Args, device: &Device) -> Tensor<4> {
    let shape = [args.batch, 3, args.size as usize, args.size as usize];
    let mut rng = chance::rng(0, Purpose::Draw, 0, 0, 0);
    let bound = 3f32.sqrt();
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn sgd() -> ModuleOptimizer {
    ModuleOptimizer::from(Sgd { momentum: 0.9, weight_decay: 1e-4 })
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Trainable parameters of a ResNet-18: without the running statistics (mean and variance for each
/// batch norm's channel).
fn parameters(encoder: &Encoder, width: usize) -> usize {
    // 1 + 4 batch norms of `width` channels, 5 each of twice, four and eight times as many.
    encoder.num_params() - 2 * width * (5 + 5 * (2 + 4 + 8))
}

#[derive(Module, Debug)]
struct Classifier {
    encoder: Encoder,
    head: Linear,
}

const CLASSES: usize = 100;

fn step(args: &Args) -> anyhow::Result<Measured> {
    let device = Device::flex().autodiff();
    let config = encoder(args);
    let mut rng = chance::rng(0, Purpose::Init, 0, 0, 0);
    let mut net = Classifier {
        encoder: config.init(&mut rng, &device),
        head: LinearConfig::new(config.dim(), CLASSES).init(&device),
    };
    let images = images(args, &device);
    let labels: Vec<i64> = (0..args.batch as i64).map(|i| i * 37 % CLASSES as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [args.batch]), &device);
    let mut optimizer = sgd();
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for step in 0..args.warmup + args.steps {
        let start = Instant::now();
        let logits = net.head.forward(net.encoder.forward(images.clone()));
        let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, labels.clone());
        losses.push(loss.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(0.01, net, grads);
        if step >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(Measured {
        parameters: parameters(&net.encoder, args.width) + net.head.num_params(),
        loss: vec![losses[0], losses[losses.len() - 1]],
        rate: args.batch as f64 / median(times),
    })
}

fn infer(args: &Args) -> Measured {
    let device = Device::flex();
    let config = encoder(args);
    let mut rng = chance::rng(0, Purpose::Init, 0, 0, 0);
    let net = config.init(&mut rng, &device).valid();
    let images = images(args, &device);
    let mut times = Vec::new();
    for step in 0..args.warmup + args.steps {
        let start = Instant::now();
        let features = net.forward(images.clone());
        std::hint::black_box(features.into_data());
        if step >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Measured {
        parameters: parameters(&net, args.width),
        loss: Vec::new(),
        rate: args.batch as f64 / median(times),
    }
}

fn moco(args: &Args) -> anyhow::Result<Measured> {
    const IMAGES: u64 = 8192;
    let device = Device::flex().autodiff();
    let config = encoder(args);
    let method = MocoConfig { queue: args.queue, ..MocoConfig::default() };
    let fits = args.queue.is_multiple_of(args.batch);
    anyhow::ensure!(fits, "--queue {} is no multiple of --batch {}", args.queue, args.batch);
    let samples = (0..IMAGES).map(|id| {
        let mut rng = chance::rng(0, Purpose::Draw, 0, id, 0);
        let image = image::RgbImage::from_fn(args.size, args.size, |_, _| image::Rgb(rng.random()));
        Sample::new(id, image, 0)
    });
    let set = Arc::new(InMemory::new(samples.collect()));
    let views = Arc::new(ChainViews::moco(args.size, (0.2, 1.0), args.size > 64));
    let plan = EpochPlan { seed: 0, images: IMAGES as usize, batch: args.batch };
    let steps = args.warmup + args.steps;
    let loader = ViewLoader::start(set, views, plan, 0..steps, args.workers);
    let mut net = Moco::new(&method, &config, 0, &device);
    let mut optimizer = sgd();
    let (mut total, mut losses, mut last) = (0.0, Vec::new(), Instant::now());
    for batch in loader {
        let batch = batch?;
        let step = batch.step;
        let epoch = step / plan.steps_per_epoch();
        let progress = Progress { seed: 0, step, epoch, epochs: 1 };
        let to_tensor = |p: ssl_backdoor_data::Pixels| {
            Tensor::from_data(TensorData::new(p.values, p.shape), &device)
        };
        net = net.before_step(&progress);
        let views = batch.views.into_iter().map(to_tensor).collect();
        let views = Batch { views, ids: batch.ids, hidden: batch.hidden };
        let out = net.forward(views, &progress);
        losses.push(out.loss.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(out.loss.backward(), &net);
        net = optimizer.step(0.06, net, grads);
        net = net.after_step(out.keys, &progress);
        if step >= args.warmup {
            total += last.elapsed().as_secs_f64();
        }
        last = Instant::now();
    }
    let head = config.dim() * (config.dim() + 1) + (config.dim() + 1) * 128;
    Ok(Measured {
        parameters: parameters(&net.encoder(), args.width) + head,
        loss: vec![losses[0], losses[losses.len() - 1]],
        rate: (args.batch * args.steps) as f64 / total,
    })
}
