//! An attack on a given data set: which images, how they are perturbed, and what an export must record.

use crate::{Phase, Poison, PoisonPlan, Selected};

/// An attack on a given data set.
#[derive(Debug, Clone)]
pub struct Attack {
    /// The target class: the config's, or the most frequent one of the images that a [`Rule`](crate::Rule) chose.
    pub target: Option<u32>,
    /// The choice of a rule, as recorded in a ledger; `None` without a rule.
    pub selected: Option<Selected>,
    /// The poisoned training images.
    pub plan: PoisonPlan,
    /// Their perturbation.
    pub train: Poison,
    /// The perturbation of every validation image.
    pub val: Poison,
    /// Whether perturbed images are encoded and decoded where an export writes JPEG.
    pub recompress: bool,
}

impl Attack {
    /// The perturbation of images of `phase`.
    pub fn poison(&self, phase: Phase) -> &Poison {
        match phase {
            Phase::Training => &self.train,
            Phase::Evaluation => &self.val,
        }
    }

    /// Whether both perturbations survive JPEG.
    pub fn survives_jpeg(&self) -> bool {
        Phase::ALL.iter().all(|&phase| self.poison(phase).perturbation.survives_jpeg())
    }
}
