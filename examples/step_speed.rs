//! Images per second of a training step, of feature extraction, or of a method end to end, as one JSON
//! line: the counterpart of the usual PyTorch benchmarks, on equal work.
//!
//! ```sh
//! cargo run --release --example step_speed -- --what step --width 16 --batch 64 --size 32
//! ```
//!
//! `step`: encoder, a linear classifier of 100 classes, cross entropy, SGD with momentum 0.9 and weight
//! decay 1e-4, batch norm in training mode. `infer`: the encoder in evaluation mode. A method, such as
//! `moco`: random RGB images in memory, augmentation by worker threads, its networks, its optimiser; the
//! loss is the mean of each of two epochs, the parameters are those of the encoder.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use clap::Parser;
use rand::RngExt;
use ssl_backdoor_data::purpose::DRAW;
use ssl_backdoor_data::{InMemory, Sample};
use ssl_backdoor_kernels::{keep_freed_memory, multiplies_in_bf16, multiply_in_bf16, on_pool};
use ssl_backdoor_model::purpose::INIT;
use ssl_backdoor_model::{Encoder, EncoderConfig, Positions, Stem};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{PretrainConfig, Sgd, Training, after_each_epoch, pretrain};

/// Forces plain Burn operations when it is `off`.
const KERNELS: &str = "SSL_BACKDOOR_KERNELS";

#[derive(Clone)]
enum What {
    Step,
    Infer,
    Method(String),
}

/// Parses `step`, `infer`, or a method by its name in configs (or `moco`).
fn what(text: &str) -> Result<What, String> {
    Ok(match text {
        "step" => What::Step,
        "infer" => What::Infer,
        "moco" => What::Method("moco-v2".into()),
        method => What::Method(method.into()),
    })
}

#[derive(Parser)]
#[command(about = "Images per second of training or inference, as one JSON line")]
struct Args {
    /// `step`, `infer`, or a method: moco-v2, byol, msf, jigsaw, rotnet, mae, simclr, simclr-v2, simsiam, barlow-twins, vicreg,
    /// moco-v3, swav, dino, deepcluster-v2.
    #[arg(long, value_parser = what, default_value = "step")]
    what: What,
    /// Channels of the first stage (64: the standard ResNet-18).
    #[arg(long, default_value_t = 16)]
    width: usize,
    /// The encoder of `step` and `infer`: resnet18 or vit.
    #[arg(long, default_value = "resnet18")]
    encoder: String,
    /// Length of a ViT's tokens (`--encoder vit`, mae).
    #[arg(long, default_value_t = 96)]
    dim: usize,
    /// Blocks of a ViT.
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// Attention heads of a ViT.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Images in a step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Side of the images in pixels; up to 64 the stem is the small one.
    #[arg(long, default_value_t = 32)]
    size: u32,
    /// Steps counted (the median time; for a method the total).
    #[arg(long, default_value_t = 12)]
    steps: usize,
    /// Steps before those (for a method as many as counted).
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Threads of the tensor operations.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Threads that prepare views (methods).
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Keys in the queue (MoCo v2, MSF).
    #[arg(long, default_value_t = 4096)]
    queue: usize,
    /// Groups of a batch with batch-norm statistics of their own (MoCo v2, BYOL, MSF).
    #[arg(long, default_value_t = 1)]
    groups: usize,
    /// What the canaries do in a method: `stop` as in a run, or `off` to see what they cost.
    #[arg(long, default_value = "stop")]
    canaries: String,
    /// Number format of the products of a method, or on the CPU of a step.
    #[arg(long, value_parser = ["f32", "bf16"], default_value = "f32")]
    precision: String,
    /// Plain Burn operations instead of our kernels.
    #[arg(long)]
    plain: bool,
    /// The device: flex, or wgpu:N or cuda:N of a build with that feature.
    #[arg(long, default_value = "flex")]
    device: String,
}

impl Args {
    fn device(&self) -> anyhow::Result<Device> {
        Ok(ssl_backdoor::device::open(&self.device)?)
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // Both variables are read once, at the first operation, so they are set for a new process.
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
    let (what, result) = match &args.what {
        What::Step => ("step", on_pool(|| step(&args))?),
        What::Infer => ("infer", on_pool(|| infer(&args))?),
        What::Method(kind) => (kind.as_str(), on_pool(|| method(&args, kind))?),
    };
    let line = serde_json::json!({
        "what": what, "device": args.device,
        "kernels": if args.plain { "plain Burn".into() } else { std::env::var(KERNELS).unwrap_or_default() },
        "encoder": args.encoder, "width": args.width, "batch": args.batch, "size": args.size, "steps": args.steps,
        "threads": args.threads, "precision": args.precision, "parameters": result.parameters,
        "loss": result.loss, "images_per_s": (result.rate * 10.0).round() / 10.0, "peak_mb": peak_mb(),
    });
    println!("{line}");
    Ok(())
}

/// Peak of this process's memory in MB, where the system tells it.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024 / 1_000_000)
}

struct Measured {
    parameters: usize,
    /// The first and the last loss.
    loss: Vec<f32>,
    /// Images per second.
    rate: f64,
}

