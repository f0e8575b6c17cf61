//! The files of a checkpoint.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::{BurnpackStore, ModuleRecord, ModuleStore};

use crate::canary::Shadow;
use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::meter::Meter;
use crate::method::Method;

/// The method's parameters, buffers and queues.
pub(crate) const METHOD: &str = "method.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const SHADOW: &str = "canaries.json";
const METER: &str = "epoch.json";

/// Contents of a checkpoint besides the method.
pub(crate) struct Saved {
    pub optimizer: ModuleOptimizer,
    pub shadow: Shadow,
    /// Measurements of the epoch so far.
    pub meter: Meter,
}

/// Writes a checkpoint into `folder`.
pub(crate) fn write<M: Module>(
    folder: &Path,
    method: &M,
    optimizer: &ModuleOptimizer,
    shadow: &Shadow,
    meter: &Meter,
) -> Result<(), PretrainError> {
    let wrong = |name: &str, e: &dyn std::fmt::Display| PretrainError::file(folder.join(name), e);
    // `valid` brings the running statistics up to date; `into_record` alone lags one step.
    method.valid().into_record().save(folder.join(METHOD)).map_err(|e| wrong(METHOD, &e))?;
    optimizer.to_record().save(folder.join(OPTIMIZER)).map_err(|e| wrong(OPTIMIZER, &e))?;
    let shadow = serde_json::to_string(shadow).map_err(|e| wrong(SHADOW, &e))?;
    fs::write(folder.join(SHADOW), shadow).map_err(|e| wrong(SHADOW, &e))?;
    let meter = serde_json::to_string(meter).map_err(|e| wrong(METER, &e))?;
    fs::write(folder.join(METER), meter).map_err(|e| wrong(METER, &e))
}

/// Loads `record`, written by a training with `config`, into the freshly built `method`.
///
/// # Errors
/// The record cannot be read, or it belongs to another method.
pub(crate) fn read_method<M: Method>(
    record: &Path,
    mut method: M,
    config: &TrainConfig,
) -> Result<M, PretrainError> {
    let wrong = |e: &dyn std::fmt::Display| PretrainError::file(record, e);
    if let Some(name) = method.row_by_image() {
        let mut store = BurnpackStore::from_file(record);
        let rows = store.get_tensor(name).map_err(|e| wrong(&e))?;
        let images = rows.and_then(|rows| rows.shape.first().copied());
        let images = images.ok_or_else(|| wrong(&format!("it contains no {name}")))?;
        method = method.prepare(&config.plan(0, images))?;
    }
    let state = ModuleRecord::load(record).map_err(|e| wrong(&e))?;
    method.try_load_record(state).map_err(|e| wrong(&e))
}

/// Loads the checkpoint in `folder` into a freshly built method and optimiser.
pub(crate) fn read<M: Module>(
    folder: &Path,
    method: M,
    optimizer: ModuleOptimizer,
) -> Result<(M, Saved), PretrainError> {
    let wrong = |name: &str, e: &dyn std::fmt::Display| PretrainError::file(folder.join(name), e);
    let record = ModuleRecord::load(folder.join(METHOD)).map_err(|e| wrong(METHOD, &e))?;
    let method = method.try_load_record(record).map_err(|e| wrong(METHOD, &e))?;
    let record = OptimizerRecord::load(folder.join(OPTIMIZER)).map_err(|e| wrong(OPTIMIZER, &e))?;
    let shadow = fs::read_to_string(folder.join(SHADOW)).map_err(|e| wrong(SHADOW, &e))?;
    let shadow = serde_json::from_str(&shadow).map_err(|e| wrong(SHADOW, &e))?;
    let meter = fs::read_to_string(folder.join(METER)).map_err(|e| wrong(METER, &e))?;
    let meter = serde_json::from_str(&meter).map_err(|e| wrong(METER, &e))?;
    Ok((method, Saved { optimizer: optimizer.load_record(record), shadow, meter }))
}
