//! File lists for a folder that is not split: training images and evaluation images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ssl_backdoor_data::{Survey, list_text};

use super::free::free;
use crate::config::ConfigError;
use crate::record::write_whole;

/// One image in this many is an evaluation image.
const EVERY: usize = 5;

/// Training and evaluation images, by class.
pub(super) struct Lists {
    pub train: Vec<Vec<PathBuf>>,
    val: Vec<Vec<PathBuf>>,
}

/// Paths of the lists, and the number of evaluation images.
pub(super) struct Written {
    pub train: PathBuf,
    pub val: PathBuf,
    pub scored: usize,
}

impl Lists {
    /// Every fifth image of each class, in order of name, is an evaluation image.
    pub fn of(survey: &Survey) -> Self {
        let part = |scored: bool| {
            let of = |images: &Vec<PathBuf>| {
                let chosen = (1..).zip(images).filter(|(i, _)| (i % EVERY == 0) == scored);
                chosen.map(|(_, path)| path.clone()).collect()
            };
            survey.classes.iter().map(|class| of(&class.images)).collect()
        };
        Self { train: part(false), val: part(true) }
    }

    /// Writes `NAME-train.txt` and `NAME-val.txt` beside the config `out`.
    ///
    /// # Errors
    /// A list exists already or cannot be written, or a list cannot contain one of the paths.
    pub fn write(self, out: &Path, name: &str) -> Result<Written> {
        let beside = std::path::absolute(out).context("no current folder")?;
        let files =
            ["train", "val"].map(|part| beside.with_file_name(format!("{name}-{part}.txt")));
        let [train, val] = files;
        let scored = self.val.iter().map(Vec::len).sum();
        for (file, part) in [(&train, &self.train), (&val, &self.val)] {
            free(file)?;
            let mut lines = Vec::new();
            for (label, images) in (0..).zip(part) {
                for path in images {
                    let text = path.to_str().with_context(|| format!("{path:?} is not UTF-8"))?;
                    lines.push((text, label, None));
                }
            }
            let (text, _) = list_text(lines.into_iter()).map_err(ConfigError)?;
            write_whole(file, text.as_bytes())?;
        }
        Ok(Written { train, val, scored })
    }
}
