//! Files that `init` writes: never in the place of others.

use std::path::Path;

use crate::config::ConfigError;

/// Checks that nothing has the name of `file`.
///
/// # Errors
/// It is there already.
pub(super) fn free(file: &Path) -> Result<(), ConfigError> {
    match file.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(ConfigError(format!(
            "{} is there already: choose another file with --out, or remove it",
            file.display()
        ))),
    }
}
