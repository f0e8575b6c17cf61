//! All networks of a training, from its last checkpoint, in one file for other tools.

use std::path::Path;

use burn::store::{BurnToPyTorchAdapter, ModuleRecord, ModuleStore, SafetensorsStore};
use burn::tensor::Device;

use crate::error::PretrainError;
use crate::folder::newest_method;
use crate::method::Method;
use crate::pretrain::PretrainConfig;
use crate::registry::WithMethod;

/// Writes every array of the method that `config` trained in `folder` (which holds `checkpoint/`) to the safetensors
/// file `path`, by the names of its fields: `query.encoder.conv1.weight`, `query.head.…`, `queue.…`.
///
/// # Errors
/// There is no checkpoint, or it is another method's; `path` cannot be written.
pub fn export_training(
    config: &PretrainConfig,
    folder: &Path,
    path: &Path,
    device: &Device,
) -> Result<(), PretrainError> {
    config.with_method(0, &device.clone().autodiff(), Saving { folder, path })
}

/// Loads the newest checkpoint in `folder` into the method and writes it to `path`.
struct Saving<'a> {
    folder: &'a Path,
    path: &'a Path,
}

impl WithMethod for Saving<'_> {
    type Output = ();

    fn on<M: Method>(self, method: M) -> Result<(), PretrainError> {
        let Self { folder, path } = self;
        let record = newest_method(folder)?;
        let wrong = |e: &dyn std::fmt::Display| PretrainError::file(&record, e);
        let state = ModuleRecord::load(&record).map_err(|e| wrong(&e))?;
        let method = method.try_load_record(state).map_err(|e| wrong(&e))?;
        let mut store = SafetensorsStore::from_file(path)
            .clear_metadata()
            .skip_enum_variants(true)
            .with_to_adapter(BurnToPyTorchAdapter)
            .overwrite(true);
        store.collect_from(&method.valid()).map_err(|e| PretrainError::file(path, e))
    }
}
