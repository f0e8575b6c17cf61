//! Absolute paths in settings, so that they are valid from every folder.

use std::io;
use std::path::{Path, PathBuf};

use ssl_backdoor_trigger::PoisonConfig;

use crate::DataConfig;

/// Every path of both tables.
fn paths<'a>(
    data: &'a mut DataConfig,
    poison: &'a mut PoisonConfig,
) -> impl Iterator<Item = &'a mut PathBuf> {
    let PoisonConfig { list, select, trigger, .. } = poison;
    let encoder = select.as_mut().and_then(|select| select.encoder.as_mut());
    let poison = list.iter_mut().chain(trigger.file_mut()).chain(encoder);
    data.paths_mut().into_iter().chain(poison)
}

/// Makes every path absolute, starting from the current folder.
pub(crate) fn make_absolute(data: &mut DataConfig, poison: &mut PoisonConfig) -> io::Result<()> {
    for path in paths(data, poison) {
        *path = absolute(path)?;
    }
    Ok(())
}

/// `path` made absolute from the current folder. An empty path names the current folder itself.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(if path.as_os_str().is_empty() { Path::new(".") } else { path })
}

/// The first path that depends on the current folder, if there is one.
pub(crate) fn first_relative(data: &DataConfig, poison: &PoisonConfig) -> Option<PathBuf> {
    let (mut data, mut poison) = (data.clone(), poison.clone());
    paths(&mut data, &mut poison).find(|path| path.is_relative()).cloned()
}
