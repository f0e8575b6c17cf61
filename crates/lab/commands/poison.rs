//! The command `poison`: a poisoned data set on disk.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ssl_backdoor_data::{Eval, Export, clean_list};

use super::reference_config;
use super::shared::{existing, path};
use crate::config::{AttackConfig, ConfigError, Source, Wrong, default_device};
use crate::device;
use crate::run::{Choice, progress, told};

/// Export a poisoned data set: images, file lists and ledger, in the layout of the paper's code.
///
/// Reads only name, seed, [data] and [poison] of a config, or an INI file of the paper's code (*.cfg), whose seed is 0
/// unless --set seed=N. Poisoned images replace the originals in the training list. Every evaluation image is
/// resized, cropped and patched. The ledgers (poison.csv, val_poisoned.csv) record what was done to each image.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor poison configs/quickstart.toml --out /tmp/poisoned\n  \
    ssl-backdoor poison HTBA_trigger_10_targeted_n02106550.cfg\n  \
    ssl-backdoor poison --clean /tmp/poisoned > clean_filelist.txt"
)]
pub struct PoisonArgs {
    /// The experiment (TOML), or a config of the paper's code (*.cfg).
    #[arg(required_unless_present = "clean", value_parser = path())]
    config: Option<PathBuf>,
    /// Output folder; it must be empty or not exist [default for *.cfg: its poison_savedir].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Override a key of the config; may be repeated. A *.cfg accepts only seed and size.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Write PNG instead of JPEG with quality 75.
    #[arg(long)]
    lossless: bool,
    /// Print the training list of this export with every poisoned image put back.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out", "lossless"], value_parser = existing())]
    clean: Option<PathBuf>,
}

impl PoisonArgs {
    /// Exports, or prints the clean list.
    ///
    /// # Errors
    /// As [`run_export`], or the export cannot be read.
    pub fn run(self) -> Result<()> {
        let Self { config, out, sets, lossless, clean } = self;
        match clean {
            Some(folder) => print_clean_list(&folder),
            None => run_export(&config.unwrap_or_default(), PoisonOptions { out, sets, lossless }),
        }
    }
}

/// Options of an export.
#[derive(Debug, Clone, Default)]
pub struct PoisonOptions {
    /// The output folder; a config of the paper's code names one itself.
    pub out: Option<PathBuf>,
    /// Overrides, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// PNG instead of JPEG.
    pub lossless: bool,
}

/// Exports the data set of `config` and prints how many images were poisoned.
///
/// # Errors
/// A [`ConfigError`] if the config is wrong or the folder is not empty, another error if the export
/// failed. A partial export never has its final name.
pub fn run_export(config: &Path, options: PoisonOptions) -> Result<()> {
    let PoisonOptions { out, sets, lossless } = options;
    let reference = config.extension().is_some_and(|extension| extension == "cfg");
    let (mut export, place, source) = if reference {
        reference_config::read(config, &sets)?
    } else {
        let attack = AttackConfig::read(config, &sets)?;
        (Export::new(attack.seed, attack.data, attack.poison), None, attack.source)
    };
    export.lossless = lossless;
    choose(&mut export, &source)?;
    if lossless && export.poison.recompress {
        let message = "poison.recompress = true: a run trains on JPEG, but --lossless writes PNG; with \
                       --lossless, add --set poison.recompress=false";
        return Err(source.wrong(Wrong::about("poison.recompress", message)).into());
    }
    let Some(out) = out.or(place) else {
        return Err(ConfigError("--out DIR is missing: name the output folder".into()).into());
    };
    let exported = export.write(&out, &progress::watch());
    let exported = exported.map_err(|error| source.locate(error.into()))?;
    let rates = exported.rates;
    progress::say_left_out(&exported.left_out, &exported.skipped);
    if exported.blanks {
        eprintln!(
            "warning: some paths contain a blank; their lines are separated by a tab, which the \
             paper's code cannot read"
        );
    }
    if exported.saved_from_jpeg {
        eprintln!(
            "note: JPEG would erase this trigger: all images are written as PNG (--lossless)"
        );
    }
    if let Some(energy) = exported.jpeg_energy {
        eprintln!(
            "note: JPEG of quality 75 keeps {:.1} % of the energy of this trigger",
            100.0 * energy
        );
    }
    let remain = match exported.skipped.len() {
        0 => String::new(),
        left_out => format!(" (of the images that remain without {left_out} unreadable files)"),
    };
    let of_class = rates.rate.map(|rate| format!("{:.2} % of the target class, ", 100.0 * rate));
    println!(
        "poisoned  {} training images: {}{:.3} % of the set{remain}\npatched   {} evaluation images\nlists     \
         {}\n          {}\nledgers   {}",
        rates.count,
        of_class.unwrap_or_default(),
        100.0 * rates.dataset_rate,
        exported.patched,
        out.join(&exported.train_list).display(),
        out.join(&exported.val_list).display(),
        out.display(),
    );
    Ok(())
}

/// Lets the attack's selection rule, if any, choose the poisoned images.
fn choose(export: &mut Export, source: &Source) -> Result<()> {
    if export.poison.select.is_none() {
        return Ok(());
    }
    let device = device::open(&default_device()).map_err(|e| source.wrong(e))?;
    let splits = export.data.load_part(Eval::All, &progress::watch())?;
    let choice = Choice { splits: &splits, seed: export.seed, device: &device, source };
    export.poison = choice.of(&export.poison, None)?;
    let attack = splits.attack(&export.poison, export.seed).map_err(|e| source.wrong(e))?;
    if let Some(selected) = &attack.selected {
        eprintln!("{}", told(selected, attack.plan.rates().count, &splits.classes));
    }
    Ok(())
}

/// Prints the training list of the export in `folder` with every poisoned image put back.
///
/// # Errors
/// The export cannot be read.
pub fn print_clean_list(folder: &Path) -> Result<()> {
    print!("{}", clean_list(folder, &progress::watch())?);
    Ok(())
}
