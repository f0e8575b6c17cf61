//! A few training steps of each method on a device: their losses and the time of a step.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_data::purpose::DRAW;
use ssl_backdoor_data::{InMemory, Sample, SampleSet};
use ssl_backdoor_model::init;
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{PretrainConfig, StepReport, TrainObserver, Training, pretrain};

use super::depth::Depth;

/// Number of steps whose losses are compared: the second loss depends on the gradients of the first step.
const COMPARED: usize = 2;

/// An encoder with which a method is compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Net {
    Resnet,
    Conv4,
    Vit,
    Regnet,
}

use Net::{Conv4, Regnet, Resnet, Vit};

impl Net {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Resnet => "resnet",
            Conv4 => "conv4",
            Vit => "vit",
            Regnet => "regnet",
        }
    }
}

/// Every method, with settings for a small batch and heads of similar size, so that a device tunes few shapes; some
/// methods also with other encoders. All use SGD, because LARS and Adam divide by the size of a gradient and amplify the
/// rounding errors of gradients near zero.
const METHODS: [(&str, &str, Net); 17] = [
    ("moco-v2", ", queue = 256, dim = 32", Resnet),
    ("byol", ", hidden = 64, dim = 32", Resnet),
    ("msf", ", queue = 256, hidden = 64, dim = 32", Resnet),
    ("jigsaw", ", permutations = 32, resize = 51, tile = 16", Resnet),
    ("rotnet", "", Resnet),
    ("rotnet", "", Regnet),
    ("mae", ", decoder_dim = 32, decoder_depth = 2, decoder_heads = 4", Vit),
    ("simclr", ", dim = 32", Resnet),
    ("simclr-v2", ", hidden = 64, dim = 32", Resnet),
    ("simsiam", ", dim = 64, hidden = 32", Resnet),
    ("barlow-twins", ", hidden = 64, dim = 32", Resnet),
    ("vicreg", ", hidden = 64, dim = 32", Resnet),
    ("moco-v3", ", hidden = 64, dim = 32", Resnet),
    ("moco-v3", ", hidden = 64, dim = 32", Vit),
    (
        "swav",
        ", queue = 0, frozen_steps = 1, prototypes = 32, hidden = 64, dim = 32, small_size = 16",
        Resnet,
    ),
    (
        "dino",
        ", outputs = 64, hidden = 64, bottleneck = 32, small_size = 16, teacher_warmup = 0, frozen_epochs = 0",
        Resnet,
    ),
    (
        "deepcluster-v2",
        ", prototypes = [16, 16, 16], hidden = 64, dim = 32, small_size = 16",
        Resnet,
    ),
];

/// [`METHODS`] for a device. A software device tunes each shape of a layer for seconds, so at small depth an encoder with few
/// shapes takes the place of the ResNet, and the RegNet is left out. The training whose memory is watched has the ResNet at any depth.
pub(super) fn methods(depth: Depth) -> impl Iterator<Item = (&'static str, &'static str, Net)> {
    METHODS.into_iter().filter_map(move |(kind, settings, net)| match (net, depth) {
        (Resnet, Depth::Small) => Some((kind, settings, Conv4)),
        (Regnet, Depth::Small) => None,
        _ => Some((kind, settings, net)),
    })
}

/// The result of a few steps of a method.
pub(super) struct Steps {
    /// Losses of the first steps.
    pub losses: Vec<f32>,
    /// Milliseconds of the last step, including its views.
    pub milliseconds: f64,
}

/// Trains a method of [`methods`] for a few steps on `device`.
///
/// # Errors
/// The training fails.
pub(super) fn steps(
    (kind, settings, net): (&str, &str, Net),
    depth: Depth,
    device: &Device,
) -> Result<Steps> {
    // At full depth, one more step, when all kernels are tuned.
    let (batch, width, dim, steps) = match depth {
        Depth::Small => (16, 4, 32, COMPARED),
        Depth::Full => (64, 64, 192, COMPARED + 1),
    };
    let encoder = match net {
        Resnet => format!("{{ kind = \"resnet18\", width = {width}, stem = \"small\" }}"),
        Conv4 => "{ kind = \"conv4\", width = 8 }".to_owned(),
        Vit => format!("{{ kind = \"vit\", dim = {dim}, depth = 2, heads = 4, patch = 8 }}"),
        Regnet => {
            let shape = "depths = [1, 1, 1, 1], widths = [8, 8, 16, 24], group = 8";
            format!(
                "{{ kind = \"regnet-y\", stem = \"small\", size = {{ custom = {{ {shape} }} }} }}"
            )
        }
    };
    let mut watched = Watched { losses: Vec::new(), at: vec![Instant::now()] };
    train((kind, settings), &encoder, (batch, steps, 1), device, &mut watched)?;
    let last = watched.at.windows(2).last().map_or(f64::NAN, |at| (at[1] - at[0]).as_secs_f64());
    watched.losses.truncate(COMPARED);
    Ok(Steps { losses: watched.losses, milliseconds: last * 1e3 })
}

/// Trains `kind` on noise: `(images in a batch, steps in an epoch, epochs)`.
///
/// # Errors
/// The training fails.
pub(super) fn train(
    (kind, settings): (&str, &str),
    encoder: &str,
    (batch, steps, epochs): (usize, usize, usize),
    device: &Device,
    observer: &mut dyn TrainObserver,
) -> Result<()> {
    let config: PretrainConfig = toml::from_str(&format!(
        "method = {{ kind = \"{kind}\"{settings} }}\nencoder = {encoder}\nepochs = {epochs}\n\
         batch = {batch}\nlr = 0.01\noptimizer = {{ kind = \"sgd\", momentum = 0.9 }}\ncanaries = \"off\""
    ))?;
    let training = Training::new(noise(batch * steps), 1, device);
    pretrain(&config, None, SIDE, &training, observer)?;
    Ok(())
}

const SIDE: u32 = 32;

/// Noise around a colour that differs between images. With noise alone, all features would be nearly equal, and batch
/// norm in a head would divide them by their rounding errors.
fn noise(images: usize) -> SampleSet {
    let sample = |id| {
        let mut rng = keyed(1, DRAW, 0, id, 0);
        let colour = init::normals(3, &mut rng);
        let values = init::normals(3 * (SIDE * SIDE) as usize, &mut rng);
        let level = |place: u32, channel: usize| {
            127.5 + 50.0 * colour[channel] + 30.0 * values[place as usize]
        };
        let pixel = |x, y| {
            [0, 1, 2].map(|channel| level(3 * (y * SIDE + x) + channel, channel as usize) as u8)
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_trains() {
        let cpu = crate::device::open("flex").unwrap();
        for method in METHODS.into_iter().chain(methods(Depth::Small)) {
            let found = steps(method, Depth::Small, &cpu).unwrap();
            let [first, second] = found.losses.as_slice() else { panic!("{:?}", found.losses) };
            assert!(first.is_finite() && second.is_finite() && first != second, "{}", method.0);
        }
    }

    #[test]
    fn every_method_is_tried() {
        let unknown = serde_json::from_str::<ssl_backdoor_ssl::MethodConfig>(r#"{"kind":"?"}"#);
        let said = unknown.unwrap_err().to_string();
        let (_, names) = said.split_once("one of").unwrap();
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        assert!(names.len() > 10, "{said}");
        for name in names {
            assert!(METHODS.iter().any(|method| method.0 == name), "{name} is not in METHODS");
        }
    }
}
