//! `doctor` without `--deep`: the state of the machine, as text or JSON.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use ssl_backdoor_data::data_sets_found;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{EncoderConfig, Stem, init};
use ssl_backdoor_rng::keyed;

use crate::device::{self, Found};
use crate::record::{BURN, SCHEMA};

/// Largest difference of a self-test's losses from the CPU's.
const TOLERANCE: f32 = 1e-3;

/// What this machine and this binary provide.
#[derive(Serialize)]
pub(super) struct Machine {
    schema: u32,
    version: &'static str,
    burn: &'static str,
    /// Instructions of the CPU kernels in 32 bits and in bf16, if the binary has them.
    cpu_kernels: Option<Kernels>,
    devices: Vec<Tried>,
    data_sets: Vec<Set>,
    disk: Vec<Disk>,
}

#[derive(Serialize)]
struct Kernels {
    f32: String,
    bf16: String,
}

/// A device and its self-test, or why there is no device.
#[derive(Serialize)]
struct Tried {
    name: Option<String>,
    what: Option<String>,
    /// The loss after a step, and the seconds that it took.
    loss: Option<f32>,
    seconds: Option<f64>,
    error: Option<String>,
}

/// A data set that needs no path.
#[derive(Serialize)]
struct Set {
    kind: String,
    /// Where it was found.
    place: Option<String>,
    /// How to get it.
    hint: Option<String>,
}

#[derive(Serialize)]
struct Disk {
    folder: PathBuf,
    free_bytes: u64,
}

impl Machine {
    /// Inspects the machine, and tries a training step on each device.
    pub(super) fn look() -> Self {
        #[cfg(feature = "flex")]
        let cpu_kernels = Some(Kernels {
            f32: ssl_backdoor_kernels::instruction_path().to_string(),
            bf16: ssl_backdoor_kernels::bf16_instruction_path().to_string(),
        });
        #[cfg(not(feature = "flex"))]
        let cpu_kernels = None;
        let mut expected = None;
        let devices = device::found().into_iter().map(|found| match found {
            Ok(found) => Tried::of(found, &mut expected),
            Err(reason) => Tried {
                name: None,
                what: None,
                loss: None,
                seconds: None,
                error: Some(reason.to_string()),
            },
        });
        let sets = data_sets_found().into_iter().map(|(kind, found)| Set {
            kind: kind.to_string(),
            place: found.as_ref().ok().map(ToString::to_string),
            hint: found.as_ref().err().map(ToString::to_string),
        });
        let folders = [PathBuf::from("."), PathBuf::from("runs"), std::env::temp_dir()];
        let disk = folders
            .into_iter()
            .filter_map(|folder| free(&folder).map(|free_bytes| Disk { folder, free_bytes }));
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            burn: BURN,
            cpu_kernels,
            devices: devices.collect(),
            data_sets: sets.collect(),
            disk: disk.collect(),
        }
    }

    /// Number of devices that failed their self-test.
    pub(super) fn broken(&self) -> usize {
        self.devices.iter().filter(|tried| tried.name.is_some() && tried.error.is_some()).count()
    }

    pub(super) fn print(&self) {
        println!("ssl-backdoor {}, Burn {}", self.version, self.burn);
        if let Some(Kernels { f32, bf16 }) = &self.cpu_kernels {
            println!("CPU kernels: {f32}; in bf16: {bf16}");
        }
        println!("\ndevices");
        self.devices.iter().for_each(Tried::print);
        println!("\ndata sets that need no path");
        for Set { kind, place, hint } in &self.data_sets {
            match (place, hint) {
                (Some(place), _) => println!("  {kind:<14} {place}"),
                (None, hint) => {
                    println!("  {kind:<14} not found. {}", hint.as_deref().unwrap_or_default())
                }
            }
        }
        println!("\ndisk");
        for Disk { folder, free_bytes } in &self.disk {
            println!("  {:<14} {:.1} GB free", folder.display(), *free_bytes as f64 / 1e9);
        }
    }
}

impl Tried {
    fn of(Found { name, what, device }: Found, expected: &mut Option<f32>) -> Self {
        let now = Instant::now();
        let loss = self_test(&device, expected);
        let seconds = Some(now.elapsed().as_secs_f64());
        let (loss, error) = match loss {
            Ok(loss) => (Some(loss), None),
            Err(reason) => (None, Some(reason)),
        };
        Self { name: Some(name), what: Some(what), loss, seconds, error }
    }

    fn print(&self) {
        let what = self.what.as_deref().unwrap_or_default();
        let (name, seconds) = (self.name.as_deref(), self.seconds.unwrap_or_default());
        match (name, self.loss, self.error.as_deref().unwrap_or_default()) {
            (None, _, reason) => println!("  {reason}"),
            (Some(name), Some(loss), _) => {
                println!("  {name:<8} {what}: one step ok, loss {loss:.5}, {seconds:.1} s")
            }
            (Some(name), None, reason) => println!("  {name:<8} {what}: FAILED: {reason}"),
        }
    }
}

/// The loss after one step on `device`, or why it is wrong. The loss of the first device, the CPU, is `expected`.
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

/// Free bytes in `folder`, if it exists.
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
