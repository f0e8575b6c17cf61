//! Why the last start of a run failed, kept in its folder for `list`, `show` and `sweep --status`.

use std::path::Path;

use anyhow::{Error, Result};

use super::folder::RunFolder;
use super::interrupt::interrupted;
use crate::record::{Artefact, remove_from};

/// Removes the message of an earlier start.
///
/// # Errors
/// The file exists and cannot be removed.
pub(super) fn forget(folder: &RunFolder) -> Result<()> {
    remove_from(folder.path(), &[Artefact::Failure])
}

/// Keeps `error`, with which a start ended. A start that was asked to stop has not failed.
pub(super) fn keep(folder: &RunFolder, error: &Error) {
    if !interrupted() {
        // The error itself is reported by the caller; the disk may be what failed.
        let _ = folder.write(Artefact::Failure, format!("{error:#}\n").as_bytes());
    }
}

/// Like [`keep`], for a start that failed before it opened its folder. Nothing is kept if there is no folder, or if
/// another process is using it.
pub(super) fn keep_in(folder: &Path, error: &Error) {
    if !RunFolder::was_opened(folder) {
        return;
    }
    if let Ok(folder) = RunFolder::open(folder) {
        keep(&folder, error);
    }
}

/// Why the last start of the run in `folder` failed, if it did.
pub(crate) fn why_failed(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(Artefact::Failure.to_string())).ok()?;
    Some(text.trim_end().to_owned())
}
