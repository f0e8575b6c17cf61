//! The number format that an encoder computes in.

use burn::tensor::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::require;

use crate::error::PretrainError;

/// The number format of the encoder's products during training. Weights, gradients, the optimiser, batch norm
/// statistics, heads and losses stay in 32 bits, and so does every network that is evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponents of 32, for devices that support it.
    Bf16,
}

impl Precision {
    pub(crate) fn is_full(&self) -> bool {
        *self == Self::F32
    }

    /// Burn's name of it.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Checks that `device` computes in this format.
    pub(crate) fn check(self, device: &Device) -> Result<(), PretrainError> {
        let fits = device.supports_dtype(self.dtype());
        let value = format!("{self:?}").to_lowercase();
        Ok(require(fits, "precision", value, "this device computes in f32 alone")?)
    }
}
