//! Code that commands share: paths, the environment for trainings, and output.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::{PathBufValueParser, TypedValueParser};
use ssl_backdoor_kernels as kernels;
use ssl_backdoor_model::EncoderHeader;

use crate::config::{ConfigError, expanded, meant};
use crate::record::{Artefact, RunScores};
use crate::report;
use crate::shell::path_word;

/// A path on the command line; `~` is the user's home folder.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expanded)
}

/// The path of a file or folder on the command line that must exist.
pub(super) fn existing() -> impl TypedValueParser<Value = PathBuf> {
    path().try_map(|path| match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{e}{}", meant(&path).unwrap_or_default()))
        }
        // The command reports any other error.
        _ => Ok(path),
    })
}

/// Runs `work` in the kernels' thread pool, with an allocator that keeps freed memory.
pub(super) fn computing(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    kernels::keep_freed_memory();
    kernels::on_pool(work)
}

/// The error for an option that has the name of the field with which `wrong` begins.
pub(super) fn of_option(wrong: impl fmt::Display) -> ConfigError {
    ConfigError(format!("--{wrong}"))
}

/// The header of the encoder file.
///
/// # Errors
/// The file cannot be read; or a [`ConfigError`] if it does not record how images are prepared.
pub(super) fn encoder_file(file: &Path) -> Result<EncoderHeader> {
    let header = EncoderHeader::read(file)?.ok_or_else(|| {
        let shown = file.display();
        let encoder = file.with_file_name("encoder.safetensors");
        ConfigError(match encoder != file && encoder.is_file() {
            true => format!("{shown} is not an encoder file, did you mean {}?", encoder.display()),
            false => format!(
                "{shown} does not record how its images were prepared: add it with `ssl-backdoor convert {} \
                 OUT.safetensors`",
                path_word(file)
            ),
        })
    })?;
    Ok(header)
}

/// Prints the scores of the run in `folder`, their warnings, and the path of its report.
pub(super) fn print_scores(scores: &RunScores, folder: &Path) {
    println!("{}\n{}", report::table(scores), report::net(scores));
    if let Some(warning) = report::warning(scores) {
        println!("{warning}");
    }
    let page = folder.join(Artefact::ReportHtml.to_string());
    if page.is_file() {
        println!("Report: {}", page.display());
    }
}
