//! The command `schema`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config::SweepFile;
use crate::config::{derived, experiment_schema, reference, sweep_schema};

/// Print what a config file may contain: a JSON Schema, or a reference of all keys.
///
/// Editors that read JSON Schemas of TOML files (Taplo, Even Better TOML) complete and check keys with it. A config names
/// its schema in its first line: #:schema PATH
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ssl-backdoor schema > experiment.schema.json\n  \
    ssl-backdoor schema sweep > sweep.schema.json\n  \
    ssl-backdoor schema --markdown > configuration.md")]
pub struct SchemaArgs {
    /// Which file's schema.
    #[arg(value_enum, default_value = "experiment")]
    file: ConfigFile,
    /// Print the reference of all keys of both files as Markdown instead.
    #[arg(long, conflicts_with = "file")]
    markdown: bool,
}

/// The kinds of config files.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ConfigFile {
    /// What `run` reads.
    Experiment,
    /// What `sweep` reads.
    Sweep,
}

impl SchemaArgs {
    /// Prints the schema or the reference.
    ///
    /// # Errors
    /// The schema cannot be printed.
    pub fn run(self) -> Result<()> {
        let sweep = derived::<SweepFile>();
        if self.markdown {
            print!("{}", reference(&sweep));
            return Ok(());
        }
        let schema = match self.file {
            ConfigFile::Experiment => experiment_schema(),
            ConfigFile::Sweep => sweep_schema(&sweep),
        };
        // Tables are deeply nested: wide indents would make up most of the file.
        let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut text = Vec::new();
        schema.serialize(&mut serde_json::Serializer::with_formatter(&mut text, indent))?;
        println!("{}", String::from_utf8(text)?);
        Ok(())
    }
}
