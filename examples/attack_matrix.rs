//! Attacks against defences on one victim: the same config under several triggers, each defended in several ways.
//!
//! ```sh
//! cargo run --release --example attack_matrix -- configs/quickstart.toml
//! ```
//!
//! `configs/shapes/matrix.toml` is the experiment behind the published matrix; this example is a minimal version.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor::{Experiment, ReportOptions, Stage, report, run};
use ssl_backdoor_trigger::{Blend, Compose, NoisyAlignment, PoisonConfig, TriggerConfig};

/// The config's own patch.
fn patch(poison: PoisonConfig) -> PoisonConfig {
    poison
}

/// A random pattern over the whole image, twice as strong on evaluation images.
fn blend(poison: PoisonConfig) -> PoisonConfig {
    let (path, seed, ratio, val_ratio) = (None, Some(3), 0.1, Some(0.2));
    let trigger = TriggerConfig::Blend(Blend { path, seed, ratio, val_ratio });
    // Nothing is pasted, so there is no place.
    let (place, val_place, alpha, val_alpha, val_width) = (None, None, None, None, None);
    PoisonConfig { trigger, place, val_place, alpha, val_alpha, val_width, ..poison }
}

/// The patch beside an image of the target class.
fn noisy_alignment(poison: PoisonConfig) -> PoisonConfig {
    let compose = Compose::NoisyAlignment(NoisyAlignment::default());
    PoisonConfig { compose: Some(compose), ..poison }
}

type Attack = fn(PoisonConfig) -> PoisonConfig;

const ATTACKS: [(&str, Attack); 3] =
    [("patch", patch), ("blend", blend), ("noisy-alignment", noisy_alignment)];

#[derive(Parser)]
#[command(about = "Net ASR of attacks against defences; table.html, table.md and table.csv")]
struct Args {
    /// The experiment; its trigger is a patch.
    #[arg(default_value = "configs/quickstart.toml")]
    config: PathBuf,
    /// Where the run folders and the tables go.
    #[arg(long, default_value = "runs/attack-matrix")]
    out: PathBuf,
    /// The defences, a TOML array of tables.
    #[arg(
        long,
        default_value = "[{kind=\"luma\"}, {kind=\"compress\", clean=[0.1], steps=320, batch=32}]"
    )]
    defend: String,
    /// Overrides of every run, KEY=VALUE.
    #[arg(long = "set")]
    sets: Vec<String>,
}

fn main() -> Result<()> {
    let Args { config, out, defend, sets } = Args::parse();
    let all = [sets, vec![format!("defend={defend}")]].concat();
    let mut twin: Option<PathBuf> = None;
    for (name, attack) in ATTACKS {
        let mut experiment = Experiment::read(&config, &all)?;
        experiment.poison = attack(experiment.poison);
        // Scores during training use the attack, which a twin shared by several runs cannot.
        experiment.probe.curve_every = 0;
        let folder = out.join(name);
        // The clean twin does not depend on the attack: that of the first run serves all.
        run(experiment, &folder, twin.as_deref(), Stage::Probe)?;
        twin.get_or_insert(folder);
    }
    report(&ReportOptions { runs: vec![out], out: None, json: false, claims: true, planned: None })
}
