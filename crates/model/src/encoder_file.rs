//! Encoder files: safetensors with torchvision's parameter names, and what an encoder needs to be
//! used again in the file's metadata.

use std::path::Path;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleStore, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::Device;
use rand::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::{Encoder, EncoderConfig, ModelError};

/// The one metadata key: safetensors writes its metadata in the random order of a hash map, so
/// several keys would give equal weights different bytes.
const METADATA_KEY: &str = "ssl_backdoor";

/// How the pixels an encoder was trained on were prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the images in pixels.
    pub size: u32,
    /// Mean by channel that was subtracted, of values in 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation by channel that was divided by.
    pub std: [f32; 3],
}

/// The JSON in the metadata.
#[derive(Serialize)]
struct Metadata<'a> {
    encoder: &'a EncoderConfig,
    preprocessing: &'a Preprocessing,
}

/// Writes `encoder` (as [`Module::valid`] gives it, with its running statistics) to `path`, whole
/// or not at all.
///
/// # Errors
/// [`ModelError::File`].
pub fn save_encoder(
    encoder: &Encoder,
    config: &EncoderConfig,
    preprocessing: &Preprocessing,
    path: &Path,
) -> Result<(), ModelError> {
    let metadata = serde_json::to_string(&Metadata { encoder: config, preprocessing })
        .map_err(|e| wrong(path, e))?;
    let mut store = SafetensorsStore::from_file(path)
        .clear_metadata()
        .metadata(METADATA_KEY, metadata)
        .with_to_adapter(BurnToPyTorchAdapter)
        .overwrite(true);
    // The networks themselves, so that no name begins with the kind.
    match encoder.valid() {
        Encoder::ResNet(net) => store.collect_from(&net),
        Encoder::Vit(net) => store.collect_from(&net),
    }
    .map_err(|e| wrong(path, e))
}

/// Reads an encoder of `config` for inference on `device`.
///
/// # Errors
/// [`ModelError::File`] if the file is absent or broken, or holds another network.
pub fn load_encoder(
    config: &EncoderConfig,
    path: &Path,
    device: &Device,
) -> Result<Encoder, ModelError> {
    // Every weight is overwritten: which ones come first does not matter.
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let mut encoder = config.init(&mut rng, &device.clone().without_autodiff());
    let mut store = SafetensorsStore::from_file(path).with_from_adapter(PyTorchToBurnAdapter);
    match &mut encoder {
        Encoder::ResNet(net) => store.apply_to(net),
        Encoder::Vit(net) => store.apply_to(net),
    }
    .map_err(|e| wrong(path, e))?;
    Ok(encoder.valid())
}

fn wrong(path: &Path, reason: impl std::fmt::Display) -> ModelError {
    ModelError::File { path: path.into(), reason: reason.to_string() }
}
