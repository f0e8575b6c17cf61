//! The command `run`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::shared::{computing, existing, path, print_scores};
use crate::record::{Artefact, RunScores};
use crate::{Experiment, Stage, run};

/// Run or resume one experiment, from poisoning to report.
///
/// Pretrains a clean twin and a backdoored model that differ only in the poisoned pixels, probes both, and writes
/// scores.json, report.html and report.md to the run folder. The same command resumes an interrupted run; finished
/// stages are skipped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ssl-backdoor run configs/quickstart.toml\n  \
    ssl-backdoor run configs/quickstart.toml --set seed=7 --out runs/seed-7\n  \
    ssl-backdoor run configs/fashion-mnist/moco-v2.toml --until poison")]
pub struct RunArgs {
    /// The experiment, a TOML file.
    #[arg(value_parser = path())]
    config: PathBuf,
    /// The run folder [default: runs/NAME, with the name of the config].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Override a key of the config, for example pretrain.epochs=2; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Use the clean twin of this run folder, which has the same settings, instead of training one.
    #[arg(long, value_name = "DIR", value_parser = existing())]
    twin: Option<PathBuf>,
    /// Stop after this stage.
    #[arg(long, value_enum, default_value = "report")]
    until: Stage,
    /// Print scores.json instead of a table.
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    /// Runs the experiment.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        let experiment = Experiment::read(&self.config, &self.sets)?;
        let out = self.out.unwrap_or_else(|| PathBuf::from("runs").join(&experiment.name));
        computing(|| run(experiment, &out, self.twin.as_deref(), self.until))?;
        if self.until != Stage::Report {
            return Ok(());
        }
        let scores = out.join(Artefact::Scores.to_string());
        if self.json {
            print!("{}", std::fs::read_to_string(&scores)?);
            return Ok(());
        }
        print_scores(&RunScores::read(&scores)?, &out);
        Ok(())
    }
}
