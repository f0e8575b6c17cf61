//! Sets that show another set with the trigger pasted: in memory, keyed by image id, nothing on
//! disk, and the wrapped set stays as it is.

use burn_dataset::Dataset;
use ssl_backdoor_trigger::{Ledger, LedgerRow, Poison, PoisonPlan, pixel_hash};

use crate::{DataError, Sample, SampleSet};

/// The attacker's training set: the planned images carry the trigger, all others are untouched.
pub struct Poisoned {
    inner: SampleSet,
    plan: PoisonPlan,
    poison: Poison,
}

impl Poisoned {
    /// Poisons the images of `plan` in `inner`.
    pub fn new(inner: SampleSet, plan: PoisonPlan, poison: Poison) -> Self {
        Self { inner, plan, poison }
    }
}

impl Dataset<Sample, DataError> for Poisoned {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.inner.get(index)?;
        if self.plan.contains(sample.id) {
            self.poison.apply(sample.id, &mut sample.image);
        }
        Ok(sample)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

/// The attacked evaluation set: every image of every class carries the trigger.
pub struct Patched {
    inner: SampleSet,
    poison: Poison,
}

impl Patched {
    /// Patches all of `inner`.
    pub fn new(inner: SampleSet, poison: Poison) -> Self {
        Self { inner, poison }
    }
}

impl Dataset<Sample, DataError> for Patched {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.inner.get(index)?;
        self.poison.apply(sample.id, &mut sample.image);
        Ok(sample)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

/// What [`Poisoned`] does to `inner`, image by image. `source` names the set.
///
/// # Errors
/// Whatever reading an image gives.
pub fn poison_ledger(
    inner: &SampleSet,
    plan: &PoisonPlan,
    poison: &Poison,
    source: &str,
) -> Result<Ledger, DataError> {
    let mut rows = Vec::new();
    for index in 0..inner.len() {
        let Sample { id, mut image, .. } = inner.get(index)?;
        if !plan.contains(id) {
            continue;
        }
        let source_hash = pixel_hash(&image);
        let spot = poison.apply(id, &mut image);
        rows.push(LedgerRow {
            image_id: id,
            source: format!("{source}#{id}"),
            source_hash,
            trigger: poison.trigger.name.clone(),
            x: spot.x,
            y: spot.y,
            width: spot.width,
            alpha: poison.alpha,
            output_hash: pixel_hash(&image),
        });
    }
    rows.sort_by_key(|row| row.image_id);
    Ok(Ledger { rates: plan.rates(), rows })
}
