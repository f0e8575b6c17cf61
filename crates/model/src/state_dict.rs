//! The arrays of a checkpoint by name, from a file of PyTorch (`.pth`, `.pth.tar`, `.pt`) or safetensors.
//!
//! A PyTorch file is a pickle, which may name any code. It is parsed as data: nothing in it runs, and what it
//! claims to hold is checked against the file's size.

use std::collections::BTreeMap;
use std::path::Path;

use burn::store::pytorch_reader::{self, PytorchReader};
use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors};

use crate::ModelError;

/// One array of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The floating-point arrays of a file, read when asked for.
pub(crate) struct StateDict<'a> {
    path: &'a Path,
    source: Source,
    /// Shapes by name, of every floating-point array.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

enum Source {
    Pytorch(PytorchReader),
    Safetensors(Vec<u8>),
}

impl<'a> StateDict<'a> {
    /// Opens `path`; a file whose name does not end in `.safetensors` is taken for PyTorch's.
    ///
    /// # Errors
    /// [`ModelError::File`] if it is absent, broken or of another kind.
    pub fn open(path: &'a Path) -> Result<Self, ModelError> {
        if is_safetensors(path) {
            let bytes = std::fs::read(path).map_err(|e| ModelError::file(path, e))?;
            let file = SafeTensors::deserialize(&bytes).map_err(|e| ModelError::file(path, e))?;
            let floats = file.iter().filter(|(_, view)| float_of(view.dtype()).is_some());
            let shapes = floats.map(|(name, view)| (name.into(), view.shape().into())).collect();
            return Ok(Self { path, source: Source::Safetensors(bytes), shapes });
        }
        let reader = PytorchReader::new(path).map_err(|e| ModelError::file(path, e))?;
        let floats = reader.tensors().iter().filter(|(_, t)| torch_float_of(t.dtype()).is_some());
        let shapes = floats.map(|(name, t)| (name.clone(), t.shape().into())).collect();
        Ok(Self { path, source: Source::Pytorch(reader), shapes })
    }

    /// The array `name`, as 32-bit floats.
    ///
    /// # Errors
    /// [`ModelError::File`] if there is none, or its bytes are missing or broken.
    pub fn read(&self, name: &str) -> Result<Array, ModelError> {
        let wrong = |reason: String| ModelError::file(self.path, format!("{name}: {reason}"));
        let absent = || wrong("there is no such array".into());
        let (bytes, dtype, shape) = match &self.source {
            Source::Safetensors(bytes) => {
                let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
                let view = file.tensor(name).map_err(|e| wrong(e.to_string()))?;
                (view.data().to_vec(), float_of(view.dtype()), view.shape().to_vec())
            }
            Source::Pytorch(reader) => {
                let tensor = reader.get(name).ok_or_else(absent)?;
                let bytes = tensor.read().map_err(|e| wrong(e.to_string()))?;
                (bytes, torch_float_of(tensor.dtype()), tensor.shape().to_vec())
            }
        };
        let dtype = dtype.ok_or_else(absent)?;
        let count = shape.iter().try_fold(dtype.size(), |all, &side| all.checked_mul(side));
        if count != Some(bytes.len()) {
            return Err(wrong(format!("{} bytes do not make an array of {shape:?}", bytes.len())));
        }
        let data = TensorData::from_bytes_vec(bytes, shape.clone(), dtype).convert::<f32>();
        let values = data.try_to_vec().map_err(|e| wrong(format!("{e:?}")))?;
        Ok(Array { shape, values })
    }
}

/// Does the name of the file say that it is safetensors?
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

fn torch_float_of(dtype: pytorch_reader::DType) -> Option<DType> {
    use pytorch_reader::DType as Torch;
    match dtype {
        Torch::F64 => Some(DType::F64),
        Torch::F32 => Some(DType::F32),
        Torch::F16 => Some(DType::F16),
        Torch::BF16 => Some(DType::BF16),
        _ => None,
    }
}
