//! Suggestions for misspelled names and paths.

use std::path::Path;

/// Two names are similar if their Jaro-Winkler similarity is above this.
const ALIKE: f64 = 0.8;

/// The name in `known` that is most similar to `unknown`, if any is similar.
pub(crate) fn nearest<T: AsRef<str>>(
    unknown: &str,
    known: impl IntoIterator<Item = T>,
) -> Option<T> {
    let alike =
        known.into_iter().map(|known| (strsim::jaro_winkler(unknown, known.as_ref()), known));
    let best = alike.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, known)| known)
}

/// `, did you mean PATH?` for a path that does not exist, if its folder contains a similar name.
fn similar(path: &Path) -> Option<String> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    // Equally similar names always give the same one.
    names.sort_unstable();
    let near = nearest(path.file_name()?.to_str()?, &names)?;
    Some(format!(", did you mean {}?", path.with_file_name(near).display()))
}

/// [`similar`] for the first part of `path` that does not exist; none if `path` exists.
pub(crate) fn meant(path: &Path) -> Option<String> {
    let absent = |part: &&Path| *part != Path::new("") && !part.exists();
    similar(path.ancestors().take_while(absent).last()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_absent_part_of_a_path_is_corrected() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("photos");
        std::fs::create_dir(&there).unwrap();
        let of = |path: &str| meant(&folder.path().join(path));
        let hint = Some(format!(", did you mean {}?", there.display()));
        assert_eq!((of("photoz"), of("photoz/train/cat")), (hint.clone(), hint));
        assert_eq!((of("photos"), of("photos/x"), of("zzz/photos")), (None, None, None));
    }

    #[test]
    fn the_nearest_name_is_found_and_others_are_not() {
        let known = ["target-3_byol", "target-3_moco-v2", "quickstart"];
        assert_eq!(nearest("target-3_moco-v3", known), Some("target-3_moco-v2"));
        assert_eq!(nearest("quikstart", known), Some("quickstart"));
        assert_eq!(nearest("zzz", known), None);
    }
}
