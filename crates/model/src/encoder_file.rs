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
    Ok(load_trainable(config, path, &device.clone().without_autodiff())?.valid())
}

/// The same for training on `device`, an autodiff device; every call gives parameters of their own.
///
/// # Errors
/// As [`load_encoder`].
pub fn load_trainable(
    config: &EncoderConfig,
    path: &Path,
    device: &Device,
) -> Result<Encoder, ModelError> {
    // Every weight is overwritten: which ones come first does not matter.
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let mut encoder = config.init(&mut rng, device);
    let mut store = SafetensorsStore::from_file(path).with_from_adapter(PyTorchToBurnAdapter);
    match &mut encoder {
        Encoder::ResNet(net) => store.apply_to(net),
        Encoder::Vit(net) => store.apply_to(net),
    }
    .map_err(|e| wrong(path, e))?;
    Ok(encoder)
}

fn wrong(path: &Path, reason: impl std::fmt::Display) -> ModelError {
    ModelError::File { path: path.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stem;
    use burn::tensor::Tensor;
    use safetensors::SafeTensors;
    use std::collections::BTreeMap;

    /// Names and shapes in the file, and that it gives back the same features.
    fn saved(config: EncoderConfig) -> BTreeMap<String, Vec<usize>> {
        let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
        let path = folder.path().join("encoder.safetensors");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let encoder = config.init(&mut rng, &device).valid();
        let preprocessing = Preprocessing { size: 32, mean: [0.0; 3], std: [1.0; 3] };
        save_encoder(&encoder, &config, &preprocessing, &path).unwrap();
        let again = load_encoder(&config, &path, &device).unwrap();
        let images = Tensor::random([2, 3, 32, 32], burn::tensor::Distribution::Default, &device);
        assert_eq!(again.forward(images.clone()).into_data(), encoder.forward(images).into_data());
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
    }

    fn expected(of: &[(&str, &[usize])]) -> BTreeMap<String, Vec<usize>> {
        of.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
    }

    #[test]
    fn a_vit_has_the_names_and_shapes_of_the_official_mae() {
        let config = EncoderConfig::Vit { dim: 8, depth: 1, heads: 2, patch: 4 };
        let names = expected(&[
            ("cls_token", &[1, 1, 8]),
            ("patch_embed.proj.weight", &[8, 3, 4, 4]),
            ("patch_embed.proj.bias", &[8]),
            ("blocks.0.norm1.weight", &[8]),
            ("blocks.0.norm1.bias", &[8]),
            ("blocks.0.attn.qkv.weight", &[24, 8]),
            ("blocks.0.attn.qkv.bias", &[24]),
            ("blocks.0.attn.proj.weight", &[8, 8]),
            ("blocks.0.attn.proj.bias", &[8]),
            ("blocks.0.norm2.weight", &[8]),
            ("blocks.0.norm2.bias", &[8]),
            ("blocks.0.mlp.fc1.weight", &[32, 8]),
            ("blocks.0.mlp.fc1.bias", &[32]),
            ("blocks.0.mlp.fc2.weight", &[8, 32]),
            ("blocks.0.mlp.fc2.bias", &[8]),
            ("norm.weight", &[8]),
            ("norm.bias", &[8]),
        ]);
        assert_eq!(saved(config), names);
    }

    #[test]
    fn a_resnet_has_the_names_and_shapes_of_torchvision() {
        let names = saved(EncoderConfig::Resnet50 { width: 2, stem: Stem::Imagenet });
        // 53 convolutions, and as many batch norms of four vectors; torchvision's num_batches_tracked is
        // no part of the network.
        assert_eq!(names.len(), 53 * 5);
        for (name, shape) in expected(&[
            ("conv1.weight", &[2, 3, 7, 7]),
            ("bn1.running_var", &[2]),
            ("layer1.0.conv1.weight", &[2, 2, 1, 1]),
            ("layer1.0.conv2.weight", &[2, 2, 3, 3]),
            ("layer1.0.conv3.weight", &[8, 2, 1, 1]),
            ("layer1.0.downsample.0.weight", &[8, 2, 1, 1]),
            ("layer1.0.downsample.1.running_mean", &[8]),
            ("layer3.5.bn3.weight", &[32]),
            ("layer4.2.conv3.weight", &[64, 16, 1, 1]),
        ]) {
            assert_eq!(names.get(&name), Some(&shape), "{name}");
        }
        let names = saved(EncoderConfig::Resnet18 { width: 2, stem: Stem::Small });
        assert_eq!(names.len(), 20 * 5);
        assert_eq!(names["layer2.0.downsample.0.weight"], [4, 2, 1, 1]);
    }
}
