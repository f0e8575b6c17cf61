//! The number format that an encoder computes in.

use burn::tensor::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::require;
use ssl_backdoor_kernels::{is_cpu, multiplies_in_bf16, multiply_in_bf16};

use crate::error::PretrainError;

/// The number format that an encoder multiplies in while it trains. Weights, their gradients, the optimiser, statistics
/// of batch norm, projection heads and losses are always in 32 bits, and so is every network that is evaluated.
///
/// On a GPU, bf16 also holds what is passed from layer to layer. On the CPU only the factors of products are rounded to
/// bf16: in the stem and the basic blocks of ResNets, in other convolutions that are followed by batch norm and ReLU and
/// have no groups, and in the linear layers of transformers (MAE's decoder included). Sums, what is passed on, and other
/// convolutions (the last one and the shortcut of a bottleneck, grouped ones) stay in 32 bits.
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
            Self::Bf16 if !is_cpu(device) => DType::BF16,
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
        let (supported, allowed) = match is_cpu(device) {
            true => (multiplies_in_bf16(device), "without the kernels, a CPU computes only in f32"),
            false => (device.supports_dtype(DType::BF16), "this device computes only in f32"),
        };
        let value = format!("{self:?}").to_lowercase();
        Ok(require(self.is_full() || supported, "precision", value, allowed)?)
    }
}
