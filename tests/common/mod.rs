//! Runs the real binary on a tiny experiment.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use ssl_backdoor_model::Encoder;

/// Files that the seed determines byte for byte.
pub const SEED_DECIDES: [&str; 8] = [
    "poison.csv",
    "scores.json",
    "clean/encoder.safetensors",
    "clean/probe.safetensors",
    "clean/metrics.jsonl",
    "backdoored/encoder.safetensors",
    "backdoored/probe.safetensors",
    "backdoored/metrics.jsonl",
];

const TINY: &str = r#"name = "tiny"
seed = 1

[data]
kind = "shapes"
size = 16
per_class = 32
eval_per_class = 5

[poison]
target = 3
rate = 0.5
trigger = { kind = "htba", id = 12, width = 5 }

[pretrain]
method = { kind = "moco-v2", queue = 256, momentum = 0.99, dim = 8, bn_groups = 2 }
encoder = { kind = "resnet18", width = 4, stem = "small" }
epochs = 3
batch = 16
lr = 0.02

[probe]
labels = [0.5]
curve_every = 2
"#;

/// A temporary folder with a tiny experiment in it.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ssl-backdoor run tiny.toml --out OUT --set …`
    pub fn command(&self, out: &str, sets: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        command.arg("run").arg(self.path("tiny.toml")).arg("--out").arg(self.path(out));
        sets.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        command
    }

    pub fn run(&self, out: &str, sets: &[&str]) -> Output {
        self.command(out, sets).output().unwrap()
    }

    pub fn spawn(&self, out: &str, sets: &[&str]) -> Child {
        self.command(out, sets).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Bytes of the files that the seed determines.
    pub fn bytes(&self, out: &str) -> Vec<(&'static str, Vec<u8>)> {
        let read = |name| (name, std::fs::read(self.path(out).join(name)).unwrap());
        SEED_DECIDES.map(read).to_vec()
    }
}

pub fn assert_same(a: &[(&str, Vec<u8>)], b: &[(&str, Vec<u8>)]) {
    for ((name, a), (_, b)) in a.iter().zip(b) {
        assert!(a == b, "{name} differs");
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn line_count(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Waits until `met`, while `child` runs. Returns whether it was met.
pub fn until(child: &mut Child, met: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !met() {
        assert!(since.elapsed() < Duration::from_secs(300), "no progress");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Sends `child` a signal, `-INT` or `-TERM`. Checks that it ends within two seconds and reports the interruption.
pub fn ask_to_end(child: Child, signal: &str) -> Output {
    let asked = Instant::now();
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    output
}

/// An encoder with the same features for every image.
pub fn constant(encoder: Encoder) -> Encoder {
    struct Zero;
    impl ModuleMapper for Zero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            // Parameters of one axis, those of batch norms, keep their values, so that the features are not zero.
            if D == 1 { param } else { param.map(|weight| weight.zeros_like()) }
        }
    }
    encoder.map(&mut Zero)
}
