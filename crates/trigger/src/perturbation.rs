//! Perturbations: how an attack changes an image.

use std::fmt;
use std::sync::Arc;

use image::{GrayImage, RgbImage};

use crate::purpose;
use crate::{Footprint, Record, TriggerError};
use ssl_backdoor_rng::{ChaCha8Rng, keyed};

/// When an image is perturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The attacker poisons training images.
    Training,
    /// The attacker shows evaluation images to the trained model.
    Evaluation,
}

impl Phase {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Training, Self::Evaluation];
}

/// Which image is perturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Seed of the attack.
    pub seed: u64,
    /// When it is perturbed.
    pub phase: Phase,
    /// Id of the image in its data set.
    pub id: u64,
}

impl Key {
    /// The random number generator for the perturbation of this image, the same in every epoch.
    pub fn rng(&self) -> ChaCha8Rng {
        let purpose = match self.phase {
            Phase::Training => purpose::TRAIN_SPOT,
            Phase::Evaluation => purpose::VAL_SPOT,
        };
        keyed(self.seed, purpose, 0, self.id, 0)
    }
}

/// Images that a perturbation may use besides the one that it changes.
pub trait References: fmt::Debug + Send + Sync {
    /// Their ids, ascending.
    fn ids(&self) -> &[u64];

    /// The image with this id.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn get(&self, id: u64) -> Result<RgbImage, TriggerError>;

    /// The mask of the object on the image with this id, at the image's size: 255 inside, 0 outside. Few data sets
    /// have one.
    ///
    /// # Errors
    /// There is no such image, or its mask is not known.
    fn mask(&self, id: u64) -> Result<GrayImage, TriggerError> {
        let reason = "the outline of its object is unknown".into();
        Err(TriggerError::Reference { id, reason })
    }
}

/// No images.
impl References for () {
    fn ids(&self) -> &[u64] {
        &[]
    }

    fn get(&self, id: u64) -> Result<RgbImage, TriggerError> {
        Err(TriggerError::Reference { id, reason: "there are no reference images".into() })
    }
}

/// What a perturbation is built from, besides its own settings.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Side of the views and evaluation images, in pixels.
    pub view: u32,
    /// The unchanged training images of the target class. Empty while a config is checked, which reads no data, and
    /// without a target.
    pub references: Arc<dyn References>,
}

impl Setup {
    /// Views of `view` pixels a side, and no reference images.
    pub fn new(view: u32) -> Self {
        Self { view, references: Arc::new(()) }
    }
}

/// A change to images that a backdoored model may respond to.
///
/// It works in two steps: [`draw`](Self::draw) decides how to change an image, and [`perturb`](Self::perturb) changes
/// it. The code that perturbed an image can therefore perturb it again from its row of the ledger.
///
/// One value serves one [`Phase`]: training and evaluation images may be perturbed differently. A perturbation may
/// change the size of training images. Evaluation images must keep theirs.
pub trait Perturbation: fmt::Debug + Send + Sync {
    /// Its name in ledgers and paths, for example `htba-10`.
    fn name(&self) -> &str;

    /// Decides how to change `image`. All randomness comes from `key`.
    ///
    /// # Errors
    /// [`TriggerError::Image`] if the image cannot be perturbed.
    fn draw(&self, key: &Key, image: &RgbImage) -> Result<Record, TriggerError>;

    /// Changes `image` as `record` says.
    ///
    /// # Errors
    /// [`TriggerError::Column`] if the record is not from this perturbation, [`TriggerError::Image`] if the image
    /// cannot be perturbed.
    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError>;

    /// Runs both steps.
    ///
    /// # Errors
    /// As [`draw`](Self::draw) and [`perturb`](Self::perturb).
    fn apply(&self, key: &Key, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let record = self.draw(key, image)?;
        self.perturb(&record, image)
    }

    /// A hexadecimal hash of all that determines the pixels of the perturbation, including the content of its files.
    fn hash(&self) -> String;

    /// Its settings in the names of exported folders and lists.
    fn stem(&self, phase: Phase) -> String;

    /// Checks that images of `side` × `side` pixels can be perturbed; `images` says which images these are.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    fn check(&self, side: u32, images: &str) -> Result<(), TriggerError>;

    /// Its width in pixels on an image of (width, height) pixels; `None` if a width is meaningless.
    fn width(&self, _image: (u32, u32)) -> Option<u32> {
        None
    }

    /// The box `[x, y, width, height]` that a line of an exported file list ends with (`patch_params`).
    fn listed_box(&self, _record: &Record) -> Option<[u32; 4]> {
        None
    }

    /// Whether it survives JPEG of quality 75 with 4:2:0 chroma. If not, every image is exported as PNG.
    fn survives_jpeg(&self) -> bool {
        true
    }
}

/// The perturbation of a phase with its seed: everything needed to poison an image, given its id.
#[derive(Debug, Clone)]
pub struct Poison {
    /// The perturbation.
    pub perturbation: Arc<dyn Perturbation>,
    /// Seed of its random draws.
    pub seed: u64,
    /// The phase, which keeps the random draws of both phases apart.
    pub phase: Phase,
}

impl Poison {
    /// The key of the image `id`.
    pub fn key(&self, id: u64) -> Key {
        Key { seed: self.seed, phase: self.phase, id }
    }

    /// Perturbs image `id`, in the same way in every epoch, and returns the footprint.
    ///
    /// # Errors
    /// The image cannot be perturbed.
    pub fn apply(&self, id: u64, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        self.perturbation.apply(&self.key(id), image).map_err(|e| e.at(|| format!("image {id}")))
    }

    /// The [`psnr`] of its change to image `id`, in dB. `None` if the image does not change or gets another size.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn psnr(&self, id: u64, image: &RgbImage) -> Result<Option<f64>, TriggerError> {
        let mut perturbed = image.clone();
        self.apply(id, &mut perturbed)?;
        Ok(psnr(image, &perturbed))
    }
}

/// The peak signal-to-noise ratio of two images in dB: 10·log₁₀(255² / mean squared difference over all pixels and
/// channels). `None` for equal images and for images of different sizes.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    if a.dimensions() != b.dimensions() || a == b {
        return None;
    }
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2));
    let mean = squares.sum::<u64>() as f64 / a.as_raw().len() as f64;
    Some(10.0 * (255.0 * 255.0 / mean).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_by_hand() {
        let black = RgbImage::new(2, 2);
        let mut other = black.clone();
        // One of twelve values differs by 6: the mean square is 3.
        other.get_pixel_mut(1, 0).0[2] = 6;
        let expected = 10.0 * (65025.0f64 / 3.0).log10();
        assert!((psnr(&black, &other).unwrap() - expected).abs() < 1e-12);
        assert_eq!((psnr(&black, &black), psnr(&black, &RgbImage::new(2, 3))), (None, None));
    }

    #[test]
    fn the_chance_of_phases_and_images_is_apart() {
        use rand::Rng;
        let draw = |phase, id| Key { seed: 1, phase, id }.rng().next_u64();
        assert_eq!(draw(Phase::Training, 1), draw(Phase::Training, 1));
        assert_ne!(draw(Phase::Training, 1), draw(Phase::Evaluation, 1));
        assert_ne!(draw(Phase::Training, 1), draw(Phase::Training, 2));
    }
}
