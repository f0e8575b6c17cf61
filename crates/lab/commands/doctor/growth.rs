//! Memory of a long training: it should stop growing after the first steps.

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_ssl::{StepReport, TrainObserver};

use super::depth::Depth;
use super::methods::train;

/// Memory in use after the first and after the second half of the steps, in bytes.
pub(super) struct Growth {
    /// Steps in each half.
    pub steps: usize,
    /// Memory of the device, if its backend reports it.
    pub device: Option<[u64; 2]>,
    /// Main memory of the process, on Linux.
    pub process: Option<[u64; 2]>,
}

impl Growth {
    /// The memory that grew by more than a tenth and more than 64 MiB; a memory pool may round up by less.
    pub fn found(&self) -> Vec<String> {
        let of = |name, held: Option<[u64; 2]>| {
            let [first, second] = held?;
            let most = first + (first / 10).max(64 << 20);
            (second > most).then(|| format!("{name} grew from {} to {}", mb(first), mb(second)))
        };
        [of("the device's memory", self.device), of("main memory", self.process)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Both measurements as text.
    pub fn text(&self) -> String {
        let of = |name, held: Option<[u64; 2]>| match held {
            None => format!("{name} unknown"),
            Some([first, second]) => format!("{name} {} then {}", mb(first), mb(second)),
        };
        let (device, process) = (of("device", self.device), of("process", self.process));
        format!("memory after {0} and after 2 x {0} steps: {device}; {process}", self.steps)
    }
}

fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

/// Trains MoCo v2 for twice the steps of `depth`.
///
/// # Errors
/// The training fails or has another number of steps.
pub(super) fn growth(depth: Depth, device: &Device) -> Result<Growth> {
    let (batch, width, steps) = match depth {
        Depth::Small => (8, 2, 20),
        Depth::Full => (64, 16, 200),
    };
    let encoder = format!("{{ kind = \"resnet18\", width = {width}, stem = \"small\" }}");
    let mut held = Held { device, steps, found: Vec::new() };
    train(("moco-v2", ", queue = 256"), &encoder, (batch, 10, 2 * steps / 10), device, &mut held)?;
    let [first, second] = held.found.as_slice() else {
        anyhow::bail!("the training took {} halves of {steps} steps", held.found.len());
    };
    let both = |first: Option<u64>, second: Option<u64>| Some([first?, second?]);
    let device = both(first.device, second.device);
    Ok(Growth { steps, device, process: both(first.process, second.process) })
}

/// Measures the memory in the middle and at the end.
struct Held<'a> {
    device: &'a Device,
    steps: usize,
    found: Vec<Bytes>,
}

/// Memory in use at one moment.
struct Bytes {
    device: Option<u64>,
    process: Option<u64>,
}

impl TrainObserver for Held<'_> {
    fn on_step(&mut self, step: &StepReport) {
        if step.done.is_multiple_of(self.steps) {
            let device = self.device.memory_pool_usage().map(|usage| usage.bytes_reserved);
            self.found.push(Bytes { device, process: resident() });
        }
    }
}

/// Bytes of main memory of this process, on Linux.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_a_pool_does_not_round_up() {
        let held = |device| Growth { steps: 200, device: Some(device), process: None };
        assert!(held([4 << 30, (4 << 30) + (100 << 20)]).found().is_empty());
        assert_eq!(
            held([4_000_000_000, 14_000_000_000]).found(),
            ["the device's memory grew from 4000 MB to 14000 MB"]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_has_memory() {
        assert!(resident().unwrap() > 1 << 20);
    }
}
