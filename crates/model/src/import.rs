//! Checkpoints of other tools: which network of the file is the encoder, what its arrays say of its
//! architecture, and the same arrays under torchvision's and timm's names.
//!
//! Read are torchvision's ResNets, MoCo's and the reference repository's checkpoints, the official MAE and
//! timm's vision transformers, as PyTorch files or safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::store::SafetensorsStore;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};

use crate::architecture::architecture;
use crate::encoder_file::{METADATA_KEY, apply};
use crate::state_dict::{Array, StateDict, is_safetensors};
use crate::vit::fixed_positions;
use crate::{
    Encoder, EncoderConfig, EncoderHeader, Interpolation, ModelError, Positions, Preprocessing,
};

/// What is known of a checkpoint that does not say it itself.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// What the names of the encoder's arrays begin with, such as `module.encoder_q.`; found if absent.
    pub prefix: Option<String>,
    /// Attention heads of a transformer; absent = one for each 64 numbers of a token, 16 for ViT-H.
    pub heads: Option<usize>,
    /// Side of the images in pixels; absent = 224 for a ResNet with a 7×7 stem, and what learned positions say.
    pub size: Option<u32>,
    /// Mean and standard deviation by channel; absent = ImageNet's.
    pub mean_std: Option<[[f32; 3]; 2]>,
    /// How evaluation images are resized; absent = bilinear.
    pub interpolation: Option<Interpolation>,
}

/// Mean and standard deviation of ImageNet by channel: what nearly every published encoder was trained with.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// An encoder out of a checkpoint.
pub struct Imported {
    /// The network, and the images it is for.
    pub header: EncoderHeader,
    /// What the names of its arrays began with.
    pub prefix: String,
    /// Whether the checkpoint said itself what images it is for.
    pub stated: bool,
    backbone: BTreeMap<String, Array>,
    /// Every other array of floating-point numbers: heads, decoders, queues, other networks.
    others: BTreeMap<String, Array>,
}

