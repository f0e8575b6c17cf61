//! The command `convert`: checkpoints of other tools in, encoder files with torchvision's names out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use burn::tensor::Device;
use ssl_backdoor_model::{ImportOptions, Imported, Preprocessing};
use ssl_backdoor_ssl::{encoder_header, save_whole};

use crate::{ConfigError, Experiment, device};

/// What the command line says of a conversion.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// The checkpoint: `.pth`, `.pth.tar`, `.pt` or `.safetensors`; or a model's folder in a run folder, for all of its
    /// networks.
    pub input: PathBuf,
    /// The encoder file, `.safetensors`.
    pub output: PathBuf,
    /// Leave out everything but the encoder.
    pub backbone: bool,
    /// What the checkpoint does not say.
    pub import: ImportOptions,
}

/// Converts, and tells what was found, what was taken for granted and what was left out.
///
/// # Errors
/// A [`ConfigError`] if the output is no `.safetensors` or is the input; anything else if the checkpoint cannot be
/// read or is no known encoder.
pub fn convert(options: &ConvertOptions) -> Result<()> {
    let ConvertOptions { input, output, backbone, import } = options;
    if output.extension().is_none_or(|extension| extension != "safetensors") {
        let message = format!("{} cannot be written: OUT ends in .safetensors", output.display());
        return Err(ConfigError(message).into());
    }
    if input == output {
        return Err(ConfigError("IN and OUT are the same file".into()).into());
    }
    let device = device::first().map_err(|e| anyhow!(e))?;
    let imported = match input.is_dir() {
        true => of_training(input, &device)?,
        false => Imported::read(input, import)?,
    };
    imported.write(output, *backbone, &device)?;
    let header = &imported.header;
    println!("encoder        {}", serde_json::to_string(&header.encoder)?);
    if !imported.prefix.is_empty() {
        println!("taken from     {}*", imported.prefix);
    }
    let how = if imported.stated {
        ""
    } else {
        "  (taken for granted or given: the checkpoint does not say)"
    };
    println!("preprocessing  {}{how}", header.preprocessing);
    let others: Vec<&str> = imported.others().collect();
    if !others.is_empty() {
        let what = if *backbone { "left out" } else { "kept beside" };
        println!("{what:<14} {} arrays: {}", others.len(), in_short(&others));
    }
    println!("written        {}", output.display());
    Ok(())
}

/// All networks of the training in `folder`, a model's in a run folder.
fn of_training(folder: &Path, device: &Device) -> Result<Imported> {
    let config = folder.join("../config.toml");
    let Experiment { pretrain, data, .. } = Experiment::read(&config, &[])?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let whole = scratch.path().join("whole.safetensors");
    save_whole(&pretrain, folder, &whole, device)?;
    let Preprocessing { size, mean, std, interpolation } =
        encoder_header(pretrain.encoder, data.size()).preprocessing;
    let import = ImportOptions {
        prefix: None,
        heads: pretrain.encoder.heads(),
        size: Some(size),
        mean_std: Some([mean, std]),
        interpolation: Some(interpolation),
    };
    Ok(Imported::read(&whole, &import)?)
}

/// The first names and the last.
fn in_short(names: &[&str]) -> String {
    match names {
        [first, second, .., last] if names.len() > 4 => format!("{first}, {second}, …, {last}"),
        _ => names.join(", "),
    }
}
