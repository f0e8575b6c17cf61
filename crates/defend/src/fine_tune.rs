//! Fine-tuning as a defence: the backdoored encoder, trained on by its own method on clean images.

use serde::{Deserialize, Serialize};
use ssl_backdoor_ssl::PretrainConfig;

use crate::compress::training;
use crate::{Defence, DefendError, OnPartConfig, Settings};

/// Settings of fine-tuning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FineTuneConfig(pub OnPartConfig);

impl Settings for FineTuneConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        self.0.check(victim, images, size)
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        self.0.defences(true)
    }

    fn training(&self) -> &'static str {
        training(self.0.steps)
    }

    fn forget_seed(&mut self) {
        self.0.seed = None;
    }
}
