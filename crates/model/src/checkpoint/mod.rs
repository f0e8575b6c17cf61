//! The arrays of a checkpoint by name, from a PyTorch (`.pth`, `.pth.tar`, `.pt`, `.ckpt`) or safetensors file.
//!
//! A PyTorch file is a pickle, which may refer to any code. It is parsed as data: nothing in it runs, and the
//! sizes that it claims are checked against the file's size.

mod container;
mod facts;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hostile;
mod names;
mod pickle;
mod torch;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors};

use self::container::{Container, checked};
pub(crate) use self::facts::{Fact, Facts};
use self::names::arrays;
use self::torch::{Graph, Kind, Place};
use crate::ModelError;

/// One array of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The floating-point arrays of a file, read on demand.
pub(crate) struct StateDict {
    path: PathBuf,
    file: Vec<u8>,
    source: Source,
    /// Shape of every floating-point array by name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Other tensor data by name, and why it cannot be read.
    pub unreadable: BTreeMap<String, String>,
    /// Values in the file besides its arrays.
    pub facts: Facts,
    /// Whether the file holds NumPy arrays, which are skipped.
    pub numpy: bool,
}

enum Source {
    Pytorch {
        places: BTreeMap<String, Place>,
        container: Container,
        /// Storages with a verified checksum.
        sound: RefCell<BTreeSet<String>>,
    },
    Safetensors,
}

