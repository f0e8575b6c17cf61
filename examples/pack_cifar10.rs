//! CIFAR-10 from class folders of images to the binary files that `data.kind = "cifar10"` reads.
//!
//! ```sh
//! cargo run --release --example pack_cifar10 -- cifar10/ --out cifar10-bin/
//! ```
//!
//! `cifar10/train/CLASS/*` and `cifar10/val/CLASS/*` hold images of 32 × 32 pixels. Classes are numbered in the order of their
//! names, which is that of the official files. The images of each part are shuffled by a fixed seed, and the training images are split over five
//! files. The pixels are those of the images, so a copy in JPEG differs from the official files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rand::seq::SliceRandom;
use ssl_backdoor_data::purpose;
use ssl_backdoor_rng::keyed;

/// Side of the images in pixels.
const SIDE: u32 = 32;
/// Files of training images.
const BATCHES: usize = 5;

#[derive(Parser)]
#[command(about = "CIFAR-10 from class folders to its binary version")]
struct Args {
    /// The folder with `train` and `val`.
    folder: PathBuf,
    /// Folder for the binary files.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let Args { folder, out } = Args::parse();
    let names = |part: &str| -> Result<Vec<PathBuf>> {
        let classes = sorted(&folder.join(part))?;
        Ok(classes.iter().filter_map(|class| class.file_name().map(PathBuf::from)).collect())
    };
    let (of_train, of_val) = (names("train")?, names("val")?);
    ensure!(of_train == of_val, "train has the classes {of_train:?}, val {of_val:?}");
    std::fs::create_dir_all(&out)?;
    let train = records(&folder.join("train"), 0)?;
    for (i, batch) in train.chunks(train.len().div_ceil(BATCHES)).enumerate() {
        std::fs::write(out.join(format!("data_batch_{}.bin", i + 1)), batch.concat())?;
    }
    let test = records(&folder.join("val"), 1)?;
    std::fs::write(out.join("test_batch.bin"), test.concat())?;
    println!("{} training and {} test images in {}", train.len(), test.len(), out.display());
    Ok(())
}

/// The images of the class folders in `folder`, shuffled: a byte for the class, then the pixels channel by channel.
fn records(folder: &Path, part: u64) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for (class, folder) in sorted(folder)?.iter().enumerate() {
        for file in sorted(folder)? {
            all.push((u8::try_from(class).context("more than 256 classes")?, file));
        }
    }
    ensure!(all.len() >= BATCHES, "{} holds {} images", folder.display(), all.len());
    all.shuffle(&mut keyed(0, purpose::HALVES, 0, part, 0));
    let record = |(class, file): &(u8, PathBuf)| -> Result<Vec<u8>> {
        let shown = file.display();
        let bytes = std::fs::read(file).with_context(|| shown.to_string())?;
        let image =
            ssl_backdoor_images::decode(&bytes, false).with_context(|| shown.to_string())?;
        ensure!(image.dimensions() == (SIDE, SIDE), "{shown} is not {SIDE} x {SIDE} pixels");
        let channel = |c: usize| image.as_raw().iter().skip(c).step_by(3).copied();
        Ok(std::iter::once(*class).chain((0..3).flat_map(channel)).collect())
    };
    all.iter().map(record).collect()
}

/// The entries of `folder` by name.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    Ok(paths)
}
