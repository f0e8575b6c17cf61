//! Exports all networks of a training, from its last checkpoint, to one file for other tools.

use std::path::Path;

use burn::store::{BurnToPyTorchAdapter, ModuleStore, SafetensorsStore};
use burn::tensor::Device;

use crate::checkpoint::read_method;
use crate::error::PretrainError;
use crate::folder::newest_method;
use crate::method::Method;
use crate::pretrain::PretrainConfig;
use crate::registry::WithMethod;

/// Writes every array of the method that `config` trained in `folder` (which holds `checkpoint/`) to the safetensors
/// file `path`, under the names of its fields: `query.encoder.conv1.weight`, `query.head.…`, `queue.…`.
///
/// # Errors
/// There is no checkpoint, or it belongs to another method; `path` cannot be written.
pub fn export_training(
    config: &PretrainConfig,
    folder: &Path,
    path: &Path,
    device: &Device,
) -> Result<(), PretrainError> {
    config.with_method(0, &device.clone().autodiff(), Saving { config, folder, path })
}

/// Loads the newest checkpoint in `folder` into the method and writes it to `path`.
struct Saving<'a> {
    config: &'a PretrainConfig,
    folder: &'a Path,
    path: &'a Path,
}

impl WithMethod for Saving<'_> {
    type Output = ();

    fn on<M: Method>(self, method: M) -> Result<(), PretrainError> {
        let Self { config, folder, path } = self;
        let method = read_method(&newest_method(folder)?, method, &config.train)?;
        let mut store = SafetensorsStore::from_file(path)
            .clear_metadata()
            .skip_enum_variants(true)
            .with_to_adapter(BurnToPyTorchAdapter)
            .overwrite(true);
        store.collect_from(&method.valid()).map_err(|e| PretrainError::file(path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::TrainingFolder;
    use crate::pretrain::pretrain;
    use crate::small_runs::drawn;
    use crate::train::Training;
    use safetensors::SafeTensors;

    /// Each method with small settings, and an array of its own beside the encoder.
    const METHODS: [(&str, &str, &str); 15] = [
        ("moco-v2", r#", "queue": 16"#, "queue.rows"),
        ("byol", "", "predictor.layers.0.weight"),
        ("msf", r#", "queue": 16, "hidden": 8, "dim": 4"#, "bank.rows"),
        ("jigsaw", r#", "permutations": 5, "resize": 24, "tile": 6"#, "head.layers.0.weight"),
        ("rotnet", "", "head.layers.0.weight"),
        (
            "mae",
            r#", "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2"#,
            "decoder.decoder_pred.weight",
        ),
        ("simclr", "", "network.head.layers.0.weight"),
        ("simclr-v2", "", "network.head.layers.2.weight"),
        ("simsiam", r#", "dim": 8, "hidden": 4"#, "predictor.layers.1.weight"),
        ("barlow-twins", r#", "hidden": 8, "dim": 8"#, "network.head.layers.2.weight"),
        ("vicreg", r#", "hidden": 8, "dim": 8"#, "network.head.layers.2.weight"),
        ("moco-v3", r#", "hidden": 8, "dim": 4"#, "target.head.layers.1.weight"),
        (
            "swav",
            r#", "prototypes": 4, "queue": 4, "queue_from": 0, "frozen_steps": 0, "hidden": 8, "small": 1"#,
            "queues.1.rows",
        ),
        (
            "dino",
            r#", "outputs": 8, "hidden": 8, "teacher_warmup": 0, "frozen_epochs": 0, "small": 1"#,
            "teacher.directions",
        ),
        ("deepcluster-v2", r#", "prototypes": [4, 3], "hidden": 8, "small": 1"#, "banks.1"),
    ];

    #[test]
    fn every_method_is_exported_from_its_last_checkpoint() {
        let set = drawn(24, 1);
        let training = Training::new(set, 1, &Device::flex());
        for (kind, more, own) in METHODS {
            let encoder = match kind {
                "mae" => r#"{ "kind": "vit", "dim": 8, "depth": 1, "heads": 2, "patch": 6 }"#,
                _ => r#"{ "kind": "resnet18", "width": 4, "stem": "small" }"#,
            };
            let text = format!(
                r#"{{ "method": {{ "kind": "{kind}"{more} }}, "encoder": {encoder}, "epochs": 1, "batch": 4, "lr": 1e-5,
                      "canaries": "off" }}"#
            );
            let config: PretrainConfig = serde_json::from_str(&text).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let mut observer = TrainingFolder::new(folder.path(), kind);
            config.check(Some(training.set.len()), 24).unwrap();
            pretrain(&config, None, 24, &training, &mut observer).unwrap();
            let file = folder.path().join("all.safetensors");
            export_training(&config, folder.path(), &file, &training.device)
                .unwrap_or_else(|e| panic!("{kind}: {e}"));
            let bytes = std::fs::read(&file).unwrap();
            let arrays = SafeTensors::deserialize(&bytes).unwrap();
            let mut names = arrays.names();
            names.sort_unstable();
            let found = arrays.tensor(own).unwrap_or_else(|_| panic!("{kind}: {names:?}"));
            if kind == "deepcluster-v2" {
                assert_eq!(found.shape(), [10, 128]);
            }
            assert!(names.iter().any(|name| name.contains("encoder.")), "{kind}: {names:?}");
        }
    }
}
