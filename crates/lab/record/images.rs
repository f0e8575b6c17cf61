//! The two kinds of evaluation images.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Evaluation images without or with the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// Without the trigger.
    Clean,
    /// With the trigger on every one.
    Patched,
}

impl Images {
    /// Both, in the order of tables.
    pub const ALL: [Self; 2] = [Self::Clean, Self::Patched];

    /// Their name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Patched => "patched",
        }
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
