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

use ssl_backdoor_rng::{Purpose, ranked};

use crate::augment::{Geometry, Scratch, ViewKey, Views};
use crate::purpose;
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
    pub const PRETRAIN: Self = Self { order: purpose::ORDER, views: purpose::VIEW };
    /// A training of the defender: a student, or a control beside it.
    pub const DEFENCE: Self = Self { order: purpose::STUDENT_ORDER, views: purpose::STUDENT_VIEW };
}

/// How steps map to images: each epoch takes batches of a fresh order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPlan {
    /// Seed of the order and of the views.
    pub seed: u64,
    /// Images in the training set.
    pub images: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Leave out the images at the end of an epoch that fill no whole batch, as `drop_last` of PyTorch's
    /// `DataLoader`. Otherwise they are a smaller batch; but a single image is left out all the same, because
    /// batch norm needs two.
    pub drop_last: bool,
    /// What the order and the views are drawn for.
    pub draws: Draws,
}

impl EpochPlan {
    /// Images that an epoch trains on.
    pub fn images_per_epoch(&self) -> usize {
        let left = self.images.checked_rem(self.batch).unwrap_or(self.images);
        let kept = !self.drop_last && left > 1 && self.batch > 0;
        if kept { self.images } else { self.images - left }
    }

    /// Batches in an epoch, the smaller last one included if it is kept.
    pub fn steps_per_epoch(&self) -> usize {
        self.images_per_epoch().div_ceil(self.batch.max(1))
    }

    /// Epochs that take at least `steps` steps.
    pub fn epochs_for(&self, steps: usize) -> usize {
        steps.div_ceil(self.steps_per_epoch().max(1))
    }

    /// The epoch of `step`, from 0; steps count from the start of training.
    pub fn epoch_of(&self, step: usize) -> usize {
        step / self.steps_per_epoch().max(1)
    }

    /// Images that all steps before `step` took together.
    pub fn images_before(&self, step: usize) -> usize {
        self.epoch_of(step) * self.images_per_epoch() + self.places(step).start
    }

    /// Images in `step`: `batch` or, at the end of an epoch, fewer.
    pub fn images_in(&self, step: usize) -> usize {
        self.places(step).len()
    }

    /// The part of its epoch's order that `step` takes.
    fn places(&self, step: usize) -> Range<usize> {
        let first = step % self.steps_per_epoch().max(1) * self.batch;
        first..(first + self.batch).min(self.images_per_epoch())
    }

