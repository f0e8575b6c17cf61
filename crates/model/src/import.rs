//! Checkpoints of other tools: which network of the file is the encoder, what its arrays say of its
//! architecture, and the same arrays under torchvision's and timm's names.
//!
//! Read are torchvision's ResNets and timm's vision transformers as the tools of [`crate::tools`] write them, in PyTorch
//! files or safetensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::SafetensorsStore;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};

use crate::architecture::{Shown, resnet_of, shown};
use crate::checkpoint::{Array, StateDict, is_safetensors};
use crate::encoder_file::{METADATA_KEY, apply};
use crate::layout::{self, Shapes};
use crate::tools::{Candidate, Choice, OPTIMIZER, Seen, candidates, choose, convolutional, named};
use crate::vit::{fixed_positions, fixed_positions_by_rows};
use crate::{
    Basis, Encoder, EncoderConfig, EncoderHeader, Finding, Interpolation, ModelError, Positions,
    Preprocessing, Stem, StemShape,
};

/// What is known of a checkpoint that does not say it itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// What the names of the encoder's arrays begin with, such as `module.encoder_q`; found if absent. The last dot,
    /// parts called `module` and outer tables such as `state_dict` may be left out.
    pub prefix: Option<String>,
    /// Attention heads of a transformer; absent = what its tool builds, else one for each 64 numbers of a token.
    pub heads: Option<usize>,
    /// Padding of a ResNet's first convolution; absent = what its tool builds, else half the kernel.
    pub stem_padding: Option<usize>,
    /// Stride of a ResNet's first convolution; absent = 2 of a 7×7 kernel, 1 of a 3×3 one.
    pub stem_stride: Option<usize>,
    /// Does a max-pool follow a ResNet's first convolution? Absent = of a 7×7 kernel.
    pub max_pool: Option<bool>,
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

impl ImportOptions {
    /// An option about the stem that is given.
    fn stem(&self) -> Option<&'static str> {
        let given = [
            ("stem-padding", self.stem_padding.is_some()),
            ("stem-stride", self.stem_stride.is_some()),
            ("max-pool", self.max_pool.is_some()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// Checks the values.
    fn check(&self) -> Result<(), ModelError> {
        let wrong = |key, value: &dyn ToString, allowed| {
            Err(ModelError::Range { key, value: value.to_string(), allowed })
        };
        if let Some(size) = self.size
            && !(8..=1024).contains(&size)
        {
            return wrong("size", &size, "allowed are 8 to 1024 pixels");
        }
        for value in self.mean_std.iter().flat_map(|[mean, _]| mean) {
            if !(0.0..=1.0).contains(value) {
                let allowed =
                    "allowed are means of values in 0 to 1 (divide those of 0 to 255 by 255)";
                return wrong("mean", value, allowed);
            }
        }
        for value in self.mean_std.iter().flat_map(|[_, std]| std) {
            if !(*value > 0.0 && *value <= 1.0) {
                let allowed = "allowed are deviations of values in 0 to 1, above 0 (divide those of 0 to 255 by 255)";
                return wrong("std", value, allowed);
            }
        }
        Ok(())
    }
}

/// A checkpoint, and the encoder that is taken from it.
struct Checkpoint<'a> {
    path: &'a Path,
    file: &'a StateDict,
    taken: &'a Candidate,
    /// What the file says itself, if it is one of ours.
    stated: Option<&'a EncoderHeader>,
}

/// The network in a checkpoint.
struct Network {
    encoder: EncoderConfig,
    /// Patches a side for which it has positions.
    grid: Option<usize>,
    findings: Vec<Finding>,
}

impl Checkpoint<'_> {
    /// The network with the arrays `shapes`, of which `pos_embed` is the full name of the positions.
    fn network(
        &self,
        shapes: &Shapes<'_>,
        pos_embed: Option<&str>,
        options: &ImportOptions,
    ) -> Result<Network, ModelError> {
        let wrong = |reason: String| ModelError::file(self.path, reason);
        match shown(shapes).map_err(wrong)? {
            Shown::ResNet { .. } if options.heads.is_some() => {
                Err(wrong("is a ResNet, which has no attention heads: leave out `heads`".into()))
            }
            Shown::Vit { .. } if options.stem().is_some() => {
                let option = options.stem().unwrap_or_default();
                Err(wrong(format!("is a transformer, which has no stem: leave out `{option}`")))
            }
            Shown::ResNet { kernel, width, blocks, counts } => {
                let (stem, findings) = match self.stated {
                    Some(stated) => (stated.encoder.stem().unwrap_or(Stem::Small), Vec::new()),
                    None => {
                        let (stem, finding) = self.stem(kernel, options)?;
                        (stem, vec![finding])
                    }
                };
                let encoder = resnet_of(blocks, counts, width, stem).map_err(wrong)?;
                Ok(Network { encoder, grid: None, findings })
            }
            Shown::Vit { dim, depth, patch, mut positions } => {
                let (mut grid, mut rows_first) = (None, false);
                if let (Positions::Learned(side), Some(name)) = (positions, pos_embed) {
                    grid = Some(side);
                    self.file.check_size(std::iter::once(&name.to_owned()))?;
                    let array = self.file.read(name)?;
                    let is = |of: Vec<f32>| is_like(&array, side, dim, &of);
                    if is(fixed_positions([side, side], dim)) {
                        positions = Positions::Fixed;
                    } else {
                        rows_first = is(fixed_positions_by_rows([side, side], dim));
                    }
                }
                let (heads, findings) = match (self.stated, options.heads) {
                    (Some(stated), None) => (stated.encoder.heads().unwrap_or(1), Vec::new()),
                    _ => {
                        let (heads, finding) = self.heads(dim, rows_first, options)?;
                        (heads, vec![finding])
                    }
                };
                let encoder = EncoderConfig::Vit { dim, depth, heads, patch, positions };
                Ok(Network { encoder, grid, findings })
            }
        }
    }

