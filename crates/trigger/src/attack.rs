//! An attack on a certain data set: which images, what is done to them, what an export must keep.

use crate::{Phase, Poison, PoisonPlan};

/// What is known of the training images when an attack is planned.
#[derive(Debug, Clone, Copy)]
pub struct TrainingSet<'a> {
    /// (image id, class) of every image, in any order.
    pub labels: &'a [(u64, u32)],
    /// Names of the classes.
    pub classes: &'a [String],
    /// Ids of the images that the config's `list` names; none without a list.
    pub listed: &'a [u64],
}

/// An attack on a certain data set.
#[derive(Debug, Clone)]
pub struct Attack {
    /// The target class.
    pub target: Option<u32>,
    /// The poisoned training images.
    pub plan: PoisonPlan,
    /// What is done to them.
    pub train: Poison,
    /// What is done to every validation image.
    pub val: Poison,
    /// Whether perturbed images are encoded and decoded where an export writes JPEG.
    pub recompress: bool,
}

impl Attack {
    /// What is done to images of `phase`.
    pub fn poison(&self, phase: Phase) -> &Poison {
        match phase {
            Phase::Training => &self.train,
            Phase::Evaluation => &self.val,
        }
    }

    /// Do both perturbations outlast JPEG?
    pub fn survives_jpeg(&self) -> bool {
        Phase::ALL.iter().all(|&phase| self.poison(phase).perturbation.survives_jpeg())
    }
}
