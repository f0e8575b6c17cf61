//! The tables of `docs/benchmarks.md`: our rates and PyTorch's, measured in turns, and the benches of the kernels
//! next to plain Burn.
//!
//! ```sh
//! cargo run --release --example speed_table -- --bench --python PYTHON --peers FOLDER --page docs/benchmarks.md
//! ```
//!
//! With `--bench` it first builds the program and the two examples that it runs, and runs `cargo bench` with our
//! kernels and with plain Burn; with `wgpu` or `cuda` in `CARGO_FEATURES`, on those devices too. That takes an hour.
//!
//! It makes folders of 300 thousand and 1.3 million files in `target`, as hard links.
//!
//! The folder of peers holds `torch_step.py` and `torch_moco.py`, which print `images_per_s` as JSON lines;
//! `torch_data.py` is in `benches/`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;

use rows::{METHODS, ROWS, Row};

mod large;
mod medians;
mod rows;

const BEGIN: &str = "<!-- speed: begin -->";
const END: &str = "<!-- speed: end -->";

#[derive(Parser)]
#[command(about = "Measures the tables of docs/benchmarks.md")]
struct Args {
    /// A Python with PyTorch and torchvision.
    #[arg(long)]
    python: PathBuf,
    /// The folder of torch_step.py and torch_moco.py.
    #[arg(long)]
    peers: PathBuf,
    /// Build the examples and run the benches first.
    #[arg(long)]
    bench: bool,
    /// Turns of ours and theirs.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only the rows whose name contains this, and new rows; keep the other rows of the page.
    #[arg(long)]
    only: Option<String>,
    /// Where criterion left its estimates.
    #[arg(long, default_value = "target/criterion")]
    criterion: PathBuf,
    /// The page whose tables are replaced; without it they are printed.
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.bench {
        let features = std::env::var("CARGO_FEATURES").unwrap_or_default();
        cargo(
            &["build", "--release", "--bins", "--example", "step_speed", "--example", "data_speed"],
            "",
        )?;
        cargo(&["bench", "--features", &features], "")?;
        cargo(&["bench", "--bench", "kernels", "--bench", "backends"], "off")?;
    }
    let mut text = String::new();
    writeln!(text, "{BEGIN}")?;
    writeln!(
        text,
        "| images per second, two threads | ours | PyTorch | ratio, median [range] of {} turns | machine |",
        args.rounds
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    let old = args.page.as_ref().map(std::fs::read_to_string).transpose()?.unwrap_or_default();
    for row in &ROWS {
        let name = row.name;
        if let Some(kept) = kept(&args, &old, name) {
            writeln!(text, "{kept}")?;
            continue;
        }
        let mut pairs = Vec::new();
        for _ in 0..args.rounds {
            // The peer first: it makes the photographs that both read.
            let theirs = peer(&args, row)?;
            pairs.push((ours(row)?, theirs));
        }
        let of = |f: fn(&(f64, f64)) -> f64| sorted(pairs.iter().map(f).collect());
        let (ours, theirs, ratios) = (of(|p| p.0), of(|p| p.1), of(|p| p.0 / p.1));
        let middle = |values: &[f64]| values[values.len() / 2];
        let row = format!(
            "| {name} | {:.0} | {:.0} | {:.2} [{:.2}, {:.2}] | {} |",
            middle(&ours),
            middle(&theirs),
            middle(&ratios),
            ratios[0],
            ratios[ratios.len() - 1],
            machine()
        );
        eprintln!("{row}");
        writeln!(text, "{row}")?;
    }
    methods(&args, &old, &mut text)?;
    large::tables(&mut text, &machine(), |name| kept(&args, &old, name))?;
    benches(&args, &old, &mut text)?;
    write!(text, "{END}")?;
    let Some(page) = &args.page else {
        println!("{text}");
        return Ok(());
    };
    let (Some(from), Some(to)) = (old.find(BEGIN), old.find(END)) else {
        bail!("{}: no lines `{BEGIN}` and `{END}`", page.display());
    };
    let new = format!("{}{text}{}", &old[..from], &old[to + END.len()..]);
    std::fs::write(page, new).with_context(|| page.display().to_string())
}

/// The line of the row `name` on the page, if it is kept.
fn kept<'a>(args: &Args, old: &'a str, name: &str) -> Option<&'a str> {
    let wanted = args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let line = old.lines().find(|line| line.starts_with(&format!("| {name} |")));
    line.filter(|_| !wanted)
}

