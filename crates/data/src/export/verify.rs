//! Verifies an export: every file is rebuilt from its original and the ledgers and compared byte for byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use ssl_backdoor_trigger::{Ledger, LedgerRow, Perturbation, Phase, pixel_hash};

use super::job::ExportJob;
use super::settings::{FORMAT, SETTINGS, ledger_file};
use crate::absolute::first_relative;
use crate::inside::inside;
use crate::jpeg::encode;
use crate::lock::LOCK;
use crate::{DataError, Export, Watch};

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files that were compared.
    pub files: usize,
    /// Problems, each with the file's name; empty if there are none.
    pub problems: Vec<String>,
    /// Notes on the export: that it has an older format, or was moved.
    pub notes: Vec<String>,
}

/// Rebuilds the export in `folder` from its ledgers and compares the files.
///
/// # Errors
/// The settings, a ledger or the data set cannot be read at all. A difference is not an error but a
/// [problem](Verified::problems).
pub fn verify(folder: &Path, watch: &Watch<'_>) -> Result<Verified, DataError> {
    let job = job(folder, watch)?;
    let ledgers = Phase::ALL.into_iter().map(ledger_file);
    let mut expected: BTreeSet<PathBuf> = ledgers.chain([SETTINGS]).map(PathBuf::from).collect();
    let mut found = Verified { notes: notes(&job.export, folder), ..Verified::default() };
    for phase in Phase::ALL {
        let ledger = read_ledger(folder, phase)?;
        found.problems.extend(check_ledger(&job, folder, phase, &ledger, watch)?);
        expected.extend(ledger.rows.iter().map(|row| PathBuf::from(&row.file)));
        let list = job.list_file(phase);
        let (text, _) = job.list(phase, &ledger.rows)?;
        found.problems.extend(compare(folder, &list.to_string_lossy(), text.as_bytes()).err());
        expected.insert(list);
    }
    for (file, index) in job.clean_copies() {
        let rebuilt = encode(&job.image(Phase::Training, index)?, &file, job.format());
        found.problems.extend(rebuilt.and_then(|bytes| compare(folder, &file, &bytes)).err());
        expected.insert(file.into());
    }
    found.files = expected.len();
    let mut present = Vec::new();
    walk(folder, Path::new(""), &mut present)?;
    let extra = present.into_iter().filter(|file| !expected.contains(file));
    found
        .problems
        .extend(extra.map(|file| format!("{}: extra: it is not in a ledger", file.display())));
    found.problems.sort_unstable();
    Ok(found)
}

/// The problems of the files of one ledger, and of its head.
fn check_ledger(
    job: &ExportJob,
    folder: &Path,
    phase: Phase,
    ledger: &Ledger,
    watch: &Watch<'_>,
) -> Result<Vec<String>, DataError> {
    let Ledger { head, rows } = ledger;
    let mut problems = Vec::new();
    if head.count != rows.len() {
        let (name, head, rows) = (ledger_file(phase), head.count, rows.len());
        problems
            .push(format!("{name}: changed: its head gives {head} images, but it lists {rows}"));
    }
    let perturbation = head.recipe.build(phase, &job.setup)?;
    if perturbation.hash() != head.trigger_hash {
        let name = perturbation.name();
        problems.push(format!("the trigger {name} has changed since the export"));
    }
    let done = AtomicUsize::new(0);
    let check = |row: &LedgerRow| -> Result<Option<String>, DataError> {
        watch("verifying", done.fetch_add(1, Ordering::Relaxed) + 1, rows.len());
        let rebuilt = rebuild(job, folder, phase, row, &*perturbation)?;
        Ok(rebuilt.and_then(|bytes| compare(folder, &row.file, &bytes)).err())
    };
    let found: Result<Vec<_>, DataError> = rows.par_iter().map(check).collect();
    problems.extend(found?.into_iter().flatten());
    Ok(problems)
}

/// The list of the clean originals of the export in `folder`: its training list with every poisoned image replaced by
/// its original.
///
/// # Errors
/// The settings, the ledger or the data set cannot be read.
pub fn clean_list(folder: &Path, watch: &Watch<'_>) -> Result<String, DataError> {
    let job = job(folder, watch)?;
    // Without its ledger it is unknown what was poisoned; the originals themselves follow from the data.
    read_ledger(folder, Phase::Training)?;
    Ok(job.list(Phase::Training, &[])?.0)
}

