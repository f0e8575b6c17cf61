//! The augmentations that methods with two views of an image choose from.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};

use crate::config::TrainConfig;

/// How the two views of an image are augmented. Each is cropped and flipped, its colours are jittered with probability
/// 0.8, and it is grey with probability 0.2. The key `blur` of the training turns blur on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ViewPair {
    /// That of MoCo v2 and SimSiam: jitter 0.4, 0.4, 0.4, 0.1; blur with probability 0.5.
    MocoV2,
    /// That of SimCLR at strength 1: jitter 0.8, 0.8, 0.8, 0.2; blur with probability 0.5.
    Simclr,
    /// That of the BYOL paper, also used by Barlow Twins, VICReg and MoCo v3: jitter 0.4, 0.4, 0.2, 0.1; the first view
    /// is always blurred, the second is blurred with probability 0.1 and solarised with probability 0.2.
    Asymmetric,
}

impl ViewPair {
    /// The two views, of `size` pixels.
    pub(crate) fn views(self, train: &TrainConfig, size: u32) -> Arc<dyn Views> {
        Arc::new(self.chains(train, size))
    }

    /// The same views as chains, to which more crops can be added.
    pub(crate) fn chains(self, train: &TrainConfig, size: u32) -> ChainViews {
        let (crop, blur) = (train.crop, train.blurs(size));
        match self {
            Self::MocoV2 => ChainViews::moco(size, crop, blur),
            Self::Simclr => ChainViews::simclr(size, crop, blur),
            Self::Asymmetric => ChainViews::byol_paper(size, crop, blur),
        }
    }
}
