//! Batches of views, prepared by worker threads while the network trains.
//!
//! Worker w of W makes the steps w, w + W, … and hands each over through its own short channel; the
//! consumer takes them in turn. So batches arrive in order, and because every view is keyed by
//! (seed, epoch, image id, view) their bytes do not depend on W.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use ssl_backdoor_trigger::chance::{self, Purpose};

use crate::augment::{Geometry, Scratch, ViewKey, Views};
use crate::{DataError, Pixels, Sample, SampleSet, Sightings};

/// What the draws of a training are for. A second training on the same images with the same seed must not repeat the
/// order and the crops of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// Of the order of the images.
    pub order: Purpose,
    /// Of their views.
    pub views: Purpose,
}

impl Draws {
    /// The victim's pretraining.
    pub const PRETRAIN: Self = Self { order: Purpose::Order, views: Purpose::View };
    /// A training of the defender: a student, or a control beside it.
    pub const DEFENCE: Self = Self { order: Purpose::StudentOrder, views: Purpose::StudentView };
}

/// How steps map to images: whole batches of a fresh order in each epoch, the rest dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPlan {
    /// Seed of the order and of the views.
    pub seed: u64,
    /// Images in the training set.
    pub images: usize,
    /// Images in a batch.
    pub batch: usize,
    /// What the order and the views are drawn for.
    pub draws: Draws,
}

impl EpochPlan {
    /// Whole batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.images / self.batch
    }

    /// The order of the images in `epoch`: positions in the set.
    fn order(&self, epoch: u32) -> Vec<u64> {
        let all: Vec<u64> = (0..self.images as u64).collect();
        chance::ranked(&all, self.seed, self.draws.order, epoch)
    }
}

/// The input of one training step.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewBatch {
    /// Which step, counted from the start of training.
    pub step: usize,
    /// One batch per view, `[batch, 3, size, size]`.
    pub views: Vec<Pixels>,
    /// The images, in the batch's order.
    pub ids: Vec<u64>,
    /// Patches that the method hides from its encoder, by image (MAE); empty if it hides none.
    pub hidden: Vec<Vec<bool>>,
    /// How the views see the trigger.
    pub sightings: Sightings,
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
                    // The consumer left: nothing more to do.
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
    /// Orders of the epochs at hand; a worker is never in more than one, so it holds one.
    orders: HashMap<u32, Vec<u64>>,
    scratch: Scratch,
}

impl BatchMaker {
    fn new(set: SampleSet, views: Arc<dyn Views>, plan: EpochPlan) -> Self {
        Self { set, views, plan, orders: HashMap::new(), scratch: Scratch::default() }
    }

