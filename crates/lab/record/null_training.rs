//! The description of a training in null scores.

use anyhow::{Context, Result};
use serde_json::json;
use ssl_backdoor_scan::NullTraining;
use ssl_backdoor_ssl::PretrainConfig;

use super::files::hash;
use super::made_by::NUMERICS;

/// The description of a training by `config` with `seed` on images with this `fingerprint`. Encoders with two seeds are
/// comparable if everything else is the same; how often a training is saved does not matter.
///
/// # Errors
/// Never in practice: the config was read from a file.
pub(crate) fn null_training(
    config: &PretrainConfig,
    fingerprint: &str,
    seed: u64,
) -> Result<NullTraining> {
    let mut pretrain = json!(config);
    let table = pretrain.as_object_mut().context("the pretraining is not a table")?;
    for saving in ["checkpoint_every", "keep", "canaries"] {
        table.remove(saving);
    }
    let settings = hash(json!([pretrain, fingerprint, NUMERICS]).to_string().as_bytes());
    Ok(NullTraining { method: config.method.settings().name().to_owned(), settings, seed })
}
