//! The order of the training images over the steps.

use std::ops::Range;

use ssl_backdoor_rng::{Purpose, ranked};

use crate::purpose;

/// The purposes of a training's draws. A second training on the same images with the same seed must not repeat the
/// order and the crops of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// Purpose of the order of the images.
    pub order: Purpose,
    /// Purpose of their views.
    pub views: Purpose,
}

impl Draws {
    /// The victim's pretraining.
    pub const PRETRAIN: Self = Self { order: purpose::ORDER, views: purpose::VIEW };
    /// The defender's training: a student, or its control.
    pub const DEFENCE: Self = Self { order: purpose::STUDENT_ORDER, views: purpose::STUDENT_VIEW };
}

/// How steps map to images: each epoch takes batches from a new order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPlan {
    /// Seed of the order and of the views.
    pub seed: u64,
    /// Images in the training set.
    pub images: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Whether to drop the images at the end of an epoch that do not fill a batch, as `drop_last` of PyTorch's
    /// `DataLoader`. Otherwise they form a smaller batch, but a single image is always dropped, because batch norm
    /// needs two.
    pub drop_last: bool,
    /// The purposes that the order and the views are drawn for.
    pub draws: Draws,
}

impl EpochPlan {
    /// Images that an epoch trains on.
    pub fn images_per_epoch(&self) -> usize {
        let left = self.images.checked_rem(self.batch).unwrap_or(self.images);
        let kept = !self.drop_last && left > 1 && self.batch > 0;
        if kept { self.images } else { self.images - left }
    }

    /// Batches in an epoch, the smaller last one included if it is kept.
    pub fn steps_per_epoch(&self) -> usize {
        self.images_per_epoch().div_ceil(self.batch.max(1))
    }

    /// Number of epochs that together have at least `steps` steps.
    pub fn epochs_for(&self, steps: usize) -> usize {
        steps.div_ceil(self.steps_per_epoch().max(1))
    }

    /// The epoch of `step`, from 0; steps count from the start of training.
    pub fn epoch_of(&self, step: usize) -> usize {
        step / self.steps_per_epoch().max(1)
    }

    /// Total number of images in all steps before `step`.
    pub fn images_before(&self, step: usize) -> usize {
        self.epoch_of(step) * self.images_per_epoch() + self.places(step).start
    }

    /// Images in `step`: `batch` or, at the end of an epoch, fewer.
    pub fn images_in(&self, step: usize) -> usize {
        self.places(step).len()
    }

    /// The part of its epoch's order that `step` takes.
    pub fn places(&self, step: usize) -> Range<usize> {
        let first = step % self.steps_per_epoch().max(1) * self.batch;
        first..(first + self.batch).min(self.images_per_epoch())
    }

    /// The order of the images in `epoch`: positions in the set.
    pub fn order(&self, epoch: u32) -> Vec<u64> {
        let all: Vec<u64> = (0..self.images as u64).collect();
        ranked(&all, self.seed, self.draws.order, epoch)
    }
}
