//! Large sets: how long a run takes to start on a folder of many files, how much memory that needs, and whether the
//! memory grows while it trains.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use serde_json::Value;
use ssl_backdoor_data::purpose;
use ssl_backdoor_rng::keyed;

use crate::tables::Tables;

/// Training images of the folders.
const SETS: [usize; 2] = [300_000, 1_300_000];
/// Distinct files; the others are hard links to them, which the file system reads as separate files.
const DISTINCT: usize = 50;
const CLASSES: usize = 10;
const EVAL_PER_CLASS: usize = 200;
const BATCH: usize = 60;
/// Steps of the training on the first set, and the step from which its memory is read.
const STEPS: usize = SETS[0] / BATCH;
const EARLY: usize = 1000;

/// Adds both tables.
pub fn tables(tables: &mut Tables<'_>) {
    tables.head(&[
        "folder of JPEGs, `run --until poison`",
        "first start, s",
        "second start, s",
        "peak memory, MB",
        "target: second start below 20 s, 300 MB at 300 thousand",
        "machine",
    ]);
    for files in SETS {
        tables.row(&format!("{} thousand files", files / 1000), || {
            let set = LargeSet::make(files)?;
            let (first, _) = set.start()?;
            let (second, peak) = set.start()?;
            let met = second < 20.0 && peak < 300.0;
            let target = if files != SETS[0] {
                "-"
            } else if met {
                "met"
            } else {
                "missed"
            };
            let cells = [format!("{first:.1}"), format!("{second:.1}"), format!("{peak:.0}")];
            Ok([&cells[..], &[target.to_owned()]].concat())
        });
    }
    let (early, late) = (format!("memory after {EARLY} steps, MB"), format!("after {STEPS}"));
    tables.head(&["training on a folder", "first step after, s", &early, &late, "machine"]);
    tables.row(&format!("MoCo v2, {STEPS} steps on {} thousand files", SETS[0] / 1000), || {
        let trained = LargeSet::make(SETS[0])?.train()?;
        Ok(vec![
            format!("{:.1}", trained.first_step),
            format!("{:.0}", trained.early),
            format!("{:.0}", trained.late),
        ])
    });
}

/// A training on a large set.
struct Trained {
    /// Seconds from the start of the program to the first report of a finished step, which are a second apart.
    first_step: f64,
    /// Memory after the early steps and at the end, in MB.
    early: f64,
    late: f64,
}

/// A folder of many images and the config of a run on it. Both are removed when it is dropped.
struct LargeSet {
    place: PathBuf,
}

impl LargeSet {
    fn make(files: usize) -> Result<Self> {
        let set = Self { place: Path::new("target").join(format!("speed-large-{files}")) };
        if set.place.exists() {
            std::fs::remove_dir_all(&set.place)?;
        }
        let source = set.place.join("source");
        std::fs::create_dir_all(&source)?;
        for i in 0..DISTINCT {
            let mut rng = keyed(0, purpose::DRAW, 0, i as u64, 0);
            let noise = image::RgbImage::from_fn(64, 64, |_, _| image::Rgb(rng.random()));
            noise.save(source.join(format!("{i}.jpg")))?;
        }
        for (split, each) in [("train", files / CLASSES), ("val", EVAL_PER_CLASS)] {
            for class in 0..CLASSES {
                let folder = set.place.join("set").join(split).join(format!("class{class:02}"));
                std::fs::create_dir_all(&folder)?;
                for i in 0..each {
                    let file = source.join(format!("{}.jpg", (i + class) % DISTINCT));
                    std::fs::hard_link(file, folder.join(format!("{i:07}.jpg")))?;
                }
            }
        }
        let config = format!(
            "name = \"large\"\nseed = 1\n\
             data = {{ kind = \"folder\", path = \"{}\", size = 32 }}\n\
             poison = {{ target = \"class03\", rate = 0.01, trigger = {{ kind = \"htba\", id = 10, width = 8 }} }}\n\
             probe = {{ labels = [0.01] }}\n\
             [pretrain]\nmethod = {{ kind = \"moco-v2\", queue = 240 }}\n\
             encoder = {{ kind = \"resnet18\", width = 4, stem = \"small\" }}\nepochs = 1\nbatch = {BATCH}\n\
             # There is nothing to learn from noise.\ncanaries = \"warn\"\n",
            set.place.join("set").display()
        );
        std::fs::write(set.place.join("large.toml"), config)?;
        Ok(set)
    }

    fn run(&self, until: &str) -> Result<Child> {
        // The example lies in a folder beside the binary.
        let example = std::env::current_exe()?;
        let release = example.parent().and_then(Path::parent).context("no folder above")?;
        let mut command = Command::new(release.join("ssl-backdoor"));
        command.arg("run").arg(self.place.join("large.toml")).args(["--until", until]);
        command.arg("--out").arg(self.place.join("run")).stderr(Stdio::from(self.log()?));
        command.spawn().context("cannot run ssl-backdoor: build it with --release")
    }

    /// Seconds until a run has its poison plan, and the peak of its memory in MB.
    fn start(&self) -> Result<(f64, f64)> {
        let run = self.place.join("run");
        if run.exists() {
            std::fs::remove_dir_all(run)?;
        }
        let since = Instant::now();
        let mut child = self.run("poison")?;
        let mut peak = 0.0;
        while child.try_wait()?.is_none() {
            peak = memory(&child, "VmHWM").unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(5));
        }
        if !child.wait()?.success() {
            bail!("the run failed: {}", self.said());
        }
        Ok((since.elapsed().as_secs_f64(), peak))
    }

    fn train(&self) -> Result<Trained> {
        let since = Instant::now();
        let mut child = self.run("twin")?;
        let progress = self.place.join("run/clean/progress.json");
        let (mut first_step, mut early, mut late) = (None, None, None);
        while child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(100));
            let step = std::fs::read(&progress).ok();
            let step = step.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            let step = step.and_then(|state| state["done"].as_u64()).unwrap_or(0);
            if step > 0 {
                first_step = first_step.or(Some(since.elapsed().as_secs_f64()));
            }
            if step >= EARLY as u64 {
                late = memory(&child, "VmRSS").or(late);
                early = early.or(late);
            }
        }
        match (child.wait()?.success(), first_step, early, late) {
            (true, Some(first_step), Some(early), Some(late)) => {
                Ok(Trained { first_step, early, late })
            }
            _ => bail!("the training failed: {}", self.said()),
        }
    }

    /// The file of the messages of a run.
    fn log(&self) -> Result<File> {
        Ok(File::create(self.place.join("log.txt"))?)
    }

    /// The last line of these messages.
    fn said(&self) -> String {
        let text = std::fs::read_to_string(self.place.join("log.txt")).unwrap_or_default();
        text.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for LargeSet {
    fn drop(&mut self) {
        // The next set of this size removes what is left.
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

/// A line of the process's status in MB, while it runs.
fn memory(child: &Child, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}
