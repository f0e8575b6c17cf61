//! Expands `~` in paths as a shell does. Shells do not expand it in configs and in arguments such as `--out=~/runs`.

use std::path::{Path, PathBuf};

use ssl_backdoor_data::DataConfig;
use ssl_backdoor_defend::DefendConfig;
use ssl_backdoor_probe::{Labels, ProbeConfig};
use ssl_backdoor_scan::ScanConfig;
use ssl_backdoor_trigger::PoisonConfig;

/// Replaces a leading `~` by the home folder. `~name` is kept: it is another user's home, or a folder with that name.
/// Without a home folder, nothing is replaced.
fn expand_home(path: &mut PathBuf) {
    if let Some(home) = std::env::home_dir() {
        expand(path, &home);
    }
}

/// `path` with a leading `~` replaced by the home folder.
pub(crate) fn expanded(path: impl Into<PathBuf>) -> PathBuf {
    let mut path = path.into();
    expand_home(&mut path);
    path
}

fn expand(path: &mut PathBuf, home: &Path) {
    if let Ok(rest) = path.strip_prefix("~") {
        *path = if rest.as_os_str().is_empty() { home.into() } else { home.join(rest) };
    }
}

/// Expands every path of these tables of a config.
pub(crate) fn expand_tables(
    data: &mut DataConfig,
    poison: &mut PoisonConfig,
    probe: Option<&mut ProbeConfig>,
) {
    let labels = probe.and_then(|probe| match &mut probe.labels {
        Labels::List(list) => Some(list),
        Labels::Shares(_) => None,
    });
    let PoisonConfig { list, select, trigger, .. } = poison;
    let encoder = select.as_mut().and_then(|select| select.encoder.as_mut());
    let poison = list.iter_mut().chain(trigger.file_mut()).chain(encoder);
    data.paths_mut().into_iter().chain(poison).chain(labels).for_each(expand_home);
}

/// Expands every path of the scans.
pub(crate) fn expand_scan(scan: &mut ScanConfig) {
    scan.null.iter_mut().for_each(expand_home);
}

/// Expands every path of a defence.
pub(crate) fn expand_defence(defence: &mut DefendConfig) {
    defence.settings_mut().paths_mut().into_iter().for_each(expand_home);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_tilde_alone_is_the_home_folder() {
        for (path, expected) in [
            ("~", "/home/a"),
            ("~/x/y", "/home/a/x/y"),
            ("~b/x", "~b/x"),
            ("x/~/y", "x/~/y"),
            ("./~/x", "./~/x"),
            ("/data", "/data"),
        ] {
            let mut path = PathBuf::from(path);
            expand(&mut path, Path::new("/home/a"));
            assert_eq!(path, Path::new(expected));
        }
    }

    #[test]
    fn every_path_of_a_config_is_expanded() {
        let folder =
            r#"{ "kind": "folder", "path": "~/d", "size": 32, "labelled": "~/l", "cache": "~/c" }"#;
        let list = r#"{ "kind": "file-list", "train": "~/t", "val": "~/v", "root": "~", "size": 32,
                        "labelled": "~/l", "cache": "~/c" }"#;
        let small = r#"{ "kind": "cifar10", "path": "~/d", "size": 32 }"#;
        let stl10 = r#"{ "kind": "stl10", "path": "~/d", "size": 32 }"#;
        let poison =
            r#"{ "list": "~/p", "trigger": { "kind": "image", "path": "~/i", "width": 8 } }"#;
        let text = r#"{ "list": "~/p", "trigger": { "kind": "text", "text": "~/x", "size": 8, "font": "~/f" } }"#;
        for data in [folder, list, small, stl10] {
            for poison in [poison, text] {
                let mut data: DataConfig = serde_json::from_str(data).unwrap();
                let mut poison: PoisonConfig = serde_json::from_str(poison).unwrap();
                let mut probe: ProbeConfig =
                    serde_json::from_str(r#"{ "labels": "~/labels" }"#).unwrap();
                expand_tables(&mut data, &mut poison, Some(&mut probe));
                let all = serde_json::to_string(&(data, poison, probe)).unwrap();
                assert_eq!(all.replace("\"text\":\"~/x\"", "").matches('~').count(), 0, "{all}");
            }
        }
    }
}
