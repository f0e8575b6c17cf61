//! The command `scan`: search for backdoors in images or in an encoder of unknown origin.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::scan_data::DataArgs;
use super::scan_encoder::EncoderArgs;
use super::scan_nulls::NullsArgs;

/// Search for backdoors in images or in an encoder of unknown origin, without labels.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor scan data photos/\n  ssl-backdoor scan data list.txt --fail-above 20\n  \
    ssl-backdoor scan nulls configs/quickstart.toml --out nulls/\n  \
    ssl-backdoor scan encoder encoder.safetensors --images configs/quickstart.toml --null nulls/"
)]
pub struct ScanArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Data(DataArgs),
    Encoder(EncoderArgs),
    Nulls(NullsArgs),
}

impl ScanArgs {
    /// Scans.
    ///
    /// # Errors
    /// As [`scan_data`](super::scan_data()), [`scan_encoder`](super::scan_encoder()) and
    /// [`scan_nulls`](super::scan_nulls()).
    pub fn run(self) -> Result<()> {
        match self.what {
            What::Data(args) => args.run(),
            What::Encoder(args) => args.run(),
            What::Nulls(args) => args.run(),
        }
    }
}
