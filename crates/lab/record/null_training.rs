//! How the encoders of a run are trained, as null scores say it.

use anyhow::{Context, Result};
use serde_json::json;
use ssl_backdoor_scan::NullTraining;
use ssl_backdoor_ssl::PretrainConfig;

use super::files::hash;
use super::made_by::NUMERICS;

/// What a training by `config` under `seed` is on images of this `fingerprint`. Encoders of two seeds compare where all
/// else is the same; how often a training is saved counts for nothing.
///
/// # Errors
/// Never in practice: the config is one that was read.
pub(crate) fn null_training(
    config: &PretrainConfig,
    fingerprint: &str,
    seed: u64,
) -> Result<NullTraining> {
    let mut pretrain = json!(config);
    let table = pretrain.as_object_mut().context("the pretraining is no table")?;
    for saving in ["checkpoint_every", "keep", "canaries"] {
        table.remove(saving);
    }
    let settings = hash(json!([pretrain, fingerprint, NUMERICS]).to_string().as_bytes());
    Ok(NullTraining { method: config.method.settings().name().to_owned(), settings, seed })
}
