//! The progress of a training: a small file in its model's folder, for other processes that watch it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Name of the file. It is removed when the training is done.
const FILE: &str = "progress.json";

/// Steps of a training in progress.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingProgress {
    /// Steps done, those before a checkpoint included.
    pub done: usize,
    /// Steps in all.
    pub steps: usize,
    /// Steps a second; 0 = not known yet.
    pub per_second: f64,
}

impl TrainingProgress {
    /// Writes it to the `folder` of a model. A failure is ignored, because only the display is lost.
    pub(crate) fn write(&self, folder: &Path) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = std::fs::write(folder.join(FILE), text);
        }
    }

    /// Reads it from the `folder` of a model, if a training is in progress there or was cut off.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// Removes the file when the training in `folder` is done.
    pub(crate) fn remove(folder: &Path) {
        let _ = std::fs::remove_file(folder.join(FILE));
    }

    /// Every model of the run folder `run` whose training is in progress or was cut off, by folder name.
    pub(crate) fn of_run(run: &Path) -> Vec<(String, Self)> {
        let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
        let mut all: Vec<(String, Self)> = entries
            .filter_map(|entry| {
                Some((entry.file_name().into_string().ok()?, Self::read(&entry.path())?))
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Seconds left; none before the rate is known.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let left = self.steps.saturating_sub(self.done) as f64;
        (self.per_second > 0.0).then(|| left / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_in_training_are_found_and_broken_files_left_out() {
        let run = tempfile::tempdir().unwrap();
        for model in ["clean", "backdoored", "torn", "done"] {
            std::fs::create_dir(run.path().join(model)).unwrap();
        }
        let progress = TrainingProgress { done: 30, steps: 90, per_second: 4.0 };
        for model in ["clean", "backdoored", "done"] {
            progress.write(&run.path().join(model));
        }
        std::fs::write(run.path().join("torn").join(FILE), "{\"done\": 3").unwrap();
        TrainingProgress::remove(&run.path().join("done"));
        let expected = ["backdoored", "clean"].map(|model| (model.to_owned(), progress));
        assert_eq!(TrainingProgress::of_run(run.path()), expected);
        assert_eq!(progress.seconds_left(), Some(15.0));
        let unknown = TrainingProgress { per_second: 0.0, ..progress };
        assert_eq!(unknown.seconds_left(), None);
        // A failure to write is no error.
        progress.write(&run.path().join("absent"));
        assert!(TrainingProgress::of_run(&run.path().join("absent")).is_empty());
    }
}
