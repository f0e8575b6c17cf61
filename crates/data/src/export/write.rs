//! Writing an export: completely or not at all.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use ssl_backdoor_trigger::{Phase, Rates};

use super::job::ExportJob;
use super::partial::{clear, make, must_be_empty, names, resolved, write, write_new};
use super::settings::{Export, FORMAT, SETTINGS, ledger_file};
use crate::absolute::make_absolute;
use crate::jpeg::encode;
use crate::lock::{FolderLock, Held, LOCK};
use crate::{DataError, LeftOut, Watch};

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Poisoned training images, under all three denominators.
    pub rates: Rates,
    /// Patched evaluation images.
    pub patched: usize,
    /// The training list, relative to the folder.
    pub train_list: PathBuf,
    /// The list of the patched evaluation images, relative to the folder.
    pub val_list: PathBuf,
    /// Whether a path contains a blank, so that the reference cannot read the lists.
    pub blanks: bool,
    /// Whether files that would have been JPEG are PNG, because JPEG would erase the trigger.
    pub saved_from_jpeg: bool,
    /// The share of the trigger's energy that JPEG of quality 75 keeps, 0 to 1, from a sample of poisoned images;
    /// `None` unless the trigger covers the whole image.
    pub jpeg_energy: Option<f64>,
    /// What was left out of the data set, by kind.
    pub left_out: Vec<LeftOut>,
    /// Files among them that should have been images, each with the error.
    pub skipped: Vec<String>,
}

impl Export {
    /// Writes the export to `out`, which must be empty or not exist. It is built in `out.partial` beside it, locked
    /// against other processes, and renamed when it is complete. Leftovers of a killed export there are replaced.
    ///
    /// # Errors
    /// A folder that is not empty or that another process exports to, an attack that is not possible, an image that
    /// cannot be read, a file that cannot be written. Nothing is left behind.
    pub fn write(mut self, out: &Path, watch: &Watch<'_>) -> Result<Exported, DataError> {
        let wrong = |source| DataError::Write { path: out.into(), source };
        (self.format, self.version) = (FORMAT, Some(env!("CARGO_PKG_VERSION").into()));
        make_absolute(&mut self.data, &mut self.poison).map_err(wrong)?;
        let target = resolved(out).map_err(wrong)?;
        must_be_empty(&target)?;
        let absolute = std::path::absolute(out).map_err(wrong)?;
        let plain = absolute.components().all(|part| part != Component::ParentDir);
        self.root.get_or_insert(if plain { absolute } else { target.clone() });
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = target.with_file_name(name);
        let _lock = FolderLock::take(&partial).map_err(|held| match held {
            Held::Failed(source) => DataError::Write { path: partial.clone(), source },
            Held::By(pid) => {
                let reason = format!(
                    "another process (pid {pid}) is exporting to this folder: wait for it, or choose another"
                );
                DataError::Format { path: out.into(), reason }
            }
        })?;
        let exported = clear(&partial).and_then(|()| {
            // The process that held the lock before may have finished its export in between.
            must_be_empty(&target)?;
            let exported = self.write_in(&partial, watch)?;
            ssl_backdoor_files::rename_folder(&partial, &target).map_err(wrong)?;
            Ok(exported)
        });
        // A failed removal does no harm: the lock is not a file of the export, and the next export clears the folder.
        let _ = if exported.is_ok() {
            fs::remove_file(target.join(LOCK))
        } else if partial.join(SETTINGS).exists() || names(&partial).is_empty() {
            fs::remove_dir_all(&partial)
        } else {
            fs::remove_file(partial.join(LOCK))
        };
        exported
    }

    fn write_in(self, partial: &Path, watch: &Watch<'_>) -> Result<Exported, DataError> {
        let job = ExportJob::new(self, watch)?;
        let settings = toml::to_string_pretty(&job.export).map_err(|e| DataError::Format {
            path: partial.join(SETTINGS),
            reason: e.to_string(),
        })?;
        // First, so that the leftovers of an interrupted export are recognised.
        write(&partial.join(SETTINGS), settings.as_bytes())?;
        let mut blanks = false;
        let mut ledgers = Vec::new();
        for phase in Phase::ALL {
            let ledger = job.ledger(phase, partial, watch)?;
            let (text, blank) = job.list(phase, &ledger.rows)?;
            blanks |= blank;
            write(&partial.join(job.list_file(phase)), text.as_bytes())?;
            let path = partial.join(ledger_file(phase));
            write(&path, ledger.to_csv(&path)?.as_bytes())?;
            ledgers.push(ledger);
        }
        job.clean_copies().par_iter().try_for_each(|(file, index)| {
            let path = partial.join(file);
            let bytes = encode(&job.image(Phase::Training, *index)?, file, job.format())
                .map_err(|reason| DataError::Format { path: path.clone(), reason })?;
            path.parent().map_or(Ok(()), make)?;
            write_new(&path, &bytes)
        })?;
        Ok(Exported {
            rates: job.attack.plan.rates(),
            patched: ledgers.last().map_or(0, |ledger| ledger.rows.len()),
            train_list: job.list_file(Phase::Training),
            val_list: job.list_file(Phase::Evaluation),
            blanks,
            saved_from_jpeg: job.saved_from_jpeg,
            jpeg_energy: job.jpeg_energy()?,
            left_out: job.splits.left_out,
            skipped: job.splits.skipped,
        })
    }
}
