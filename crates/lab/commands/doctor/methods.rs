//! A few training steps of each method on a device: their losses and what a step takes.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_data::purpose::DRAW;
use ssl_backdoor_data::{InMemory, Sample, SampleSet};
use ssl_backdoor_model::init;
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{PretrainConfig, StepReport, TrainObserver, Training, pretrain};

use super::Depth;

/// Steps of a method that are compared.
const STEPS: usize = 3;

/// Every method, with settings that fit 32 images, and whether it trains a transformer.
pub(super) const METHODS: [(&str, &str, bool); 16] = [
    ("moco-v2", ", queue = 256", false),
    ("byol", "", false),
    ("msf", ", queue = 256", false),
    ("jigsaw", ", permutations = 100, resize = 33, tile = 8", false),
    ("rotnet", "", false),
    ("mae", ", decoder_dim = 64, decoder_depth = 2, decoder_heads = 4", true),
    ("simclr", "", false),
    ("simclr-v2", "", false),
    ("simsiam", ", dim = 512, hidden = 128", false),
    ("barlow-twins", ", hidden = 512, dim = 512", false),
    ("vicreg", ", hidden = 512, dim = 512", false),
    ("moco-v3", ", hidden = 512, dim = 128", false),
    ("moco-v3", ", hidden = 512, dim = 128", true),
    ("swav", "", false),
    ("dino", ", outputs = 1024", false),
    ("deepcluster-v2", ", prototypes = [16, 16, 16]", false),
];

/// Losses of the first steps, and the milliseconds of the quickest of those behind the first.
pub(super) struct Steps {
    /// The losses.
    pub losses: Vec<f32>,
    /// Milliseconds of a step, its views included.
    pub milliseconds: f64,
}

/// Trains a method of [`METHODS`] for a few steps on `device`.
///
/// # Errors
/// The training ends.
pub(super) fn steps(
    (kind, settings, transformer): (&str, &str, bool),
    depth: Depth,
    device: &Device,
) -> Result<Steps> {
    let (batch, width, dim) = match depth {
        Depth::Small => (16, 4, 32),
        Depth::Full => (64, 64, 192),
    };
    let encoder = match transformer {
        true => format!("{{ kind = \"vit\", dim = {dim}, depth = 2, heads = 4, patch = 8 }}"),
        false => format!("{{ kind = \"resnet18\", width = {width}, stem = \"small\" }}"),
    };
    let mut watched = Watched { losses: Vec::new(), at: vec![Instant::now()] };
    train((kind, settings), &encoder, (batch, STEPS, 1), device, &mut watched)?;
    let times = watched.at.windows(2).skip(1);
    let quickest = times.map(|at| (at[1] - at[0]).as_secs_f64()).fold(f64::INFINITY, f64::min);
    Ok(Steps { losses: watched.losses, milliseconds: quickest * 1e3 })
}

/// Trains `kind` on noise: `(images in a batch, steps in an epoch, epochs)`.
///
/// # Errors
/// The training ends.
pub(super) fn train(
    (kind, settings): (&str, &str),
    encoder: &str,
    (batch, steps, epochs): (usize, usize, usize),
    device: &Device,
    observer: &mut dyn TrainObserver,
) -> Result<()> {
    let config: PretrainConfig = toml::from_str(&format!(
        "method = {{ kind = \"{kind}\"{settings} }}\nencoder = {encoder}\nepochs = {epochs}\n\
         batch = {batch}\nlr = 0.01\ncanaries = \"off\""
    ))?;
    let training = Training::new(noise(batch * steps), 1, device);
    pretrain(&config, None, SIDE, &training, observer)?;
    Ok(())
}

const SIDE: u32 = 32;

fn noise(images: usize) -> SampleSet {
    let sample = |id| {
        let mut rng = keyed(1, DRAW, 0, id, 0);
        let values = init::normals(3 * (SIDE * SIDE) as usize, &mut rng);
        // 0 to 255 is two standard deviations to either side.
        let level = |place: u32| (127.5 + 64.0 * values[place as usize]) as u8;
        let pixel = |x, y| [0, 1, 2].map(|channel| level(3 * (y * SIDE + x) + channel));
        let image = image::RgbImage::from_fn(SIDE, SIDE, |x, y| image::Rgb(pixel(x, y)));
        Sample::new(id, image, 0)
    };
    Arc::new(InMemory::new((0..images as u64).map(sample).collect()))
}

struct Watched {
    losses: Vec<f32>,
    at: Vec<Instant>,
}

impl TrainObserver for Watched {
    fn on_step(&mut self, step: &StepReport) {
        self.losses.push(step.loss);
        self.at.push(Instant::now());
    }
}
