//! The inputs of a defence: the victim's data and training, and the images that the defence trains on.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use ssl_backdoor_data::{SampleSet, Splits, Subset};
use ssl_backdoor_model::{Encoder, EncoderHeader, ModelError, load_encoder};
use ssl_backdoor_ssl::{PretrainConfig, Training, encoder_header};

use crate::{DefendError, ModelId, Removal};

/// The victim of an experiment, before anything is defended.
pub struct Victim<'a> {
    /// The data set, already read.
    pub splits: &'a Splits,
    /// The training images as the victim gets them, some of them poisoned, in the order of `splits.train`.
    pub train: SampleSet,
    /// Ids of the poisoned images, ascending. No defender knows them; they are used to contaminate a clean part on
    /// purpose and to measure the quality of a filter.
    pub poisoned: Vec<u64>,
    /// How the victim trains.
    pub pretrain: &'a PretrainConfig,
    /// Side of the views and of the evaluation images, in pixels.
    pub size: u32,
    /// Seed of the experiment.
    pub seed: u64,
}

/// Images that a defended model is trained on.
#[derive(Clone)]
pub enum Images {
    /// All of the victim's training images, as the victim gets them.
    All,
    /// The ids of those training images that a filter keeps.
    Kept(Vec<u64>),
    /// Images that the defender holds.
    Held {
        /// The images.
        set: SampleSet,
        /// Whether some of them are poisoned.
        contaminated: bool,
    },
}

impl Images {
    /// The images, in the order of the training set if they are a part of it.
    pub fn set(&self, victim: &Victim<'_>) -> SampleSet {
        match self {
            Self::All => victim.train.clone(),
            Self::Kept(ids) => {
                let (train, labels) = (victim.train.clone(), &victim.splits.train.labels);
                Arc::new(Subset::of_ids(train, labels, ids))
            }
            Self::Held { set, .. } => set.clone(),
        }
    }

    /// Whether there may be poisoned images among them.
    pub fn may_be_poisoned(&self) -> bool {
        !matches!(self, Self::Held { contaminated: false, .. })
    }

    /// What a filter removed from the training set of `victim`, if a filter chose the images.
    pub fn removal(&self, victim: &Victim<'_>) -> Option<Removal> {
        let Self::Kept(ids) = self else { return None };
        let kept: HashSet<u64> = ids.iter().copied().collect();
        let all = victim.splits.train.labels.iter().map(|(id, _)| *id);
        let removed: Vec<u64> = all.filter(|id| !kept.contains(id)).collect();
        Some(Removal::of(&removed, &victim.poisoned))
    }
}

/// The environment in which a defended model is trained.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// How the victim trains.
    pub victim: &'a PretrainConfig,
    /// Side of the views, in pixels.
    pub size: u32,
    /// The encoder file of the model that the defence [needs](crate::Defence::needs), if it needs one.
    pub start: Option<&'a Path>,
    /// The images and where the files of the training go.
    pub training: &'a Training,
}

impl Bench<'_> {
    /// The header of the encoder files of the run.
    fn header(&self) -> EncoderHeader {
        encoder_header(self.victim.encoder, self.size)
    }

    /// The file that `model` starts from.
    ///
    /// # Errors
    /// [`DefendError::Start`]: there is none.
    pub fn start(&self, model: &ModelId) -> Result<&Path, DefendError> {
        self.start.ok_or_else(|| DefendError::Start { model: model.to_string() })
    }

    /// The encoder in the file `start`, in evaluation mode.
    ///
    /// # Errors
    /// It cannot be read, or is not of the victim's architecture.
    pub fn load(&self, start: &Path) -> Result<Encoder, ModelError> {
        load_encoder(&self.header(), start, &self.training.device)
    }
}
