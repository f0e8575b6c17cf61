//! The table of defences.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_compress::{CompressConfig, MimicConfig};
use ssl_backdoor_scan::PatchSearchConfig;

use crate::{
    BlurLumaConfig, Defence, DefenceSettings, DefendError, DistilCleanConfig, FilterConfig,
    FineTuneConfig, ICutmixConfig, LocalizedCropConfig, LumaConfig, ScratchConfig,
};

/// Generates the enum of all configs and the access to their settings, so that each defence is one line below.
macro_rules! defences {
    ($($(#[$doc:meta])* $arm:ident($config:ty),)*) => {
        /// The `[defend]` table: a defence; several stand as `[[defend]]`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum DefendConfig {
            $($(#[$doc])* $arm($config),)*
        }

        impl DefendConfig {
            /// Its settings, whichever kind it is.
            pub fn settings(&self) -> &dyn DefenceSettings {
                match self {
                    $(Self::$arm(config) => config,)*
                }
            }

            /// Its settings, mutable.
            pub fn settings_mut(&mut self) -> &mut dyn DefenceSettings {
                match self {
                    $(Self::$arm(config) => config,)*
                }
            }
        }
    };
}

defences! {
    /// CompReSS distillation of the backdoored model on a clean part of the training set.
    Compress(CompressConfig),
    /// The backdoored model, trained further by its own method on a clean part.
    FineTune(FineTuneConfig),
    /// A new encoder, trained by the victim's method on a clean part.
    Scratch(ScratchConfig),
    /// CompReSS distillation of the clean twin on a clean part.
    DistilClean(DistilCleanConfig),
    /// The victim's method, trained again without the images that a list names.
    Filter(FilterConfig),
    /// The victim's method, trained again without the images that PatchSearch suspects.
    PatchSearch(PatchSearchConfig),
    /// The victim's method, trained again on pairs of views of neighbouring places (Zhang et al., 2024).
    LocalizedCrop(LocalizedCropConfig),
    /// The victim's method, trained again on views with blur and luma (arXiv 2403.15918).
    BlurLuma(BlurLumaConfig),
    /// The victim's method, trained again with i-CutMix: a part of another image is pasted into each view.
    ICutmix(ICutmixConfig),
    /// MIMIC distillation of the backdoored model on a clean part.
    Mimic(MimicConfig),
    /// The backdoored model, unchanged, on images as luma, without colour.
    Luma(LumaConfig),
}

/// All defences of `configs`, in order.
pub fn defences(configs: &[DefendConfig]) -> Vec<Box<dyn Defence + '_>> {
    configs.iter().flat_map(|config| config.settings().defences()).collect()
}

/// Checks that no two of `configs` make models of the same name.
///
/// # Errors
/// [`DefendError::Twice`] with the name.
pub fn check_names(configs: &[DefendConfig]) -> Result<(), DefendError> {
    let mut before = Vec::new();
    for config in configs {
        let own: Vec<_> = config.settings().defences().iter().map(|one| one.model()).collect();
        if let Some(model) = own.iter().find(|model| before.contains(*model)) {
            return Err(DefendError::Twice { model: model.to_string() });
        }
        before.extend(own);
    }
    Ok(())
}

/// For `#[serde(with)]`: one defence is written as a table, several as a list of tables. Both forms can be read.
pub mod one_or_several {
    use std::fmt;

    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
    use serde::de::{MapAccess, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::DefendConfig;

    /// The schema of a table or a list of tables.
    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<DefendConfig>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }

    /// Writes `configs`.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(
        configs: &[DefendConfig],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match configs {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }

    /// Reads a table or a list of tables.
    ///
    /// # Errors
    /// As the deserializer, or it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<DefendConfig>, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Vec<DefendConfig>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or a list of tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(vec![DefendConfig::deserialize(MapAccessDeserializer::new(map))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq))
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_compress::Control;
    use ssl_backdoor_ssl::PretrainConfig;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        #[serde(default, skip_serializing_if = "Vec::is_empty", with = "one_or_several")]
        defend: Vec<DefendConfig>,
    }

    fn read(text: &str) -> Result<Vec<DefendConfig>, String> {
        toml::from_str::<File>(text).map(|file| file.defend).map_err(|e| e.to_string())
    }

    #[test]
    fn one_table_or_a_list_is_read_and_reads_back() {
        let one = read("[defend]\nkind = \"compress\"\nclean = [0.5]\n").unwrap();
        assert_eq!(one, read("[[defend]]\nkind = \"compress\"\nclean = [0.5]\n").unwrap());
        assert!(read("").unwrap().is_empty());
        let several = read(
            "[[defend]]\nkind = \"compress\"\n[[defend]]\nkind = \"scratch\"\nclean = [0.1]\nsteps = 9\n",
        )
        .unwrap();
        for (defend, head) in [(Vec::new(), ""), (one, "[defend]"), (several, "[[defend]]")] {
            let text = toml::to_string(&File { defend: defend.clone() }).unwrap();
            assert!(text.starts_with(head), "{text}");
            assert_eq!(read(&text).unwrap(), defend);
        }
        assert!(read("defend = 3").unwrap_err().contains("a table or a list of tables"));
        assert!(read("[defend]\nkind = \"x\"\n").unwrap_err().contains("`distil-clean`"));
        assert!(read("[[defend]]\nkind = \"scratch\"\nbank = 1\n").unwrap_err().contains("bank"));
    }

    fn names(configs: &[DefendConfig]) -> Vec<String> {
        defences(configs).iter().map(|defence| defence.model().to_string()).collect()
    }

    #[test]
    fn every_training_has_a_name_of_its_own() {
        let config = CompressConfig {
            clean: vec![0.25, 0.1],
            controls: vec![Control::FineTune, Control::Scratch, Control::DistilClean],
            poisoned: vec![0.05],
            ..CompressConfig::default()
        };
        let names = names(&[DefendConfig::Compress(config)]);
        let expected = [
            "distilled-0.25",
            "distilled-0.1",
            "fine-tuned-0.25",
            "fine-tuned-0.1",
            "scratch-0.25",
            "scratch-0.1",
            "clean-teacher-0.25",
            "clean-teacher-0.1",
            "distilled-0.25-poisoned-0.05",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn peers_make_the_models_that_controls_make_and_no_name_twice() {
        let part = "clean = [0.25]\n";
        let peers = ["compress", "fine-tune", "scratch", "distil-clean"]
            .map(|kind| format!("[[defend]]\nkind = \"{kind}\"\n{part}"));
        let peers = read(&peers.concat()).unwrap();
        let expected = ["distilled-0.25", "fine-tuned-0.25", "scratch-0.25", "clean-teacher-0.25"];
        assert_eq!(names(&peers), expected);
        assert!(check_names(&peers).is_ok());
        let controls = "controls = [\"fine-tune\", \"scratch\", \"distil-clean\"]\n";
        let one = read(&format!("[defend]\nkind = \"compress\"\n{part}{controls}")).unwrap();
        assert_eq!(names(&one), expected);
        let twice = [&one[..], &peers[2..3]].concat();
        let message = check_names(&twice).unwrap_err().to_string();
        assert!(message.contains("the name scratch-0.25"), "{message}");
    }

    /// What determined a training in run folders of version 0.2. With other text, the training would be repeated.
    #[test]
    fn finished_trainings_are_recognised() {
        let asked = "[defend]\nkind = \"compress\"\nclean = [0.5]\nsteps = 20\nbatch = 16\npoisoned = [0.05]\nseed = 7\n\
                     controls = [\"fine-tune\", \"scratch\", \"distil-clean\"]\n";
        let asked = read(asked).unwrap();
        let victim: PretrainConfig = toml::from_str(
            "method = { kind = \"rotnet\" }\nencoder = { kind = \"resnet18\", width = 4, stem = \"small\" }\nepochs = 3\n",
        )
        .unwrap();
        let alone = r#"{"bank":128000,"batch":16,"canaries":"stop","clean":[],"controls":[],"epochs":130,"lr":0.01,"momentum":0.999,"poisoned":[],"steps":20,"temperature":0.04,"variant":"two-queues"}"#;
        let expected = [
            r#"{"control":null,"name":"distilled-0.5","poisoned":0.0,"share":0.5}"#,
            r#"{"control":"fine-tune","name":"fine-tuned-0.5","poisoned":0.0,"share":0.5}"#,
            r#"{"control":"scratch","name":"scratch-0.5","poisoned":0.0,"share":0.5}"#,
            r#"{"control":"distil-clean","name":"clean-teacher-0.5","poisoned":0.0,"share":0.5}"#,
            r#"{"control":null,"name":"distilled-0.5-poisoned-0.05","poisoned":0.05,"share":0.5}"#,
        ];
        let defences = defences(&asked);
        assert_eq!(defences.len(), expected.len());
        for (defence, model) in defences.iter().zip(expected) {
            let identity = defence.identity(&victim);
            assert_eq!(
                (identity.model.to_string(), identity.defend.to_string()),
                (model.into(), alone.into())
            );
            // A student uses only the victim's architecture.
            let whole = serde_json::to_value(&victim).unwrap();
            let student = defence.probed_as() == crate::ProbedAs::MocoV2;
            let pretrain = if student { whole["encoder"].clone() } else { whole };
            assert_eq!(identity.pretrain, pretrain, "{model}");
            assert_eq!((defence.seed(1), defence.draws()), (7, ssl_backdoor_data::Draws::DEFENCE));
        }
    }
}
