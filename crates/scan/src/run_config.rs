//! What is scanned in a run, and how.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};

use crate::{CleanseConfig, DecreeConfig, EncoderScans, PatchSearchConfig};

/// The `[scan]` table: PatchSearch on the poisoned training images, DECREE and SSL-Cleanse on the clean twin and the
/// backdoored model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScanConfig {
    /// Folder with the null scores of clean encoders of the same kind. Default: none, scores have no p-values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null: Option<PathBuf>,
    /// Seed of the scans of encoders: that of the null scores, whatever the seed of the run.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub seed: u64,
    /// Settings of PatchSearch, which scans the poisoned training images with the backdoored encoder.
    pub data: PatchSearchConfig,
    /// Settings of DECREE.
    pub decree: DecreeConfig,
    /// Settings of SSL-Cleanse.
    pub cleanse: CleanseConfig,
}

impl Default for ScanConfig {
    fn default() -> Self {
        let EncoderScans { decree, cleanse } = EncoderScans::default();
        Self { null: None, seed: 1, data: PatchSearchConfig::default(), decree, cleanse }
    }
}

impl ScanConfig {
    /// Checks every value; `images` is the number of training images if it is known, `size` the side of views in pixels.
    ///
    /// # Errors
    /// It names the field, its value and what is allowed.
    pub fn check(&self, images: Option<usize>, size: u32) -> Result<(), OutOfRange> {
        let fits = self.seed <= i64::MAX as u64;
        require(fits, "seed", self.seed, "allowed are 0 to 2^63 - 1")?;
        self.data.check(images, size).map_err(|e| e.within("data"))?;
        self.encoder().check()
    }

    /// The scans of encoders.
    pub fn encoder(&self) -> EncoderScans {
        EncoderScans { decree: self.decree.clone(), cleanse: self.cleanse.clone() }
    }
}
