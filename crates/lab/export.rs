//! The commands `poison` and `verify`: a poisoned data set on disk, and back.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ssl_backdoor_data::{DataError, Export, clean_list, verify};
use ssl_backdoor_trigger::TriggerError;

use crate::attack_config::AttackConfig;
use crate::config_table::ConfigError;
use crate::progress;
use crate::reference_config;

/// What the command line says of an export.
#[derive(Debug, Clone, Default)]
pub struct PoisonOptions {
    /// Where it goes; a config of the reference names a place itself.
    pub out: Option<PathBuf>,
    /// Overrides, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// PNG instead of JPEG.
    pub lossless: bool,
}

/// Exports what `config` says and tells how much it was.
///
/// # Errors
/// A [`ConfigError`] if the config is wrong or the folder is not empty, anything else if the export
/// failed; nothing half-written is left under its name.
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
    if lossless && export.poison.recompress {
        return Err(source.wrong(
            "poison.recompress = true: a run then sees JPEG, which --lossless does not write; with --lossless, add \
             --set poison.recompress=false",
        )
        .into());
    }
    let Some(out) = out.or(place) else {
        return Err(ConfigError("--out DIR is missing: where should the images go?".into()).into());
    };
    let exported = export.write(&out, &progress::watch()).map_err(|error| match error {
        DataError::Trigger(error @ (TriggerError::Target { .. } | TriggerError::Range { .. })) => {
            source.wrong(error).into()
        }
        other => anyhow::Error::from(other),
    })?;
    let rates = exported.rates;
    progress::say_left_out(&exported.left_out, &exported.skipped);
    if exported.blanks {
        eprintln!(
            "warning: some paths hold a blank; their lines are separated by a tab, which the \
             reference's code cannot read"
        );
    }
    if exported.saved_from_jpeg {
        eprintln!(
            "note: JPEG would erase this trigger: all images are written as PNG (--lossless)"
        );
    }
    let remain = match exported.skipped.len() {
        0 => String::new(),
        left_out => format!(" (of what remains without {left_out} files)"),
    };
    let of_class = rates.rate.map(|rate| format!("{:.2} % of the target class, ", 100.0 * rate));
    println!(
        "poisoned  {} training images: {}{:.3} % of the set{remain}\npatched   {} validation images\nlists     \
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

/// Verifies the export in `folder` and says what was found.
///
/// # Errors
/// The export cannot be read, or something is not as it should be.
pub fn print_verified(folder: &Path) -> Result<()> {
    let verified = verify(folder, &progress::watch())?;
    for note in &verified.notes {
        eprintln!("note: {note}");
    }
    for problem in &verified.problems {
        println!("{problem}");
    }
    if !verified.problems.is_empty() {
        bail!("{} of {} files are not as exported", verified.problems.len(), verified.files);
    }
    println!("{} files are as exported", verified.files);
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
