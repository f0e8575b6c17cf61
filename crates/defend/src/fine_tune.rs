//! Fine-tuning as a defence: the backdoored encoder, trained further by its own method on clean images. Two such
//! defences show what the learning rate decides: a low one may leave the backdoor in place, a high one forgets more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_ssl::PretrainConfig;

use crate::compress::training;
use crate::{Defence, DefenceSettings, DefendError, OnPartConfig};

/// Settings of fine-tuning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FineTuneConfig(pub OnPartConfig);

impl DefenceSettings for FineTuneConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        self.0.check(victim, images, size)
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        self.0.defences(true)
    }

    fn training(&self) -> &'static str {
        training(self.0.steps)
    }

    fn forget_seed(&mut self) {
        self.0.seed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrained::tests::victim;
    use crate::{ScratchConfig, Victim};

    fn config(text: &str) -> OnPartConfig {
        toml::from_str(&format!("clean = [0.5, 0.25]\nsteps = 3\nbatch = 8\n{text}")).unwrap()
    }

    #[test]
    fn a_rate_of_its_own_is_in_the_models_name_and_in_what_decides_it() {
        let (victim, size) = victim("moco-v2");
        let (plain, low) = (FineTuneConfig(config("")), FineTuneConfig(config("lr = 0.0005")));
        let names = |config: &FineTuneConfig| -> Vec<String> {
            config.defences().iter().map(|defence| defence.model().to_string()).collect()
        };
        assert_eq!(names(&plain), ["fine-tuned-0.5", "fine-tuned-0.25"]);
        assert_eq!(names(&low), ["fine-tuned-lr-0.0005-0.5", "fine-tuned-lr-0.0005-0.25"]);
        let model = low.defences()[1].model();
        assert_eq!((model.role().as_str(), model.share()), ("fine-tuned-lr-0.0005", Some(0.25)));
        let decided = |config: &FineTuneConfig| config.defences()[0].identity(&victim).defend;
        assert_eq!(decided(&low)["lr"], 0.0005);
        // Finished trainings without a rate are still found.
        assert!(decided(&plain).get("lr").is_none());
        assert!(low.check(&victim, Some(100), size).is_ok());
        for lr in ["0.0", "-1.0", "nan", "inf"] {
            let wrong = FineTuneConfig(config(&format!("lr = {lr}")));
            let message = wrong.check(&victim, Some(100), size).unwrap_err().to_string();
            assert!(message.starts_with("lr = ") && message.ends_with("above 0"), "{message}");
        }
        let scratch = ScratchConfig(config("lr = 0.1")).check(&victim, Some(100), size);
        assert!(scratch.unwrap_err().to_string().contains("only the kind fine-tune"));
    }

    /// Checked before the victims train: DeepCluster v2 needs at least as many images as clusters. The clocks of SwAV
    /// scale with the length of the training on the part.
    #[test]
    fn a_part_that_the_method_cannot_train_on_is_refused() {
        let data = r#"{ "kind": "shapes", "size": 8, "per_class": 8 }"#;
        let data: ssl_backdoor_data::DataConfig = serde_json::from_str(data).unwrap();
        let splits = data.load(&|_, _, _| {}).unwrap();
        let checked = |method: &str, part: &str| {
            let text = format!(
                "method = {{ {method}, small = 0 }}\nencoder = {{ kind = \"resnet18\", width = 2, stem = \"small\" }}\n\
                 epochs = 4\nbatch = 16\nlr = 0.01\n"
            );
            let pretrain: PretrainConfig = toml::from_str(&text).unwrap();
            pretrain.check(Some(80), 8).unwrap();
            let victim = Victim {
                splits: &splits,
                train: splits.pretrain_set().clone(),
                poisoned: Vec::new(),
                pretrain: &pretrain,
                size: 8,
                seed: 1,
            };
            let config = FineTuneConfig(toml::from_str(part).unwrap());
            let defence = &config.defences()[0];
            defence.check(&victim).map_err(|e| e.to_string())
        };
        let clusters = "kind = \"deepcluster-v2\", prototypes = [30, 12]";
        assert_eq!(checked(clusters, "clean = [0.5]\nbatch = 8\nepochs = 3"), Ok(()));
        let expected = "clean = 0.25: it is 20 images: method.prototypes = 30 is out of range: at most the 20 training \
                        images";
        let found = checked(clusters, "clean = [0.25]\nbatch = 8\nepochs = 3");
        assert_eq!(found, Err(expected.into()));
        // Frozen for 19 of the 20 steps; on the part, for 4 of 5.
        let frozen = "kind = \"swav\", prototypes = 4, queue = 0, frozen_steps = 19";
        assert_eq!(checked(frozen, "clean = [0.5]\nbatch = 8\nsteps = 1"), Ok(()));
    }

    /// A tiny rate leaves the initial weights unchanged; the victim's own rate does not.
    #[test]
    fn the_rate_is_that_of_the_training() {
        use burn::tensor::Device;
        use ssl_backdoor_model::save_encoder;
        use ssl_backdoor_ssl::{Training, encoder_header, initial_encoder};

        let text = "method = { kind = \"simclr\" }\nencoder = { kind = \"resnet18\", width = 2, stem = \"small\" }\n\
                    epochs = 1\nbatch = 8\nweight_decay = 0\ncanaries = \"off\"\n";
        let pretrain: PretrainConfig = toml::from_str(text).unwrap();
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let header = encoder_header(pretrain.encoder, 8);
        let start = folder.path().join("start");
        save_encoder(&initial_encoder(&pretrain, 1, &device), &header, &start).unwrap();
        let data = r#"{ "kind": "shapes", "size": 8, "per_class": 4 }"#;
        let data: ssl_backdoor_data::DataConfig = serde_json::from_str(data).unwrap();
        let splits = data.load(&|_, _, _| {}).unwrap();
        let victim = Victim {
            splits: &splits,
            train: splits.pretrain_set().clone(),
            poisoned: Vec::new(),
            pretrain: &pretrain,
            size: 8,
            seed: 1,
        };
        let weights = |text: &str| {
            let config = FineTuneConfig(config(text));
            let defence = &config.defences()[0];
            let set = defence.on_training_set(&victim).unwrap().set(&victim);
            let training = Training::new(set, 1, &device);
            let (victim, start) = (&pretrain, Some(start.as_path()));
            let bench = crate::Bench { victim, size: 8, start, training: &training };
            let file = folder.path().join("end");
            save_encoder(&defence.on_encoder(&bench, &mut ()).unwrap(), &header, &file).unwrap();
            let bytes = std::fs::read(file).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            file.tensor("conv1.weight").unwrap().data().to_vec()
        };
        let bytes = std::fs::read(&start).unwrap();
        let first = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let first = first.tensor("conv1.weight").unwrap().data().to_vec();
        assert!(weights("lr = 1e-30") == first);
        assert!(weights("") != first && weights("lr = 0.01") != weights(""));
    }
}
