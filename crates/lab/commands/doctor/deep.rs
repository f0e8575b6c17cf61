//! `doctor --deep`: layers, methods and memory of a device, compared with the CPU.

use anyhow::Result;
use burn::tensor::Device;
use serde::Serialize;

use super::depth::Depth;
use super::growth::{Growth, growth};
use super::layers::{Layer, Named, Values};
use super::methods::{Net, Steps, methods, steps};
use crate::ConfigError;
use crate::device::{self, Found};

/// Largest error of a layer in 32-bit arithmetic with another order of summation.
const ROUNDING: f32 = 1e-4;
/// Largest error of losses for the same reason: the step in between amplifies it, most with batch norm in a head.
const LOSS_ROUNDING: f32 = 1e-3;
/// Largest error explained by rounding factors to the 10 bits of TF32: 2⁻¹¹ each, accumulated in sums.
const REDUCED: f32 = 5e-3;

/// Runs the comparisons of a device with the CPU whose names contain `only`, or the group of that name (`layers`,
/// `methods`, `memory`), and prints a table and a verdict unless `quiet`.
///
/// # Errors
/// This binary has no CPU backend, or `only` is no group and in no name.
pub(super) fn deep(depth: Depth, found: &Found, only: &str, quiet: bool) -> Result<Verdict> {
    let cpu = &cpu()?;
    let wanted = |group: &str, name: &str| group == only || name.contains(only);
    let (name, what) = (found.name.clone(), found.what.clone());
    let mut verdict = Verdict { name, what, quiet, ..Verdict::default() };
    verdict.say(&format!("\n{} ({}) against the CPU", found.name, found.what));
    verdict.head("layer, forward and backward", "ms");
    for layer in Layer::all(depth).into_iter().filter(|layer| wanted("layers", &layer.name)) {
        let compared = device::attempt(|| {
            let (expected, _) = layer.compute(cpu, false);
            let (got, milliseconds) = layer.compute(&found.device, true);
            (worst(&expected, &got), milliseconds.unwrap_or(f64::NAN))
        });
        verdict.row(&layer.name, ROUNDING, compared);
    }
    verdict.head("method, the losses of two steps", "ms a step");
    for method in methods(depth) {
        let name = format!("{}, {}", method.0, method.2.name());
        if wanted("methods", &name) {
            let compared = method_apart(method, depth, cpu, &found.device);
            verdict.row(&name, LOSS_ROUNDING, compared);
        }
    }
    if wanted("memory", "memory") {
        match device::attempt(|| growth(depth, &found.device)) {
            Ok(Ok(held)) => verdict.memory(&held),
            Ok(Err(error)) => verdict.fail(format!("memory of a long training: {error:#}")),
            Err(panic) => verdict.fail(format!("memory of a long training: {panic}")),
        }
    }
    if verdict.compared.is_empty() && verdict.memory.is_none() {
        let unknown = format!(
            "--only {only:?}: no comparison has this in its name, and the groups are layers, methods and memory"
        );
        return Err(ConfigError(unknown).into());
    }
    verdict.say(&format!("  {}", verdict.words()));
    Ok(verdict)
}

/// The error of a method's first losses, and the milliseconds of a step.
fn method_apart(
    method: (&str, &str, Net),
    depth: Depth,
    cpu: &Device,
    device: &Device,
) -> Result<(Apart, f64), String> {
    let compared = device::attempt(|| -> Result<_> {
        let (expected, got) = (steps(method, depth, cpu)?, steps(method, depth, device)?);
        Ok((losses_apart(&expected, &got), got.milliseconds))
    });
    compared.and_then(|done| done.map_err(|error| format!("{error:#}")))
}

fn cpu() -> Result<Device> {
    let cpu = device::open("flex");
    cpu.map_err(|error| anyhow::anyhow!("doctor --deep compares with the CPU: {error}"))
}

/// A device compared with the CPU: all rows, the failures, and the rows with reduced precision.
#[derive(Default, Serialize)]
pub(super) struct Verdict {
    name: String,
    what: String,
    #[serde(skip)]
    quiet: bool,
    compared: Vec<Row>,
    /// The growth of memory, in words.
    memory: Option<String>,
    wrong: Vec<String>,
    reduced: Vec<String>,
}

/// The result of a layer or a method.
#[derive(Serialize)]
struct Row {
    name: String,
    /// The largest error as a share of the largest value, and the name of that value; absent if the device failed.
    error: Option<f32>,
    of: Option<&'static str>,
    milliseconds: Option<f64>,
}