fn encoder(args: &Args) -> EncoderConfig {
    if args.encoder == "vit" {
        let Args { dim, depth, heads, .. } = *args;
        let patch = patch(args.size);
        return EncoderConfig::Vit { dim, depth, heads, patch, positions: Positions::default() };
    }
    let stem = if args.size <= 64 { Stem::Small } else { Stem::Imagenet };
    EncoderConfig::Resnet18 { width: args.width, stem }
}

/// Side of a ViT's patches in images of `size`.
fn patch(size: u32) -> usize {
    if size <= 64 { 4 } else { 16 }
}

/// Images of mean 0 and variance 1, `[batch, 3, size, size]`.
fn images(args: &Args, device: &Device) -> Tensor<4> {
    let shape = [args.batch, 3, args.size as usize, args.size as usize];
    let mut rng = keyed(0, DRAW, 0, 0, 0);
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
fn parameters(encoder: &Encoder, args: &Args) -> usize {
    let width = args.width;
    if args.encoder == "vit" || matches!(&args.what, What::Method(kind) if kind == "mae") {
        return encoder.num_params();
    }
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
    let device = args.device()?.autodiff();
    let bf16 = args.precision == "bf16";
    if bf16 && !multiplies_in_bf16(&device) {
        anyhow::bail!("--precision bf16 with --what step: only on the CPU with our kernels");
    }
    let config = encoder(args);
    let mut rng = keyed(0, INIT, 0, 0, 0);
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
        let features = match bf16 {
            true => multiply_in_bf16(|| net.encoder.forward(images.clone())),
            false => net.encoder.forward(images.clone()),
        };
        let logits = net.head.forward(features);
        let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, labels.clone());
        losses.push(loss.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(0.01, net, grads);
        if step >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(Measured {
        parameters: parameters(&net.encoder, args) + net.head.num_params(),
        loss: vec![losses[0], losses[losses.len() - 1]],
        rate: args.batch as f64 / median(times),
    })
}

fn infer(args: &Args) -> anyhow::Result<Measured> {
    anyhow::ensure!(
        args.precision == "f32",
        "--precision bf16 with --what infer: networks are evaluated in f32"
    );
    let device = args.device()?;
    let config = encoder(args);
    let mut rng = keyed(0, INIT, 0, 0, 0);
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
    Ok(Measured {
        parameters: parameters(&net, args),
        loss: Vec::new(),
        rate: args.batch as f64 / median(times),
    })
}

/// A method end to end, through the pretraining loop with its canaries: random images in memory, views,
/// networks, optimiser. The first of two epochs warms up, the second counts.
fn method(args: &Args, kind: &str) -> anyhow::Result<Measured> {
    let Args { width, batch, size, queue, steps, groups, .. } = args;
    let stem = if *size <= 64 { "small" } else { "imagenet" };
    let resnet = format!("{{ kind = \"resnet18\", width = {width}, stem = \"{stem}\" }}");
    let patch = patch(*size);
    let Args { dim, depth, heads, .. } = args;
    let (settings, encoder) = match kind {
        "moco-v2" | "msf" => (format!(", queue = {queue}, bn_groups = {groups}"), resnet),
        "byol" => (format!(", bn_groups = {groups}"), resnet),
        // Cells of a third of the image, tiles of three quarters of a cell.
        "jigsaw" => {
            let tile = size / 4;
            (format!(", permutations = 100, resize = {}, tile = {tile}", size + 1), resnet)
        }
        "mae" => (
            ", decoder_dim = 64, decoder_depth = 2, decoder_heads = 4".into(),
            format!(
                "{{ kind = \"vit\", dim = {dim}, depth = {depth}, heads = {heads}, patch = {patch} }}"
            ),
        ),
        "swav" => (", queue = 0, frozen_steps = 1".into(), resnet),
        "dino" => (", outputs = 4096, teacher_warmup = 1".into(), resnet),
        "deepcluster-v2" => (", prototypes = [64, 64, 64]".into(), resnet),
        _ => (String::new(), resnet),
    };
    let config: PretrainConfig = toml::from_str(&format!(
        "method = {{ kind = \"{kind}\"{settings} }}\nencoder = {encoder}\nepochs = 2\nbatch = {batch}\n\
         canaries = \"{}\"\nprecision = \"{}\"",
        args.canaries, args.precision
    ))?;
    let samples = (0..(batch * steps) as u64).map(|id| {
        let mut rng = keyed(0, DRAW, 0, id, 0);
        let image = image::RgbImage::from_fn(*size, *size, |_, _| image::Rgb(rng.random()));
        Sample::new(id, image, 0)
    });
    let set = Arc::new(InMemory::new(samples.collect()));
    config.check(Some(batch * steps), *size)?;
    let training = Training { workers: args.workers, ..Training::new(set, 0, &args.device()?) };
    let (mut loss, mut rate) = (Vec::new(), 0.0);
    let mut measure = after_each_epoch(|epoch, _| {
        loss.push(epoch.loss as f32);
        rate = epoch.timing.images as f64 / epoch.timing.elapsed.as_secs_f64();
        Ok(())
    });
    let encoder = pretrain(&config, None, *size, &training, &mut measure)?;
    drop(measure);
    Ok(Measured { parameters: parameters(&encoder, args), loss, rate })
}
