//! Settings that name files mean the same from every folder once their paths are absolute.

use std::io;
use std::path::{Path, PathBuf};

use ssl_backdoor_trigger::TriggerConfig;

use crate::DataConfig;

/// All files and folders that a data set is read from.
fn of_data(data: &mut DataConfig) -> Vec<&mut PathBuf> {
    match data {
        DataConfig::Shapes(_) => Vec::new(),
        DataConfig::Mnist(set)
        | DataConfig::FashionMnist(set)
        | DataConfig::Kmnist(set)
        | DataConfig::Cifar10(set)
        | DataConfig::Cifar100(set) => set.path.iter_mut().collect(),
        DataConfig::Stl10(set) => vec![&mut set.path],
        DataConfig::Folder(set) | DataConfig::Imagenet100(set) => vec![&mut set.path],
        DataConfig::FileList(set) => {
            [&mut set.train, &mut set.val].into_iter().chain(set.root.as_mut()).collect()
        }
    }
}

/// All files that a trigger is made from.
fn of_trigger(trigger: &mut TriggerConfig) -> Vec<&mut PathBuf> {
    match trigger {
        TriggerConfig::Htba { .. } | TriggerConfig::Seeded { .. } | TriggerConfig::Solid { .. } => {
            Vec::new()
        }
        TriggerConfig::Image { path, .. } => vec![path],
        TriggerConfig::Text { font, .. } => font.iter_mut().collect(),
    }
}

/// Makes every path absolute, seen from the current folder.
pub(crate) fn make_absolute(data: &mut DataConfig, trigger: &mut TriggerConfig) -> io::Result<()> {
    for path in of_data(data).into_iter().chain(of_trigger(trigger)) {
        *path = absolute(path)?;
    }
    Ok(())
}

/// `path` seen from the current folder, which is also what an empty one names.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(if path.as_os_str().is_empty() { Path::new(".") } else { path })
}

/// The first path that depends on the current folder, if there is one.
pub(crate) fn first_relative(data: &DataConfig, trigger: &TriggerConfig) -> Option<PathBuf> {
    let (mut data, mut trigger) = (data.clone(), trigger.clone());
    let paths = of_data(&mut data).into_iter().chain(of_trigger(&mut trigger));
    let paths = paths.map(|path| &*path);
    paths.into_iter().find(|path| Path::is_relative(path)).cloned()
}
