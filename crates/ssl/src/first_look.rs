//! One pass over all images before the first step, for a method that asks for it.

use std::sync::Arc;

use ssl_backdoor_data::augment::Views;
use ssl_backdoor_data::{EpochPlan, SampleSet, ViewLoader};

use crate::error::PretrainError;
use crate::method::Method;
use crate::parts::HostBatch;
use crate::precision::Precision;

/// What the pass needs beside the method.
pub(crate) struct FirstLook<'a> {
    pub set: &'a SampleSet,
    pub views: &'a Arc<dyn Views>,
    pub plan: EpochPlan,
    /// Epochs of the training: the pass sees the views of the epoch behind the last, which no step sees.
    pub epochs: usize,
    pub workers: usize,
    pub precision: Precision,
}

impl FirstLook<'_> {
    /// Shows `method` views of all images, those that fill no whole batch included; a single one that is left is not
    /// shown, because batch norm needs two.
    pub fn at<M: Method>(
        self,
        method: &mut M,
        device: &burn::tensor::Device,
    ) -> Result<(), PretrainError> {
        let plan = EpochPlan { drop_last: false, ..self.plan };
        let each = plan.steps_per_epoch();
        let order = plan.order(self.epochs as u32);
        let steps = self.epochs * each..(self.epochs + 1) * each;
        let (set, views) = (self.set.clone(), self.views.clone());
        for batch in ViewLoader::start(set, views, plan, steps, self.workers) {
            let batch = batch?;
            let positions = &order[plan.places(batch.step)];
            let host = HostBatch { views: batch.views, ids: batch.ids, hidden: batch.hidden };
            method.look(host.on(device, self.precision.dtype()), positions)?;
        }
        Ok(())
    }
}
