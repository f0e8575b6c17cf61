//! The name that somebody may have meant.

use std::path::Path;

/// How alike two names are at least, by Jaro and Winkler.
const ALIKE: f64 = 0.8;

/// The one of `known` that is most like `unknown`, if one is like it.
pub(crate) fn nearest<T: AsRef<str>>(
    unknown: &str,
    known: impl IntoIterator<Item = T>,
) -> Option<T> {
    let alike =
        known.into_iter().map(|known| (strsim::jaro_winkler(unknown, known.as_ref()), known));
    let best = alike.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, known)| known)
}

/// `, did you mean PATH?` for a path that does not exist if there is one of a similar name beside it.
pub(crate) fn similar(path: &Path) -> Option<String> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    // Of equally similar ones always the same.
    names.sort_unstable();
    let near = nearest(path.file_name()?.to_str()?, &names)?;
    Some(format!(", did you mean {}?", path.with_file_name(near).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_others_are_not() {
        let known = ["target-3_byol", "target-3_moco-v2", "quickstart"];
        assert_eq!(nearest("target-3_moco-v3", known), Some("target-3_moco-v2"));
        assert_eq!(nearest("quikstart", known), Some("quickstart"));
        assert_eq!(nearest("zzz", known), None);
    }
}
