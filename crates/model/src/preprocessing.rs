//! How the images of an encoder are prepared.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ModelError;

/// How the pixels an encoder was trained on were prepared: the contract that goes with its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the images in pixels.
    pub size: u32,
    /// Mean of each channel, for values from 0 to 1. It is subtracted first.
    pub mean: [f32; 3],
    /// Standard deviation of each channel. The difference is divided by it.
    pub std: [f32; 3],
    /// How evaluation images are resized.
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl std::str::FromStr for Interpolation {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let all = [Self::Bilinear, Self::Bicubic];
        let found = all.into_iter().find(|one| one.to_string() == text);
        let unknown = || ModelError::Name { value: text.into(), allowed: "bilinear and bicubic" };
        found.ok_or_else(unknown)
    }
}

/// How pixels are found between pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// As the reference evaluates every method.
    #[default]
    Bilinear,
    /// As MAE's and timm's own code evaluates.
    Bicubic,
}

impl fmt::Display for Preprocessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, mean, std, interpolation } = self;
        write!(f, "{size} px, {interpolation}, mean {mean:?}, std {std:?}")
    }
}

impl fmt::Display for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        })
    }
}

impl Preprocessing {
    /// Checks the values.
    ///
    /// # Errors
    /// A message with the value and the allowed range.
    pub(crate) fn check_values(&self) -> Result<(), String> {
        let Self { size, mean, std, .. } = self;
        if !(8..=1024).contains(size) {
            return Err(format!("gives an image size of {size} px: allowed are 8 to 1024"));
        }
        if mean.iter().any(|value| !value.is_finite()) {
            return Err(format!("gives a mean of {mean:?}: allowed are finite numbers"));
        }
        if std.iter().any(|value| !value.is_finite() || *value <= 0.0) {
            return Err(format!(
                "gives a standard deviation of {std:?}: allowed are positive numbers"
            ));
        }
        Ok(())
    }

    /// Checks that the encoder in `path`, whose contract this is, may process images prepared as `run` says.
    ///
    /// # Errors
    /// [`ModelError::Preprocessing`] with the first difference.
    pub fn check(&self, run: &Self, path: &Path) -> Result<(), ModelError> {
        let parts = |of: &Self| {
            [
                ("size", of.size.to_string()),
                ("mean", format!("{:?}", of.mean)),
                ("std", format!("{:?}", of.std)),
                ("interpolation", of.interpolation.to_string()),
            ]
        };
        for ((key, of_file), (_, of_run)) in parts(self).into_iter().zip(parts(run)) {
            if of_file != of_run {
                return Err(ModelError::Preprocessing { path: path.into(), key, of_file, of_run });
            }
        }
        Ok(())
    }
}
