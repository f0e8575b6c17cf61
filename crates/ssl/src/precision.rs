//! The number format that an encoder computes in.

use burn::tensor::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::require;
use ssl_backdoor_kernels::{multiplies_in_bf16, multiply_in_bf16};

use crate::error::PretrainError;

/// The number format that an encoder multiplies in while it trains. Weights, their gradients, the optimiser, statistics
/// of batch norm, heads and losses are in 32 bits always, and so is every network that is evaluated.
///
/// On a GPU, bf16 also holds what is passed from layer to layer. On the CPU only the factors of products are rounded to
/// bf16: in the stem and the basic blocks of ResNets, in 3×3 convolutions with batch norm and ReLU, and in the linear
/// layers of transformers. Sums, and all that is passed on, stay in 32 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponents of 32.
    Bf16,
}

impl Precision {
    pub(crate) fn is_full(&self) -> bool {
        *self == Self::F32
    }

    /// Format of the images for an encoder on `device`.
    pub(crate) fn of_images(self, device: &Device) -> DType {
        match self {
            Self::Bf16 if !multiplies_in_bf16(device) => DType::BF16,
            _ => DType::F32,
        }
    }

    /// Runs forward passes in this format; the gradients follow them.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::F32 => work(),
            Self::Bf16 => multiply_in_bf16(work),
        }
    }

    /// Checks that `device` computes in this format.
    pub(crate) fn check(self, device: &Device) -> Result<(), PretrainError> {
        let fits =
            self.is_full() || multiplies_in_bf16(device) || device.supports_dtype(DType::BF16);
        let value = format!("{self:?}").to_lowercase();
        Ok(require(fits, "precision", value, "this device computes only in f32")?)
    }
}
