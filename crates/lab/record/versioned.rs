//! JSON files that other programs read: each contains its schema version. A reader accepts unknown keys, which later
//! versions may add, and refuses a file with a later schema version, in which known keys may have other meanings.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The schema version that this program writes; files without the key have the first.
pub(crate) const SCHEMA: u32 = 1;

/// The value for files without the key.
pub(crate) fn first() -> u32 {
    1
}

#[derive(Deserialize)]
struct Head {
    #[serde(default = "first")]
    schema: u32,
}

/// Reads the file `path`.
///
/// # Errors
/// It is absent or broken, or its schema version is later than [`SCHEMA`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let broken = || format!("{shown} is broken");
    let Head { schema } = serde_json::from_slice(&bytes).with_context(broken)?;
    ensure!(
        schema <= SCHEMA,
        "{shown} has schema {schema}; this version of ssl-backdoor reads schemas up to {SCHEMA}: update ssl-backdoor"
    );
    serde_json::from_slice(&bytes).with_context(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Manifest, RunScores};

    /// Every committed scores file of a complete run, and changes that later versions may make.
    #[test]
    fn review_2_06_scores_of_other_versions() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let mut folders = vec![results];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.ends_with("scores.json")
                    && path.with_file_name("manifest.json").is_file()
                {
                    assert_eq!(RunScores::read(&path).unwrap().schema, 1);
                    assert!(Manifest::read(&path.with_file_name("manifest.json")).is_ok());
                    files.push(path);
                }
            }
        }
        assert!(files.len() > 10, "{files:?}");

        let text = std::fs::read_to_string(&files[0]).unwrap();
        let scores = RunScores::read(&files[0]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            RunScores::read(&path).map_err(|e| format!("{e:#}"))
        };
        // A key added by a later version, at the top and nested.
        let added = text.replacen('{', "{ \"schema\": 1, \"added\": [1],", 1);
        let added = added.replace("\"acc\":", "\"added\": 2, \"acc\":");
        assert!(added.matches("added").count() > 2);
        assert_eq!(read(&added).unwrap(), scores);
        // A later schema, in which keys have other meanings.
        let later = read("{ \"schema\": 2, \"name\": [\"x\"] }").unwrap_err();
        assert!(later.contains("has schema 2") && later.contains("up to 1"), "{later}");
        assert!(later.contains("scores.json"), "{later}");
        let broken = read("{").unwrap_err();
        assert!(broken.contains("scores.json is broken: "), "{broken}");
    }
}
