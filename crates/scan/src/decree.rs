//! DECREE (Feng et al., "Detecting Backdoors in Pre-trained Encoders", CVPR 2023): the smallest trigger that makes
//! the features of all images alike. For an encoder with a backdoor, a small one suffices.

use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};

use crate::features::UnitFeatures;
use crate::frozen::unit_rows;
use crate::invert::{Features, Inversion, Shadows, batches, features_of};
use crate::{
    Evidence, Findings, Frozen, Inverted, Scan, ScanError, Score, Scored, Setting, Subject,
};

/// Name of the scan.
const NAME: &str = "decree";
/// Smallest number of images.
const FEWEST: usize = 32;
/// Mean cosine above which a trigger works.
const WORKS: f64 = 0.99;
/// Initial weight of the mask. It is reset to this if it has become too small while the trigger works.
const WEIGHT: f64 = 1e-3;
/// Factor by which the weight grows and shrinks, and the number of rounds in a row after which it does.
const FACTOR: f64 = 5.0;
const AFTER: usize = 5;
/// Above this side, the learning rate drops later, the weight may become smaller, and patience is longer.
const SMALL: usize = 64;

/// Settings of DECREE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecreeConfig {
    /// Images on which the trigger is searched.
    #[schemars(range(min = 32, max = 100_000))]
    pub images: usize,
    /// Images in a step, at most `images`.
    #[schemars(range(min = 2, max = 100_000))]
    pub batch: usize,
    /// Largest number of rounds through these images.
    #[schemars(range(min = 1, max = 100_000))]
    pub rounds: usize,
}

impl Default for DecreeConfig {
    /// The paper uses a tenth of CIFAR-10's test images, batches of 128 and at most 1,000 rounds.
    fn default() -> Self {
        Self { images: 512, batch: 128, rounds: 200 }
    }
}

impl DecreeConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// It names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let fits = (FEWEST..=100_000).contains(&self.images);
        require(fits, "images", self.images, format!("allowed are {FEWEST} to 100,000"))?;
        let fits = (2..=self.images).contains(&self.batch);
        require(fits, "batch", self.batch, "allowed are 2 to the number of images")?;
        let fits = (1..=100_000).contains(&self.rounds);
        require(fits, "rounds", self.rounds, "allowed are 1 to 100,000")
    }
}

/// DECREE as a scan of encoders. The score is the share of the image that the trigger leaves free, 0 to 1.
#[derive(Debug, Clone, Default)]
pub struct Decree {
    /// Its settings.
    pub config: DecreeConfig,
}

impl Decree {
    /// Checks that `images` images are enough.
    ///
    /// # Errors
    /// [`ScanError::TooFew`].
    pub fn check_count(images: usize) -> Result<(), ScanError> {
        match images < FEWEST {
            true => Err(ScanError::TooFew { scan: NAME, images, needed: FEWEST }),
            false => Ok(()),
        }
    }
}

impl Scan for Decree {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scan(&self, subject: Subject<'_>, setting: &Setting<'_>) -> Result<Findings, ScanError> {
        let Subject::Encoder { encoder, images } = subject else {
            return Err(ScanError::Subject { scan: NAME, what: "encoders" });
        };
        self.config.check()?;
        Self::check_count(images.len())?;
        let (shadows, set) = Shadows::draw(images, self.config.images, setting.seed)?;
        // No trigger is needed where the features are alike already.
        UnitFeatures::of(encoder, &set, setting, (NAME, WORKS))?;
        let frozen = Frozen::new(encoder, setting.device);
        let features = features_of(&frozen, setting);
        let watch = |round| (setting.watch)("inverting", round, self.config.rounds);
        let inverted =
            self.config.invert(&shadows, &features, (frozen.device(), setting.seed), &watch);
        watch(self.config.rounds);
        Ok(findings(&inverted))
    }
}

fn findings(inverted: &Inverted) -> Findings {
    let area = inverted.area();
    let evidence = inverted.trigger.iter().map(|trigger| {
        let caption = format!(
            "The smallest trigger that makes the features of all images alike covers {:.1} % of the image",
            100.0 * area
        );
        Evidence::new(caption, 1.0 - area, trigger.picture())
    });
    let mut notes = Vec::new();
    if inverted.trigger.is_none() {
        notes.push("No trigger was found that makes the features of all images alike.".into());
    }
    Findings {
        scores: vec![Score { of: Scored::Subject, value: 1.0 - area }],
        evidence: evidence.collect(),
        figures: [("PL1-norm", area), ("rounds", inverted.rounds as f64)].into(),
        notes,
        ..Findings::default()
    }
}

