//! An attack on a given data set: which images, what is done to them, what an export must record.

use crate::{Phase, Poison, PoisonPlan, Selected};

/// An attack on a certain data set.
#[derive(Debug, Clone)]
pub struct Attack {
    /// The target class: the config's, or else the one that most images have that a [`Rule`](crate::Rule) chose.
    pub target: Option<u32>,
    /// What is known of the images that a rule chose; none without a rule.
    pub selected: Option<Selected>,
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
