//! Checkpoints of other tools: which network of the file is the encoder, what its arrays say of its
//! architecture, and the same arrays under torchvision's and timm's names.
//!
//! Read are torchvision's ResNets and timm's vision transformers as the tools of [`crate::tools`] write them, in PyTorch
//! files or safetensors.

mod images;
mod network;
mod options;
mod reasons;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::SafetensorsStore;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};

use self::images::{assumed, contradicted};
use self::network::{Checkpoint, Network};
pub use self::options::ImportOptions;
use self::reasons::{is_counter, with_hint, with_reasons};
use crate::checkpoint::{Array, StateDict, is_safetensors};
use crate::encoder_file::{METADATA_KEY, apply};
use crate::layout::{self, Shapes};
use crate::tools::{Choice, OPTIMIZER, candidates, choose, named};
use crate::vit::fixed_positions;
use crate::{Basis, Encoder, EncoderConfig, EncoderHeader, Finding, ModelError, Positions};

/// An encoder out of a checkpoint.
pub struct Imported {
    /// The network, the images it is for, and what of it is no more than assumed.
    pub header: EncoderHeader,
    /// What the names of its arrays began with.
    pub prefix: String,
    /// Why this network was taken, where there were others; else empty.
    pub reason: &'static str,
    /// What the names of the other encoders in the checkpoint begin with.
    pub left: Vec<String>,
    /// Whether the checkpoint said itself what images it is for.
    pub stated: bool,
    /// Arrays beside the network that cannot be read, and why.
    pub unreadable: BTreeMap<String, String>,
    path: PathBuf,
    file: StateDict,
    backbone: BTreeMap<String, Array>,
    /// Every other array of floating-point numbers, by the name it gets: heads, decoders, queues, other networks.
    others: Vec<(String, String)>,
}

/// The table of a checkpoint that holds the networks.
const CONTAINER: &str = "state_dict.";

/// The name of an array that is not the encoder's: a head of the same network, `module.encoder_q.fc.0.weight`,
/// goes by the one that it has there.
fn outer<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).or_else(|| name.strip_prefix(CONTAINER)).unwrap_or(name)
}

impl Imported {
    /// Reads the encoder of the checkpoint at `path`.
    ///
    /// # Errors
    /// [`ModelError::File`] if the file is absent or broken, holds no known network or several, or a network with
    /// parts that this crate does not have; [`ModelError::Unstated`] if an option has to say what the file does not;
    /// [`ModelError::Range`] if an option is out of range.
    pub fn read(path: &Path, options: &ImportOptions) -> Result<Self, ModelError> {
        options.check()?;
        let wrong = |reason: String| ModelError::file(path, reason);
        let stated = match is_safetensors(path) {
            true => EncoderHeader::read(path)?,
            false => None,
        };
        let file = StateDict::open(path)?;
        let all = candidates(&file.shapes);
        let choice = match &options.prefix {
            Some(prefix) => named(all, prefix),
            None => choose(all),
        };
        let Choice { taken, left, reason } = choice.map_err(|e| wrong(with_hint(e, &file)))?;
        let prefix = taken.prefix.clone();
        let inner = |name: &str| -> Option<String> {
            name.strip_prefix(&prefix).map(|inner| taken.naming.common(inner).into_owned())
        };
        let names: BTreeMap<String, &String> =
            file.shapes.keys().filter_map(|name| Some((inner(name)?, name))).collect();
        let shapes: Shapes<'_> = names
            .iter()
            .map(|(inner, name)| (inner.as_str(), file.shapes[*name].as_slice()))
            .collect();

        let checkpoint = Checkpoint { path, file: &file, taken: &taken, stated: stated.as_ref() };
        let pos_embed = names.get("pos_embed").map(|name| name.as_str());
        let Network { encoder, grid, mut findings } =
            checkpoint.network(&shapes, pos_embed, options)?;
        encoder.check().map_err(|e| wrong(e.to_string()))?;
        layout::check(&encoder, &shapes).map_err(|e| wrong(with_reasons(e, &file, inner)))?;

        let wanted = layout::arrays(&encoder);
        file.check_size(wanted.keys().filter_map(|name| names.get(name).copied()))?;
        let mut backbone = BTreeMap::new();
        for name in wanted.keys() {
            if let Some(full) = names.get(name) {
                backbone.insert(name.clone(), file.read(full)?);
            }
        }
        let computed = |name: &str| {
            name == "pos_embed"
                && matches!(encoder, EncoderConfig::Vit { positions: Positions::Fixed, .. })
        };
        let others = file
            .shapes
            .keys()
            .filter(|name| !name.starts_with(OPTIMIZER))
            .filter(|name| {
                inner(name).is_none_or(|inner| !wanted.contains_key(&inner) && !computed(&inner))
            })
            .map(|name| (outer(name, &prefix).to_owned(), name.clone()))
            .collect();
        let unreadable = file
            .unreadable
            .iter()
            .filter(|(name, _)| !name.starts_with(OPTIMIZER) && !is_counter(name))
            .map(|(name, reason)| (name.clone(), reason.clone()))
            .collect();
        let known = stated.is_some();
        let preprocessing = match stated {
            Some(stated) => {
                findings = stated.findings.clone();
                contradicted(&stated, &encoder, options).map_err(wrong)?
            }
            None => assumed(&encoder, grid, options, path)?,
        };
        if !known && !left.is_empty() {
            let shown = if prefix.is_empty() { "(the outermost)" } else { prefix.as_str() };
            let basis = if options.prefix.is_some() { Basis::Given } else { Basis::Known };
            findings.push(Finding::new("network", shown, basis, reason));
        }
        encoder.check_size(preprocessing.size).map_err(|e| wrong(e.to_string()))?;
        let header = EncoderHeader { encoder, preprocessing, findings };
        let path = path.to_owned();
        Ok(Self {
            header,
            prefix,
            reason,
            left,
            stated: known,
            unreadable,
            path,
            file,
            backbone,
            others,
        })
    }