/// Adds the medians of `cargo bench`; without new ones, those of the page.
fn benches(args: &Args, old: &str, text: &mut String) -> Result<()> {
    const TITLE: &str = "| milliseconds (criterion) |";
    if args.criterion.exists() {
        writeln!(text, "\n{TITLE} {} |\n{}", medians::COLUMNS, medians::RULE)?;
        return medians::benches(&args.criterion, text);
    }
    let kept = old.lines().skip_while(|line| !line.starts_with(TITLE));
    writeln!(text)?;
    for line in kept.take_while(|line| line.starts_with('|')) {
        writeln!(text, "{line}")?;
    }
    Ok(())
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

/// Processor and its vector instructions.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "processor unknown".into());
    let flags = field("flags").unwrap_or_default();
    let known = [("avx512_bf16", "AVX512-BF16"), ("avx512f", "AVX-512"), ("avx2", "AVX2")];
    let vector = known.into_iter().find(|(name, _)| flags.split(' ').any(|flag| flag == *name));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {model}, {}", vector.map_or("no AVX2", |(_, name)| name))
}

/// The highest rate of the lines that a command prints.
fn rate(command: &mut Command) -> Result<f64> {
    let name = format!("{command:?}");
    let output = command.output().with_context(|| name.clone())?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let rates = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("images_per_s")?.as_f64());
    rates.reduce(f64::max).with_context(|| {
        format!("{name} printed no rate: {}", String::from_utf8_lossy(&output.stderr))
    })
}

fn ours(row: &Row) -> Result<f64> {
    let (program, settings) = row.ours;
    let program = std::env::current_exe()?.with_file_name(program);
    rate(Command::new(program).env("RAYON_NUM_THREADS", "2").args(settings.split(' ')))
}

fn peer(args: &Args, row: &Row) -> Result<f64> {
    let (script, ways) = row.theirs;
    let beside = Path::new("benches").join(script);
    let script = if beside.exists() { beside } else { args.peers.join(script) };
    let run =
        |settings: &&str| rate(Command::new(&args.python).arg(&script).args(settings.split(' ')));
    let rates: Vec<f64> = ways.iter().map(run).collect::<Result<_>>()?;
    Ok(rates.into_iter().fold(0.0, f64::max))
}

/// Adds the table of the methods: our kernels and plain Burn, measured in turns.
fn methods(args: &Args, old: &str, text: &mut String) -> Result<()> {
    let title = "| method end to end, ResNet-18 of width 16, batch 64, 32 px: images per second |";
    writeln!(text, "\n{title} ours | plain Burn | ratio, median of 3 turns | machine |")?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for (name, settings) in METHODS {
        if let Some(kept) = kept(args, old, name) {
            writeln!(text, "{kept}")?;
            continue;
        }
        let mut pairs = Vec::new();
        for _ in 0..3 {
            let program = std::env::current_exe()?.with_file_name("step_speed");
            let run =
                |plain: &[&str]| rate(Command::new(&program).args(settings.split(' ')).args(plain));
            pairs.push((run(&[])?, run(&["--plain", "--steps", "4"])?));
        }
        let middle = |f: fn(&(f64, f64)) -> f64| sorted(pairs.iter().map(f).collect())[1];
        let (ours, plain, ratio) = (middle(|p| p.0), middle(|p| p.1), middle(|p| p.0 / p.1));
        let row = format!("| {name} | {ours:.0} | {plain:.0} | {ratio:.1} | {} |", machine());
        eprintln!("{row}");
        writeln!(text, "{row}")?;
    }
    Ok(())
}
