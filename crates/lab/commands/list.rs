//! The command `list`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::run_folders::{RUNS, RunRow};
use super::shared::path;
use crate::record::{SCHEMA, json_text};
use crate::report::aligned;

/// List the runs under a folder: state, method, target, clean accuracy and net ASR.
///
/// A run is done (it has scores), running (a process is using its folder), failed (`show` says why), unfinished (it
/// stopped after the stage of --until or was interrupted) or not begun. The command that started a failed or
/// unfinished run resumes it. The clean accuracy is that of the clean twin. An encoder that `probe` scored is a row with
/// the method `probe`, with its own accuracy. Clean twins that a sweep shares are not listed; `sweep FILE --status` shows
/// them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ssl-backdoor list\n  ssl-backdoor list runs/table --json")]
pub struct ListArgs {
    /// The folder.
    #[arg(value_parser = path(), default_value = RUNS)]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Lists the runs.
    ///
    /// # Errors
    /// The folder does not exist, or contains no run.
    pub fn run(self) -> Result<()> {
        let rows = RunRow::all(&self.dir)?;
        if self.json {
            print!("{}", json_text(&json!({ "schema": SCHEMA, "runs": rows }))?);
            return Ok(());
        }
        if rows.is_empty() {
            bail!("no run in {}: `ssl-backdoor run CONFIG` makes one", self.dir.display());
        }
        let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
        let cells = rows.into_iter().map(|row| {
            let name = row.folder.strip_prefix(&self.dir).unwrap_or(&row.folder);
            let name = if name.as_os_str().is_empty() { &row.folder } else { name };
            [
                name.display().to_string(),
                row.state.to_string(),
                row.method.unwrap_or_else(|| "-".into()),
                row.target.unwrap_or_else(|| "-".into()),
                number(row.clean_acc),
                number(row.net_asr),
            ]
        });
        let head = ["run", "state", "method", "target", "clean Acc %", "net ASR"];
        print!("{}", aligned(head, &cells.collect::<Vec<_>>()));
        Ok(())
    }
}
