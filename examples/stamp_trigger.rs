//! The first figure of the paper: what a trigger looks like on an image at a random place, in the middle, as a grid
//! of nine, in a corner and half transparent.
//!
//! ```sh
//! cargo run --release --example stamp_trigger -- photo.jpg stamped.png
//! ```
//!
//! Without a photo it uses a grey image. It calls only the trigger crate and the data crate's image reader.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use image::{GenericImage, Rgb, RgbImage};
use ssl_backdoor_trigger::{Corner, Key, Patch, Perturbation, Phase, Place, TriggerConfig};

#[derive(Parser)]
#[command(about = "Stamps a trigger on a photo in every way there is")]
struct Args {
    /// The photo.
    photo: Option<PathBuf>,
    /// Where the strip of stamped copies goes.
    #[arg(default_value = "stamped.png")]
    out: PathBuf,
    /// The trigger of the paper, 10 to 19.
    #[arg(long, default_value_t = 10)]
    id: u32,
    /// Its side in pixels.
    #[arg(long, default_value_t = 50)]
    width: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let photo = match &args.photo {
        Some(path) => ssl_backdoor_data::read_image(path, false)?,
        None => RgbImage::from_pixel(224, 224, Rgb([128, 128, 128])),
    };
    let trigger =
        TriggerConfig::Htba { id: args.id, width: args.width.into() }.build(photo.width())?;
    let ways = [
        (Place::Random { min: 0.25, max: 0.75 }, 0.0),
        (Place::Center {}, 0.0),
        (Place::GRID, 0.0),
        (Place::Corner { which: Corner::BottomRight }, 0.0),
        (Place::Center {}, 0.5),
    ];
    let (width, height) = photo.dimensions();
    let mut strip = RgbImage::new(width * ways.len() as u32, height);
    for (i, (place, alpha)) in ways.into_iter().enumerate() {
        let patch = Patch { trigger: trigger.clone(), place, alpha };
        let mut copy = photo.clone();
        // Randomness is keyed by the image's id: the same id gives the same place.
        let key = Key { seed: 1, phase: Phase::Training, id: 7 };
        let spots = patch.apply(&key, &mut copy)?.boxes((width, height));
        println!("{place:?}, alpha {alpha}: {} copies, the first at {:?}", spots.len(), spots[0]);
        strip.copy_from(&copy, width * i as u32, 0)?;
    }
    strip.save(&args.out)?;
    println!("{}", args.out.display());
    Ok(())
}
