//! The augmentations that methods with two views of an image choose from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};

use crate::config::TrainConfig;

/// How the two views of an image are augmented. Each starts with a crop and a flip, jitters the colours with probability
/// 0.8 and is grey with probability 0.2. Blur follows the config's `blur`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewPair {
    /// MoCo v2's and SimSiam's: jitter 0.4, 0.4, 0.4, 0.1, blur with probability 0.5.
    MocoV2,
    /// SimCLR's at strength 1: jitter 0.8, 0.8, 0.8, 0.2, blur with probability 0.5.
    Simclr,
    /// The BYOL paper's, which Barlow Twins, VICReg and MoCo v3 took over: jitter 0.4, 0.4, 0.2, 0.1; the first view is
    /// always blurred, the second with probability 0.1 blurred and with probability 0.2 solarised.
    Asymmetric,
}

impl ViewPair {
    /// The two views, of `size` pixels.
    pub(crate) fn views(self, train: &TrainConfig, size: u32) -> Arc<dyn Views> {
        Arc::new(self.chains(train, size))
    }

    /// The same, as chains that more crops can be added to.
    pub(crate) fn chains(self, train: &TrainConfig, size: u32) -> ChainViews {
        let (crop, blur) = (train.crop, train.blurs(size));
        match self {
            Self::MocoV2 => ChainViews::moco(size, crop, blur),
            Self::Simclr => ChainViews::simclr(size, crop, blur),
            Self::Asymmetric => ChainViews::byol_paper(size, crop, blur),
        }
    }
}
