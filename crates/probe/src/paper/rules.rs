//! The constants of each method's own probe.

use std::sync::Arc;

use ssl_backdoor_data::augment::{Chain, ChainViews, CropViews, Filter, Views};
use ssl_backdoor_rng::ranked;

use super::optimizer::Optimizer;
use crate::purpose;

/// The input of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// The encoder's output.
    Output,
    /// Five maps of the encoder (`Encoder::maps`), pooled to [`SIDES`], each with its own classifier.
    Maps,
}

/// Sides that the five maps are pooled to (docs/protocol.md, 3.4).
pub(super) const SIDES: [usize; 5] = [12, 12, 8, 6, 4];

/// The normalisation of a feature before the linear layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Norm {
    Nothing,
    /// Divided by its L2 norm, then standardised with the labelled subset's statistics.
    L2Standard,
    /// Batch norm per channel, without scale and shift.
    Batch {
        epsilon: f32,
    },
}

/// What happens to the images of an epoch that do not fill a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// They form a smaller batch.
    Kept,
    /// They are left out: different ones in each epoch.
    DroppedByEpoch,
    /// They are left out: the same in every epoch, drawn once.
    DroppedOnce,
}

/// How a training image is augmented.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seen {
    /// Like evaluation images; features are extracted once.
    Plain,
    /// RandomResizedCrop, bilinear, and flip.
    Resized,
    /// Like `Resized`, with a single clamped draw of the crop, bicubic.
    ResizedByOneDraw,
    /// Resize, RandomCrop and flip.
    Cropped,
}

/// The schedule of the learning rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rate {
    /// Pairs of an epoch and the rate from that epoch on.
    Steps(Vec<(usize, f64)>),
    /// From the first to the second value, by a constant factor per epoch.
    Exponential(f64, f64),
    /// From `blr · batch / 256` along a cosine to 0, per epoch.
    CosineByEpoch { blr: f64 },
    /// A linear warm-up to `blr · batch / 256`, then a cosine to 0, per step.
    Cosine { blr: f64, warmup_epochs: usize },
}

/// The rules of one method's probe.
#[derive(Debug, Clone, PartialEq)]
pub struct PaperProbeConfig {
    pub(super) reads: Reads,
    pub(super) norm: Norm,
    pub(super) optimizer: Optimizer,
    pub(super) rate: Rate,
    pub(super) seen: Seen,
    pub(super) epochs: usize,
    /// Images per step, at most the number of labelled images.
    pub(super) batch: usize,
    /// What happens to images that do not fill a batch.
    pub(super) rest: Rest,
    /// How clean evaluation images are resized.
    pub(super) eval: Filter,
    /// Standard deviation of the initial weights, with a bias of 0; none = the linear layer's default.
    pub(super) weight_std: Option<f64>,
}

impl PaperProbeConfig {
    /// MoCo v2, MSF, SimCLR and CompReSS students (docs/protocol.md, 3.2).
    pub fn moco() -> Self {
        Self {
            reads: Reads::Output,
            norm: Norm::L2Standard,
            optimizer: Optimizer::Sgd { nesterov: false, weight_decay: 1e-4 },
            rate: Rate::Steps(vec![(0, 0.01), (15, 0.001), (30, 0.0001)]),
            seen: Seen::Resized,
            epochs: 40,
            batch: 256,
            rest: Rest::Kept,
            eval: Filter::Bilinear,
            weight_std: None,
        }
    }

    /// BYOL (docs/protocol.md, 3.3). The reference extracts features once, in random order and in full batches of
    /// 1,000, and trains only on these: a fixed sample of 1,000 of the 1,259 images of 1 % of ImageNet-100.
    pub fn byol() -> Self {
        Self {
            norm: Norm::Nothing,
            optimizer: Optimizer::Adam { weight_decay: 5e-6 },
            rate: Rate::Exponential(1e-2, 1e-6),
            seen: Seen::Plain,
            epochs: 500,
            batch: 1000,
            rest: Rest::DroppedOnce,
            ..Self::moco()
        }
    }

