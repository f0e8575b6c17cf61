//! Sets that add the trigger to another set: in memory, keyed by image id, without changing the wrapped set or
//! writing to disk.

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;
use ssl_backdoor_trigger::{Attack, Ledger, LedgerHead, LedgerRow, Phase, PoisonConfig};

use crate::augment::resize_shorter;
use crate::jpeg::written_and_read;
use crate::{DataError, Sample, SampleSet, Split, Splits};

/// The attacker's training set: the planned images carry the trigger, all others are untouched.
///
/// Poisoned images are perturbed at their own size, recompressed if the attack requires it, and then resized if the
/// others come resized from a cache.
pub struct Poisoned {
    splits: Splits,
    attack: Attack,
}

impl Poisoned {
    /// Poisons the training images of `splits`.
    pub fn new(splits: Splits, attack: Attack) -> Self {
        Self { splits, attack }
    }
}

impl Dataset<Sample, DataError> for Poisoned {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let Splits { train, cached, .. } = &self.splits;
        let (id, _) = DataError::at(&train.labels, index)?;
        if !self.attack.plan.contains(*id) {
            return self.splits.pretrain_set().get(index);
        }
        let mut sample = train.set.get(index)?;
        let applied = self.attack.train.apply(sample.id, &mut sample.image);
        sample.trigger = applied.map_err(|e| e.at(|| self.splits.source(index)))?;
        if self.attack.recompress {
            recompress(&mut sample, train, index)?;
        }
        if let Some((_, shorter)) = cached {
            let before = sample.image.dimensions();
            sample.image = resize_shorter(&sample.image, *shorter);
            let scale = f64::from(sample.image.width()) / f64::from(before.0);
            sample.trigger = sample.trigger.scaled(scale);
        }
        Ok(sample)
    }

    fn len(&self) -> usize {
        self.splits.train.labels.len()
    }
}

/// The attacked evaluation set: every image of every class carries the trigger.
pub struct Patched {
    inner: SampleSet,
    split: Split,
    attack: Attack,
}

impl Patched {
    /// Patches all images of `inner`, which is the [prepared](Splits::prepared) `split`.
    pub fn new(inner: SampleSet, split: &Split, attack: &Attack) -> Self {
        Self { inner, split: split.clone(), attack: attack.clone() }
    }
}

/// Gives a perturbed image the pixels that it has in an export.
fn recompress(sample: &mut Sample, split: &Split, index: usize) -> Result<(), DataError> {
    let name = split.file_name(index);
    sample.image = written_and_read(std::mem::take(&mut sample.image), &name)
        .map_err(|reason| DataError::Format { path: name.into(), reason })?;
    Ok(())
}

impl Dataset<Sample, DataError> for Patched {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.inner.get(index)?;
        let expected = sample.image.dimensions();
        let applied = self.attack.val.apply(sample.id, &mut sample.image);
        sample.trigger = applied.map_err(|e| e.at(|| self.split.file_name(index)))?;
        keeps_size(sample.id, &sample.image, expected)?;
        if self.attack.recompress {
            recompress(&mut sample, &self.split, index)?;
        }
        Ok(sample)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

/// Checks that a perturbed evaluation image still has the network's size.
pub(crate) fn keeps_size(id: u64, image: &RgbImage, expected: (u32, u32)) -> Result<(), DataError> {
    let found = image.dimensions();
    if found == expected { Ok(()) } else { Err(DataError::Sizes { id, found, expected }) }
}

/// The ledger of what [`Poisoned`] does to the training images of `splits`, image by image. `config` says how the
/// perturbation of `attack` is made.
///
/// # Errors
/// An image cannot be read or perturbed.
pub fn poison_ledger(
    splits: &Splits,
    attack: &Attack,
    config: &PoisonConfig,
) -> Result<Ledger, DataError> {
    let row = |index: usize| -> Result<LedgerRow, DataError> {
        let Sample { id, mut image, .. } = splits.train.set.get(index)?;
        Ok(LedgerRow::poison(&attack.train, id, splits.source(index), &mut image)?)
    };
    let poisoned: Vec<usize> = (0..splits.train.labels.len())
        .filter(|&i| attack.plan.contains(splits.train.labels[i].0))
        .collect();
    let rows: Result<Vec<LedgerRow>, DataError> = poisoned.into_par_iter().map(row).collect();
    let mut rows = rows?;
    rows.sort_by_key(|row| row.image_id);
    let rates = attack.plan.rates();
    let head = LedgerHead {
        recompress: attack.recompress,
        left_out: splits.skipped.len(),
        selected: attack.selected.clone(),
        ..LedgerHead::new(rates, attack.target, config.recipe(Phase::Training), &attack.train)
    };
    Ok(Ledger { head, rows })
}
