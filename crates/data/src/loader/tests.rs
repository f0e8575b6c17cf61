use super::*;
use crate::augment::ChainViews;
use crate::{DataConfig, Draws, Poisoned, Shapes, Splits, purpose};
use ssl_backdoor_rng::{keyed, ranked};
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
    let plan =
        EpochPlan { seed: 5, images: set.len(), batch: 7, drop_last: true, draws: Draws::PRETRAIN };
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

/// Every image once an epoch, as in PyTorch's `DataLoader(drop_last=False)`; only the last batch has fewer images.
#[test]
fn review_1_09_a_kept_last_batch_holds_the_images_left_over() {
    let set = splits().train.set;
    let views: Arc<dyn Views> = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
    let plan =
        |drop_last| EpochPlan { seed: 5, images: 30, batch: 7, drop_last, draws: Draws::PRETRAIN };
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
    // The full batches are the same.
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
    for (images, batch) in [(30, 7), (29, 7), (28, 7), (6, 7), (1, 7), (0, 7), (7, 0), (13, 1)] {
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
    // ImageNet-100, RotNet: 989 whole batches and 97 images; a single image is left out.
    assert_eq!(plan(126_689, true).steps_per_epoch(), 989);
    assert_eq!(plan(126_689, false).steps_per_epoch(), 990);
    assert_eq!(plan(257, false).steps_per_epoch(), 2);
    assert_eq!((plan(300, true).epochs_for(7), plan(300, false).epochs_for(7)), (4, 3));
}

/// A student that distils its teacher with the teacher's seed must not see the crops or the order that the teacher
/// was trained on, and the draws of the pretraining must not change.
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
    let plan = EpochPlan { seed: 5, images: 30, batch: 7, drop_last: true, draws: Draws::PRETRAIN };
    let all: Vec<u64> = (0..30).collect();
    assert_eq!(plan.order(1), ranked(&all, 5, purpose::ORDER, 1));
    let key = ViewKey { seed: 5, purpose: Draws::PRETRAIN.views, epoch: 1, id: 3 };
    assert_eq!(key.rng(2), keyed(5, purpose::VIEW, 1, 3, 2));
}

/// Large and small crops differ in size, and are still functions of (seed, purpose, epoch, image id, view).
#[test]
fn crops_of_two_sizes_do_not_depend_on_workers_or_on_where_one_starts() {
    use crate::augment::SmallCrops;
    let set = splits().train.set;
    let small = SmallCrops { count: 3, size: 8, crop: (0.1, 0.4) };
    let large = ChainViews::moco(16, (0.3, 1.0), false);
    let like = large.0[0];
    let views: Arc<dyn Views> = Arc::new(large.with_small(like, small));
    let plan =
        EpochPlan { seed: 5, images: 30, batch: 7, drop_last: false, draws: Draws::PRETRAIN };
    let all = |steps: Range<usize>, workers| -> Vec<ViewBatch> {
        let loader = ViewLoader::start(set.clone(), views.clone(), plan, steps, workers);
        loader.map(Result::unwrap).collect()
    };
    let one = all(0..10, 1);
    assert_eq!(one, all(0..10, 3));
    assert_eq!(one[6..], all(6..10, 2));
    let shapes: Vec<[usize; 4]> = one[4].views.iter().map(|view| view.shape).collect();
    assert_eq!(shapes, [[2, 3, 16, 16], [2, 3, 16, 16], [2, 3, 8, 8], [2, 3, 8, 8], [2, 3, 8, 8]]);
    // View 3 of an image of this batch, made on its own.
    let key = ViewKey { seed: 5, purpose: purpose::VIEW, epoch: 1, id: one[7].ids[4] };
    let image = (0..30).map(|i| set.get(i).unwrap()).find(|sample| sample.id == key.id).unwrap();
    let mut out: Vec<Vec<f32>> =
        (0..5).map(|view| vec![0.0; 3 * (views.size_of(view) as usize).pow(2)]).collect();
    let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
    let geometry = &mut [Geometry::default(); 5];
    views.write(&image.image, &key, &mut Scratch::default(), &mut slices, geometry);
    assert_eq!(out[3], one[7].views[3].values[4 * 192..5 * 192]);
}

#[test]
fn an_early_end_stops_the_workers() {
    let set = splits().train.set;
    let views = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
    let plan =
        EpochPlan { seed: 5, images: set.len(), batch: 7, drop_last: true, draws: Draws::PRETRAIN };
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
        let plan =
            EpochPlan { seed: 5, images: 30, batch: 10, drop_last: true, draws: Draws::PRETRAIN };
        let mut all = TriggerVisibility::default();
        for batch in ViewLoader::start(poisoned.clone(), views, plan, 0..30, 2) {
            all.merge(&batch.unwrap().visibility);
        }
        // Three poisoned images in each of ten epochs.
        assert_eq!(all.by_views.iter().sum::<usize>(), 30);
        all
    };
    let rotated = seen(Arc::new(RotNetViews { chain: Chain::weak(16, (0.2, 1.0)) }));
    // Either all four turns of a crop show the trigger or none does.
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
