//! Trainings through the public interface: in memory, watched, and with a method of the caller's own.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_data::{DataConfig, SampleSet};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, Stem};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{
    Batch, EpochReport, Method, MethodConfig, ObserverError, PretrainConfig, PretrainError,
    Progress, SimclrConfig, Step, StepReport, TrainConfig, TrainObserver, Training, TrainingFolder,
    after_each_epoch, pretrain, train,
};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 1, stem: Stem::Small };
const SIZE: u32 = 8;

fn set() -> SampleSet {
    let data = r#"{ "kind": "shapes", "size": 8, "per_class": 2, "eval_per_class": 1 }"#;
    let data: DataConfig = serde_json::from_str(data).unwrap();
    data.load(&|_, _, _| {}).unwrap().pretrain_set().clone()
}

fn training() -> Training {
    Training::new(set(), 1, &Device::flex())
}

fn simclr(batch: usize) -> PretrainConfig {
    let method = MethodConfig::Simclr(SimclrConfig { dim: 4, ..SimclrConfig::default() });
    let config = PretrainConfig::new(method, ENCODER, 2);
    PretrainConfig { train: TrainConfig { batch, ..config.train }, ..config }
}

fn features(encoder: &Encoder) -> Vec<f32> {
    let images = Tensor::<4>::ones([1, 3, SIZE as usize, SIZE as usize], &Device::flex());
    encoder.forward(images).into_data().iter::<f32>().collect()
}

#[test]
fn a_training_in_memory_is_that_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = TrainingFolder::new(folder.path(), "simclr");
    let kept = pretrain(&simclr(10), None, SIZE, &training(), &mut files).unwrap();
    let mut lines = Vec::new();
    let mut watch = after_each_epoch(|epoch, _| {
        lines.push(serde_json::Value::Object(epoch.figures()).to_string());
        Ok(())
    });
    let watched = pretrain(&simclr(10), None, SIZE, &training(), &mut watch).unwrap();
    drop(watch);
    let unwatched = pretrain(&simclr(10), None, SIZE, &training(), &mut ()).unwrap();
    assert_eq!(features(&kept), features(&watched));
    assert_eq!(features(&kept), features(&unwatched));
    let log = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), lines);
}

/// Records steps and fails after an epoch, with an error of its own or one of the crate.
struct Fails {
    steps: Vec<StepReport>,
    with: Option<ObserverError>,
}

impl TrainObserver for Fails {
    fn on_step(&mut self, step: &StepReport) {
        self.steps.push(*step);
    }

    fn on_epoch(&mut self, _: &mut EpochReport, _: &Encoder) -> Result<(), ObserverError> {
        self.with.take().map_or(Ok(()), Err)
    }
}

#[test]
fn what_an_observer_gives_ends_the_training() {
    let run = |with: ObserverError| {
        let mut fails = Fails { steps: Vec::new(), with: Some(with) };
        let error = pretrain(&simclr(10), None, SIZE, &training(), &mut fails).unwrap_err();
        let steps: Vec<_> = fails.steps.iter().map(|step| (step.done, step.steps)).collect();
        assert_eq!(steps, [(1, 4), (2, 4)]);
        error
    };
    let own = run("no space".into());
    assert_eq!(own.to_string(), "after epoch 0");
    let cause = std::error::Error::source(&own).unwrap();
    assert_eq!(cause.to_string(), "no space");
    let theirs = run(Box::new(PretrainError::ViewCount { wanted: 1, found: 2 }));
    assert!(matches!(theirs, PretrainError::ViewCount { .. }), "{theirs}");
}

#[test]
fn a_batch_that_the_set_cannot_fill_is_an_error() {
    let error = pretrain(&simclr(21), None, SIZE, &training(), &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "batch = 21 is out of range: 2 to 65,536 and at most the 20 training images"
    );
}

/// Needs three views, but gets two.
#[derive(Module, Debug)]
struct Three {
    encoder: Encoder,
}

impl Method for Three {
    fn forward(&mut self, batch: Batch, _: &Progress) -> Result<Step, PretrainError> {
        let [first, _, _] = batch.views()?;
        let features = self.encoder.forward(first);
        Ok(Step::new(features.clone().mean(), features))
    }

    fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    fn start_from(self, trained: Encoder, _: Encoder) -> Self {
        Self { encoder: trained }
    }
}

#[test]
fn a_method_and_views_that_do_not_fit_are_an_error() {
    let (training, config) = (training(), TrainConfig::sgd(1, 10, 0.1));
    let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
    let method = Three { encoder: ENCODER.init(&mut rng, &training.autodiff_device()) };
    let views = Arc::new(ChainViews::moco(SIZE, config.crop, false));
    let error = train(&training, &config, views, method, &mut ()).unwrap_err();
    assert_eq!(error.to_string(), "the method needs 3 views of each image, but its views give 2");
}
