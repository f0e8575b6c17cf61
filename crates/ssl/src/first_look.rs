//! One pass over all images before the first step, for methods that need it.

use std::sync::Arc;

use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_data::{EpochPlan, SampleSet, ViewLoader};

use crate::error::PretrainError;
use crate::method::Method;
use crate::parts::HostBatch;
use crate::precision::Precision;

/// What the pass needs besides the method.
pub(crate) struct FirstLook<'a> {
    pub set: &'a SampleSet,
    pub views: &'a Arc<dyn Views>,
    /// Number of views that the method sees: the first ones.
    pub count: usize,
    pub plan: EpochPlan,
    /// Epochs of the training: the pass uses the views of the epoch after the last, which no step sees.
    pub epochs: usize,
    pub workers: usize,
    pub precision: Precision,
}

impl FirstLook<'_> {
    /// Shows `method` views of all images, including those that do not fill a batch. Returns false if it was
    /// interrupted: `interrupted` is called before each batch.
    pub fn at<M: Method>(
        self,
        method: &mut M,
        device: &burn::tensor::Device,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<bool, PretrainError> {
        let plan = EpochPlan { drop_last: false, batch: batch(&self.plan), ..self.plan };
        let each = plan.steps_per_epoch();
        let order = plan.order(self.epochs as u32);
        let steps = self.epochs * each..(self.epochs + 1) * each;
        let (set, views) = (self.set.clone(), first(self.views, self.count));
        for batch in ViewLoader::start(set, views, plan, steps, self.workers) {
            if interrupted() {
                return Ok(false);
            }
            let mut batch = batch?;
            batch.views.truncate(self.count);
            let positions = &order[plan.places(batch.step)];
            let host = HostBatch { views: batch.views, ids: batch.ids, hidden: batch.hidden };
            let images = host.on(device, self.precision.of_images(device));
            self.precision.run(|| method.look(images, positions))?;
        }
        Ok(true)
    }
}

/// Batch size of the pass: that of a step, or the next larger one that leaves no single image at the end. Batch norm
/// needs two images, and an image without an embedding would keep a row of zeros in the bank.
fn batch(plan: &EpochPlan) -> usize {
    let alone = |batch: &usize| plan.images % batch == 1;
    (plan.batch.max(2)..).find(|batch| !alone(batch)).unwrap_or(plan.batch)
}

/// The first `count` of `views` if each view has its own chain, else all of them.
fn first(views: &Arc<dyn Views>, count: usize) -> Arc<dyn Views> {
    match ChainViews::of(views.as_ref()) {
        Some(ChainViews(chains)) => {
            Arc::new(ChainViews(chains.iter().take(count).copied().collect()))
        }
        None => views.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_data::Draws;

    #[test]
    fn no_image_is_left_alone() {
        let of = |images, batch| {
            let draws = Draws::PRETRAIN;
            super::batch(&EpochPlan { seed: 1, images, batch, drop_last: true, draws })
        };
        assert_eq!((of(40, 8), of(42, 8), of(8, 8)), (8, 8, 8));
        // 41 = 4 · 9 + 5; 7 and 5 fit in one batch; batches of 2 or 3 leave one image of 7, so 7 = 4 + 3.
        assert_eq!((of(41, 8), of(7, 6), of(5, 4), of(7, 2)), (9, 7, 5, 4));
    }
}