    fn batch(&mut self, step: usize) -> Result<ViewBatch, DataError> {
        let EpochPlan { seed, batch, draws, .. } = self.plan;
        let epoch = (step / self.plan.steps_per_epoch()) as u32;
        let first = step % self.plan.steps_per_epoch() * batch;
        if !self.orders.contains_key(&epoch) {
            self.orders.clear();
            self.orders.insert(epoch, self.plan.order(epoch));
        }
        let side = self.views.size() as usize;
        let len = 3 * side * side;
        let shape = [batch, 3, side, side];
        let blank = || Pixels { values: vec![0.0; batch * len], shape };
        let mut views: Vec<Pixels> = (0..self.views.count()).map(|_| blank()).collect();
        let mut geometry = vec![Geometry::default(); views.len()];
        let mut ids = Vec::with_capacity(batch);
        let mut hidden = Vec::new();
        let mut sightings = Sightings::default();
        for (i, &index) in self.orders[&epoch][first..first + batch].iter().enumerate() {
            let Sample { id, image, trigger, .. } = self.set.get(index as usize)?;
            let key = ViewKey { seed, purpose: draws.views, epoch, id };
            let mut out: Vec<&mut [f32]> =
                views.iter_mut().map(|view| &mut view.values[i * len..(i + 1) * len]).collect();
            self.views.write(&image, &key, &mut self.scratch, &mut out, &mut geometry);
            let mask = self.views.hidden(&key);
            if !trigger.is_empty() {
                sightings.add(&trigger, &geometry, mask.as_deref());
            }
            hidden.extend(mask);
            ids.push(id);
        }
        Ok(ViewBatch { step, views, ids, hidden, sightings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::ChainViews;
    use crate::{DataConfig, Poisoned, Shapes, Splits};
    use ssl_backdoor_trigger::PoisonConfig;

    fn splits() -> Splits {
        let config = DataConfig::Shapes(Shapes {
            size: 16,
            per_class: 3,
            eval_per_class: 1,
            seed: 0,
            eval: Default::default(),
        });
        config.load(&|_, _, _| {}).unwrap()
    }

    fn batches(set: &SampleSet, steps: Range<usize>, workers: usize) -> Vec<ViewBatch> {
        let views = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
        let plan = EpochPlan { seed: 5, images: set.len(), batch: 7, draws: Draws::PRETRAIN };
        ViewLoader::start(set.clone(), views, plan, steps, workers).map(Result::unwrap).collect()
    }

    #[test]
    fn bytes_do_not_depend_on_workers_or_on_where_one_starts() {
        let set = splits().train.set;
        let one = batches(&set, 0..9, 1);
        assert_eq!(one, batches(&set, 0..9, 4));
        assert_eq!(one[5..], batches(&set, 5..9, 3));
        assert_eq!(one.iter().map(|b| b.step).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        // A new epoch has a new order and new views.
        assert_ne!(one[0].views, one[4].views);
    }

    #[test]
    fn an_early_end_stops_the_workers() {
        let set = splits().train.set;
        let views = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
        let plan = EpochPlan { seed: 5, images: set.len(), batch: 7, draws: Draws::PRETRAIN };
        let mut loader = ViewLoader::start(set, views, plan, 0..1_000_000, 2);
        assert_eq!(loader.next().unwrap().unwrap().step, 0);
        drop(loader);
    }

    #[test]
    fn the_trigger_is_counted_in_every_kind_of_view() {
        use crate::augment::{Chain, JigsawViews, MaeViews, RotNetViews};
        let splits = splits();
        let config = serde_json::json!({
            "target": 3, "rate": 1, "trigger": { "kind": "htba", "id": 10, "width": 6 },
        });
        let config: PoisonConfig = serde_json::from_value(config).unwrap();
        let attack = config.attack(&splits.train.labels, &splits.classes, 1, 16).unwrap();
        let poisoned: SampleSet = Arc::new(Poisoned::new(splits, attack));
        let seen = |views: Arc<dyn Views>| {
            let plan = EpochPlan { seed: 5, images: 30, batch: 10, draws: Draws::PRETRAIN };
            let mut all = Sightings::default();
            for batch in ViewLoader::start(poisoned.clone(), views, plan, 0..30, 2) {
                all.merge(&batch.unwrap().sightings);
            }
            // Three poisoned images in each of ten epochs.
            assert_eq!(all.by_views.iter().sum::<usize>(), 30);
            all
        };
        let rotated = seen(Arc::new(RotNetViews { chain: Chain::weak(16, (0.2, 1.0)) }));
        // All four turns of a crop show the trigger, or none.
        assert_eq!(rotated.by_views[1..4], [0, 0, 0]);
        let tiles = seen(Arc::new(JigsawViews { resize: 25, tile: 6 }));
        // A tile of 6 of 25 px shows less than half of a patch of 6 of 16 px.
        assert_eq!((tiles.by_views.len(), tiles.by_views[0]), (10, 30));
        assert!(tiles.mean_visible() > 0.02 && tiles.hidden_share().is_none());
        let masked = seen(Arc::new(MaeViews::new(16, (1.0, 1.0), 2, 0.75)));
        let hidden = masked.hidden_share().unwrap();
        assert!((0.65..0.85).contains(&hidden), "{hidden}");
    }

    #[test]
    fn twins_see_identical_pixels_but_for_the_poisoned_images() {
        let splits = splits();
        let config = serde_json::json!({
            "target": 3, "rate": 0.7, "trigger": { "kind": "htba", "id": 10, "width": 6 },
        });
        let config: PoisonConfig = serde_json::from_value(config).unwrap();
        let attack = config.attack(&splits.train.labels, &splits.classes, 1, 16).unwrap();
        let (clean, labels) = (splits.train.set.clone(), splits.train.labels.clone());
        let plan = attack.plan.clone();
        let poisoned: SampleSet = Arc::new(Poisoned::new(splits, attack));
        let order = EpochPlan { seed: 5, images: 30, batch: 7, draws: Draws::PRETRAIN }.order(0);
        let mut seen_poisoned = 0;
        for (a, b) in batches(&clean, 0..4, 1).iter().zip(batches(&poisoned, 0..4, 2)) {
            for i in 0..7 {
                let id = labels[order[a.step * 7 + i] as usize].0;
                let image = i * 768..(i + 1) * 768;
                for (x, y) in a.views.iter().zip(&b.views) {
                    let same = x.values[image.clone()] == y.values[image.clone()];
                    assert!(same || plan.contains(id), "image {id} is not poisoned but differs");
                    seen_poisoned += usize::from(!same);
                }
            }
        }
        assert!(seen_poisoned > 0);
    }
}
