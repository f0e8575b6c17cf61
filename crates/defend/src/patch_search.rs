//! PatchSearch (Tejankar et al., CVPR 2023): the backdoored encoder shows which images carry a trigger, and the victim's
//! method is trained again without them.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_data::{Draws, InMemory, Normalization, SampleSet, Splits, Watch, resized_set};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_scan::{PatchSearch, PatchSearchConfig, Scan, Setting, Subject};
use ssl_backdoor_ssl::{PretrainConfig, TrainObserver, Training, pretrain};

use crate::{
    Bench, Defence, DefenceSettings, DefendError, Identity, ModelId, Needs, Search, Victim,
    Workload,
};

/// Name of the model.
const MODEL: &str = "patch-searched";
/// Prepared images of at most this many bytes are held in memory.
const IN_MEMORY: usize = 1 << 29;

impl DefenceSettings for PatchSearchConfig {
    fn check(
        &self,
        _: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        if let Some(images) = images {
            PatchSearch::check_count(images)?;
        }
        Ok(PatchSearchConfig::check(self, images, size)?)
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        vec![Box::new(Searched(self))]
    }

    fn training(&self) -> &'static str {
        "as the victim"
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }
}

/// The victim's method, from the same seed, on the images that the search leaves.
struct Searched<'a>(&'a PatchSearchConfig);

impl Defence for Searched<'_> {
    fn model(&self) -> ModelId {
        MODEL.into()
    }

    fn needs(&self) -> Needs {
        Needs::BackdooredModel
    }

    fn identity(&self, victim: &PretrainConfig) -> Identity {
        let mut defend = json!(self.0);
        defend["kind"] = json!("patch-search");
        Identity { model: json!({ "name": self.model() }), pretrain: json!(victim), defend }
    }

    fn draws(&self) -> Draws {
        Draws::PRETRAIN
    }

    fn check(&self, victim: &Victim<'_>) -> Result<(), DefendError> {
        Ok(PatchSearch::check_count(victim.splits.train.labels.len())?)
    }

    fn workload(&self, victim: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError> {
        // The number of images that the search removes is not known in advance.
        let all = splits.train.labels.len();
        let images = victim.train.epochs * victim.train.plan(0, all).images_per_epoch();
        Ok(Workload { what: "retraining", steps: victim.train.steps(all), images })
    }

    fn search(&self) -> Option<&dyn Search> {
        Some(self)
    }

    fn on_encoder(
        &self,
        bench: &Bench<'_>,
        observer: &mut dyn TrainObserver,
    ) -> Result<Encoder, DefendError> {
        let training = Training { hook: self.on_training(), ..bench.training.clone() };
        Ok(pretrain(bench.victim, None, bench.size, &training, observer)?)
    }
}

impl Search for Searched<'_> {
    fn removed(&self, bench: &Bench<'_>, watch: &Watch<'_>) -> Result<Vec<u64>, DefendError> {
        let Bench { size, training, .. } = *bench;
        let encoder = bench.load(bench.start(&self.model())?)?;
        let prepared = resized_set(training.set.clone(), size, Filter::Bilinear, true);
        let bytes = prepared.len().saturating_mul(3 * size as usize * size as usize);
        let images: SampleSet = match bytes <= IN_MEMORY {
            true => Arc::new(InMemory::read(&prepared, watch)?),
            false => prepared,
        };
        let device = training.device.clone().without_autodiff();
        let setting = Setting {
            device: &device,
            seed: training.seed,
            normalization: Normalization::default(),
            watch,
        };
        let subject = Subject::Set { images: &images, encoder: &encoder };
        Ok(PatchSearch { config: self.0.clone() }.scan(subject, &setting)?.accused)
    }
}

#[cfg(test)]
mod tests {
    use ssl_backdoor_ssl::PretrainConfig;

    use crate::{DefendConfig, defences};

    #[test]
    fn its_values_are_checked_and_decide_its_training() {
        let victim: PretrainConfig = toml::from_str(
            "method = { kind = \"simclr\" }\nencoder = { kind = \"resnet18\", width = 2, stem = \"small\" }\nepochs = 1\n",
        )
        .unwrap();
        let read = |text: &str| -> DefendConfig { serde_json::from_str(text).unwrap() };
        let plain = read(r#"{ "kind": "patch-search" }"#);
        let check = |config: &DefendConfig, images| {
            config.settings().check(&victim, images, 32).map_err(|e| e.to_string())
        };
        assert_eq!(check(&plain, Some(100)), Ok(()));
        assert!(check(&plain, Some(10)).unwrap_err().contains("10 images are too few"));
        for (text, field) in [
            (r#"{ "kind": "patch-search", "window": 33 }"#, "window = 33"),
            (r#"{ "kind": "patch-search", "drop": 0 }"#, "drop = 0"),
            (r#"{ "kind": "patch-search", "clusters": 101 }"#, "clusters = 101"),
        ] {
            let message = check(&read(text), Some(100)).unwrap_err();
            assert!(message.starts_with(field) && message.contains("allowed are"), "{message}");
        }
        let wrong = serde_json::from_str::<DefendConfig>(r#"{ "kind": "patch-search", "k": 1 }"#);
        assert!(wrong.unwrap_err().to_string().contains("k"));
        let identity = |config: &DefendConfig| {
            let all = std::slice::from_ref(config);
            let identity = defences(all)[0].identity(&victim);
            (identity.model.to_string(), identity.defend.to_string())
        };
        let other = read(r#"{ "kind": "patch-search", "window": 9 }"#);
        assert_ne!(identity(&plain), identity(&other));
        assert_eq!(identity(&plain).0, r#"{"name":"patch-searched"}"#);
    }
}
