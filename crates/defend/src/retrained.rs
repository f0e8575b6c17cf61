//! The common part of defences that act during training: the victim's method, trained again on all of the victim's
//! images from the same seed, with the defence in place.

use std::sync::Arc;

use serde_json::{Value, json};
use ssl_backdoor_data::{Draws, Splits};
use ssl_backdoor_ssl::{PretrainConfig, TrainingHook};

use crate::{Defence, DefendError, Identity, ImageHook, ModelId, Needs, Role, Workload};

/// One such training.
pub(crate) struct Retrained {
    /// The kind of the defence, which is also the name of its model.
    pub kind: &'static str,
    /// Its config.
    pub config: Value,
    /// The hook that acts on views and loss.
    pub hook: Arc<dyn TrainingHook>,
    /// The hook that acts on images at test time, if any.
    pub image: Option<Arc<dyn ImageHook>>,
}

impl Defence for Retrained {
    fn model(&self) -> ModelId {
        Role::new(self.kind).into()
    }

    fn needs(&self) -> Needs {
        Needs::Retraining
    }

    fn identity(&self, victim: &PretrainConfig) -> Identity {
        let defend = json!({ "kind": self.kind, "config": self.config });
        Identity { model: json!({ "name": self.model() }), pretrain: json!(victim), defend }
    }

    fn draws(&self) -> Draws {
        Draws::PRETRAIN
    }

    fn workload(&self, victim: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError> {
        let all = splits.train.labels.len();
        let images = victim.train.epochs * victim.train.plan(0, all).images_per_epoch();
        Ok(Workload { what: "retraining", steps: victim.train.steps(all), images })
    }

    fn on_training(&self) -> Option<Arc<dyn TrainingHook>> {
        Some(self.hook.clone())
    }

    fn on_image(&self) -> Option<Arc<dyn ImageHook>> {
        self.image.clone()
    }
}

/// The error that a defence of this `kind` does not apply to the method of `victim`.
pub(crate) fn not_for(kind: &str, victim: &PretrainConfig, needs: &str) -> DefendError {
    let method = victim.method.settings().name();
    let reason = format!("it does not apply to {method}: it needs {needs}");
    DefendError::Value { field: "kind", value: format!("{kind:?}"), reason }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// All methods.
    pub(crate) const METHODS: [&str; 15] = [
        "moco-v2",
        "byol",
        "msf",
        "simclr",
        "jigsaw",
        "rotnet",
        "mae",
        "simclr-v2",
        "simsiam",
        "barlow-twins",
        "vicreg",
        "moco-v3",
        "swav",
        "dino",
        "deepcluster-v2",
    ];

    /// A victim that uses `method`, and the side of its images.
    pub(crate) fn victim(method: &str) -> (PretrainConfig, u32) {
        let encoder = match method {
            "mae" => "{ kind = \"vit\", dim = 8, depth = 1, heads = 2, patch = 4 }",
            _ => "{ kind = \"resnet18\", width = 2, stem = \"small\" }",
        };
        let more = if method == "jigsaw" { ", resize = 48, tile = 12" } else { "" };
        let text = format!(
            "method = {{ kind = \"{method}\"{more} }}\nencoder = {encoder}\nepochs = 2\nbatch = 16\n"
        );
        (toml::from_str(&text).unwrap(), 48)
    }

    struct Nothing;

    impl TrainingHook for Nothing {}

    #[test]
    fn it_is_the_victims_training_on_all_images() {
        let kind = "localized-crop";
        let config = json!({ "grow": 0.1 });
        let one = Retrained { kind, config, hook: Arc::new(Nothing), image: None };
        let (victim, _) = victim("byol");
        assert_eq!((one.model().as_str(), one.needs()), (kind, Needs::Retraining));
        assert_eq!((one.seed(7), one.draws()), (7, Draws::PRETRAIN));
        let identity = one.identity(&victim);
        assert_eq!(identity.pretrain, json!(victim));
        assert_eq!(identity.defend, json!({ "kind": kind, "config": { "grow": 0.1 } }));
        let data = r#"{ "kind": "shapes", "size": 8, "per_class": 4 }"#;
        let data: ssl_backdoor_data::DataConfig = serde_json::from_str(data).unwrap();
        let splits = data.load(&|_, _, _| {}).unwrap();
        // Forty images: two batches of 16 in each of two epochs.
        let expected = Workload { what: "retraining", steps: 4, images: 64 };
        assert_eq!(one.workload(&victim, &splits).unwrap(), expected);
    }
}