impl Verdict {
    /// Whether the device can be trusted.
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            println!("{line}");
        }
    }

    fn head(&self, what: &str, time: &str) {
        self.say(&format!("  {what:<52} {:>9} {time:>10}", "error"));
    }

    fn row(&mut self, name: &str, rounding: f32, compared: Result<(Apart, f64), String>) {
        let (error, of) = compared.as_ref().map(|(apart, _)| (apart.error, apart.of)).ok().unzip();
        let milliseconds = compared.as_ref().ok().map(|&(_, milliseconds)| milliseconds);
        self.compared.push(Row { name: name.to_owned(), error, of, milliseconds });
        let (apart, milliseconds) = match compared {
            Ok(compared) => compared,
            Err(reason) => {
                self.say(&format!("  {name:<52} FAILED: {reason}"));
                return self.fail(format!("{name}: {reason}"));
            }
        };
        let note = match apart.error {
            error if error <= rounding => String::new(),
            error if error <= REDUCED => {
                self.reduced.push(name.to_owned());
                format!("  reduced precision ({})", apart.of)
            }
            error => {
                self.fail(format!("{name}: {} off by {error:.1e} of its scale", apart.of));
                format!("  WRONG ({})", apart.of)
            }
        };
        self.say(&format!("  {name:<52} {:>9.1e} {milliseconds:>10.3}{note}", apart.error));
    }

    fn memory(&mut self, held: &Growth) {
        self.say(&format!("  {}", held.text()));
        self.memory = Some(held.text());
        self.wrong.extend(held.found());
    }

    fn fail(&mut self, what: String) {
        self.wrong.push(what);
    }

    fn words(&self) -> String {
        let name = &self.name;
        match (self.wrong.as_slice(), self.reduced.as_slice()) {
            ([], []) => format!("{name} agrees with the CPU."),
            ([], some) => format!(
                "{name} can be used for training: {} of the rows have the precision of TF32 or 16 bits, none is wrong.",
                some.len()
            ),
            (wrong, _) => format!("Do not trust {name}:\n    {}", wrong.join("\n    ")),
        }
    }
}

/// The largest difference as a share of the largest value, and the name of that value.
#[derive(Debug, Clone, Copy)]
struct Apart {
    error: f32,
    of: &'static str,
}

/// The largest error of several values; infinite for values that are not finite or of another length.
fn worst(expected: &Values, got: &Values) -> Apart {
    let apart = |((of, a), (_, b)): (&Named, &Named)| {
        let scale = a.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
        let sound = a.len() == b.len() && b.iter().all(|v| v.is_finite());
        let most = a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        Apart { error: if sound { most / scale } else { f32::INFINITY }, of }
    };
    let all = expected.iter().zip(got).map(apart);
    let none = Apart { error: 0.0, of: "" };
    all.fold(none, |worst, one| if one.error > worst.error { one } else { worst })
}

/// The largest error of a loss, as a share of that loss.
fn losses_apart(expected: &Steps, got: &Steps) -> Apart {
    let of = |steps: &Steps| -> Values {
        let names = ["loss of the first step", "loss of the second step"];
        names.into_iter().zip(steps.losses.iter().map(|&loss| vec![loss])).collect()
    };
    worst(&of(expected), &of(got))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_gradient_is_named_and_rounding_is_not() {
        let of = |values: [f32; 2]| vec![("output", vec![1.0]), ("gradient", values.to_vec())];
        let expected = of([2.0, -4.0]);
        let row = |got: [f32; 2]| {
            let mut verdict = Verdict { name: "gpu".into(), ..Verdict::default() };
            verdict.row("a layer", ROUNDING, Ok((worst(&expected, &of(got)), 1.0)));
            verdict.words()
        };
        assert_eq!(row([2.0, -4.0001]), "gpu agrees with the CPU.");
        assert!(row([2.0, -4.004]).contains("1 of the rows"));
        for bad in [[2.0, -4.1], [2.0, f32::NAN], [f32::INFINITY, -4.0]] {
            let said = row(bad);
            assert!(
                said.contains("Do not trust gpu") && said.contains("gradient off by"),
                "{said}"
            );
        }
    }

    #[test]
    fn every_layer_has_gradients_and_agrees_with_itself() {
        let cpu = cpu().unwrap();
        for layer in Layer::all(Depth::Small) {
            let (values, milliseconds) = layer.compute(&cpu, true);
            assert!(milliseconds.unwrap() > 0.0);
            assert!(worst(&values, &values).error == 0.0);
            for (of, values) in values {
                let some = values.iter().any(|&v| v != 0.0) && values.iter().all(|v| v.is_finite());
                assert!(some, "{}: {of}", layer.name);
            }
        }
    }
}
