//! The state of a run, determined from its folder alone.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::failure::why_failed;
use super::folder::RunFolder;
use crate::record::{Artefact, Manifest, StageId, TrainingProgress};

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RunState {
    /// Its scores exist.
    Done,
    /// A process is using its folder.
    Running,
    /// Its last start failed. Running it again resumes it.
    Failed,
    /// It was started, and no process is using its folder: it stopped after the stage of `--until`, or was
    /// interrupted. Running it again resumes it.
    Unfinished,
    /// No process has used its folder yet.
    NotBegun,
}

impl RunState {
    /// All states, in the order of a summary.
    pub(crate) const ALL: [Self; 5] =
        [Self::Done, Self::Running, Self::Failed, Self::Unfinished, Self::NotBegun];

    /// The state of the run in `folder`. If no process is using it, `done` says whether the run is finished.
    pub(crate) fn of(folder: &Path, done: bool) -> Self {
        match (RunFolder::is_at_work(folder), done) {
            (true, _) => Self::Running,
            (false, true) => Self::Done,
            (false, false) if why_failed(folder).is_some() => Self::Failed,
            (false, false) if RunFolder::was_opened(folder) => Self::Unfinished,
            (false, false) => Self::NotBegun,
        }
    }

    /// The state of the clean twin in `folder`, which other runs use.
    pub(crate) fn of_twin(folder: &Path) -> Self {
        let manifest = Manifest::read(&folder.join(Artefact::Manifest.to_string()));
        let trained = manifest.is_ok_and(|m| m.stages.contains_key(&StageId::PretrainClean));
        Self::of(folder, trained)
    }

    /// The progress of the trainings of the run in `folder`, which is in this state, by model.
    pub(crate) fn trainings(self, folder: &Path) -> Vec<(String, TrainingProgress)> {
        match self {
            Self::Running | Self::Failed | Self::Unfinished => TrainingProgress::of_run(folder),
            Self::Done | Self::NotBegun => Vec::new(),
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
            Self::NotBegun => "not begun",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_tells_its_state() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("run");
        assert_eq!(RunState::of(&folder, false), RunState::NotBegun);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config.toml"), "").unwrap();
        assert_eq!(RunState::of(&folder, false), RunState::NotBegun);
        // Figures stored elsewhere are enough.
        assert_eq!(RunState::of(&folder, true), RunState::Done);
        let at_work = RunFolder::open(&folder).unwrap();
        assert_eq!(RunState::of(&folder, true), RunState::Running);
        drop(at_work);
        assert_eq!(RunState::of(&folder, false), RunState::Unfinished);
        assert_eq!(RunState::of_twin(&folder), RunState::Unfinished);
        std::fs::write(folder.join("error.txt"), "a reason\n").unwrap();
        assert_eq!(RunState::of(&folder, false), RunState::Failed);
        assert_eq!(why_failed(&folder).as_deref(), Some("a reason"));
        // Reading the state leaves the folder unlocked.
        drop(RunFolder::open(&folder).unwrap());
    }
}
