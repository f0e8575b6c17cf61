//! Batches of views, prepared by worker threads while the network trains.
//!
//! Worker w of W prepares the steps w, w + W, … and sends each through its own short channel; the consumer takes them
//! in turn. So batches arrive in order, and because every view is keyed by (seed, purpose, epoch, image id, view)
//! their bytes do not depend on W.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::augment::{Geometry, Scratch, ViewKey, Views};
use crate::{DataError, EpochPlan, Pixels, Sample, SampleSet, TriggerVisibility};

/// The input of one training step.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewBatch {
    /// The step, counted from the start of training.
    pub step: usize,
    /// One batch per view, `[batch, 3, side, side]`, each with its [own side](Views::size_of).
    pub views: Vec<Pixels>,
    /// The images, in the batch's order.
    pub ids: Vec<u64>,
    /// Patches that the method hides from its encoder, by image (MAE); empty if it hides none.
    pub hidden: Vec<Vec<bool>>,
    /// Visibility of the trigger in the views.
    pub visibility: TriggerVisibility,
}

/// Batches that each worker may have ready ahead of the consumer.
const AHEAD: usize = 2;

/// An iterator over the batches of a range of steps.
pub struct ViewLoader {
    channels: Vec<Receiver<Result<ViewBatch, DataError>>>,
    workers: Vec<JoinHandle<()>>,
    steps: Range<usize>,
    taken: usize,
}

impl ViewLoader {
    /// Starts `workers` threads (at least one) on the steps `steps` of `plan`.
    pub fn start(
        set: SampleSet,
        views: Arc<dyn Views>,
        plan: EpochPlan,
        steps: Range<usize>,
        workers: usize,
    ) -> Self {
        let count = workers.max(1);
        let mut channels = Vec::with_capacity(count);
        let mut handles = Vec::with_capacity(count);
        for worker in 0..count {
            let (sender, receiver) = sync_channel(AHEAD);
            let (set, views, steps) = (set.clone(), views.clone(), steps.clone());
            channels.push(receiver);
            handles.push(std::thread::spawn(move || {
                let mut maker = BatchMaker::new(set, views, plan);
                for step in steps.skip(worker).step_by(count) {
                    // The consumer is gone: nothing more to do.
                    if sender.send(maker.batch(step)).is_err() {
                        return;
                    }
                }
            }));
        }
        Self { channels, workers: handles, steps, taken: 0 }
    }
}

impl Iterator for ViewLoader {
    type Item = Result<ViewBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken == self.steps.len() {
            return None;
        }
        let channel = &self.channels[self.taken % self.channels.len()];
        self.taken += 1;
        let lost = |e: std::sync::mpsc::RecvError| DataError::Worker { reason: e.to_string() };
        Some(channel.recv().map_err(lost).and_then(|batch| batch))
    }
}

impl Drop for ViewLoader {
    fn drop(&mut self) {
        self.channels.clear();
        for worker in self.workers.drain(..) {
            // A worker that panicked has already closed its channel; the consumer saw that.
            let _ = worker.join();
        }
    }
}

/// What one worker needs to make any batch.
struct BatchMaker {
    set: SampleSet,
    views: Arc<dyn Views>,
    plan: EpochPlan,
    /// Order of the current epoch; a worker is never in more than one, so the map has at most one entry.
    orders: HashMap<u32, Vec<u64>>,
    scratch: Scratch,
}

impl BatchMaker {
    fn new(set: SampleSet, views: Arc<dyn Views>, plan: EpochPlan) -> Self {
        Self { set, views, plan, orders: HashMap::new(), scratch: Scratch::default() }
    }

    fn batch(&mut self, step: usize) -> Result<ViewBatch, DataError> {
        let EpochPlan { seed, draws, .. } = self.plan;
        let epoch = self.plan.epoch_of(step) as u32;
        let places = self.plan.places(step);
        let batch = places.len();
        if !self.orders.contains_key(&epoch) {
            self.orders.clear();
            self.orders.insert(epoch, self.plan.order(epoch));
        }
        let blank = |view| Pixels::blank(batch, self.views.size_of(view));
        let mut views: Vec<Pixels> = (0..self.views.count()).map(blank).collect();
        let pairs = self.views.pairs();
        let mut geometry = vec![Geometry::default(); views.len()];
        let mut ids = Vec::with_capacity(batch);
        let mut hidden = Vec::new();
        let mut visibility = TriggerVisibility::default();
        for (i, &index) in self.orders[&epoch][places].iter().enumerate() {
            let Sample { id, image, trigger, .. } = self.set.get(index as usize)?;
            let key = ViewKey { seed, purpose: draws.views, epoch, id };
            let mut out: Vec<&mut [f32]> = views.iter_mut().map(|view| view.image_mut(i)).collect();
            self.views.write(&image, &key, &mut self.scratch, &mut out, &mut geometry);
            let mask = self.views.hidden(&key);
            if !trigger.is_empty() {
                let boxes = trigger.boxes(image.dimensions());
                visibility.add(&boxes, &geometry, &pairs, mask.as_deref());
            }
            hidden.extend(mask);
            ids.push(id);
        }
        Ok(ViewBatch { step, views, ids, hidden, visibility })
    }
}

#[cfg(test)]
mod tests;
