//! The keys of an experiment, for commands that use only some of them.

use super::Document;

/// The keys at the top of an experiment.
const ALL: [&str; 11] = [
    "name",
    "seed",
    "device",
    "workers",
    "tensorboard",
    "data",
    "poison",
    "pretrain",
    "probe",
    "defend",
    "scan",
];

/// Removes the keys and tables of an experiment that are not in `used`. What no experiment has stays, and is an unknown
/// key when the config is read.
pub(crate) fn keep_only(document: &mut Document, used: &[&str]) {
    ALL.iter().filter(|key| !used.contains(key)).for_each(|key| document.remove(key));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::experiment_schema;

    #[test]
    fn all_keys_of_an_experiment_are_listed() {
        let schema = experiment_schema();
        let keys: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let of_layers = ["extends", "unset", "$schema"];
        let own = keys.into_iter().filter(|key| !of_layers.contains(key)).collect::<BTreeSet<_>>();
        assert_eq!(own, BTreeSet::from(ALL));
    }
}
