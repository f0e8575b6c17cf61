//! Large sets: how long a run takes to start on a folder of many files, how much memory that needs, and whether the
//! memory grows while it trains.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use serde_json::Value;
use ssl_backdoor_data::purpose;
use ssl_backdoor_rng::keyed;

/// Training images of the folders.
const SETS: [usize; 2] = [300_000, 1_300_000];
/// Distinct files; the others are hard links to them, which the file system reads as separate files.
const DISTINCT: usize = 50;
const CLASSES: usize = 10;
const EVAL_PER_CLASS: usize = 200;
/// Steps of the training on the first set, and the step from which its memory is read.
const STEPS: usize = 5000;
const EARLY: usize = 1000;

/// Adds both tables. `kept` returns the line of a row that need not be measured.
pub fn tables<'a>(
    text: &mut String,
    machine: &str,
    kept: impl Fn(&str) -> Option<&'a str>,
) -> Result<()> {
    writeln!(
        text,
        "\n| folder of JPEGs, `run --until poison` | first start, s | second start, s | peak memory, MB | machine |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for files in SETS {
        let name = format!("{} thousand files", files / 1000);
        line(text, kept(&name), || {
            let set = LargeSet::make(files)?;
            let (first, _) = set.start()?;
            let (second, peak) = set.start()?;
            Ok(format!("| {name} | {first:.1} | {second:.1} | {peak:.0} | {machine} |"))
        })?;
    }
    writeln!(
        text,
        "\n| training, memory in MB | after {EARLY} steps | after {STEPS} | machine |\n| --- | --- | --- | --- |"
    )?;
    let name = format!("MoCo v2, {STEPS} steps on {} thousand files", SETS[0] / 1000);
    line(text, kept(&name), || {
        let [early, late] = LargeSet::make(SETS[0])?.train()?;
        Ok(format!("| {name} | {early:.0} | {late:.0} | {machine} |"))
    })
}

fn line(
    text: &mut String,
    kept: Option<&str>,
    measure: impl FnOnce() -> Result<String>,
) -> Result<()> {
    let row = match kept {
        Some(row) => row.to_owned(),
        None => {
            let row = measure()?;
            eprintln!("{row}");
            row
        }
    };
    writeln!(text, "{row}")?;
    Ok(())
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
             data = {{ kind = \"folder\", path = \"{}\", size = 32, cache = \"off\" }}\n\
             poison = {{ target = \"class03\", rate = 0.01, trigger = {{ kind = \"htba\", id = 10, width = 8 }} }}\n\
             probe = {{ labels = [0.01] }}\n\
             [pretrain]\nmethod = {{ kind = \"moco-v2\", queue = 240 }}\n\
             encoder = {{ kind = \"resnet18\", width = 4, stem = \"small\" }}\nepochs = 1\nbatch = {}\n",
            set.place.join("set").display(),
            files / STEPS
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
        command.arg("--out").arg(self.place.join("run")).stderr(Stdio::null());
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
            bail!("a run of {} failed", self.place.display());
        }
        Ok((since.elapsed().as_secs_f64(), peak))
    }

    /// Memory of a training after its early steps and at its end, in MB.
    fn train(&self) -> Result<[f64; 2]> {
        let mut child = self.run("twin")?;
        let progress = self.place.join("run/clean/progress.json");
        let (mut early, mut late) = (None, None);
        while child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(100));
            let step = std::fs::read(&progress).ok();
            let step = step.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            let step = step.and_then(|state| state["done"].as_u64()).unwrap_or(0);
            if step >= EARLY as u64 {
                late = memory(&child, "VmRSS").or(late);
                early = early.or(late);
            }
        }
        match (child.wait()?.success(), early, late) {
            (true, Some(early), Some(late)) => Ok([early, late]),
            _ => bail!("the training on {} failed", self.place.display()),
        }
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
