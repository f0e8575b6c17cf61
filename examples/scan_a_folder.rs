//! Which images of a folder carry a trigger? The scan knows neither what it looks like nor the classes.
//!
//! ```sh
//! cargo run --release --example scan_a_folder -- photos/
//! ```
//!
//! Does the same as `scan data`, from code: trains a small encoder on the images; PatchSearch looks for patches that
//! move other images into their own image's cluster, and small networks look for the strongest of them in all images.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use clap::Parser;
use image::imageops;
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_data::{ImageFiles, InMemory, Normalization, SampleSet, resized_set};
use ssl_backdoor_scan::{
    Findings, PatchSearch, PatchSearchConfig, Scan, Setting, Subject, small_encoder,
};
use ssl_backdoor_ssl::{Training, pretrain};

#[derive(Parser)]
#[command(about = "Ranks the images of a folder by how likely they carry a trigger")]
struct Args {
    /// The folder.
    folder: PathBuf,
    /// Side of the views in pixels.
    #[arg(long, default_value_t = 32)]
    size: u32,
    /// Epochs of the encoder [default: as many as see about 60,000 images].
    #[arg(long)]
    epochs: Option<usize>,
    /// Images that are shown.
    #[arg(long, default_value_t = 20)]
    show: usize,
    /// Networks that learn the strongest patches.
    #[arg(long)]
    networks: Option<usize>,
    /// Optimisation steps of a network at most.
    #[arg(long)]
    steps: Option<usize>,
}

fn main() -> Result<()> {
    let Args { folder, size, epochs, show, networks, steps } = Args::parse();
    let files = ImageFiles::read(&folder, &|_, _, _| {})?;
    let prepared = resized_set(files.split.set.clone(), size, Filter::Bilinear, true);
    let images: SampleSet = Arc::new(InMemory::read(&prepared, &|_, _, _| {})?);
    PatchSearch::check_count(images.len())?;

    let device = Device::flex();
    let training = Training::new(images.clone(), 1, &device);
    let config = small_encoder(images.len(), size, epochs);
    let encoder = pretrain(&config, None, size, &training, &mut ())?;

    let config = PatchSearchConfig { networks, steps, ..PatchSearchConfig::default() };
    let normalization = Normalization::default();
    let setting = Setting { device: &device, seed: 1, normalization, watch: &|_, _, _| {} };
    let subject = Subject::Set { images: &images, encoder: &encoder };
    let findings = PatchSearch { config }.scan(subject, &setting)?;

    let name = |id: u64| {
        let at = files.split.labels.iter().position(|(other, _)| *other == id);
        let path = files.split.files.as_ref().zip(at).and_then(|(files, at)| files.get(at));
        path.map_or_else(|| id.to_string(), |path| path.display().to_string())
    };
    println!("{} of {} images are suspected.", findings.accused.len(), images.len());
    for (score, id) in findings.scores.iter().zip(findings.ranked_images()).take(show) {
        println!("{:.3}  {}", score.value, name(id));
    }
    show_strongest(&findings)
}

/// Writes the strongest patch as `strongest-patch.png`.
fn show_strongest(findings: &Findings) -> Result<()> {
    let Some(best) = findings.evidence.first() else { return Ok(()) };
    println!("{}: strongest-patch.png", best.caption);
    if let Some(patch) = best.patch {
        let cut = imageops::crop_imm(&best.picture, patch.x, patch.y, patch.width, patch.height);
        cut.to_image().save("strongest-patch.png")?;
    }
    println!("What this scan cannot detect: {}", PatchSearch::BLIND.join(" "));
    Ok(())
}
