//! One attack against several methods: each config trained clean and backdoored, then a row of a table.
//!
//! ```sh
//! cargo run --release --example methods_table -- configs/shapes/{moco-v2,swav,dino,barlow-twins}.toml
//! ```
//!
//! `configs/shapes/methods.toml` is the experiment behind the published table, over five pairs of target and trigger;
//! this example uses one.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor::{Experiment, Images, RunScores, Stage, run};

#[derive(Parser)]
#[command(about = "Net ASR of one attack on several methods")]
struct Args {
    /// Configs, one per method.
    #[arg(required = true)]
    configs: Vec<PathBuf>,
    /// Where the run folders go.
    #[arg(long, default_value = "runs/methods-table")]
    out: PathBuf,
    /// Overrides of every run, KEY=VALUE.
    #[arg(long = "set")]
    sets: Vec<String>,
}

/// A row of the table: the method, clean accuracy of the twin and the backdoored model, net ASR, and the share of the
/// positive pairs of views in which one view shows the trigger.
fn row(scores: &RunScores) -> String {
    let acc = |model| scores.get(model, Images::Clean).map_or(f64::NAN, |scores| scores.acc);
    let (net, [low, high]) =
        (scores.net_asr.unwrap_or(f64::NAN), scores.net_asr_ci.unwrap_or([f64::NAN; 2]));
    let pairs = scores.trigger_size.as_ref().and_then(|size| size.in_one_of_pair);
    let pairs = pairs.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
    let (name, clean, backdoored) = (&scores.method, acc("clean"), acc("backdoored"));
    format!("| {name} | {clean:.1} | {backdoored:.1} | {net:.1} [{low:.1}, {high:.1}] | {pairs} |")
}

fn main() -> Result<()> {
    let Args { configs, out, sets } = Args::parse();
    let mut rows = Vec::new();
    for config in configs {
        let mut experiment = Experiment::read(&config, &sets)?;
        experiment.defend.clear();
        let folder = out.join(config.file_stem().unwrap_or_default());
        run(experiment, &folder, None, Stage::Probe)?;
        rows.push(row(&RunScores::read(&folder.join("scores.json"))?));
    }
    println!("| method | clean twin | backdoored | net ASR | pairs with the trigger in one view |");
    println!("| --- | --- | --- | --- | --- |");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}
