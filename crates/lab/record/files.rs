//! Files of records: written completely or not at all, identified by their hashes.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// Writes a file under a temporary name beside it, flushes it to disk and renames it.
///
/// # Errors
/// It cannot be written; an older file with that name is then unchanged.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    ssl_backdoor_files::write(path, bytes)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The existing `path`, seen from the existing folder `from`.
pub(crate) fn relative(path: &Path, from: &Path) -> PathBuf {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let (path, from) = (whole(path), whole(from));
    let shared = path.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

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

/// `value` as indented JSON with a line break at its end: the content of a file, or the output of `--json`.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
