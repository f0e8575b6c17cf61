//! How large the trigger is on training and on evaluation images and how the views see it, from a sample, before
//! anything is trained. A trigger that training hardly shows, or at another size than evaluation, gives figures that say
//! nothing of the attack.

use anyhow::Result;
use ssl_backdoor_data::Preview;
use ssl_backdoor_data::chance::{self, Purpose};

use super::Lab;
use super::inputs::Inputs;
use crate::trigger_size::TriggerSize;

pub(super) const FILE: &str = "trigger.json";
/// Poisoned images of the sample, and epochs of views of each.
const IMAGES: usize = 128;
const EPOCHS: u32 = 4;

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let pretrain = &lab.experiment.pretrain;
    let train = &pretrain.train;
    let inputs = Inputs::of(lab)
        .with("training images", &lab.splits.fingerprint.train)?
        .with("size", &lab.experiment.data.size())?
        .with("poison", &lab.experiment.poison)?
        .with("trigger", &lab.attack.train.trigger.hash())?
        .with("views", &(&pretrain.method, &pretrain.encoder, train.crop, train.blur))?
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
        let views = experiment.pretrain.views(size)?;
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
}
