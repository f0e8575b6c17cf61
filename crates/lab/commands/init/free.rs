//! Checks that `init` does not overwrite existing files.

use std::path::Path;

use crate::config::ConfigError;

/// Checks that `file` does not exist.
///
/// # Errors
/// It exists.
pub(super) fn free(file: &Path) -> Result<(), ConfigError> {
    match file.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(ConfigError(format!(
            "{} already exists: choose another file with --out, or remove it",
            file.display()
        ))),
    }
}
