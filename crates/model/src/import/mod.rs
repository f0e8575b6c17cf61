//! Checkpoints of other tools: selects the encoder in the file, infers its architecture from its arrays, and
//! renames these to torchvision's and timm's names.
//!
//! It reads PyTorch files and safetensors as written by the tools in [`crate::tools`].

mod choice;
mod images;
mod reasons;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::SafetensorsStore;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};

use self::choice::{Candidate, Choice, OPTIMIZER, candidates, choose, named};
use self::images::{assumed, contradicted};
use self::reasons::{is_counter, with_hint, with_reasons};
use crate::checkpoint::{Array, StateDict, is_safetensors};
use crate::encoder_file::{METADATA_KEY, apply};
use crate::family::{Detected, Shapes};
use crate::found::{Found, Place};
use crate::{
    Basis, Encoder, EncoderConfig, EncoderHeader, Finding, ImportOptions, ModelError, layout,
};

/// An encoder read from a checkpoint.
pub struct Imported {
    /// The network, its preprocessing, and the assumptions about it.
    pub header: EncoderHeader,
    /// Prefix of the names of its arrays in the checkpoint.
    pub prefix: String,
    /// Why this network was chosen over others; empty if there were none.
    pub reason: &'static str,
    /// Prefixes of the other encoders in the checkpoint.
    pub left: Vec<String>,
    /// Whether the checkpoint itself recorded its preprocessing.
    pub stated: bool,
    /// Other arrays that cannot be read, and why.
    pub unreadable: BTreeMap<String, String>,
    path: PathBuf,
    file: StateDict,
    backbone: BTreeMap<String, Array>,
    /// New and original name of every other floating-point array: heads, decoders, queues, other networks.
    others: Vec<(String, String)>,
}

/// The table of a checkpoint that holds the networks.
const CONTAINER: &str = "state_dict.";

/// The new name of an array that is not the encoder's. A head of the same network, such as
/// `module.encoder_q.fc.0.weight`, keeps its name within that network.
fn outer<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).or_else(|| name.strip_prefix(CONTAINER)).unwrap_or(name)
}

impl Imported {
    /// Reads the encoder of the checkpoint at `path`.
    ///
    /// # Errors
    /// [`ModelError::File`] if the file is absent or broken, or holds no known network, several, or one with parts
    /// that this crate does not support; [`ModelError::Unstated`] if an option must set a property that the file does
    /// not show; [`ModelError::Option`] if an option is out of range.
    pub fn read(path: &Path, options: &ImportOptions) -> Result<Self, ModelError> {
        options.check()?;
        let stated = match is_safetensors(path) {
            true => EncoderHeader::read(path)?,
            false => None,
        };
        Self::open(path, options, stated)
    }

    /// Reads the encoder of a checkpoint whose `header` is known from elsewhere.
    ///
    /// # Errors
    /// [`ModelError::File`] if the file is absent or broken, or does not hold this network.
    pub fn read_as(path: &Path, header: EncoderHeader) -> Result<Self, ModelError> {
        Self::open(path, &ImportOptions::default(), Some(header))
    }

    /// Reads the encoder; `stated` is its header, if it is known.
    fn open(
        path: &Path,
        options: &ImportOptions,
        stated: Option<EncoderHeader>,
    ) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::file(path, reason);
        let file = StateDict::open(path)?;
        let all = candidates(&file.shapes);
        let choice = match &options.prefix {
            Some(prefix) => named(all, prefix),
            None => choose(all),
        };
        let Choice { taken, left, reason } = choice.map_err(|e| wrong(with_hint(e, &file)))?;
        let names = taken.names(&file);
        let known = stated.as_ref().map(|stated| stated.encoder);
        let found = Found {
            path,
            file: &file,
            place: &taken.place,
            names: &names,
            options: &known.map_or(options.clone(), |known| options.or(&known.hidden())),
        };
        let Detected { sizes: encoder, images, findings } = detected(&found, &taken, options)?;
        // One network can have two configs: with a stem by name or by shape.
        let same = |known: &EncoderConfig| {
            known.arrays() == encoder.arrays() && known.hidden() == encoder.hidden()
        };
        let encoder = known.filter(same).unwrap_or(encoder);