impl DecreeConfig {
    /// The smallest trigger that makes `features` of the `shadows` alike.
    pub(crate) fn invert(
        &self,
        shadows: &Shadows,
        features: &Features<'_>,
        (device, seed): (&Device, u64),
        watch: &dyn Fn(usize),
    ) -> Inverted {
        let side = shadows.side;
        let mut inversion = Inversion::new(side, (seed, 0), device);
        let all: Vec<usize> = (0..shadows.len()).collect();
        // The mask counts once for each channel.
        let pixels = (3 * side * side) as f64;
        let (mut weight, mut best, mut stale) = (Weight::new(side), None, 0);
        let patience = if side <= SMALL { 10 } else { 35 };
        for round in 0..self.rounds {
            let (mut cosines, mut seen) = (0.0, 0);
            for batch in batches(&all, self.batch, (seed, round)) {
                let images = inversion.on(shadows.batch(&batch, device));
                let cosine = mean_cosine(features(images));
                // The last batch may be smaller, so each batch is weighted by its size.
                cosines += batch.len() as f64 * f64::from(cosine.clone().into_scalar::<f32>());
                seen += batch.len();
                let loss = inversion.area().mul_scalar(weight.now * pixels) - cosine;
                inversion.step(loss, rate(side, round));
            }
            watch(round);
            let trigger = inversion.trigger();
            let area = trigger.area();
            let works = cosines > WORKS * seen as f64 && area.is_finite();
            if works {
                let better = best.as_ref().is_none_or(|(least, _)| area < *least);
                stale = if better { 0 } else { stale + 1 };
                if better {
                    best = Some((area, trigger));
                }
                if stale >= patience {
                    return Inverted { trigger: best.map(|(_, t)| t), rounds: round + 1 };
                }
            }
            weight.after(works);
        }
        Inverted { trigger: best.map(|(_, trigger)| trigger), rounds: self.rounds }
    }
}

/// The learning rate of a round.
fn rate(side: usize, round: usize) -> f64 {
    let turns = if side <= SMALL { [30, 50] } else { [200, 500] };
    match round {
        round if round < turns[0] => 0.5,
        round if round < turns[1] => 0.1,
        _ => 0.05,
    }
}

/// Mean cosine of two different rows, `[1]`.
fn mean_cosine(features: Tensor<2>) -> Tensor<1> {
    let rows = features.dims()[0] as f64;
    let sum = unit_rows(features).sum_dim(0);
    let all: Tensor<1> = sum.powi_scalar(2).sum();
    all.sub_scalar(rows).div_scalar(rows * (rows - 1.0))
}

/// The weight of the mask: it grows while the trigger works and shrinks while it does not.
struct Weight {
    now: f64,
    least: f64,
    /// Rounds in a row in which the trigger worked, and in which it did not.
    works: usize,
    fails: usize,
}

impl Weight {
    fn new(side: usize) -> Self {
        let least = if side <= SMALL { 1e-5 } else { 1e-7 };
        Self { now: WEIGHT, least, works: 0, fails: 0 }
    }

    fn after(&mut self, works: bool) {
        (self.works, self.fails) = if works { (self.works + 1, 0) } else { (0, self.fails + 1) };
        if self.now < self.least {
            // It has shrunk as far as it may.
            if self.works > 2 * AFTER {
                (self.now, self.works) = (WEIGHT, 0);
            }
        } else if self.works > AFTER {
            (self.now, self.works) = (self.now * FACTOR, 0);
        } else if self.fails > AFTER {
            (self.now, self.fails) = (self.now / FACTOR, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invert::planted;

    #[test]
    fn the_cosine_is_the_mean_of_all_pairs() {
        let rows = ssl_backdoor_model::init::matrix(
            vec![2.0, 0.0, 0.0, 3.0, 0.6, 0.8],
            2,
            &Device::flex(),
        );
        let found: f32 = mean_cosine(rows).into_scalar();
        assert!((found - (0.0 + 0.6 + 0.8) / 3.0).abs() < 1e-6, "{found}");
    }

    #[test]
    fn the_weight_follows_success_and_comes_back() {
        let mut weight = Weight::new(32);
        (0..6).for_each(|_| weight.after(true));
        assert_eq!(weight.now, 5e-3);
        (0..5).for_each(|_| weight.after(false));
        assert_eq!(weight.now, 5e-3);
        (0..25).for_each(|_| weight.after(false));
        assert!(weight.now < 1e-5, "{}", weight.now);
        let least = weight.now;
        (0..20).for_each(|_| weight.after(false));
        assert_eq!(weight.now, least);
        (0..11).for_each(|_| weight.after(true));
        assert_eq!(weight.now, WEIGHT);
    }

    /// The planted patch covers 16 of 256 pixels. Without it, only a mask over much of the image works.
    #[test]
    fn a_planted_trigger_is_found_where_it_lies() {
        let device = Device::flex().autodiff();
        let shadows = planted::shadows(64);
        let config = DecreeConfig { images: 64, batch: 32, rounds: 150 };
        let invert = |backdoored| {
            let features = planted::features(backdoored, &device);
            config.invert(&shadows, &features, (&device, 1), &|_| {})
        };
        let (found, clean) = (invert(true), invert(false));
        assert!(found.area() < 0.12, "{}", found.area());
        assert!(clean.area() > 2.0 * found.area(), "{} {}", clean.area(), found.area());
        let trigger = found.trigger.unwrap();
        let (x, y, side) = planted::PATCH;
        let inside = |at: usize| {
            let (column, row) = (at % planted::SIDE, at / planted::SIDE);
            (x..x + side).contains(&column) && (y..y + side).contains(&row)
        };
        let mean = |wanted: bool| {
            let some = (0..trigger.mask.len()).filter(|&at| inside(at) == wanted);
            let values: Vec<f32> = some.map(|at| trigger.mask[at]).collect();
            values.iter().sum::<f32>() / values.len() as f32
        };
        assert!(mean(true) > 5.0 * mean(false), "{} {}", mean(true), mean(false));
        let again = {
            let features = planted::features(true, &device);
            config.invert(&shadows, &features, (&device, 1), &|_| {}).trigger.unwrap()
        };
        assert_eq!(again, trigger);
    }
}
