//! Filtering the training set by a list of images, and training again on the remaining images.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ssl_backdoor_data::{Draws, Splits};
use ssl_backdoor_ssl::PretrainConfig;

use crate::{
    Defence, DefenceSettings, DefendError, Identity, Images, ModelId, Needs, Victim, Workload,
};

/// Settings of the filter. A list has a path on each line, or an id where the images are not files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// File list of the training images that are removed. Exactly one of `remove` and `keep` is needed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<PathBuf>,
    /// File list of the training images that are kept. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<PathBuf>,
    /// Name of the model that is trained on the remaining images, so that a run may have several filters. Range:
    /// letters, digits, `-` and `_`; not `untrained`, `clean` or `backdoored`.
    #[serde(default = "filtered")]
    pub model: String,
}

fn filtered() -> String {
    "filtered".into()
}

impl FilterConfig {
    /// The field of the list, its path, and whether it names the images to keep.
    fn list(&self) -> Result<(&'static str, &Path, bool), DefendError> {
        match (&self.remove, &self.keep) {
            (Some(list), None) => Ok(("remove", list, false)),
            (None, Some(list)) => Ok(("keep", list, true)),
            _ => Err(DefendError::Value {
                field: "remove",
                value: self.remove.as_ref().map_or("unset".into(), |list| format!("{list:?}")),
                reason: "give a list of images to remove, or in keep a list of images to keep"
                    .into(),
            }),
        }
    }

    /// Ids of the images that are kept, in the order of the set.
    fn kept(&self, splits: &Splits) -> Result<Vec<u64>, DefendError> {
        let (field, list, keeps) = self.list()?;
        let listed = splits.training_ids(list).map_err(|e| DefendError::Value {
            field,
            value: format!("{list:?}"),
            reason: e.to_string(),
        })?;
        let listed: HashSet<u64> = listed.into_iter().collect();
        let all = splits.train.labels.iter().map(|(id, _)| *id);
        Ok(all.filter(|id| listed.contains(id) == keeps).collect())
    }

    fn check_name(&self) -> Result<(), DefendError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let id = ModelId::from(self.model.as_str());
        let role = id.role();
        if role.as_str() == self.model
            && !role.is_basic()
            && self.model.starts_with(|c: char| c.is_ascii_alphanumeric())
            && self.model.chars().all(plain)
        {
            return Ok(());
        }
        Err(DefendError::Value {
            field: "model",
            value: format!("{:?}", self.model),
            reason: "allowed are letters, digits, '-' and '_', a letter or digit in front, no number after the last '-', \
                     and none of untrained, clean and backdoored"
                .into(),
        })
    }
}

impl DefenceSettings for FilterConfig {
    fn check(&self, _: &PretrainConfig, _: Option<usize>, _: u32) -> Result<(), DefendError> {
        self.check_name()?;
        self.list().map(drop)
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        vec![Box::new(Filter(self))]
    }

    fn training(&self) -> &'static str {
        "as the victim"
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        self.remove.iter_mut().chain(&mut self.keep).collect()
    }
}

/// The victim's method, from the same seed, on the remaining images.
struct Filter<'a>(&'a FilterConfig);

impl Defence for Filter<'_> {
    fn model(&self) -> ModelId {
        self.0.model.as_str().into()
    }

    fn needs(&self) -> Needs {
        Needs::Retraining
    }

    fn identity(&self, victim: &PretrainConfig) -> Identity {
        // The path of a list does not determine which images remain.
        let (model, defend) = (json!({ "name": self.model() }), json!({ "kind": "filter" }));
        Identity { model, pretrain: json!(victim), defend }
    }

    fn draws(&self) -> Draws {
        Draws::PRETRAIN
    }

    fn check(&self, victim: &Victim<'_>) -> Result<(), DefendError> {
        let (field, kept) = (self.0.list()?.0, self.0.kept(victim.splits)?.len());
        let what = "the victim's method cannot train on the remaining images";
        let checked = victim.pretrain.check(Some(kept), victim.size);
        checked.map_err(|cause| DefendError::Training { field, what, cause: Box::new(cause) })
    }

    fn workload(&self, victim: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError> {
        let kept = self.0.kept(splits)?.len();
        let images = victim.train.epochs * victim.train.plan(0, kept).images_per_epoch();
        Ok(Workload { what: "retraining", steps: victim.train.steps(kept), images })
    }

    fn on_training_set(&self, victim: &Victim<'_>) -> Result<Images, DefendError> {
        Ok(Images::Kept(self.0.kept(victim.splits)?))
    }
}

#[cfg(test)]
mod tests {
    use ssl_backdoor_data::DataConfig;

    use super::*;

    fn config(text: &str) -> FilterConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_list_of_what_goes_and_one_of_what_stays_say_the_same() {
        let data = r#"{ "kind": "shapes", "size": 8, "per_class": 2 }"#;
        let data: DataConfig = serde_json::from_str(data).unwrap();
        let splits = data.load(&|_, _, _| {}).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let all: Vec<u64> = splits.train.labels.iter().map(|(id, _)| *id).collect();
        let (gone, stay) = (&all[..3], &all[3..]);
        let write = |ids: &[u64]| {
            // The order is arbitrary.
            let lines: String = ids.iter().rev().map(|id| format!("{id}\n")).collect();
            std::fs::write(&path, lines).unwrap();
        };
        let mut both = vec![config("remove = \"x\""), config("keep = \"x\"")];
        for config in &mut both {
            config.paths_mut().into_iter().for_each(|list| list.clone_from(&path));
        }
        write(gone);
        assert_eq!(both[0].kept(&splits).unwrap(), stay);
        write(stay);
        assert_eq!(both[1].kept(&splits).unwrap(), stay);
        std::fs::write(&path, "999999\n").unwrap();
        let message = both[0].kept(&splits).unwrap_err().to_string();
        for words in ["remove = ", "list.txt", "999999 is no training image"] {
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn one_list_and_a_name_that_is_free_are_asked_for() {
        let message = |text: &str| {
            let config = config(text);
            let checked = config.check_name().and_then(|()| config.list().map(drop));
            checked.map_err(|e| e.to_string())
        };
        assert_eq!(message("remove = \"x\""), Ok(()));
        assert_eq!(message("keep = \"x\"\nmodel = \"without-clusters\""), Ok(()));
        assert!(message("").unwrap_err().starts_with("remove = unset: "));
        assert!(message("keep = \"x\"\nremove = \"y\"").unwrap_err().contains("remove = \"y\""));
        for name in ["clean", "x-0.5", "../x", "", "-x", "x y"] {
            let message = message(&format!("keep = \"x\"\nmodel = {name:?}")).unwrap_err();
            assert!(message.starts_with(&format!("model = {name:?}: allowed are ")), "{message}");
        }
    }
}