    /// The encoder, for inference on `device`.
    ///
    /// # Errors
    /// [`ModelError::File`] that names the checkpoint if its arrays do not make the network.
    pub fn encoder(&self, device: &Device) -> Result<Encoder, ModelError> {
        let wrong = |reason: String| ModelError::file(&self.path, reason);
        let arrays = self.backbone.iter().map(|(name, array)| (name.as_str(), array)).collect();
        let bytes = self.bytes(&arrays).map_err(wrong)?;
        let device = device.clone().without_autodiff();
        let encoder =
            apply(&self.header.encoder, SafetensorsStore::from_bytes(Some(bytes)), &device);
        Ok(encoder.map_err(wrong)?.valid())
    }

    /// Names of the arrays that are not the encoder's.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.others.iter().map(|(name, _)| name.as_str())
    }

    /// Writes safetensors with torchvision's names (of a transformer timm's) to `path`, whole or not at all: the
    /// encoder, and unless `backbone` every other array under its own name.
    ///
    /// # Errors
    /// [`ModelError::File`] if the network cannot be made (it is loaded on `device` first), two arrays would have one
    /// name, or the file cannot be written.
    pub fn write(&self, path: &Path, backbone: bool, device: &Device) -> Result<(), ModelError> {
        self.encoder(device)?;
        let positions = self.fixed_positions();
        let mut all: BTreeMap<&str, &Array> =
            self.backbone.iter().map(|(name, array)| (name.as_str(), array)).collect();
        all.extend(positions.as_ref().map(|array| ("pos_embed", array)));
        let mut others = Vec::new();
        if !backbone {
            self.file.check_size(self.others.iter().map(|(_, full)| full))?;
            for (name, full) in &self.others {
                others.push((name.as_str(), self.file.read(full)?));
            }
        }
        for (name, array) in &others {
            if all.insert(name, array).is_some() {
                let reason =
                    format!("two arrays would be called {name}: export the backbone alone");
                return Err(ModelError::file(&self.path, reason));
            }
        }
        let wrong = |e: &dyn std::fmt::Display| ModelError::file(path, e);
        let bytes = self.bytes(&all).map_err(|e| wrong(&e))?;
        let torn = path.with_extension("safetensors.tmp");
        std::fs::write(&torn, bytes).and_then(|()| std::fs::rename(&torn, path)).map_err(|e| {
            // What could not be written whole is not left behind; if that fails too, the first reason counts.
            let _ = std::fs::remove_file(&torn);
            wrong(&e)
        })
    }

    fn bytes(&self, arrays: &BTreeMap<&str, &Array>) -> Result<Vec<u8>, String> {
        let bytes: Vec<(&str, &[usize], Vec<u8>)> = arrays
            .iter()
            .map(|(name, array)| {
                let bytes = array.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (*name, array.shape.as_slice(), bytes)
            })
            .collect();
        let mut views = Vec::new();
        for (name, shape, bytes) in &bytes {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
            views.push((*name, view.map_err(|e| e.to_string())?));
        }
        let header = serde_json::to_string(&self.header).map_err(|e| e.to_string())?;
        let metadata = [(METADATA_KEY.to_owned(), header)].into();
        safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
    }

    /// The positions of a network that does not keep them, for images of its size.
    fn fixed_positions(&self) -> Option<Array> {
        let EncoderConfig::Vit { dim, patch, positions: Positions::Fixed, .. } =
            self.header.encoder
        else {
            return None;
        };
        let side = self.header.preprocessing.size as usize / patch;
        let mut values = vec![0.0; dim];
        values.extend(fixed_positions([side, side], dim));
        Some(Array { shape: vec![1, 1 + side * side, dim], values })
    }
}
