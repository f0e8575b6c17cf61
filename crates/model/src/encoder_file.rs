//! Encoder files: safetensors with torchvision's parameter names. The file's metadata holds everything
//! needed to use the encoder again.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::Device;
use rand::SeedableRng;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::family::Shapes;
use crate::{Encoder, EncoderConfig, Finding, ModelError, Preprocessing, layout};

/// The only metadata key. safetensors writes metadata in the random order of a hash map, so with
/// several keys equal weights would give different bytes.
pub(crate) const METADATA_KEY: &str = "ssl_backdoor";

/// The header of an encoder file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderHeader {
    /// The network.
    pub encoder: EncoderConfig,
    /// The images it is for.
    pub preprocessing: Preprocessing,
    /// What was found out or assumed of an encoder that another tool trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl EncoderHeader {
    /// The header of an encoder about which nothing is assumed.
    pub fn new(encoder: EncoderConfig, preprocessing: Preprocessing) -> Self {
        Self { encoder, preprocessing, findings: Vec::new() }
    }

    /// Reads the header of the file at `path`; `None` if it has none, as in files of other tools.
    ///
    /// # Errors
    /// [`ModelError::File`] if the file is absent or broken, if this version cannot read its header, or if its arrays
    /// do not match the header: a false header could otherwise request a huge network.
    pub fn read(path: &Path) -> Result<Option<Self>, ModelError> {
        Self::parse(&std::fs::read(path).map_err(|e| ModelError::file(path, e))?, path)
    }

    /// Reads the header from a file's `bytes`; `path` is for messages.
    fn parse(bytes: &[u8], path: &Path) -> Result<Option<Self>, ModelError> {
        let wrong = |e: &dyn std::fmt::Display| ModelError::file(path, e);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| {
            wrong(&format!("not an encoder file ({e}): convert a checkpoint first"))
        })?;
        let text = header.metadata().as_ref().and_then(|all| all.get(METADATA_KEY));
        let header: Option<Self> =
            text.map(|text| serde_json::from_str(text)).transpose().map_err(|e| wrong(&e))?;
        let Some(header) = header else { return Ok(None) };
        let of_encoder = |e| wrong(&format!("says encoder.{e}"));
        header.encoder.check().map_err(of_encoder)?;
        header.preprocessing.check_values().map_err(|e| wrong(&e))?;
        header.encoder.check_size(header.preprocessing.size).map_err(of_encoder)?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(&e))?;
        check(&header.encoder, &file)
            .map_err(|e| wrong(&format!("claims to contain {:?}, but {e}", header.encoder)))?;
        Ok(Some(header))
    }
}

/// Checks that `file` has the arrays of a network of `config`.
fn check(config: &EncoderConfig, file: &SafeTensors<'_>) -> Result<(), String> {
    let held: BTreeMap<&str, Vec<usize>> =
        file.iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
    let held: Shapes<'_> = held.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
    layout::check(config, &held)
}

/// Writes `encoder` (as returned by [`Module::valid`], with its running statistics) to `path`
/// atomically.
///
/// # Errors
/// [`ModelError::File`].
pub fn save_encoder(
    encoder: &Encoder,
    header: &EncoderHeader,
    path: &Path,
) -> Result<(), ModelError> {
    let metadata = serde_json::to_string(header).map_err(|e| ModelError::file(path, e))?;
    let store = SafetensorsStore::from_file(path)
        .clear_metadata()
        .metadata(METADATA_KEY, metadata)
        .with_to_adapter(BurnToPyTorchAdapter)
        .overwrite(true);
    encoder.valid().collect_into(store).map_err(|e| ModelError::file(path, e))
}

/// Reads the encoder that `header` describes for inference on `device`.
///
/// # Errors
/// [`ModelError::File`] if the file is absent or broken, or holds another network;
/// [`ModelError::Preprocessing`] if it expects images prepared in another way.
pub fn load_encoder(
    header: &EncoderHeader,
    path: &Path,
    device: &Device,
) -> Result<Encoder, ModelError> {
    Ok(load_trainable(header, path, &device.clone().without_autodiff())?.valid())
}

/// Like [`load_encoder`], but for training on the autodiff device `device`. Each call creates separate parameters.
///
/// # Errors
/// As [`load_encoder`].
pub fn load_trainable(
    header: &EncoderHeader,
    path: &Path,
    device: &Device,
) -> Result<Encoder, ModelError> {
    let bytes = std::fs::read(path).map_err(|e| ModelError::file(path, e))?;
    if let Some(of_file) = EncoderHeader::parse(&bytes, path)? {
        of_file.preprocessing.check(&header.preprocessing, path)?;
    }
    let wrong = |reason: String| ModelError::file(path, reason);
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    check(&header.encoder, &file).map_err(wrong)?;
    apply(&header.encoder, SafetensorsStore::from_bytes(Some(bytes)), device).map_err(wrong)
}

/// A network of `config` with the arrays of `store`, which must be [checked](layout::check) already.
pub(crate) fn apply(
    config: &EncoderConfig,
    store: SafetensorsStore,
    device: &Device,
) -> Result<Encoder, String> {
    // Every weight is overwritten, so the initial ones do not matter.
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let mut encoder = config.init(&mut rng, device);
    encoder
        .apply_from(store.with_from_adapter(PyTorchToBurnAdapter))
        .map_err(|_| "its arrays do not match the network that it names".to_owned())?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interpolation, Positions, Stem};
    use burn::tensor::{Int, Tensor};
    use safetensors::SafeTensors;
    use std::collections::BTreeMap;

    /// Saves an encoder, checks that it loads with the same features, and returns the names and shapes in its file.
    fn saved(config: EncoderConfig) -> BTreeMap<String, Vec<usize>> {
        let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
        let path = folder.path().join("encoder.safetensors");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let encoder = config.init(&mut rng, &device).valid();
        let preprocessing = Preprocessing {
            size: 32,
            mean: [0.0; 3],
            std: [1.0; 3],
            interpolation: Interpolation::Bilinear,
        };
        let header = EncoderHeader::new(config, preprocessing);
        save_encoder(&encoder, &header, &path).unwrap();
        assert_eq!(EncoderHeader::read(&path).unwrap().as_ref(), Some(&header));
        let again = load_encoder(&header, &path, &device).unwrap();
        let images =
            Tensor::<1, Int>::arange(0..6_144, &device).float().sin().reshape([2, 3, 32, 32]);
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
        let config = EncoderConfig::Vit {
            dim: 8,
            depth: 1,
            heads: 2,
            patch: 4,
            positions: Positions::Fixed,
        };
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
        // not part of the network.
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
