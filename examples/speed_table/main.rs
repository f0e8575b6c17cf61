//! The tables of `docs/benchmarks.md`: our rates and PyTorch's, measured in turns, and the benches of the kernels
//! next to plain Burn.
//!
//! ```sh
//! cargo run --release --example speed_table -- --bench --python PYTHON --page docs/benchmarks.md
//! ```
//!
//! With `--bench` it first builds the program and the two examples that it runs, and runs `cargo bench` with our
//! kernels and with plain Burn; with `wgpu` or `cuda` in `CARGO_FEATURES`, on those devices too. Without it, the binary
//! and both examples must have been built with `--release`.
//!
//! It makes folders of 300 thousand and 1.3 million files in `target`, as hard links. The PyTorch counterparts are
//! `benches/torch_*.py`; they print `images_per_s` as JSON lines. A row that cannot be measured is named at the end, and
//! stays on the page as it was. `--only` measures some of the rows, so that the page can be made in several parts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;

use rows::{METHODS, ROWS, Row};
use tables::Tables;

mod large;
mod medians;
mod rows;
mod tables;

const BEGIN: &str = "<!-- speed: begin -->";
const END: &str = "<!-- speed: end -->";
/// Seconds after which a program that measures is stopped and its row given up.
const LIMIT: u64 = 600;

#[derive(Parser)]
#[command(about = "Measures the tables of docs/benchmarks.md")]
struct Args {
    /// A Python with PyTorch and torchvision.
    #[arg(long)]
    python: PathBuf,
    /// Build the examples and run the benches first.
    #[arg(long)]
    bench: bool,
    /// Turns of ours and theirs.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only the rows whose name contains this; keep the other rows of the page.
    #[arg(long)]
    only: Option<String>,
    /// Where criterion leaves its estimates [default: `criterion` in the target folder of cargo].
    #[arg(long)]
    criterion: Option<PathBuf>,
    /// The page whose tables are replaced; without it they are printed.
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let old = args.page.as_deref().map(parts).transpose()?.unwrap_or_default();
    if args.bench {
        let examples = ["--bins", "--example", "step_speed", "--example", "data_speed"];
        cargo(&[&["build", "--release"], &examples[..]].concat(), "")?;
    }
    let mut tables = Tables::new(&old[1], args.only.as_deref(), machine());
    tables.head(&[
        "images per second, two threads",
        "ours",
        "PyTorch",
        "ratio, median [range] of turns",
        "target",
        "peak memory in MB, ours / PyTorch",
        "machine",
    ]);
    for row in &ROWS {
        if row.bf16 && !has("avx512_bf16") {
            tables.not_here(row.name, "a CPU with AVX512-BF16", 5);
        } else {
            tables.row(row.name, || compared(&args, row));
        }
    }
    methods(&mut tables);
    large::tables(&mut tables);
    benches(&args, &mut tables);
    let (text, failed) = (tables.text, tables.failed);
    match &args.page {
        None => print!("{text}"),
        Some(page) => {
            // It may have been edited meanwhile.
            let [before, _, after] = parts(page)?;
            let new = format!("{before}{BEGIN}\n{text}{END}{after}");
            std::fs::write(page, new).with_context(|| page.display().to_string())?;
        }
    }
    if !failed.is_empty() {
        bail!("not measured:\n{}", failed.join("\n"));
    }
    Ok(())
}

/// The page before, between and after the lines that enclose the tables.
fn parts(page: &Path) -> Result<[String; 3]> {
    let shown = page.display();
    let text = std::fs::read_to_string(page).with_context(|| shown.to_string())?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (tables, after) = rest.split_once(END)?;
        Some([before, tables, after].map(str::to_owned))
    });
    parts.with_context(|| format!("{shown}: no lines `{BEGIN}` and `{END}`"))
}

/// The cells of a row: ours and the peer in turns.
fn compared(args: &Args, row: &Row) -> Result<Vec<String>> {
    let mut pairs = Vec::new();
    for _ in 0..args.rounds {
        // The peer first: it makes the photographs that both read.
        let theirs = peer(args, row)?;
        pairs.push((ours(row)?, theirs));
    }
    let of = |f: fn(&(Rate, Rate)) -> f64| sorted(pairs.iter().map(f).collect());
    let ratios = of(|(ours, theirs)| ours.images_per_s / theirs.images_per_s);
    let middle = |values: &[f64]| values[values.len() / 2];
    let ratio = middle(&ratios);
    let target = row
        .target
        .map(|target| format!("{target:.1}: {}", if ratio >= target { "met" } else { "missed" }));
    let peak = |peak: fn(&(Rate, Rate)) -> Option<f64>| {
        let peaks: Option<Vec<f64>> = pairs.iter().map(peak).collect();
        peaks.map_or("-".into(), |peaks| format!("{:.0}", middle(&sorted(peaks))))
    };
    Ok(vec![
        format!("{:.0}", middle(&of(|pair| pair.0.images_per_s))),
        format!("{:.0}", middle(&of(|pair| pair.1.images_per_s))),
        format!(
            "{ratio:.2} [{:.2}, {:.2}] of {}",
            ratios[0],
            ratios[ratios.len() - 1],
            ratios.len()
        ),
        target.unwrap_or_else(|| "-".into()),
        format!("{} / {}", peak(|pair| pair.0.peak_mb), peak(|pair| pair.1.peak_mb)),
    ])
}

