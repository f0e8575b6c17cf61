//! Learning-rate schedules: arrays computed before the loop, one value per step.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};

/// How the learning rate changes during training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// `lr · ½(1 + cos(π · epoch / epochs))`, constant within an epoch, without warm-up: MoCo v2 and MSF.
    CosinePerEpoch {},
    /// A cosine to 0, step by step, after a linear warm-up from 0.
    Cosine {
        /// Epochs of warm-up, fewer than `epochs`.
        #[serde(default)]
        warmup_epochs: usize,
    },
    /// Multiplied by `factor` at each of some epochs: BYOL, Jigsaw, RotNet.
    Steps {
        /// Epochs, counted from 0, at whose start the learning rate falls.
        drops: Vec<usize>,
        /// What the rate is multiplied by.
        #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
        factor: f64,
        /// Steps of a linear warm-up.
        #[serde(default)]
        warmup_steps: usize,
    },
}

impl Schedule {
    /// A cosine over `epochs`, of which the share `warmup` is a linear warm-up.
    pub(crate) fn warmed_cosine(epochs: usize, warmup: f64) -> Self {
        Self::Cosine { warmup_epochs: at_shares(epochs, &[warmup]).into_iter().sum() }
    }

    /// The same schedule over `new` epochs instead of `old`; warm-up steps stay.
    pub(crate) fn scaled(&self, old: usize, new: usize) -> Self {
        let scale = |epoch: usize| epoch * new / old.max(1);
        match self {
            Self::CosinePerEpoch {} => Self::CosinePerEpoch {},
            Self::Cosine { warmup_epochs } => Self::Cosine { warmup_epochs: scale(*warmup_epochs) },
            Self::Steps { drops, factor, warmup_steps } => Self::Steps {
                drops: drops.iter().map(|&drop| scale(drop)).collect(),
                factor: *factor,
                warmup_steps: *warmup_steps,
            },
        }
    }

    pub(crate) fn check(&self, epochs: usize) -> Result<(), OutOfRange> {
        match self {
            Self::CosinePerEpoch {} => Ok(()),
            Self::Cosine { warmup_epochs } => {
                let fits = *warmup_epochs < epochs;
                require(fits, "schedule.warmup_epochs", warmup_epochs, "less than epochs")
            }
            Self::Steps { factor, .. } => {
                let fits = *factor > 0.0 && *factor <= 1.0;
                require(fits, "schedule.factor", factor, "above 0, at most 1")
            }
        }
    }

    /// The learning rate of every step.
    pub fn rates(&self, lr: f64, epochs: usize, steps_per_epoch: usize) -> Vec<f64> {
        let steps = epochs * steps_per_epoch;
        let rate = |step: usize| match self {
            Self::CosinePerEpoch {} => {
                lr * half_cosine((step / steps_per_epoch) as f64 / epochs as f64)
            }
            Self::Cosine { warmup_epochs } => {
                let warmup = warmup_epochs * steps_per_epoch;
                if step < warmup {
                    return lr * step as f64 / warmup as f64;
                }
                lr * half_cosine((step - warmup) as f64 / (steps - warmup) as f64)
            }
            Self::Steps { drops, factor, warmup_steps } => {
                let epoch = step / steps_per_epoch;
                let past = drops.iter().filter(|&&drop| epoch >= drop).count();
                let warmed = if step < *warmup_steps {
                    (step + 1) as f64 / *warmup_steps as f64
                } else {
                    1.0
                };
                lr * warmed * factor.powi(past as i32)
            }
        };
        (0..steps).map(rate).collect()
    }
}

/// From 1 to 0 along half a cosine, at a share `done` of the way: `½(1 + cos(π · done))`.
pub(crate) fn half_cosine(done: f64) -> f64 {
    0.5 * (1.0 + (PI * done).cos())
}

/// The momentum of an EMA that rises from `first` to 1 along half a cosine, at a share `done` of the way.
pub(crate) fn rising_momentum(first: f64, done: f64) -> f64 {
    1.0 - (1.0 - first) * half_cosine(done)
}

/// The epochs, rounded, at which these shares of a training are done.
pub fn at_shares(epochs: usize, shares: &[f64]) -> Vec<usize> {
    shares.iter().map(|share| (share * epochs as f64).round() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_course_has_its_turns_at_the_same_shares() {
        let steps = Schedule::Steps { drops: vec![4, 9], factor: 0.1, warmup_steps: 5 };
        let scaled = Schedule::Steps { drops: vec![8, 18], factor: 0.1, warmup_steps: 5 };
        assert_eq!(steps.scaled(10, 20), scaled);
        let cosine = Schedule::Cosine { warmup_epochs: 10 };
        assert_eq!(cosine.scaled(100, 25), Schedule::Cosine { warmup_epochs: 2 });
    }

    #[test]
    fn drops_come_before_their_epoch_and_the_warm_up_is_linear() {
        let drops = at_shares(130, &[90.0 / 130.0, 120.0 / 130.0]);
        let lr = Schedule::Steps { drops, factor: 0.2, warmup_steps: 4 }.rates(1.0, 130, 2);
        assert_eq!(lr[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!((lr[179], lr[180], lr[239]), (1.0, 0.2, 0.2));
        assert!((lr[240] - 0.04).abs() < 1e-12 && lr.len() == 260);
    }

    #[test]
    fn starts_at_lr_halves_in_the_middle_and_steps_per_epoch() {
        let lr = (Schedule::CosinePerEpoch {}).rates(0.06, 200, 3);
        assert_eq!(lr.len(), 600);
        assert_eq!(lr[0], 0.06);
        assert_eq!(lr[0], lr[2]);
        assert!((lr[300] - 0.03).abs() < 1e-12);
        assert!(lr.windows(2).all(|w| w[0] >= w[1]) && lr[599] > 0.0);
    }

    /// As in MAE's code: lr · epoch / warm-up, then lr · ½(1 + cos(π (epoch − warm-up) / (epochs − warm-up))) with
    /// fractional epochs.
    #[test]
    fn warms_up_from_zero_and_falls_step_by_step() {
        let lr = Schedule::Cosine { warmup_epochs: 2 }.rates(1.0, 10, 4);
        assert_eq!((lr[0], lr[4], lr[8]), (0.0, 0.5, 1.0));
        assert!((lr[24] - 0.5).abs() < 1e-12 && lr[39] > 0.0 && lr[39] < 0.01);
    }
}
