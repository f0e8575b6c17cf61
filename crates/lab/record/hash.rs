//! The hashes that records hold.

use std::path::Path;

use anyhow::{Context, Result};

/// BLAKE3 of `bytes`, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// BLAKE3 of a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash_file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hash(&bytes))
}
