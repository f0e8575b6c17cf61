//! The command `doctor`: what this machine and this binary provide, and whether each device computes correctly.

mod deep;
mod depth;
mod growth;
mod layers;
mod methods;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use ssl_backdoor_data::data_sets_found;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{EncoderConfig, Stem, init};
use ssl_backdoor_rng::keyed;

use self::depth::Depth;
use crate::ConfigError;
use crate::device::{self, Found};
use crate::record::BURN;

/// Largest difference of a self-test's losses from the CPU's.
const TOLERANCE: f32 = 1e-3;

/// Show devices, data sets, disk space and versions, and try a training step on each device.
///
/// With --deep, compares every device with the CPU: each layer forward and backward at the shapes of real trainings, the
/// first steps of each method, and the memory of a long training. The exit status is 1 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor doctor\n  ssl-backdoor doctor --deep                   # a few minutes\n  \
                  ssl-backdoor doctor --deep small --device wgpu:0"
)]
pub struct DoctorArgs {
    /// Compare each device with the CPU: `full` with the shapes of trainings, `small` with tiny ones.
    #[arg(long, value_name = "DEPTH", num_args = 0..=1, default_missing_value = "full")]
    deep: Option<Depth>,
    /// Compare only this device, such as wgpu:1 or cuda:0.
    #[arg(long, value_name = "NAME", requires = "deep")]
    device: Option<String>,
    /// Compare only what contains this in its name, such as `conv`, `moco-v3` or `memory`.
    #[arg(long, value_name = "TEXT", requires = "deep")]
    only: Option<String>,
}

impl DoctorArgs {
    /// Prints the state of the machine.
    ///
    /// # Errors
    /// A device failed or does not exist.
    pub fn run(&self) -> Result<()> {
        let Some(depth) = self.deep else { return doctor() };
        if let Some(name) = &self.device {
            device::open(name).map_err(|error| ConfigError(error.to_string()))?;
        }
        let wanted = |name: &str| match &self.device {
            None => device::backend(name) != "flex",
            Some(wanted) => name == wanted || name == format!("{wanted}:0"),
        };
        let (mut tried, mut off) = (0, Vec::new());
        for found in device::found().into_iter().flatten().filter(|found| wanted(&found.name)) {
            tried += 1;
            if !deep::deep(depth, &found, self.only.as_deref().unwrap_or(""))? {
                off.push(found.name);
            }
        }
        if tried == 0 {
            println!("There is no device other than the CPU to compare.");
        }
        anyhow::ensure!(off.is_empty(), "do not use for training: {}", off.join(", "));
        Ok(())
    }
}

/// Prints the state of the machine.
///
/// # Errors
/// A device failed its self-test.
fn doctor() -> Result<()> {
    println!("ssl-backdoor {}, Burn {BURN}", env!("CARGO_PKG_VERSION"));
    #[cfg(feature = "flex")]
    let [f32, bf16] =
        [ssl_backdoor_kernels::instruction_path(), ssl_backdoor_kernels::bf16_instruction_path()];
    println!("CPU kernels: {f32}; in bf16: {bf16}");
    println!("\ndevices");
    let mut broken = 0;
    let mut expected = None;
    for found in device::found() {
        match found {
            Err(reason) => println!("  {reason}"),
            Ok(Found { name, what, device }) => {
                let now = Instant::now();
                let loss = self_test(&device, &mut expected);
                let seconds = now.elapsed().as_secs_f64();
                match loss {
                    Ok(loss) => {
                        println!("  {name:<8} {what}: one step ok, loss {loss:.5}, {seconds:.1} s")
                    }
                    Err(reason) => {
                        broken += 1;
                        println!("  {name:<8} {what}: FAILED: {reason}");
                    }
                }
            }
        }
    }
    println!("\ndata sets that need no path");
    for (kind, found) in data_sets_found() {
        match found {
            Ok(place) => println!("  {kind:<14} {place}"),
            Err(hint) => println!("  {kind:<14} not found. {hint}"),
        }
    }
    println!("\ndisk");
    for folder in [PathBuf::from("."), PathBuf::from("runs"), std::env::temp_dir()] {
        if let Some(free) = free(&folder) {
            println!("  {:<14} {:.1} GB free", folder.display(), free as f64 / 1e9);
        }
    }
    anyhow::ensure!(broken == 0, "{broken} devices failed their self-test");
    Ok(())
}

/// The loss of one step on `device`, or why it is wrong: the first device's, the CPU's, is what is `expected`.
fn self_test(device: &Device, expected: &mut Option<f32>) -> Result<f32, String> {
    let loss = device::attempt(|| one_step(device))?;
    if !loss.is_finite() {
        return Err(format!("its loss is {loss}"));
    }
    let wanted = *expected.get_or_insert(loss);
    match (loss - wanted).abs() < TOLERANCE {
        true => Ok(loss),
        false => Err(format!("its loss is {loss}, the CPU's {wanted}")),
    }
}

/// Bytes that may still be written in `folder`, if it is there.
fn free(folder: &Path) -> Option<u64> {
    folder.exists().then(|| fs4::available_space(folder).ok()).flatten()
}

/// The loss of a small network after one step of gradient descent: convolutions, batch norm and their gradients.
fn one_step(device: &Device) -> f32 {
    let device = &device.clone().autodiff();
    let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
    let net = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small }.init(&mut rng, device);
    let pixels = init::normals(4 * 3 * 16 * 16, &mut rng);
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [4, 3, 16, 16]), device);
    let loss = |net: &ssl_backdoor_model::Encoder| {
        let features = ssl_backdoor_model::l2_normalize(net.forward(images.clone()));
        features.clone().matmul(features.transpose()).powi_scalar(2).mean()
    };
    let gradients = burn::optim::GradientsParams::from_grads(loss(&net).backward(), &net);
    let mut optimizer = burn::optim::SgdConfig::new().init();
    let net = optimizer.step(0.1, net, gradients);
    loss(&net).into_scalar::<f32>()
}