    fn seen(&self, rows_first: bool) -> Seen<'_> {
        let StateDict { shapes: all, facts, .. } = self.file;
        Seen { all, facts, taken: self.taken, rows_first }
    }

    /// The stem of a ResNet, and on what basis it is held to be so.
    fn stem(&self, kernel: usize, options: &ImportOptions) -> Result<(Stem, Finding), ModelError> {
        let ImportOptions { stem_padding, stem_stride, max_pool, .. } = *options;
        let (usual, basis, reason) = match self.seen(false).stem(kernel) {
            Some(found) => found,
            None => {
                let what = "what the first convolution does";
                let lacking = |option| ModelError::unstated(self.path, what, option);
                let stride = stem_stride.ok_or_else(|| lacking("stem-stride"))?;
                let maxpool = max_pool.ok_or_else(|| lacking("max-pool"))?;
                let shape = StemShape { kernel, stride, padding: kernel / 2, maxpool };
                (shape, Basis::Assumed, "padding of half the kernel".into())
            }
        };
        let shape = StemShape {
            kernel,
            stride: stem_stride.unwrap_or(usual.stride),
            padding: stem_padding.unwrap_or(usual.padding),
            maxpool: max_pool.unwrap_or(usual.maxpool),
        };
        if let Some((part, value, allowed)) = shape.wrong() {
            let key = match part {
                "stride" => "stem-stride",
                "padding" => "stem-padding",
                _ => "conv1.weight",
            };
            return Err(ModelError::Range { key, value: value.to_string(), allowed });
        }
        let all_given = stem_padding.is_some() && stem_stride.is_some() && max_pool.is_some();
        let some_given = stem_padding.is_some() || stem_stride.is_some() || max_pool.is_some();
        let (basis, reason) = match (all_given, some_given) {
            (true, _) => (Basis::Given, String::new()),
            (false, true) => (Basis::Given, format!("the rest: {reason}")),
            (false, false) => (basis, reason),
        };
        Ok((shape.into(), Finding::new("stem", shape, basis, &reason)))
    }

    /// The heads of a transformer, and on what basis they are held to be so.
    fn heads(
        &self,
        dim: usize,
        rows_first: bool,
        options: &ImportOptions,
    ) -> Result<(usize, Finding), ModelError> {
        let (heads, basis, reason) = match options.heads {
            Some(heads) => (heads, Basis::Given, String::new()),
            None => self.seen(rows_first).heads(dim).ok_or_else(|| {
                ModelError::unstated(self.path, "the number of attention heads", "heads")
            })?,
        };
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(ModelError::Range {
                key: "heads",
                value: heads.to_string(),
                allowed: "allowed are divisors of the length of a token",
            });
        }
        Ok((heads, Finding::new("heads", heads, basis, &reason)))
    }
}

