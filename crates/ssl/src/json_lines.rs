//! Append-only JSON-lines files of a run.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::PretrainError;

/// A JSON-lines file, one object per epoch.
pub(crate) struct JsonLines {
    path: PathBuf,
}

impl JsonLines {
    /// Opens `path` and keeps only whole lines whose `step` is at most `upto`, the checkpoint that training resumes
    /// from: later lines will be written again.
    pub fn open(path: &Path, upto: usize) -> Result<Self, PretrainError> {
        let wrong = |e: std::io::Error| PretrainError::file(path, e);
        let old = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(wrong(e)),
        };
        let kept: String =
            old.split_inclusive('\n').take_while(|line| is_upto(line, upto)).collect();
        ssl_backdoor_files::write(path, kept.as_bytes()).map_err(wrong)?;
        Ok(Self { path: path.into() })
    }

    /// Appends one line and flushes it to disk.
    pub fn append(&self, line: &Map<String, Value>) -> Result<(), PretrainError> {
        let wrong = |e: std::io::Error| PretrainError::file(&self.path, e);
        let mut text = Value::Object(line.clone()).to_string();
        text.push('\n');
        let mut file =
            OpenOptions::new().append(true).create(true).open(&self.path).map_err(wrong)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(wrong)
    }
}

fn is_upto(line: &str, upto: usize) -> bool {
    let step = serde_json::from_str::<Value>(line).ok().and_then(|v| v.get("step")?.as_u64());
    line.ends_with('\n') && step.is_some_and(|step| step <= upto as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_checkpoint_and_torn_ones_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":10}\n{\"step\":20}\n{\"step\":30}\n{\"st").unwrap();
        let file = JsonLines::open(&path, 20).unwrap();
        let mut line = Map::new();
        line.insert("step".into(), 30.into());
        file.append(&line).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":10}\n{\"step\":20}\n{\"step\":30}\n");
    }
}
