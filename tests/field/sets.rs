//! Small sets of image files, configs for them, and the binary run on both.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::RgbImage;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// A temporary folder in which the binary runs.
pub struct Site {
    folder: tempfile::TempDir,
}

/// A noisy picture whose class a probe can recognise, `size` pixels a side.
pub fn picture(class: u64, index: u64, size: u32) -> RgbImage {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1000 * class + index);
    let wave = |c: f32, x: f32, y: f32| ((c + 1.0) * 3.0 * x + (c % 3.0) * 5.0 * y).sin();
    RgbImage::from_fn(size, size, |x, y| {
        let of = |v: u32| v as f32 / size as f32;
        let level = 127.0 + 80.0 * wave(class as f32, of(x), of(y));
        image::Rgb(std::array::from_fn(|_| {
            let noise: f32 =
                (0..4).map(|_| f32::from(rng.next_u32() as u8) - 127.5).sum::<f32>() / 12.0;
            (level + noise).clamp(0.0, 255.0) as u8
        }))
    })
}

impl Site {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes `train` and `val` images of each class, 32 px a side: `NAME/train/CLASS/*.png`, `NAME/val/CLASS/*.png`.
    pub fn folder(&self, name: &str, classes: &[&str], [train, val]: [u64; 2]) -> PathBuf {
        for (split, count, first) in [("train", train, 0), ("val", val, 5000)] {
            for (class, class_name) in (0..).zip(classes) {
                let folder = self.path(name).join(split).join(class_name);
                std::fs::create_dir_all(&folder).unwrap();
                for i in 0..count {
                    let path = folder.join(format!("{i:03}.png"));
                    picture(class, first + i, 32).save(path).unwrap();
                }
            }
        }
        self.path(name)
    }

    /// Writes the config `name` of a small MoCo v2 that poisons class "cat"; `data` is its line `data = …`.
    /// Other settings: `--set KEY=VALUE` (without blanks).
    pub fn config(&self, name: &str, data: &str) -> PathBuf {
        let text = format!(
            r#"name = "t"
seed = 1
workers = 1
{data}
[poison]
target = "cat"
rate = 0.5
trigger = {{ kind = "htba", id = 10, width = 8 }}
[pretrain]
method = {{ kind = "moco-v2", queue = 16, bn_groups = 1 }}
encoder = {{ kind = "resnet18", width = 4, stem = "small" }}
epochs = 1
batch = 8
blur = false
[probe]
labels = [0.5]
batch = 16
epochs = 20
"#
        );
        self.write(name, text)
    }

    /// The binary in this folder; `args` are separated by blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        command.args(args.split_whitespace()).current_dir(self.folder.path());
        command
    }

    /// Runs the binary in this folder; returns its exit status and output.
    pub fn run(&self, args: &str) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    pub fn json(&self, name: impl AsRef<Path>) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }
}

/// Exit status and output of the binary.
#[derive(Debug)]
pub struct Said {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Checks that it succeeded.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.status, Some(0), "{}{}", self.stderr, self.stdout);
        self
    }

    /// Checks that it ended with `status` and one error that contains these words.
    #[track_caller]
    pub fn bad(self, status: i32, words: &[&str]) -> Self {
        let text = &self.stderr;
        assert_eq!(self.status, Some(status), "{text}");
        for word in words {
            assert!(text.contains(word), "no “{word}” in: {text}");
        }
        assert_eq!(text.matches("error:").count(), 1, "{text}");
        assert!(!text.contains("panicked"), "{text}");
        self
    }
}
