//! The log of a training as an event file for TensorBoard, beside `metrics.jsonl`.
//!
//! When a training starts, or resumes from a checkpoint, the file is rewritten from the lines of the log up to there.
//! So it contains every step once, even after a kill, and even if the file was not requested before.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::record::{Event, EventFile, Summary, seconds_now};

/// Suffix of the names of these files.
const KIND: &str = "training";

/// The event file of a training in progress.
pub(super) struct TrainingEvents(EventFile);

impl TrainingEvents {
    /// Starts the file of the training in `folder`, whose logs contain the epochs up to now.
    ///
    /// # Errors
    /// A log cannot be read, or the file cannot be written.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let [metrics, timing] =
            ["metrics.jsonl", "timing.jsonl"].map(|name| lines(&folder.join(name)));
        let (metrics, timing) = (metrics?, timing?);
        let mut time = seconds_now();
        let mut events = Vec::new();
        // The last epoch ended now; the log of times gives the ends of the earlier ones.
        for line in metrics.iter().rev() {
            let of_step = timing.iter().rfind(|times| times.get("step") == line.get("step"));
            events.push(event(line, of_step, time));
            time -= of_step.and_then(|times| times.get("seconds")?.as_f64()).unwrap_or(0.0);
        }
        events.reverse();
        Ok(Self(EventFile::start(folder, KIND, &events)?))
    }

    /// Adds the epoch whose figures are `metrics` and whose times are `timing`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(
        &self,
        metrics: &Map<String, Value>,
        timing: &Map<String, Value>,
    ) -> io::Result<()> {
        self.0.append(&event(metrics, Some(timing), seconds_now()))
    }
}

/// The complete lines of a log.
fn lines(path: &Path) -> io::Result<Vec<Map<String, Value>>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn event(metrics: &Map<String, Value>, timing: Option<&Map<String, Value>>, time: f64) -> Event {
    let step = metrics.get("step").and_then(Value::as_u64).unwrap_or(0);
    let mut summaries = Vec::new();
    for (key, value) in metrics.iter().chain(timing.into_iter().flatten()) {
        let Some(tag) = tag(key) else { continue };
        match value {
            Value::Array(all) => {
                for (i, value) in all.iter().enumerate() {
                    summaries.extend(scalar(format!("{tag}/{i}"), value));
                }
            }
            value => summaries.extend(scalar(tag, value)),
        }
    }
    Event { time, step, summaries }
}

/// The name of a figure, prefixed with its group; none for a key that is not a figure.
fn tag(key: &str) -> Option<String> {
    let group = match key {
        "step" => return None,
        "epoch" | "loss" | "lr" | "pretext_acc" => "train",
        "grad_norm" | "embedding_std" | "embedding_rank" => "canary",
        "seconds" | "images_per_s" | "wait_share" | "copy_share" | "busy_share" | "workers" => {
            "timing"
        }
        _ if key.starts_with("dev_") => "probe",
        _ => match key.split_once('_') {
            Some(("trigger", key)) => return Some(format!("trigger/{key}")),
            _ => "other",
        },
    };
    Some(format!("{group}/{key}"))
}

/// None for a number that is not finite, which JSON stores as null.
fn scalar(tag: String, value: &Value) -> Option<Summary> {
    Some(Summary::Scalar { tag, value: value.as_f64()? as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_up_to_a_checkpoint_gets_its_times_back() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = "{\"epoch\":0,\"step\":10,\"loss\":2.0,\"trigger_views\":[0.5,0.25]}\n{\"step\":20,\"loss\":1.0}\n";
        let timing =
            "{\"step\":10,\"seconds\":5.0}\n{\"step\":20,\"seconds\":7.0,\"images_per_s\":9.0}\n";
        fs::write(folder.path().join("metrics.jsonl"), metrics).unwrap();
        fs::write(folder.path().join("timing.jsonl"), timing).unwrap();
        let [first, second] = &lines(&folder.path().join("metrics.jsonl")).unwrap()[..] else {
            panic!()
        };
        let event = event(first, None, 3.0);
        let tags: Vec<(&str, f32)> = event
            .summaries
            .iter()
            .map(|summary| match summary {
                Summary::Scalar { tag, value } => (tag.as_str(), *value),
                Summary::Png { .. } => panic!(),
            })
            .collect();
        let expected = [
            ("train/epoch", 0.0),
            ("train/loss", 2.0),
            ("trigger/views/0", 0.5),
            ("trigger/views/1", 0.25),
        ];
        assert_eq!((event.step, &tags[..]), (10, &expected[..]));
        assert_eq!(second.get("step"), Some(&20.into()));
        TrainingEvents::start(folder.path()).unwrap();
    }
}