    /// The order of the images in `epoch`: positions in the set.
    fn order(&self, epoch: u32) -> Vec<u64> {
        let all: Vec<u64> = (0..self.images as u64).collect();
        ranked(&all, self.seed, self.draws.order, epoch)
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
        let EpochPlan { seed, draws, .. } = self.plan;
        let epoch = self.plan.epoch_of(step) as u32;
        let places = self.plan.places(step);
        let batch = places.len();
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
        for (i, &index) in self.orders[&epoch][places].iter().enumerate() {
            let Sample { id, image, trigger, .. } = self.set.get(index as usize)?;
            let key = ViewKey { seed, purpose: draws.views, epoch, id };
            let mut out: Vec<&mut [f32]> =
                views.iter_mut().map(|view| &mut view.values[i * len..(i + 1) * len]).collect();
            self.views.write(&image, &key, &mut self.scratch, &mut out, &mut geometry);
            let mask = self.views.hidden(&key);
            if !trigger.is_empty() {
                let boxes = trigger.boxes(image.dimensions());
                sightings.add(&boxes, &geometry, mask.as_deref());
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
    use ssl_backdoor_rng::keyed;
    use ssl_backdoor_trigger::PoisonConfig;

    fn splits() -> Splits {
        let config = DataConfig::Shapes(Shapes {
            size: 16,
            native: None,
            per_class: 3,
            eval_per_class: 1,
            seed: 0,
            eval: Default::default(),
        });
        config.load(&|_, _, _| {}).unwrap()
    }

    fn batches(set: &SampleSet, steps: Range<usize>, workers: usize) -> Vec<ViewBatch> {
        let views = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
        let plan = EpochPlan {
            seed: 5,
            images: set.len(),
            batch: 7,
            drop_last: true,
            draws: Draws::PRETRAIN,
        };
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

    /// Every image once an epoch, as `DataLoader(drop_last=False)` of PyTorch; fewer images in the last batch alone.
    #[test]
    fn review_1_09_a_kept_last_batch_holds_the_images_left_over() {
        let set = splits().train.set;
        let views: Arc<dyn Views> = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
        let plan = |drop_last| EpochPlan {
            seed: 5,
            images: 30,
            batch: 7,
            drop_last,
            draws: Draws::PRETRAIN,
        };
        let all = |drop_last, workers| -> Vec<ViewBatch> {
            let plan = plan(drop_last);
            let steps = 0..2 * plan.steps_per_epoch();
            let loader = ViewLoader::start(set.clone(), views.clone(), plan, steps, workers);
            loader.map(Result::unwrap).collect()
        };
        let (dropped, kept) = (all(true, 1), all(false, 1));
        assert_eq!((dropped.len(), kept.len()), (8, 10));
        assert_eq!(kept, all(false, 3));
        assert_eq!(
            kept.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(),
            [7, 7, 7, 7, 2, 7, 7, 7, 7, 2]
        );
        assert!(kept[4].views.iter().all(|view| view.shape == [2, 3, 16, 16]));
        assert!(kept[4].views.iter().all(|view| view.values.len() == 2 * 3 * 16 * 16));
        // The whole batches are the same.
        for (epoch, batches) in dropped.chunks_exact(4).enumerate() {
            for (a, b) in batches.iter().zip(&kept[5 * epoch..]) {
                assert_eq!((&a.ids, &a.views), (&b.ids, &b.views));
            }
        }
        let mut ids: Vec<u64> = kept[..5].iter().flat_map(|batch| batch.ids.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 30);
    }

    #[test]
    fn review_1_09_steps_and_images_of_a_plan_agree() {
        for (images, batch) in [(30, 7), (29, 7), (28, 7), (6, 7), (1, 7), (0, 7), (7, 0), (13, 1)]
        {
            for drop_last in [true, false] {
                let plan = EpochPlan { seed: 5, images, batch, drop_last, draws: Draws::PRETRAIN };
                let steps = plan.steps_per_epoch();
                let sizes: Vec<usize> = (0..3 * steps).map(|step| plan.images_in(step)).collect();
                assert_eq!(sizes.iter().sum::<usize>(), 3 * plan.images_per_epoch(), "{plan:?}");
                for step in 0..sizes.len() {
                    let before: usize = sizes[..step].iter().sum();
                    assert_eq!(plan.images_before(step), before, "{plan:?} {step}");
                    assert_eq!(plan.epoch_of(step), step / steps, "{plan:?} {step}");
                    assert!(sizes[step] == batch || (step + 1).is_multiple_of(steps), "{plan:?}");
                }
                assert_eq!(plan.images_in(0), if steps == 0 { 0 } else { sizes[0] });
            }
        }
        let plan = |images, drop_last| EpochPlan {
            seed: 0,
            images,
            batch: 128,
            drop_last,
            draws: Draws::PRETRAIN,
        };
        // ImageNet-100, RotNet: 989 whole batches and 97 images; one image alone is left out.
        assert_eq!(plan(126_689, true).steps_per_epoch(), 989);
        assert_eq!(plan(126_689, false).steps_per_epoch(), 990);
        assert_eq!(plan(257, false).steps_per_epoch(), 2);
        assert_eq!((plan(300, true).epochs_for(7), plan(300, false).epochs_for(7)), (4, 3));
    }

    /// A student that distils its teacher with the teacher's seed must not see the crops, nor the order, that the
    /// teacher was trained on; and the pretraining's own draws stay what they were.
    #[test]
    fn review_1_13_a_defence_sees_other_crops_in_another_order() {
        let set = splits().train.set;
        let all = |draws| -> Vec<ViewBatch> {
            let views = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
            let plan = EpochPlan { seed: 5, images: 30, batch: 30, drop_last: true, draws };
            ViewLoader::start(set.clone(), views, plan, 0..2, 1).map(Result::unwrap).collect()
        };
        let (teacher, student) = (all(Draws::PRETRAIN), all(Draws::DEFENCE));
        for (a, b) in teacher.iter().zip(&student) {
            assert_ne!(a.ids, b.ids);
            let len = 3 * 16 * 16;
            let view = |batch: &ViewBatch, view: usize, id: u64| {
                let place = batch.ids.iter().position(|of| *of == id).unwrap();
                batch.views[view].values[place * len..(place + 1) * len].to_vec()
            };
            for id in a.ids.iter().copied() {
                assert_ne!(view(a, 0, id), view(b, 0, id), "image {id}");
            }
        }
        // The pretraining's keys are those of earlier versions.
        let plan =
            EpochPlan { seed: 5, images: 30, batch: 7, drop_last: true, draws: Draws::PRETRAIN };
        let all: Vec<u64> = (0..30).collect();
        assert_eq!(plan.order(1), ranked(&all, 5, purpose::ORDER, 1));
        let key = ViewKey { seed: 5, purpose: Draws::PRETRAIN.views, epoch: 1, id: 3 };
        assert_eq!(key.rng(2), keyed(5, purpose::VIEW, 1, 3, 2));
    }

    #[test]
    fn an_early_end_stops_the_workers() {
        let set = splits().train.set;
        let views = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
        let plan = EpochPlan {
            seed: 5,
            images: set.len(),
            batch: 7,
            drop_last: true,
            draws: Draws::PRETRAIN,
        };
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
            let plan = EpochPlan {
                seed: 5,
                images: 30,
                batch: 10,
                drop_last: true,
                draws: Draws::PRETRAIN,
            };
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
        let order =
            EpochPlan { seed: 5, images: 30, batch: 7, drop_last: true, draws: Draws::PRETRAIN }
                .order(0);
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