    /// Jigsaw (docs/protocol.md, 3.4).
    pub fn jigsaw() -> Self {
        Self { reads: Reads::Maps, norm: Norm::Nothing, ..Self::moco() }
    }

    /// RotNet (docs/protocol.md, 3.5).
    pub fn rotnet() -> Self {
        Self {
            reads: Reads::Maps,
            norm: Norm::Batch { epsilon: 1e-5 },
            optimizer: Optimizer::Sgd { nesterov: true, weight_decay: 5e-4 },
            rate: Rate::Steps(vec![(0, 0.01), (5, 0.002), (15, 0.0004), (25, 0.000_08)]),
            seen: Seen::Cropped,
            epochs: 40,
            batch: 32,
            rest: Rest::Kept,
            eval: Filter::Bilinear,
            weight_std: Some(0.02f64.sqrt()),
        }
    }

    /// MAE (docs/protocol.md, 2.6): the official code's linear probe, which draws each crop once and clamps it,
    /// resizes with a bicubic filter, and drops images that do not fill a batch of 16,384.
    ///
    /// With fewer labelled images the official code takes no step at all, so it cannot have been used on 1 % or 10 %
    /// of ImageNet-100; how the paper probed its MAE is unknown. Here all labelled images then form one batch, with
    /// the learning rate scaled to their number.
    pub fn mae() -> Self {
        Self {
            reads: Reads::Output,
            norm: Norm::Batch { epsilon: 1e-6 },
            optimizer: Optimizer::Lars,
            rate: Rate::Cosine { blr: 0.1, warmup_epochs: 10 },
            seen: Seen::ResizedByOneDraw,
            epochs: 90,
            batch: 16_384,
            rest: Rest::DroppedByEpoch,
            eval: Filter::Bicubic,
            weight_std: Some(0.01),
        }
    }

    /// MoCo v3: the official code's linear classifier, with its values for a ResNet-50. For a ViT that code has a
    /// base learning rate of 3, which is too high for small encoders.
    pub fn moco_v3() -> Self {
        Self { rate: Rate::CosineByEpoch { blr: 0.1 }, epochs: 90, batch: 1024, ..Self::cosine() }
    }

    /// SimSiam: the official code's, LARS in batches of 4,096. That code also scales the steps of the bias; here, as
    /// in MAE's, only those of the weights are scaled.
    pub fn simsiam() -> Self {
        Self { optimizer: Optimizer::Lars, batch: 4096, ..Self::moco_v3() }
    }

    /// Barlow Twins: the official code's, with its learning rate of 0.3 and weight decay of 1e-6.
    pub fn barlow_twins() -> Self {
        let optimizer = Optimizer::Sgd { nesterov: false, weight_decay: 1e-6 };
        Self { optimizer, rate: Rate::CosineByEpoch { blr: 0.3 }, ..Self::cosine() }
    }

    /// VICReg: the official code's, which is Barlow Twins' with a learning rate of 0.02.
    pub fn vicreg() -> Self {
        Self { rate: Rate::CosineByEpoch { blr: 0.02 }, ..Self::barlow_twins() }
    }

    /// SimCLR v2: appendix B.6 of the SimCLR paper (arXiv 2002.05709), with the cosine of its code.
    pub fn simclr_v2() -> Self {
        let optimizer = Optimizer::Sgd { nesterov: true, weight_decay: 0.0 };
        let rate = Rate::Cosine { blr: 0.1, warmup_epochs: 0 };
        Self { optimizer, rate, epochs: 90, batch: 4096, ..Self::cosine() }
    }

    /// SwAV and DeepCluster v2: the official repository's linear classifier, with its learning rate of 0.3 and weight
    /// decay of 1e-6.
    pub fn swav() -> Self {
        Self::barlow_twins()
    }

    /// DINO: the official code's linear classifier, with its learning rate of 0.001 for 256 images and batches of
    /// 1,024; evaluation images are resized with a bicubic filter, training images with a bilinear one. For a small
    /// ViT it reads the class tokens of the last four blocks; here, as for its ViT-B, only that of the last one.
    pub fn dino() -> Self {
        let (rate, eval) = (Rate::CosineByEpoch { blr: 0.001 }, Filter::Bicubic);
        Self { rate, batch: 1024, eval, ..Self::cosine() }
    }

