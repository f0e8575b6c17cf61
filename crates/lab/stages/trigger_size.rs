//! How large the trigger is on training and on evaluation images and how the views see it, from a sample, before
//! anything is trained. A trigger that training hardly shows, or at another size than evaluation, gives figures that say
//! nothing of the attack.

use std::fmt::Write;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{Preview, SURVIVES};

use super::Lab;
use super::inputs::Inputs;

pub(super) const FILE: &str = "trigger.json";
/// Poisoned images of the sample, and epochs of views of each.
const IMAGES: usize = 128;
const EPOCHS: u32 = 4;
/// Widths on training and evaluation images, as shares of the shorter side, may differ by this factor.
const FACTOR: f64 = 2.0;
/// Least mean share of a view that the trigger should cover.
const COVERED: f64 = 0.005;

/// What the sample showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TriggerSize {
    /// Mean width on poisoned training images, as a share of their shorter side.
    pub train_width: f64,
    /// Width on evaluation images, as a share of their side.
    pub eval_width: f64,
    /// Mean share of a view that it covers.
    pub covered: f64,
    /// Share of the poisoned images by the number of views in which the trigger survives, from none on.
    pub by_views: Vec<f64>,
    /// What is doubtful about it.
    pub warnings: Vec<String>,
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let pretrain = &lab.experiment.pretrain;
    let inputs = Inputs::of(lab)
        .with("training images", &lab.splits.fingerprint.train)?
        .with("size", &lab.experiment.data.size())?
        .with("poison", &lab.experiment.poison)?
        .with("trigger", &lab.attack.train.trigger.hash())?
        .with("views", &(&pretrain.method, &pretrain.encoder, pretrain.crop, pretrain.blur))?
        .with("seed", &lab.experiment.seed)?;
    lab.stage("trigger size", &inputs, &[FILE], |lab, _| {
        let found = TriggerSize::sample(lab)?;
        lab.folder.write(FILE, &serde_json::to_vec_pretty(&found)?)
    })?;
    let found = TriggerSize::read(lab)?;
    eprintln!("{}", found.summary());
    for warning in &found.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

impl TriggerSize {
    pub(super) fn read(lab: &Lab) -> Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(lab.path(FILE))?)?)
    }

    fn sample(lab: &Lab) -> Result<Self> {
        let Lab { experiment, splits, attack, .. } = lab;
        let poisoned: Vec<u64> = (0..splits.train.labels.len())
            .filter(|&i| attack.plan.contains(splits.train.labels[i].0))
            .map(|i| i as u64)
            .collect();
        let some = chance::ranked(&poisoned, experiment.seed, Purpose::Plan, 1);
        let positions: Vec<usize> = some.iter().take(IMAGES).map(|&i| i as usize).collect();
        let size = experiment.data.size();
        let views = experiment.pretrain.method.settings().views(&experiment.pretrain, size);
        let train = lab.poisoned_train();
        let found = Preview::of(&*train, &positions, &*views, experiment.seed, EPOCHS)?;
        let patch = attack.val.trigger.picture((size, size)).width();
        let (sightings, eval_width) = (&found.sightings, f64::from(patch) / f64::from(size));
        let total = sightings.by_views.iter().sum::<usize>().max(1) as f64;
        let mut size = Self {
            train_width: found.mean_width(),
            eval_width,
            covered: sightings.mean_covered(),
            by_views: sightings.by_views.iter().map(|&n| n as f64 / total).collect(),
            warnings: Vec::new(),
        };
        size.judge();
        Ok(size)
    }

    fn judge(&mut self) {
        let Self { train_width, eval_width, covered, .. } = *self;
        let factor = (train_width / eval_width).max(eval_width / train_width);
        if factor > FACTOR {
            self.warnings.push(format!(
                "the trigger is {:.1} % of the shorter side wide on training images and {:.1} % on evaluation images, a \
                 factor of {factor:.1}: training and evaluation see different triggers. Give its width relative to the \
                 image (poison.trigger.width = {{ view = PIXELS }} or {{ share = FRACTION }}), or set poison.val_width",
                100.0 * train_width,
                100.0 * eval_width,
            ));
        }
        if covered < COVERED {
            self.warnings.push(format!(
                "the trigger covers {:.2} % of a training view on average, below {:.1} %: training hardly sees it. Make \
                 it wider (poison.trigger.width)",
                100.0 * covered,
                100.0 * COVERED,
            ));
        }
    }

    /// One sentence.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "trigger: {:.1} % of the shorter side on training images, {:.1} % on evaluation images; it covers {:.2} % of \
             a view; at least {:.0} % of it visible",
            100.0 * self.train_width,
            100.0 * self.eval_width,
            100.0 * self.covered,
            100.0 * SURVIVES,
        );
        for (views, share) in self.by_views.iter().enumerate() {
            let _ = write!(
                text,
                "{} in {views}: {:.0} %",
                if views == 0 { "" } else { "," },
                100.0 * share
            );
        }
        text + if self.by_views.is_empty() { "" } else { " of images (views)" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_f07_a_trigger_of_two_sizes_or_too_small_is_doubtful() {
        let warnings = |train_width, eval_width, covered| {
            let mut size =
                TriggerSize { train_width, eval_width, covered, ..TriggerSize::default() };
            size.judge();
            size.warnings.len()
        };
        // The paper: 50 of 375 pixels on a training image, 50 of 224 on an evaluation image.
        assert_eq!(warnings(50.0 / 375.0, 50.0 / 224.0, 0.028), 0);
        assert_eq!(warnings(0.1, 0.21, 0.028), 1);
        assert_eq!(warnings(0.21, 0.1, 0.028), 1);
        assert_eq!(warnings(0.2, 0.2, 0.0049), 1);
        // 8 of 375 and 8 of 32 pixels.
        assert_eq!(warnings(8.0 / 375.0, 0.25, 0.0005), 2);
    }
}
