//! The processes of a sweep: one for each clean twin, and one for each run, which needs its twin.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ssl_backdoor_defend::defences;

use super::plan::{Plan, Run};
use crate::config::ConfigError;
use crate::record::{Artefact, remove_from, withdraw_scores, write_whole};

/// Name of a run's config in its folder.
const CONFIG: &str = "config.toml";

/// One process of this program.
#[derive(Debug, Clone)]
pub(super) struct SweepJob {
    pub id: usize,
    pub name: String,
    /// The run folder, which also gets its `log.txt`.
    pub folder: PathBuf,
    /// The config, written to the folder.
    config: String,
    /// Its argument besides config and folder: an option of `run` and its value.
    pub option: [PathBuf; 2],
    /// Number of its trainings.
    pub trainings: usize,
    /// Id of the job that must be done before.
    pub needs: Option<usize>,
}

impl SweepJob {
    /// All jobs for the runs of `todo`, in run folders below `out`, each after the twin it needs. The id of a run's
    /// job is the run's index in `todo`.
    ///
    /// # Errors
    /// A config cannot be written as TOML.
    pub fn all(plan: &Plan, todo: &[&Run], out: &Path) -> Result<Vec<Self>, ConfigError> {
        let twins: Vec<&str> = plan.twins_of(todo);
        let mut jobs: Vec<Self> = Vec::new();
        for (id, run) in todo.iter().enumerate() {
            let needs = todo.len() + twins.iter().position(|twin| *twin == run.twin).unwrap_or(0);
            let twin = out.join(&run.twin);
            if !jobs.iter().any(|job| job.id == needs) {
                let option = ["--until", "twin"].map(PathBuf::from);
                jobs.push(Self { trainings: 1, ..Self::new(needs, &run.twin, out, run, option)? });
            }
            let option = [PathBuf::from("--twin"), twin];
            jobs.push(Self { needs: Some(needs), ..Self::new(id, &run.name, out, run, option)? });
        }
        Ok(jobs)
    }

    /// The process that works in the folder `name` with the config of `run`.
    fn new(
        id: usize,
        name: &str,
        out: &Path,
        run: &Run,
        option: [PathBuf; 2],
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            id,
            name: name.to_owned(),
            folder: out.join(name),
            config: run.experiment.to_toml()?,
            option,
            trainings: 1 + defences(&run.experiment.defend).len(),
            needs: None,
        })
    }

    /// The command line of this program.
    pub fn arguments(&self) -> Vec<PathBuf> {
        let (config, folder) = (self.folder.join(CONFIG), self.folder.clone());
        let all = ["run".into(), config, "--out".into(), folder];
        all.into_iter().chain(self.option.clone()).collect()
    }

    /// Writes the config to the folder. Removes scores of other settings, which would otherwise pass for those of this
    /// config if the run stops early, and the message of an earlier failure.
    ///
    /// # Errors
    /// It cannot be written, or they cannot be removed.
    pub fn prepare(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        withdraw_scores(&self.folder)?;
        remove_from(&self.folder, &[Artefact::Failure])?;
        write_whole(&self.folder.join(CONFIG), self.config.as_bytes())
    }
}
