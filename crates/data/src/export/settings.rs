//! The settings of an export, and the names of their files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use ssl_backdoor_trigger::{Phase, PoisonConfig};

use crate::DataConfig;

/// What is exported; `export.toml` in the export's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// How the files are written, [`FORMAT`] now; absent = 1.
    #[serde(default = "first_format")]
    pub format: u32,
    /// The version that wrote it; absent = one before 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Name of the experiment in the paths; absent = from the trigger and the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Seed of the choice and of the places.
    pub seed: u64,
    /// PNG for every file. Otherwise a file named .jpg, .jpeg, .jpe or .jfif keeps its name and is written as JPEG of
    /// quality 75 with 4:2:0 chroma, as the reference does; all others are PNG. An attack that JPEG erases is always
    /// exported without loss.
    #[serde(default)]
    pub lossless: bool,
    /// Whether the lines of poisoned training images end with the patch: x, y, width, height. Lines of images with a
    /// trigger that is not pasted end with nothing.
    #[serde(default)]
    pub patch_params: bool,
    /// Folder that the paths in the lists start with; absent = where it is exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// The images.
    pub data: DataConfig,
    /// The attack.
    pub poison: PoisonConfig,
}

/// The current format of exports. Format 1 took chroma from the nearest pixel and gave unlabelled images class
/// 4294967295; format 2 averages chroma as libjpeg does and writes -1; the JPEGs of format 3 are those of PIL, byte for
/// byte.
pub const FORMAT: u32 = 3;

fn first_format() -> u32 {
    1
}

/// Name of the file with the settings.
pub(crate) const SETTINGS: &str = "export.toml";
/// Name of the ledger of the images of `phase`.
pub(crate) fn ledger_file(phase: Phase) -> &'static str {
    match phase {
        Phase::Training => "poison.csv",
        Phase::Evaluation => "val_poisoned.csv",
    }
}

impl Export {
    /// An export in the current format, without optional settings.
    pub fn new(seed: u64, data: DataConfig, poison: PoisonConfig) -> Self {
        Self {
            format: FORMAT,
            version: Some(env!("CARGO_PKG_VERSION").into()),
            id: None,
            seed,
            lossless: false,
            patch_params: false,
            root: None,
            data,
            poison,
        }
    }
}
