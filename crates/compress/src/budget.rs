//! The length of a training on a clean part; it is the same for students and controls.

use ssl_backdoor_data::{Draws, EpochPlan};
use ssl_backdoor_fields::{OutOfRange, require};

/// The length of a training on a clean part, counted in batches of a student.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Passes over the clean part.
    pub epochs: usize,
    /// Optimisation steps instead of `epochs`, rounded up to whole epochs, for clean parts of any size.
    pub steps: Option<usize>,
    /// Images in a step.
    pub batch: usize,
}

impl Budget {
    /// The plan of the epochs on a clean part of `images` images: the last batch of an epoch holds the remaining
    /// images.
    pub fn plan(&self, seed: u64, images: usize) -> EpochPlan {
        EpochPlan { seed, images, batch: self.batch, drop_last: false, draws: Draws::DEFENCE }
    }

    /// Epochs on a clean part of `images` images.
    pub fn epochs_on(&self, images: usize) -> usize {
        self.steps.map_or(self.epochs, |steps| self.plan(0, images).epochs_for(steps))
    }

    /// Steps of the whole training on a clean part of `images` images.
    pub fn steps_on(&self, images: usize) -> usize {
        self.epochs_on(images) * self.plan(0, images).steps_per_epoch()
    }

    /// Checks every value for the `clean` shares of a training set of `images` images (`None` if that is not known yet).
    ///
    /// # Errors
    /// No share or one outside (0, 1], epochs or steps out of range, or a batch that the smallest part cannot fill.
    pub fn check(&self, clean: &[f64], images: Option<usize>) -> Result<(), OutOfRange> {
        let fits = !clean.is_empty() && clean.iter().all(|share| *share > 0.0 && *share <= 1.0);
        require(fits, "clean", format!("{clean:?}"), "a list of shares above 0 and at most 1")?;
        if let Some(steps) = self.steps {
            require((1..=100_000_000).contains(&steps), "steps", steps, "1 to 100,000,000")?;
        }
        require((1..=100_000).contains(&self.epochs), "epochs", self.epochs, "1 to 100,000")?;
        let share = clean.iter().copied().fold(1.0, f64::min);
        let smallest = images.map(|images| share * images as f64);
        let fits = self.batch >= 2 && smallest.is_none_or(|smallest| self.batch as f64 <= smallest);
        let known = smallest.map(|smallest| format!(", {smallest:.0} images")).unwrap_or_default();
        let allowed = format!("2 to the size of the smallest clean part{known}");
        require(fits, "batch", self.batch, allowed)
    }

    /// Checks that a clean part of `images` images fills a batch.
    ///
    /// # Errors
    /// It does not.
    pub fn check_part(&self, images: usize) -> Result<(), OutOfRange> {
        let allowed = format!("2 to the {images} images of the clean part");
        require(self.batch <= images, "batch", self.batch, allowed)
    }
}