        let is_stated = stated.is_some();
        let header = match stated {
            Some(stated) => {
                let preprocessing = contradicted(&stated, options).map_err(wrong)?;
                EncoderHeader { encoder, preprocessing, findings: stated.findings }
            }
            None => {
                let mut header = EncoderHeader::new(encoder, assumed(&found, images)?);
                header.findings = findings;
                if !left.is_empty() {
                    let shown = match taken.place.prefix.as_str() {
                        "" => "(the outermost)",
                        prefix => prefix,
                    };
                    let given = options.prefix.is_some();
                    let basis = if given { Basis::Given } else { Basis::Known };
                    header.findings.push(Finding::new("network", shown, basis, reason));
                }
                header
            }
        };
        encoder.check_size(header.preprocessing.size).map_err(|e| wrong(e.to_string()))?;
        let backbone = backbone(&found, &encoder)?;
        let others = taken.others(&file, &encoder);
        Ok(Self {
            header,
            prefix: taken.place.prefix,
            reason,
            left,
            stated: is_stated,
            unreadable: unreadable(&file),
            path: path.to_owned(),
            backbone,
            others,
            file,
        })
    }

    /// The encoder, for inference on `device`.
    ///
    /// # Errors
    /// [`ModelError::File`] with the path of the checkpoint, if its arrays do not fit the network.
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

    /// Writes safetensors to `path` atomically: the encoder with its family's names (torchvision's for a ResNet,
    /// timm's for a transformer) and, unless `backbone` is set, every other array under its own name.
    ///
    /// # Errors
    /// [`ModelError::File`] if the network cannot be built (it is loaded on `device` first), two arrays would have
    /// the same name, or the file cannot be written.
    pub fn write(&self, path: &Path, backbone: bool, device: &Device) -> Result<(), ModelError> {
        self.encoder(device)?;
        let EncoderHeader { encoder, preprocessing, .. } = &self.header;
        let computed = encoder
            .computed()
            .map(|computed| (computed.name, (computed.array)(preprocessing.size as usize)));
        let mut all: BTreeMap<&str, &Array> =
            self.backbone.iter().map(|(name, array)| (name.as_str(), array)).collect();
        all.extend(computed.as_ref().map(|(name, array)| (*name, array)));
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
                    format!("two arrays would have the name {name}: export only the backbone");
                return Err(ModelError::file(&self.path, reason));
            }
        }
        let wrong = |e: &dyn std::fmt::Display| ModelError::file(path, e);
        let bytes = self.bytes(&all).map_err(|e| wrong(&e))?;
        ssl_backdoor_files::write(path, &bytes).map_err(|e| wrong(&e))
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
}

impl Candidate {
    /// The name of the array `name` in an encoder file, if it lies under the prefix.
    fn inner(&self, name: &str) -> Option<String> {
        let Place { prefix, naming } = &self.place;
        name.strip_prefix(prefix).map(|inner| (self.family.common)(*naming, inner).into_owned())
    }

    /// Full names by names in an encoder file.
    fn names<'a>(&self, file: &'a StateDict) -> BTreeMap<String, &'a String> {
        file.shapes.keys().filter_map(|name| Some((self.inner(name)?, name))).collect()
    }

    /// The arrays that are not `encoder`'s: the new name of each, and its original one.
    fn others(&self, file: &StateDict, encoder: &EncoderConfig) -> Vec<(String, String)> {
        let own = encoder.arrays();
        let computed = encoder.computed().map(|array| array.name);
        let is_own = |inner: &str| own.contains_key(inner) || Some(inner) == computed;
        let names = file.shapes.keys().filter(|name| !name.starts_with(OPTIMIZER));
        names
            .filter(|name| self.inner(name).is_none_or(|inner| !is_own(&inner)))
            .map(|name| (outer(name, &self.place.prefix).to_owned(), name.clone()))
            .collect()
    }
}

/// The chosen network, after a check that it has all its arrays and no others. `given` holds the user's options.
fn detected(
    found: &Found<'_>,
    taken: &Candidate,
    given: &ImportOptions,
) -> Result<Detected<EncoderConfig>, ModelError> {
    let family = taken.family;
    let foreign = given.of_network().into_iter().filter(|option| option.value.is_some());
    if let Some(option) = foreign.into_iter().find(|o| !family.options.contains(&o.name)) {
        return Err(found.wrong(format!(
            "is {}, which has no {}: omit `{}`",
            family.noun, option.about, option.name
        )));
    }
    let detected = (family.read)(found)?;
    let encoder = &detected.sizes;
    encoder.check().map_err(|e| found.wrong(e))?;
    let shapes: Shapes<'_> = found
        .names
        .iter()
        .map(|(inner, name)| (inner.as_str(), found.file.shapes[*name].as_slice()))
        .collect();
    let reasons = |e| with_reasons(e, found.file, |name| taken.inner(name));
    layout::check(encoder, &shapes).map_err(|e| found.wrong(reasons(e)))?;
    Ok(detected)
}

/// The arrays of `encoder`.
fn backbone(
    found: &Found<'_>,
    encoder: &EncoderConfig,
) -> Result<BTreeMap<String, Array>, ModelError> {
    let names = encoder.arrays();
    let full = |name: &String| found.names.get(name).copied();
    found.file.check_size(names.keys().filter_map(full))?;
    let of = |name: &String| Some((name.clone(), full(name)?));
    let arrays = names.keys().filter_map(of);
    arrays.map(|(name, full)| Ok((name, found.file.read(full)?))).collect()
}

/// Unreadable arrays of the checkpoint that could belong to a network, and why.
fn unreadable(file: &StateDict) -> BTreeMap<String, String> {
    let all = file.unreadable.iter();
    all.filter(|(name, _)| !name.starts_with(OPTIMIZER) && !is_counter(name))
        .map(|(name, reason)| (name.clone(), reason.clone()))
        .collect()
}