fn settings(folder: &Path) -> Result<Export, DataError> {
    let path = folder.join(SETTINGS);
    if folder.is_dir() && !path.exists() {
        let reason = format!("it is not an export: it contains no {SETTINGS}");
        return Err(DataError::Format { path: folder.into(), reason });
    }
    let text = read(&path)?;
    let wrong = |reason| DataError::Format { path: path.clone(), reason };
    // Check the format first: a later one may have other keys.
    let table: toml::Table = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let number = |key: &str| table.get(key).and_then(toml::Value::as_integer);
    if let Some(format) = number("format").filter(|&format| format > FORMAT.into()) {
        let by = table.get("version").and_then(toml::Value::as_str);
        let by = by.map(|version| format!(" by version {version}")).unwrap_or_default();
        return Err(wrong(format!(
            "the export was written{by} in format {format}, but this version reads 1 to {FORMAT}: verify it with a newer version"
        )));
    }
    toml::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// The export in `folder` with its originals.
fn job(folder: &Path, watch: &Watch<'_>) -> Result<ExportJob, DataError> {
    let export = settings(folder)?;
    let relative = first_relative(&export.data, &export.poison);
    ExportJob::new(export, watch).map_err(|error| {
        let hint = match relative {
            Some(path) => format!(
                "; {} is a relative path (this export is of an older version): run this in the folder where it was exported",
                path.display()
            ),
            None => String::new(),
        };
        let reason =
            format!("cannot read the original images, from which every file is rebuilt: {error}{hint}");
        DataError::Format { path: folder.join(SETTINGS), reason }
    })
}

/// What the user should know besides the problems.
fn notes(export: &Export, folder: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    if export.format < FORMAT {
        let differ = match export.format {
            1 => "subsample chroma by the nearest pixel, where PIL averages",
            _ => "differ from PIL's by rounding",
        };
        notes.push(format!(
            "written in format {} by an older version: its JPEGs {differ}; they are compared with files encoded in the \
             same way",
            export.format
        ));
    }
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    if let Some(root) = &export.root
        && canonical(root) != canonical(folder)
    {
        let (root, folder) = (root.display(), folder.display());
        notes.push(format!(
            "the folder was moved from {root} to {folder}: its lists still name the old paths; move it back or export \
             again before you use them"
        ));
    }
    notes
}

fn read_ledger(folder: &Path, phase: Phase) -> Result<Ledger, DataError> {
    let path = folder.join(ledger_file(phase));
    Ok(Ledger::parse(&read(&path)?, &path)?)
}

fn read(path: &Path) -> Result<String, DataError> {
    fs::read_to_string(path).map_err(|source| DataError::Read { path: path.into(), source })
}

/// The rebuilt bytes of a row's file, or why they cannot be rebuilt.
fn rebuild(
    job: &ExportJob,
    folder: &Path,
    phase: Phase,
    row: &LedgerRow,
    perturbation: &dyn Perturbation,
) -> Result<Result<Vec<u8>, String>, DataError> {
    let file = &row.file;
    let Some(&index) = job.positions[phase as usize].get(&row.image_id) else {
        return Ok(Err(format!("{file}: its original {} is not in the data set", row.source)));
    };
    let mut image = job.image(phase, index)?;
    if pixel_hash(&image) != row.source_hash {
        return Ok(Err(format!("{file}: its original {} has changed", row.source)));
    }
    if let Err(error) = row.replay(perturbation, &mut image) {
        return Ok(Err(format!("{file}: the ledger's row cannot be applied: {error}")));
    }
    if pixel_hash(&image) != row.output_hash {
        return Ok(Err(format!("{file}: the ledger's row does not reproduce its image")));
    }
    let is_claimed = |bytes: &[u8]| blake3::hash(bytes).to_hex().as_str() == row.file_hash;
    Ok(encode(&image, file, job.format()).and_then(|bytes| {
        if is_claimed(&bytes) {
            return Ok(bytes);
        }
        let there = inside(folder, Path::new(file)).and_then(|path| fs::read(path).ok());
        Err(if there.is_some_and(|there| is_claimed(&there)) {
            format!(
                "{file}: matches the ledger, but this version encodes these pixels differently: another version wrote it, or \
                 file and ledger were changed together"
            )
        } else {
            format!("{file}: the ledger's row does not reproduce its file")
        })
    }))
}

/// Compares `file` of `folder` with the `expected` bytes.
fn compare(folder: &Path, file: &str, expected: &[u8]) -> Result<(), String> {
    // A ledger that was tampered with must not lead outside the folder.
    let path = Path::new(file);
    if path.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
        return Err(format!("{file}: points outside the folder"));
    }
    match fs::read(folder.join(path)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(format!("{file}: missing")),
        Err(e) => Err(format!("{file}: cannot be read: {e}")),
        Ok(bytes) if bytes != expected => Err(format!("{file}: changed")),
        Ok(_) => Ok(()),
    }
}

/// All files below `folder/inside`, relative to `folder`.
fn walk(folder: &Path, inside: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let at = folder.join(inside);
    let wrong = |source| DataError::Read { path: at.clone(), source };
    for entry in fs::read_dir(&at).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let path = inside.join(entry.file_name());
        // Left behind if an export was killed at the last moment.
        if path.as_os_str() == LOCK {
            continue;
        }
        if entry.file_type().map_err(wrong)?.is_dir() {
            walk(folder, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
