//! Training from scratch as a defence: a new encoder, trained by the victim's method on clean images only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_ssl::PretrainConfig;

use crate::compress::training;
use crate::{Defence, DefenceSettings, DefendError, OnPartConfig};

/// Settings of training from scratch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ScratchConfig(pub OnPartConfig);

impl DefenceSettings for ScratchConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        if let Some(lr) = self.0.lr {
            let reason = "only the kind fine-tune has this field: remove it".into();
            return Err(DefendError::Value { field: "lr", value: lr.to_string(), reason });
        }
        self.0.check(victim, images, size)
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        self.0.defences(false)
    }

    fn training(&self) -> &'static str {
        training(self.0.steps)
    }

    fn forget_seed(&mut self) {
        self.0.seed = None;
    }
}