impl StateDict {
    /// Opens `path`; a file whose name does not end in `.safetensors` is read as a PyTorch file.
    ///
    /// # Errors
    /// [`ModelError::File`] if it is absent, broken or in another format.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = std::fs::read(path).map_err(|e| ModelError::file(path, e))?;
        Self::parse(file, path)
    }

    /// Parses a file's bytes; `path` gives its format and is for messages.
    pub fn parse(file: Vec<u8>, path: &Path) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::file(path, reason);
        if is_safetensors(path) {
            return Self::safetensors(file, path).map_err(|e| wrong(e.to_string()));
        }
        let container = container::open(&file).map_err(wrong)?;
        let text = &file[container.text.clone()];
        let graph = Graph { pickle: &container.pickle, bytes: text };
        let numpy = container.pickle.nodes.iter().any(|node| match node {
            pickle::Node::Global(module, name) => {
                module.of(text).starts_with(b"numpy") && name.of(text) == b"_reconstruct"
            }
            _ => false,
        });
        let facts = Facts::of(&graph);
        let (mut places, mut shapes) = (BTreeMap::new(), BTreeMap::new());
        let mut unreadable = BTreeMap::new();
        for (name, array) in arrays(&graph).map_err(wrong)? {
            match array {
                Ok(place) if matches!(place.kind, Kind::Other(_)) => {
                    let reason = "it holds no floating-point numbers of 16, 32 or 64 bits";
                    unreadable.insert(name, reason.to_owned());
                }
                Ok(place) => {
                    shapes.insert(name.clone(), place.shape.clone());
                    places.insert(name, place);
                }
                Err(reason) => {
                    unreadable.insert(name, reason);
                }
            }
        }
        let source = Source::Pytorch { places, container, sound: RefCell::default() };
        Ok(Self { path: path.into(), file, source, shapes, unreadable, facts, numpy })
    }

    fn safetensors(file: Vec<u8>, path: &Path) -> Result<Self, safetensors::SafeTensorError> {
        let (mut shapes, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in SafeTensors::deserialize(&file)?.iter() {
            match float_of(view.dtype()) {
                Some(_) => {
                    shapes.insert(name.to_owned(), view.shape().to_vec());
                }
                None => {
                    let reason = format!("it holds numbers of type {:?}", view.dtype());
                    unreadable.insert(name.to_owned(), reason);
                }
            }
        }
        let (source, facts) = (Source::Safetensors, Facts::default());
        Ok(Self { path: path.into(), file, source, shapes, unreadable, facts, numpy: false })
    }

    /// Checks that the arrays `names` are not many times larger than the file: arrays may share their numbers, so a
    /// small file could request any amount of memory.
    ///
    /// # Errors
    /// [`ModelError::File`] if they are.
    pub fn check_size<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), ModelError> {
        let shapes = names.filter_map(|name| self.shapes.get(name));
        let bytes = |shape: &Vec<usize>| {
            shape.iter().fold(size_of::<f32>(), |all, &side| all.saturating_mul(side))
        };
        let total = shapes.fold(0usize, |all, shape| all.saturating_add(bytes(shape)));
        if total > self.file.len().saturating_mul(8).saturating_add(1 << 26) {
            let reason =
                format!("its arrays would take {total} bytes, the file has {}", self.file.len());
            return Err(ModelError::file(&self.path, reason));
        }
        Ok(())
    }

    /// The array `name`, as 32-bit floats.
    ///
    /// # Errors
    /// [`ModelError::File`] if there is none, or its bytes are missing or broken.
    pub fn read(&self, name: &str) -> Result<Array, ModelError> {
        let wrong = |reason: String| ModelError::file(&self.path, format!("{name}: {reason}"));
        let (bytes, dtype, shape) = match &self.source {
            Source::Safetensors => {
                let file =
                    SafeTensors::deserialize(&self.file).map_err(|e| wrong(e.to_string()))?;
                let view = file.tensor(name).map_err(|e| wrong(e.to_string()))?;
                (view.data().to_vec(), float_of(view.dtype()), view.shape().to_vec())
            }
            Source::Pytorch { places, container, sound } => {
                let place =
                    places.get(name).ok_or_else(|| wrong("there is no such array".into()))?;
                let bytes = self.gather(place, container, sound).map_err(wrong)?;
                let dtype = match place.kind {
                    Kind::F16 => Some(DType::F16),
                    Kind::BF16 => Some(DType::BF16),
                    Kind::F32 => Some(DType::F32),
                    Kind::F64 => Some(DType::F64),
                    Kind::Other(_) => None,
                };
                (bytes, dtype, place.shape.clone())
            }
        };
        let dtype = dtype.ok_or_else(|| wrong("it holds no floating-point numbers".into()))?;
        let count = shape.iter().try_fold(dtype.size(), |all, &side| all.checked_mul(side));
        if count != Some(bytes.len()) {
            return Err(wrong(format!("{} bytes do not make an array of {shape:?}", bytes.len())));
        }
        let data = TensorData::from_bytes_vec(bytes, shape.clone(), dtype).convert::<f32>();
        let values = data.try_to_vec().map_err(|_| wrong("its numbers cannot be read".into()))?;
        Ok(Array { shape, values })
    }

    /// The bytes of an array in index order, with little-endian numbers.
    fn gather(
        &self,
        place: &Place,
        container: &Container,
        sound: &RefCell<BTreeSet<String>>,
    ) -> Result<Vec<u8>, String> {
        let storage = container.storages.get(&place.key);
        let storage = storage.ok_or_else(|| format!("its storage {} is missing", place.key))?;
        if !sound.borrow().contains(&place.key) {
            checked(&self.file, storage)?;
            sound.borrow_mut().insert(place.key.clone());
        }
        let [count, span] = place.extent()?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let size = place.kind.size();
        let start = place.first.checked_mul(size);
        let end = place.first.checked_add(span).and_then(|end| end.checked_mul(size));
        let bytes = self.file.get(storage.bytes.clone()).unwrap_or_default();
        let part = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
        let part = part.ok_or_else(|| format!("its storage {} is truncated", place.key))?;
        if container.big_endian || !place.is_contiguous() {
            let mut out = place.gathered(part, count);
            if container.big_endian {
                out.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            }
            return Ok(out);
        }
        Ok(part.to_vec())
    }
}

/// Whether the file has the extension `safetensors`.
pub(crate) fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

fn float_of(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}
