//! Code that commands share: paths, and the environment for trainings.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::{PathBufValueParser, TypedValueParser};
use ssl_backdoor_kernels as kernels;
use ssl_backdoor_model::EncoderHeader;

use crate::config::{ConfigError, expanded};

/// A path on the command line; `~` is the user's home folder.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expanded)
}

/// Runs `work` in the kernels' thread pool, with an allocator that keeps freed memory.
pub(super) fn computing(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    kernels::keep_freed_memory();
    kernels::on_pool(work)
}

/// The header of the encoder file.
///
/// # Errors
/// The file cannot be read; or a [`ConfigError`] if it does not record how images are prepared.
pub(super) fn encoder_file(file: &Path) -> Result<EncoderHeader> {
    let header = EncoderHeader::read(file)?.ok_or_else(|| {
        let shown = file.display();
        ConfigError(format!(
            "{shown} does not record how its images were prepared: add it with `ssl-backdoor convert {shown} \
             OUT.safetensors`"
        ))
    })?;
    Ok(header)
}