/// With what the file holds beside the arrays that are read, if it holds no known encoder.
fn with_hint(message: String, file: &StateDict) -> String {
    if let Some(name) = convolutional(&file.shapes) {
        return format!(
            "has {name}: patches that are made by several convolutions; known are those of one"
        );
    }
    if file.numpy && file.shapes.is_empty() {
        return format!("{message}; it holds arrays of numpy, and only PyTorch's are read");
    }
    match file.unreadable.iter().find(|(name, _)| !is_counter(name)) {
        Some((name, reason)) if file.shapes.is_empty() => format!("{message}; {name}: {reason}"),
        _ => message,
    }
}

/// With the reason why an array is missing, if it is there and cannot be read.
fn with_reasons(
    message: String,
    file: &StateDict,
    inner: impl Fn(&str) -> Option<String>,
) -> String {
    let cause = file.unreadable.iter().find(|(name, _)| {
        !is_counter(name)
            && inner(name).is_some_and(|inner| message.split([' ', ',']).any(|word| word == inner))
    });
    match cause {
        Some((name, reason)) => format!("cannot read {name}: {reason}"),
        None => message,
    }
}

/// A batch norm's counter of batches, which is an integer and no part of the network.
fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// Are these the positions `fixed`, behind a class token at zero?
fn is_like(array: &Array, side: usize, dim: usize, fixed: &[f32]) -> bool {
    let fixed = std::iter::repeat_n(&0.0, dim).chain(fixed);
    array.shape == [1, 1 + side * side, dim]
        && dim.is_multiple_of(4)
        && array.values.iter().zip(fixed).all(|(a, b)| (a - b).abs() < 1e-4)
}

/// The contract of the file, unless the options say otherwise.
fn contradicted(
    stated: &EncoderHeader,
    encoder: &EncoderConfig,
    options: &ImportOptions,
) -> Result<Preprocessing, String> {
    let contract = &stated.preprocessing;
    let [mean, std] = options.mean_std.unwrap_or([contract.mean, contract.std]);
    let asked = Preprocessing {
        size: options.size.unwrap_or(contract.size),
        mean,
        std,
        interpolation: options.interpolation.unwrap_or(contract.interpolation),
    };
    let said = |what: &dyn std::fmt::Display, asked: &dyn std::fmt::Display| {
        Err(format!("says itself that it is for {what}: leave out the options that say {asked}"))
    };
    if asked != *contract {
        return said(contract, &asked);
    }
    if let Some(heads) = options.heads.filter(|_| stated.encoder.heads() != encoder.heads()) {
        let own = stated.encoder.heads().unwrap_or(0);
        return said(&format!("{own} heads"), &format!("{heads} heads"));
    }
    if let Some(shape) = stated.encoder.stem().map(Stem::shape) {
        let asked = StemShape {
            stride: options.stem_stride.unwrap_or(shape.stride),
            padding: options.stem_padding.unwrap_or(shape.padding),
            maxpool: options.max_pool.unwrap_or(shape.maxpool),
            ..shape
        };
        if asked != shape {
            return said(&format!("a stem of {shape}"), &asked);
        }
    }
    Ok(contract.clone())
}

/// What the images of an encoder of another tool are taken to be.
fn assumed(
    encoder: &EncoderConfig,
    grid: Option<usize>,
    options: &ImportOptions,
    path: &Path,
) -> Result<Preprocessing, ModelError> {
    let own = match *encoder {
        EncoderConfig::Vit { patch, .. } => grid.map(|side| (side * patch) as u32),
        _ => encoder.stem().is_some_and(|stem| stem.shape().kernel == 7).then_some(224),
    };
    let size = options.size.or(own);
    let size = size.ok_or_else(|| ModelError::unstated(path, "the size of its images", "size"))?;
    let [mean, std] = options.mean_std.unwrap_or(IMAGENET);
    let interpolation = options.interpolation.unwrap_or_default();
    Ok(Preprocessing { size, mean, std, interpolation })
}
