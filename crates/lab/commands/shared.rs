//! What the commands share: paths, and how work that trains is run.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PathBufValueParser, TypedValueParser};
use ssl_backdoor_kernels as kernels;

use crate::config::expanded;

/// A path of the command line; `~` is the user's home.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expanded)
}

/// Runs `work` as a training wants it: on the kernels' pool, with an allocator that keeps what it has.
pub(super) fn computing(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    kernels::keep_freed_memory();
    kernels::on_pool(work)
}
