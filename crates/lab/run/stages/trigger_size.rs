//! The size of the trigger on training and evaluation images (without a width, how much it changes them) and its
//! visibility in views, measured on a sample before training. If a trigger is hardly visible in training, or has
//! another size in evaluation, the scores say nothing about the attack.

use anyhow::Result;
use ssl_backdoor_data::{Preview, jpeg_energy, mean_psnr};
use ssl_backdoor_rng::ranked;
use ssl_backdoor_trigger::purpose;

use crate::record::{Artefact, StageId, TriggerSize};
use crate::run::lab::Lab;

/// Images of the sample, and epochs of views of each poisoned image.
const IMAGES: usize = 128;
const EPOCHS: u32 = 4;

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let pretrain = &lab.experiment.pretrain;
    let train = &pretrain.train;
    let chosen = lab.experiment.poison.select.as_ref();
    let chosen = chosen.map(|_| lab.attack.plan.ids().collect::<Vec<_>>());
    let mut inputs = lab
        .inputs()
        .with("training images", &lab.splits.fingerprint.train)?
        .with("size", &lab.experiment.data.size())?
        .with("poison", &lab.experiment.poison)?
        .with("trigger", &lab.attack.train.perturbation.hash())?
        .with("views", &(&pretrain.method, &pretrain.encoder, train.crop, train.blur))?
        .with("seed", &lab.experiment.seed)?;
    if let Some(chosen) = chosen {
        inputs = inputs.with("chosen", &chosen)?;
    }
    lab.stage(&StageId::TriggerSize, &inputs, &[Artefact::TriggerSize], |lab, _| {
        let found = sample(lab)?;
        lab.folder.write(Artefact::TriggerSize, &serde_json::to_vec_pretty(&found)?)
    })?;
    let found = read(lab)?;
    eprintln!("{}", found.summary());
    for warning in &found.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// The measurements on the sample.
pub(super) fn read(lab: &Lab) -> Result<TriggerSize> {
    Ok(serde_json::from_slice(&std::fs::read(lab.path(&Artefact::TriggerSize))?)?)
}

fn sample(lab: &Lab) -> Result<TriggerSize> {
    let Lab { experiment, splits, attack, .. } = lab;
    let poisoned: Vec<u64> = (0..splits.train.labels.len())
        .filter(|&i| attack.plan.contains(splits.train.labels[i].0))
        .map(|i| i as u64)
        .collect();
    let some = ranked(&poisoned, experiment.seed, purpose::PLAN, 1);
    let positions: Vec<usize> = some.iter().take(IMAGES).map(|&i| i as usize).collect();
    let size = experiment.data.size();
    let views = experiment.pretrain.views(size)?;
    let train = lab.poisoned_train();
    let found = Preview::of(&*train, &positions, &*views, experiment.seed, EPOCHS)?;
    let width = attack.val.perturbation.width((size, size));
    let eval_width = width.map(|width| f64::from(width) / f64::from(size));
    let psnr = match eval_width {
        Some(_) => None,
        None => strength(lab, &positions)?,
    };
    let jpeg_energy = match eval_width {
        Some(_) => None,
        None => jpeg_energy(&*splits.train.set, &positions, &attack.train)?,
    };
    let visibility = &found.visibility;
    let total = visibility.by_views.iter().sum::<usize>().max(1) as f64;
    let mut size = TriggerSize {
        train_width: eval_width.map(|_| found.mean_width()),
        eval_width,
        psnr,
        jpeg_energy,
        covered: visibility.mean_covered(),
        in_one_of_pair: visibility.in_one_of_pair(),
        by_views: visibility.by_views.iter().map(|&n| n as f64 / total).collect(),
        warnings: Vec::new(),
    };
    size.judge();
    Ok(size)
}

/// Mean PSNR in dB of the training images at `positions` and of as many evaluation images, before and after they are
/// perturbed.
fn strength(lab: &Lab, positions: &[usize]) -> Result<Option<[f64; 2]>> {
    let Lab { splits, attack, .. } = lab;
    let eval: Vec<usize> = (0..splits.eval.labels.len().min(IMAGES)).collect();
    let train = mean_psnr(&*splits.train.set, positions, &attack.train)?;
    let eval = mean_psnr(&*splits.prepared(&splits.eval), &eval, &attack.val)?;
    Ok(train.zip(eval).map(<[f64; 2]>::from))
}
