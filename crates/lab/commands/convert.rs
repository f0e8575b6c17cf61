//! The command `convert`: reads checkpoints of other tools and writes encoder files with torchvision's names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use burn::tensor::Device;
use clap::Args;
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_model::{Basis, EncoderConfig, Finding, ImportOptions, Imported, ModelError};
use ssl_backdoor_ssl::{encoder_header, export_training};

use super::import_args::ImportArgs;
use super::shared::{existing, path};
use crate::{ConfigError, Experiment, device};

/// Convert a PyTorch checkpoint to an encoder file, or an encoder file to one that PyTorch loads.
///
/// Reads torchvision's ResNets and RegNetYs and timm's ViTs, as saved by MoCo, MoCo v3, SwAV, DeepCluster v2, SEER, DINO,
/// MAE, solo-learn, lightly, lightning-bolts, vissl, timm and the paper's code, from .pth, .pth.tar, .pt, .ckpt, .torch
/// and .safetensors. It takes the network that the tool itself evaluates, and prints what it assumed. The output is
/// safetensors with torchvision's parameter names (timm's for a ViT), which PyTorch loads with strict=True. The file
/// records how images are prepared; `probe --encoder` follows it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor convert moco_v2_800ep.pth.tar moco.safetensors --backbone\n  \
    ssl-backdoor convert cifar_resnet18.pth cifar.safetensors --size 32 --stem-padding 2\n  \
    ssl-backdoor convert runs/quickstart/backdoored/encoder.safetensors for-pytorch.safetensors\n  \
    ssl-backdoor convert runs/quickstart/backdoored whole.safetensors"
)]
pub struct ConvertArgs {
    /// The checkpoint; or the folder of a model in a run folder, to include its heads and queues.
    #[arg(value_parser = existing())]
    input: PathBuf,
    /// The output, a .safetensors file.
    #[arg(value_parser = path())]
    output: PathBuf,
    /// Leave out heads, queues and all other networks.
    #[arg(long)]
    backbone: bool,
    #[command(flatten)]
    import: ImportArgs,
}

impl ConvertArgs {
    /// Converts.
    ///
    /// # Errors
    /// As [`convert`].
    pub fn run(self) -> Result<()> {
        let Self { input, output, backbone, import } = self;
        convert(&ConvertOptions { input, output, backbone, import: import.into() })
    }
}

/// Options of a conversion.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// The checkpoint: `.pth`, `.pth.tar`, `.pt`, `.ckpt` or `.safetensors`; or a model's folder in a run folder, for all of its
    /// networks.
    pub input: PathBuf,
    /// The encoder file, `.safetensors`.
    pub output: PathBuf,
    /// Leave out everything but the encoder.
    pub backbone: bool,
    /// Overrides for properties that the checkpoint does not contain.
    pub import: ImportOptions,
}

/// Converts, and prints what it found, assumed and left out.
///
/// # Errors
/// A [`ConfigError`] if the output is not a `.safetensors` file or is the input, or an option is out of range; another error
/// if the checkpoint cannot be read or is not a known encoder.
pub fn convert(options: &ConvertOptions) -> Result<()> {
    let ConvertOptions { input, output, backbone, import } = options;
    if output.extension().is_none_or(|extension| extension != "safetensors") {
        let message = format!("cannot write {}: OUT must end in .safetensors", output.display());
        return Err(ConfigError(message).into());
    }
    if input == output {
        return Err(ConfigError("IN and OUT are the same file".into()).into());
    }
    if input.is_dir() && *import != ImportOptions::default() {
        let shown = input.display();
        let message = format!(
            "{shown} is a folder of a run, whose config describes the network: omit the other options"
        );
        return Err(ConfigError(message).into());
    }
    let device = device::first()?;
    let imported = match input.is_dir() {
        true => of_training(input, &device)?,
        false => Imported::read(input, import).map_err(by_option)?,
    };
    imported.write(output, *backbone, &device)?;
    report(&imported, *backbone)?;
    println!("written        {}", output.display());
    Ok(())
}

/// Errors with the names of command-line options.
fn by_option(error: ModelError) -> anyhow::Error {
    match error {
        ModelError::Option(OutOfRange { field, value, allowed }) => {
            ConfigError(format!("{} {value} is out of range: {allowed}", flag(&field))).into()
        }
        ModelError::Unstated { path, what, option } => {
            anyhow!("{}: {what} cannot be inferred: pass {}", path.display(), flag(option))
        }
        other => other.into(),
    }
}

/// The flag of a field of [`ImportOptions`].
fn flag(field: &str) -> String {
    format!("--{}", field.replace('_', "-"))
}

/// The options that override `finding`, if any.
fn overridden(finding: &Finding, encoder: &EncoderConfig) -> String {
    let flags: Vec<String> = match finding.basis {
        Basis::Stated | Basis::Given => Vec::new(),
        _ => encoder.overriding(finding).into_iter().map(flag).collect(),
    };
    match &flags[..] {
        [] => String::new(),
        [one] => format!("; {one} overrides it"),
        [all @ .., last] => format!("; {} and {last} override it", all.join(", ")),
    }
}

/// Prints what the conversion found, assumed and left out.
fn report(imported: &Imported, backbone: bool) -> Result<()> {
    let header = &imported.header;
    println!("encoder        {}", serde_json::to_string(&header.encoder)?);
    if !imported.prefix.is_empty() || !imported.left.is_empty() {
        let why = match imported.reason {
            "" => String::new(),
            reason => format!("  ({reason})"),
        };
        println!("taken from     {}*{why}", imported.prefix);
    }
    for prefix in &imported.left {
        let name = prefix.trim_end_matches('.');
        println!("left           {prefix}*  (use --prefix {name:?} to take it)");
    }
    for finding in &header.findings {
        if finding.of != "network" {
            println!("{:<14} {finding}{}", finding.of, overridden(finding, &header.encoder));
        }
    }
    let how = if imported.stated {
        ""
    } else {
        "  (not in the checkpoint: assumed, or from --size, --mean, --std, --interpolation)"
    };
    println!("preprocessing  {}{how}", header.preprocessing);
    let others: Vec<&str> = imported.others().collect();
    if !others.is_empty() {
        let what = if backbone { "left out" } else { "kept too" };
        println!("{what:<14} {} arrays: {}", others.len(), in_short(&others));
    }
    if let Some((name, reason)) = imported.unreadable.first_key_value() {
        let more = match imported.unreadable.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        println!("not read       {name}: {reason}{more}");
    }
    Ok(())
}

/// All networks of the training in `folder`, which is a model's folder in a run folder.
fn of_training(folder: &Path, device: &Device) -> Result<Imported> {
    let config = folder.join("../config.toml");
    let Experiment { pretrain, data, .. } = Experiment::read(&config, &[])?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let whole = scratch.path().join("whole.safetensors");
    export_training(&pretrain, folder, &whole, device)?;
    // The run's config provides what the file does not contain.
    Ok(Imported::read_as(&whole, encoder_header(pretrain.encoder, data.size()))?)
}

/// The names; of more than four, the first two and the last.
fn in_short(names: &[&str]) -> String {
    match names {
        [first, second, .., last] if names.len() > 4 => format!("{first}, {second}, …, {last}"),
        _ => names.join(", "),
    }
}
