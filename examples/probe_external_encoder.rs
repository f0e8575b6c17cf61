//! Is an external checkpoint backdoored with one of the paper's triggers? Converts it, and probes it on clean and on
//! patched images beside an untrained network (last column of the paper's tables: one row for one model).
//!
//! ```sh
//! cargo run --release --example probe_external_encoder -- moco_v2.pth.tar configs/imagenet100/moco-v2.toml
//! ```

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor::{ConvertOptions, ExternalOptions, convert, probe_external};
use ssl_backdoor_model::ImportOptions;

#[derive(Parser)]
#[command(about = "Converts a checkpoint and probes it for a trigger")]
struct Args {
    /// The checkpoint, as PyTorch or another tool wrote it.
    checkpoint: PathBuf,
    /// The config whose images, trigger and probe are used.
    config: PathBuf,
    /// Side of the encoder's images, where the checkpoint cannot say.
    #[arg(long)]
    size: Option<u32>,
    /// Where the encoder file and the scores go.
    #[arg(long, default_value = "runs/external")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let Args { checkpoint, config, size, out } = Args::parse();
    std::fs::create_dir_all(&out)?;
    let encoder = out.join("encoder.safetensors");
    let import = ImportOptions { size, ..ImportOptions::default() };
    convert(&ConvertOptions {
        input: checkpoint,
        output: encoder.clone(),
        backbone: true,
        import,
    })?;
    probe_external(&ExternalOptions {
        encoder,
        config,
        out: Some(out),
        sets: Vec::new(),
        json: false,
    })
}