/// Begins the names of the optimiser's state, which belongs to no network.
const OPTIMIZER: &str = "optimizer";
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
    /// parts that this crate does not have.
    pub fn read(path: &Path, options: &ImportOptions) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::file(path, reason);
        let stated = match is_safetensors(path) {
            true => EncoderHeader::read(path)?,
            false => None,
        };
        let file = StateDict::open(path)?;
        let prefix = match &options.prefix {
            Some(prefix) => prefix.clone(),
            None => prefix(&file.shapes).map_err(wrong)?,
        };
        let inner: BTreeMap<&str, &[usize]> = file
            .shapes
            .iter()
            .filter_map(|(name, shape)| Some((name.strip_prefix(&prefix)?, shape.as_slice())))
            .collect();
        let found = architecture(
            &inner,
            options.heads.or(stated.as_ref().and_then(|stated| stated.encoder.heads())),
        );
        let (mut encoder, own) = found.map_err(wrong)?;
        let (mut backbone, mut others) = (BTreeMap::new(), BTreeMap::new());
        for name in file.shapes.keys().filter(|name| !name.starts_with(OPTIMIZER)) {
            let array = file.read(name)?;
            match name.strip_prefix(&prefix).filter(|inner| own(inner)) {
                Some(inner) => backbone.insert(inner.to_owned(), array),
                None => others.insert(outer(name, &prefix).to_owned(), array),
            };
        }
        let mut grid = None;
        if let EncoderConfig::Vit { dim, positions, .. } = &mut encoder
            && let Some(array) = backbone.get("pos_embed")
        {
            let side = (array.shape[1] - 1).isqrt();
            grid = Some(side);
            if is_fixed(array, side, *dim) {
                *positions = Positions::Fixed;
                backbone.remove("pos_embed");
            }
        }
        let known = stated.is_some();
        let preprocessing = match stated {
            Some(stated) => contradicted(stated.preprocessing, options).map_err(wrong)?,
            None => assumed(&encoder, grid, options).map_err(wrong)?,
        };
        encoder.check_size(preprocessing.size).map_err(|e| wrong(e.to_string()))?;
        let header = EncoderHeader { encoder, preprocessing };
        Ok(Self { header, prefix, stated: known, backbone, others })
    }

    /// The encoder, for inference on `device`.
    ///
    /// # Errors
    /// A message if arrays are missing, have other shapes than the network's, or belong to parts that it does not
    /// have.
    pub fn encoder(&self, device: &Device) -> Result<Encoder, String> {
        let arrays = self.backbone.iter().map(|(name, array)| (name.as_str(), array)).collect();
        let store = SafetensorsStore::from_bytes(Some(self.bytes(&arrays)?));
        let device = device.clone().without_autodiff();
        let (encoder, unused) = apply(&self.header.encoder, store, &device)?;
        match unused.first() {
            Some(name) => Err(format!("has {name}, a part that the known networks do not have")),
            None => Ok(encoder.valid()),
        }
    }

    /// Names of the arrays that are not the encoder's.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str)
    }

    /// Writes safetensors with torchvision's names (of a transformer timm's) to `path`, whole or not at all: the
    /// encoder, and unless `backbone` every other array under its own name.
    ///
    /// # Errors
    /// [`ModelError::File`] if the network is incomplete (it is loaded on `device` first), two arrays would have one
    /// name, or the file cannot be written.
    pub fn write(&self, path: &Path, backbone: bool, device: &Device) -> Result<(), ModelError> {
        let wrong = |e: &dyn std::fmt::Display| ModelError::file(path, e);
        self.encoder(device).map_err(|e| wrong(&e))?;
        let positions = self.fixed_positions();
        let bytes = self
            .arrays(positions.as_ref(), backbone)
            .and_then(|arrays| self.bytes(&arrays))
            .map_err(|e| wrong(&e))?;
        let torn = path.with_extension("safetensors.tmp");
        std::fs::write(&torn, bytes).and_then(|()| std::fs::rename(&torn, path)).map_err(|e| {
            // What could not be written whole is not left behind; if that fails too, the first reason counts.
            let _ = std::fs::remove_file(&torn);
            wrong(&e)
        })
    }

    /// What goes into a file, by name; `positions` are what timm's and MAE's own networks keep as a parameter.
    fn arrays<'a>(
        &'a self,
        positions: Option<&'a Array>,
        backbone: bool,
    ) -> Result<BTreeMap<&'a str, &'a Array>, String> {
        let mut all: BTreeMap<&str, &Array> =
            self.backbone.iter().map(|(name, array)| (name.as_str(), array)).collect();
        all.extend(positions.map(|array| ("pos_embed", array)));
        if !backbone {
            for (name, array) in &self.others {
                if all.insert(name, array).is_some() {
                    return Err(format!(
                        "two arrays would be called {name}: export the backbone alone"
                    ));
                }
            }
        }
        Ok(all)
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

/// Names that only an encoder of one of the two families has.
const ANCHORS: [&str; 2] = ["layer1.0.conv1.weight", "patch_embed.proj.weight"];

/// Parts of a name that tell a copy of the encoder: the key encoder, a target, a teacher.
const COPIES: [&str; 10] = [
    "key",
    "encoder_k",
    "encoder_t",
    "model_t",
    "target",
    "target_encoder",
    "target_net",
    "teacher",
    "momentum_encoder",
    "ema",
];

/// What the names of the one encoder begin with: of a query and a key encoder the query's.
fn prefix(shapes: &BTreeMap<String, Vec<usize>>) -> Result<String, String> {
    let all = shapes.keys().filter_map(|name| {
        let anchor = ANCHORS.iter().find(|anchor| name.ends_with(**anchor))?;
        name.strip_suffix(anchor).filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    });
    let all: Vec<&str> = all.collect();
    let copy = |prefix: &&str| prefix.split('.').any(|part| COPIES.contains(&part));
    let mut online: Vec<&str> = all.iter().copied().filter(|prefix| !copy(prefix)).collect();
    if online.is_empty() {
        online.clone_from(&all);
    }
    match online[..] {
        [prefix] => Ok(prefix.into()),
        [] => Err(format!(
            "holds no known encoder: no array's name ends in {} (a ResNet) or {} (a vision transformer)",
            ANCHORS[0], ANCHORS[1]
        )),
        _ => {
            Err(format!("holds several encoders: name one by its prefix, of {}", online.join(", ")))
        }
    }
}

/// Are these MAE's sines and cosines, of a class token at zero?
fn is_fixed(array: &Array, side: usize, dim: usize) -> bool {
    let fixed = std::iter::repeat_n(0.0, dim).chain(fixed_positions([side, side], dim));
    array.shape == [1, 1 + side * side, dim]
        && dim.is_multiple_of(4)
        && array.values.iter().zip(fixed).all(|(a, b)| (a - b).abs() < 1e-4)
}

/// The contract of the file, unless the options say otherwise.
fn contradicted(stated: Preprocessing, options: &ImportOptions) -> Result<Preprocessing, String> {
    let [mean, std] = options.mean_std.unwrap_or([stated.mean, stated.std]);
    let asked = Preprocessing {
        size: options.size.unwrap_or(stated.size),
        mean,
        std,
        interpolation: options.interpolation.unwrap_or(stated.interpolation),
    };
    if asked == stated {
        return Ok(stated);
    }
    Err(format!("says itself that it is for {stated}: leave the options away that say {asked}"))
}

/// What the images of an encoder of another tool are taken to be.
fn assumed(
    encoder: &EncoderConfig,
    grid: Option<usize>,
    options: &ImportOptions,
) -> Result<Preprocessing, String> {
    let own = match *encoder {
        EncoderConfig::Vit { patch, .. } => grid.map(|side| (side * patch) as u32),
        _ => encoder.has_imagenet_stem().then_some(224),
    };
    let size = options.size.or(own).ok_or(
        "does not say how large its images are: give their side in pixels (--size)".to_owned(),
    )?;
    let [mean, std] = options.mean_std.unwrap_or(IMAGENET);
    let interpolation = options.interpolation.unwrap_or_default();
    Ok(Preprocessing { size, mean, std, interpolation })
}