/// Runs `cargo bench` and adds its medians, with `--bench`; otherwise those of the page.
fn benches(args: &Args, tables: &mut Tables<'_>) {
    match args.bench.then(|| bench(args.criterion.as_deref())) {
        Some(Ok(rows)) => {
            tables.head(&medians::COLUMNS);
            rows.iter().for_each(|row| tables.line(row));
        }
        Some(Err(error)) => {
            tables.failed.push(format!("{error:#}"));
            tables.keep(medians::COLUMNS[0]);
        }
        None => tables.keep(medians::COLUMNS[0]),
    }
}

fn bench(criterion: Option<&Path>) -> Result<Vec<[String; medians::COLUMNS.len()]>> {
    let features = std::env::var("CARGO_FEATURES").unwrap_or_default();
    cargo(&["bench", "--features", &features], "")?;
    cargo(&["bench", "--bench", "kernels", "--bench", "backends"], "off")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    medians::benches(&criterion.map_or(target.join("criterion"), Path::to_owned))
}

/// Runs cargo with the kernels' path forced to `kernels`, if that is not empty.
fn cargo(arguments: &[&str], kernels: &str) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    let status = command
        .args(arguments)
        .env("SSL_BACKDOOR_KERNELS", kernels)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// A line of the first processor in `/proc/cpuinfo`.
fn processor(field: &str) -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Whether the processor has these instructions.
fn has(flag: &str) -> bool {
    processor("flags").is_some_and(|flags| flags.split(' ').any(|own| own == flag))
}

/// Processor and its vector instructions.
fn machine() -> String {
    let model = processor("model name").unwrap_or_else(|| "processor unknown".into());
    let known = [("avx512_bf16", "AVX512-BF16"), ("avx512f", "AVX-512"), ("avx2", "AVX2")];
    let vector = known.into_iter().find(|(flag, _)| has(flag));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {model}, {}", vector.map_or("no AVX2", |(_, name)| name))
}

/// A rate, and the peak of the memory of its process if that is known.
struct Rate {
    images_per_s: f64,
    peak_mb: Option<f64>,
}

/// The highest of the rates that a command prints. What it prints fits into a pipe.
fn rate(command: &mut Command) -> Result<Rate> {
    let name = format!("{command:?}");
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| name.clone())?;
    let since = Instant::now();
    while child.try_wait()?.is_none() {
        if since.elapsed() > Duration::from_secs(LIMIT) {
            child.kill()?;
            child.wait()?;
            bail!("{name} took longer than {LIMIT} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let rates = lines.lines().filter_map(|line| {
        let line = serde_json::from_str::<Value>(line).ok()?;
        Some(Rate {
            images_per_s: line.get("images_per_s")?.as_f64()?,
            peak_mb: line.get("peak_mb").and_then(Value::as_f64),
        })
    });
    fastest(rates).with_context(|| {
        format!("{name} printed no rate: {}", String::from_utf8_lossy(&output.stderr))
    })
}

fn fastest(rates: impl Iterator<Item = Rate>) -> Option<Rate> {
    rates.max_by(|a, b| a.images_per_s.total_cmp(&b.images_per_s))
}

fn ours(row: &Row) -> Result<Rate> {
    let (program, settings) = row.ours;
    let program = std::env::current_exe()?.with_file_name(program);
    rate(Command::new(program).env("RAYON_NUM_THREADS", "2").args(settings.split(' ')))
}

fn peer(args: &Args, row: &Row) -> Result<Rate> {
    let (script, ways) = row.theirs;
    let script = Path::new("benches").join(script);
    let run =
        |settings: &&str| rate(Command::new(&args.python).arg(&script).args(settings.split(' ')));
    let rates: Vec<Rate> = ways.iter().map(run).collect::<Result<_>>()?;
    fastest(rates.into_iter()).context("the row has no peer")
}

/// Adds the table of the methods: our kernels and plain Burn, measured in turns.
fn methods(tables: &mut Tables<'_>) {
    tables.head(&[
        "method end to end, ResNet-18 of width 16, batch 64, 32 px: images per second",
        "ours",
        "plain Burn",
        "ratio, median of 3 turns",
        "machine",
    ]);
    for (name, settings) in METHODS {
        tables.row(name, || {
            let program = std::env::current_exe()?.with_file_name("step_speed");
            let run = |plain: &[&str]| -> Result<f64> {
                let mut command = Command::new(&program);
                Ok(rate(command.args(settings.split(' ')).args(plain))?.images_per_s)
            };
            let mut pairs = Vec::new();
            for _ in 0..3 {
                pairs.push((run(&[])?, run(&["--plain", "--steps", "4"])?));
            }
            let middle = |f: fn(&(f64, f64)) -> f64| sorted(pairs.iter().map(f).collect())[1];
            let (ours, plain, ratio) = (middle(|p| p.0), middle(|p| p.1), middle(|p| p.0 / p.1));
            Ok(vec![format!("{ours:.0}"), format!("{plain:.0}"), format!("{ratio:.1}")])
        });
    }
}