    /// The shared rules of these methods' linear classifiers: unnormalised features, plain SGD, crops and flips, 100
    /// epochs in batches of 256, initial weights with a mean of 0 and a standard deviation of 0.01.
    fn cosine() -> Self {
        Self {
            norm: Norm::Nothing,
            optimizer: Optimizer::Sgd { nesterov: false, weight_decay: 0.0 },
            epochs: 100,
            weight_std: Some(0.01),
            ..Self::moco()
        }
    }

    /// Whether the reference would take no step on `labelled` images, because it drops images that do not fill a
    /// batch. Here all of them then form one batch.
    pub fn below_a_batch(&self, labelled: usize) -> bool {
        self.rest != Rest::Kept && labelled < self.batch
    }

    /// How clean evaluation images are resized: bicubic for MAE and DINO, otherwise bilinear. Patched images are made
    /// before a probe sees them, by the reference's poison generation, which is bilinear.
    pub fn eval_filter(&self) -> Filter {
        self.eval
    }

    /// The learning rate at `step` of `steps` in `epoch`.
    pub(super) fn lr(&self, epoch: usize, step: usize, steps: usize, batch: usize) -> f64 {
        match &self.rate {
            Rate::Steps(steps) => {
                steps.iter().rev().find(|(from, _)| epoch >= *from).map_or(0.0, |(_, lr)| *lr)
            }
            Rate::Exponential(first, last) => {
                first * (last / first).powf(epoch as f64 / self.epochs as f64)
            }
            Rate::CosineByEpoch { blr } => {
                let share = epoch as f64 / self.epochs as f64;
                blr * batch as f64 / 256.0 * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
            Rate::Cosine { blr, warmup_epochs } => {
                let lr = blr * batch as f64 / 256.0;
                let (at, warm) = (epoch as f64 + step as f64 / steps as f64, *warmup_epochs as f64);
                if at < warm {
                    return lr * at / warm;
                }
                let share = (at - warm) / (self.epochs as f64 - warm);
                lr * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
        }
    }

    /// The positions of the images of `epoch`, in order, out of `count`; consecutive parts of them are the batches.
    /// With fewer images than a batch, all of them.
    pub(super) fn order(&self, count: usize, seed: u64, epoch: u32) -> Vec<usize> {
        let all: Vec<u64> = (0..count as u64).collect();
        let whole = count / self.batch.min(count).max(1) * self.batch.min(count);
        let used = match self.rest {
            Rest::DroppedOnce => {
                let mut sample = ranked(&all, seed, purpose::PROBE_SAMPLE, 0);
                sample.truncate(whole);
                sample
            }
            Rest::Kept | Rest::DroppedByEpoch => all,
        };
        let mut order = ranked(&used, seed, purpose::PROBE_ORDER, epoch);
        if self.rest == Rest::DroppedByEpoch {
            order.truncate(whole);
        }
        order.into_iter().map(|i| i as usize).collect()
    }

    /// The views of training images at `size`; none if they are not augmented.
    pub(super) fn views(&self, size: u32) -> Option<Arc<dyn Views>> {
        let weak = Chain::weak(size, (0.08, 1.0));
        match self.seen {
            Seen::Plain => None,
            Seen::Resized => Some(Arc::new(ChainViews(vec![weak]))),
            Seen::ResizedByOneDraw => {
                let (filter, one_draw) = (Filter::Bicubic, true);
                Some(Arc::new(ChainViews(vec![Chain { filter, one_draw, ..weak }])))
            }
            Seen::Cropped => Some(Arc::new(CropViews { size })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_the_protocols() {
        let at = |rules: PaperProbeConfig, epoch| rules.lr(epoch, 0, 1, 256);
        assert_eq!(
            [0, 14, 15, 30, 39].map(|e| at(PaperProbeConfig::moco(), e)),
            [0.01, 0.01, 1e-3, 1e-4, 1e-4]
        );
        assert_eq!(
            [0, 5, 24, 25].map(|e| at(PaperProbeConfig::rotnet(), e)),
            [0.01, 0.002, 4e-4, 8e-5]
        );
        assert!((at(PaperProbeConfig::byol(), 250) - 1e-4).abs() < 1e-12);
        let mae = PaperProbeConfig::mae();
        assert_eq!(mae.eval_filter(), Filter::Bicubic);
        assert_eq!(PaperProbeConfig::byol().eval_filter(), Filter::Bilinear);
        assert_eq!(PaperProbeConfig::swav().eval_filter(), Filter::Bilinear);
        assert_eq!(PaperProbeConfig::dino().eval_filter(), Filter::Bicubic);
        assert_eq!(PaperProbeConfig::dino().seen, Seen::Resized);
        assert_eq!(mae.lr(0, 0, 4, 16_384), 0.0);
        assert_eq!(mae.lr(5, 0, 4, 16_384), 3.2);
        assert!((mae.lr(10, 0, 4, 16_384) - 6.4).abs() < 1e-12);
        assert!((mae.lr(50, 0, 4, 16_384) - 3.2).abs() < 1e-12);
        // A cosine by epochs, whatever the step, and one by steps; both scale with the batch.
        let moco_v3 = PaperProbeConfig::moco_v3();
        assert_eq!(moco_v3.lr(0, 3, 4, 1024), 0.4);
        assert!((moco_v3.lr(45, 3, 4, 1024) - 0.2).abs() < 1e-12);
        let simclr_v2 = PaperProbeConfig::simclr_v2();
        assert_eq!(simclr_v2.lr(0, 0, 4, 4096), 1.6);
        assert!((simclr_v2.lr(45, 0, 4, 512) - 0.1).abs() < 1e-12);
        assert!(simclr_v2.lr(45, 1, 4, 512) < 0.1);
        assert_eq!(at(PaperProbeConfig::barlow_twins(), 0), 0.3);
        assert!((at(PaperProbeConfig::vicreg(), 50) - 0.01).abs() < 1e-12);
        assert_eq!(PaperProbeConfig::simsiam().batch, 4096);
        assert_eq!(at(PaperProbeConfig::swav(), 0), 0.3);
        assert_eq!(PaperProbeConfig::dino().lr(0, 0, 1, 1024), 0.004);
    }

    /// The 1,259 images of 1 % of ImageNet-100, as the reference's probes use them.
    #[test]
    fn review_1_07_byol_uses_one_fixed_sample_of_whole_batches() {
        use std::collections::BTreeSet;
        let set = |order: Vec<usize>| order.into_iter().collect::<BTreeSet<usize>>();
        let byol = PaperProbeConfig::byol();
        let first = byol.order(1259, 7, 0);
        assert_eq!((first.len(), set(first.clone()).len()), (1000, 1000));
        for epoch in [1, 2, 499] {
            let order = byol.order(1259, 7, epoch);
            assert_ne!(order, first);
            assert_eq!(set(order), set(first.clone()), "epoch {epoch}");
        }
        assert_ne!(set(byol.order(1259, 8, 0)), set(first), "another seed, another sample");
        assert_eq!(byol.order(12_662, 7, 0).len(), 12_000);
        assert_eq!(byol.order(999, 7, 0).len(), 999);
        // MoCo's keeps all; MAE's drops different ones in each epoch.
        assert_eq!(set(PaperProbeConfig::moco().order(1259, 7, 0)).len(), 1259);
        let mae = |epoch| set(PaperProbeConfig::mae().order(20_000, 7, epoch));
        assert_eq!((mae(0).len(), mae(1).len()), (16_384, 16_384));
        assert_ne!(mae(0), mae(1));
        assert_eq!(PaperProbeConfig::mae().order(1259, 7, 0).len(), 1259);
        assert!(
            PaperProbeConfig::mae().below_a_batch(12_662)
                && !PaperProbeConfig::mae().below_a_batch(16_384)
        );
        assert!(byol.below_a_batch(999) && !byol.below_a_batch(1259));
        assert!(!PaperProbeConfig::moco().below_a_batch(1));
    }
}
