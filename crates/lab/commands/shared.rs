//! What the commands share: paths, and how work that trains is run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::{PathBufValueParser, TypedValueParser};
use ssl_backdoor_kernels as kernels;
use ssl_backdoor_model::EncoderHeader;

use crate::config::{ConfigError, expanded};

/// A path of the command line; `~` is the user's home.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expanded)
}

/// Runs `work` as a training wants it: on the kernels' pool, with an allocator that keeps what it has.
pub(super) fn computing(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    kernels::keep_freed_memory();
    kernels::on_pool(work)
}

/// What the encoder file says of itself.
///
/// # Errors
/// It cannot be read; or a [`ConfigError`] if it does not say how its images are prepared.
pub(super) fn encoder_file(file: &Path) -> Result<EncoderHeader> {
    let header = EncoderHeader::read(file)?.ok_or_else(|| {
        let shown = file.display();
        ConfigError(format!(
            "{shown} does not say how its images were prepared: write it down with `ssl-backdoor convert {shown} \
             OUT.safetensors`"
        ))
    })?;
    Ok(header)
}
