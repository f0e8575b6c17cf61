//! The name that somebody may have meant.

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
