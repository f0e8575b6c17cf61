//! What produced a figure: numerics version, commit, instructions. Figures that were produced differently never share a
//! table row.

use serde::{Deserialize, Serialize};
use ssl_backdoor_kernels::{bf16_instruction_path, instruction_path};
use ssl_backdoor_ssl::Precision;

use crate::device;

/// The numerics version. Raise it with any change that alters a trained byte or a score of an unchanged config;
/// `tests/numerics.rs` fails until then.
pub(crate) const NUMERICS: u32 = 4;

/// The numerics version of version 0.1, whose records have no such key.
pub(crate) const FIRST_NUMERICS: u32 = 1;

fn first() -> u32 {
    FIRST_NUMERICS
}

/// What produced a stage of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// Numerics version.
    #[serde(default = "first")]
    pub numerics: u32,
    /// Hash of the commit from which the program was built, with `-dirty` if the sources were changed; `None` for a build
    /// that is not a release build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The instruction path of the CPU's kernels, or the kind of device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl MadeBy {
    /// This program, on `device`, in `precision`.
    pub(crate) fn this(device: &str, precision: Precision) -> Self {
        let path = match (device::backend(device), precision) {
            ("flex", Precision::F32) => instruction_path(),
            ("flex", Precision::Bf16) => bf16_instruction_path(),
            (other, _) => other,
        };
        let commit = Some(env!("SSL_BACKDOOR_COMMIT")).filter(|commit| !commit.is_empty());
        Self { numerics: NUMERICS, commit: commit.map(Into::into), path: Some(path.into()) }
    }

    /// The value for a record that does not contain it.
    pub(crate) fn unknown() -> Self {
        Self { numerics: FIRST_NUMERICS, commit: None, path: None }
    }
}

/// `numerics 4, commit 0123456789ab, AVX-512`.
impl std::fmt::Display for MadeBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "numerics {}", self.numerics)?;
        if let Some(commit) = &self.commit {
            let (hash, dirty) = commit.split_once('-').unwrap_or((commit, ""));
            write!(f, ", commit {}", &hash[..hash.len().min(12)])?;
            if !dirty.is_empty() {
                write!(f, " with local changes")?;
            }
        }
        match &self.path {
            Some(path) => write!(f, ", {path}"),
            None => Ok(()),
        }
    }
}
