//! Images per second of a MoCo v2 view on one thread, or of the export of poisoned JPEGs on all
//! `RAYON_NUM_THREADS` threads, as one JSON line: the counterpart of `benches/torch_data.py`, on equal work.
//!
//! ```sh
//! cargo run --release --example data_speed -- --what view --size 224
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use image::RgbImage;
use rand::RngExt;
use ssl_backdoor_data::augment::{ChainViews, Geometry, Scratch, ViewKey, Views};
use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{DataConfig, Eval, Export, Folder};
use ssl_backdoor_rng::keyed;

#[derive(Clone, Copy, ValueEnum)]
enum What {
    View,
    Export,
}

/// What is exported.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Training images at their own size.
    Train,
    /// Validation images, resized and cropped to 224 px.
    Val,
    /// Both, as many of each as the paper has: 650 of a class for training, all 5,000 for validation (docs/protocol.md, 1.5).
    Paper,
}

impl Part {
    /// Numbers of training and validation images, `count` in all; each is at least 1.
    fn images(self, count: usize) -> [usize; 2] {
        match self {
            Self::Train => [count - 1, 1],
            Self::Val => [1, count - 1],
            Self::Paper => {
                let train = (count * 650).div_ceil(5_650);
                [train, count - train]
            }
        }
    }
}

#[derive(Parser)]
#[command(about = "Images per second of a view or of the poisoned export, as one JSON line")]
struct Args {
    /// What to measure.
    #[arg(long, value_enum, default_value = "view")]
    what: What,
    /// Side of the view in pixels: up to 64 from an image of 32 × 32, above from 500 × 375.
    #[arg(long, default_value_t = 32)]
    size: u32,
    /// Views or images.
    #[arg(long)]
    count: Option<usize>,
    /// Which images (export).
    #[arg(long, value_enum, default_value = "train")]
    part: Part,
    /// Folder with the peer's 20 photographs, 0.JPEG to 19.JPEG (export).
    #[arg(long)]
    photos: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (what, rate) = match args.what {
        What::View => {
            let default = if args.size <= 64 { 20_000 } else { 1_000 };
            ("view", views(args.size, args.count.unwrap_or(default)))
        }
        What::Export => {
            let photos = args.photos.context("--what export needs --photos")?;
            let images = args.part.images(args.count.unwrap_or(2_000).max(2));
            ("export", export(images, &photos)?)
        }
    };
    let rate = (rate * 10.0).round() / 10.0;
    println!("{}", serde_json::json!({ "what": what, "size": args.size, "images_per_s": rate }));
    Ok(())
}

/// A smooth image with noise, so that its JPEG is about as large as that of a photograph.
fn photo(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut rng = keyed(seed, purpose::DRAW, 0, 0, 0);
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0u8, 1, 2].map(|c| {
            let (a, b) = (9.0 + 7.0 * f64::from(c), 13.0 + 5.0 * f64::from(c));
            let wave = (f64::from(x) / a + seed as f64).sin() * (f64::from(y) / b).cos();
            let noise: f64 = (0..4).map(|_| rng.random_range(-7.0..7.0)).sum();
            (128.0 + 90.0 * wave + noise).clamp(0.0, 255.0) as u8
        }))
    })
}

fn views(size: u32, count: usize) -> f64 {
    let image = if size <= 64 { photo(32, 32, 0) } else { photo(500, 375, 0) };
    let views = ChainViews::moco(size, (0.2, 1.0), size > 64);
    let len = (3 * size * size) as usize;
    let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
    let mut scratch = Scratch::default();
    let mut geometry = [Geometry::default(); 2];
    let mut make = |id| {
        let key = ViewKey { seed: 0, purpose: purpose::VIEW, epoch: 0, id };
        views.write(&image, &key, &mut scratch, &mut [&mut first, &mut second], &mut geometry);
    };
    make(u64::MAX);
    let start = Instant::now();
    // Two views of each image.
    (0..count as u64 / 2).for_each(&mut make);
    count as f64 / start.elapsed().as_secs_f64()
}

/// Exports `train` poisoned training images of a class and `val` patched validation images, with everything that
/// `poison` does: hashes, ledger, lists.
fn export([train, val]: [usize; 2], photos: &Path) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let set = folder.path().join("set");
    let photos: Vec<Vec<u8>> = (0..20)
        .map(|i| std::fs::read(photos.join(format!("{i}.JPEG"))))
        .collect::<Result<_, _>>()
        .context("--photos needs a folder that torch_data.py made")?;
    let class = |part: &str| set.join(part).join("n01855672");
    for (part, images) in [("train", train), ("val", val)] {
        std::fs::create_dir_all(class(part))?;
        for i in 0..images {
            std::fs::write(class(part).join(format!("{i}.JPEG")), &photos[i % photos.len()])?;
        }
    }
    let poison = "target = 0\nrate = 1\ntrigger = { kind = \"htba\", id = 10, width = 50 }";
    let job = |out: &Path| {
        let data = DataConfig::Folder(Folder { eval: Eval::All, ..Folder::new(&set, 224) });
        let export = Export::new(0, data, toml::from_str(poison)?);
        let start = Instant::now();
        export.write(out, &|_, _, _| {})?;
        anyhow::Ok((train + val) as f64 / start.elapsed().as_secs_f64())
    };
    job(&folder.path().join("out"))
}
