//! The methods with large and small crops of an image (`tests/fixtures/golden/crops.py`).

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::{Draws, EpochPlan};
use ssl_backdoor_model::{EncoderConfig, LarsConfig, LarsScope, Stem};
use ssl_backdoor_rng::keyed;

use super::fixture::Fixture;
use crate::deepcluster::{DeepCluster, DeepClusterConfig};
use crate::dino::{Dino, DinoConfig};
use crate::kmeans;
use crate::method::{Method, Progress};
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::purpose::CLUSTERS;
use crate::swav::{Swav, SwavConfig};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
/// Two large crops and two small ones.
const CROPS: usize = 4;
const LARGE: usize = 2;
const BATCH: usize = 8;

fn device() -> Device {
    Device::flex().autodiff()
}

fn sgd() -> (OptimizerConfig, f64, WeightDecayScope, f64) {
    (OptimizerConfig::sgd(), 5e-4, WeightDecayScope::All, 0.02)
}

#[test]
fn golden_swav() {
    let (fixture, device) = (Fixture::open("swav"), device());
    // The queue is full after the first step, in which the prototypes do not learn.
    let config = SwavConfig {
        prototypes: 6,
        frozen_steps: 1,
        queue: BATCH,
        queue_from: 0,
        hidden: 24,
        dim: 8,
        small: 2,
        ..SwavConfig::default()
    };
    let mut swav = Swav::new(&config, &ENCODER, 1, &device);
    swav.network = fixture.fill(swav.network, "network");
    let prototypes = fixture.tensor("init.prototypes", &device);
    swav.prototypes = swav.prototypes.map(|_: Tensor<2>| prototypes.require_grad());
    // LARC: vectors are scaled too.
    let lars = LarsConfig { scaled: LarsScope::All, ..LarsConfig::new(0.02, false) };
    let settings = (OptimizerConfig::Lars(lars), 1e-2, WeightDecayScope::All, 0.1);
    fixture.train(swav, settings, [0, 1], |step| fixture.batch(step, CROPS, &device));
}

#[test]
fn golden_dino() {
    let (fixture, device) = (Fixture::open("dino"), device());
    let config = DinoConfig {
        outputs: 6,
        hidden: 24,
        bottleneck: 8,
        teacher_warmup: 3,
        momentum: 0.9,
        small: 2,
        ..DinoConfig::default()
    };
    let mut dino = Dino::new(&config, &ENCODER, 1, &device);
    dino.student = fixture.fill(dino.student, "student");
    dino.teacher = fixture.fill(dino.teacher, "student");
    let settings =
        (OptimizerConfig::AdamW { betas: [0.9, 0.999] }, 0.5, WeightDecayScope::Matrices, 1e-3);
    // After the first epoch, so that the last layer learns.
    fixture.train(dino, settings, [1, 4], |step| fixture.batch(step, CROPS, &device));
}

#[test]
fn golden_deepcluster_v2() {
    let (fixture, device) = (Fixture::open("deepcluster-v2"), device());
    let config = DeepClusterConfig {
        prototypes: vec![3, 4],
        hidden: 24,
        dim: 8,
        small: 2,
        ..DeepClusterConfig::default()
    };
    let plan = EpochPlan {
        seed: 1,
        images: 2 * BATCH,
        batch: BATCH,
        drop_last: true,
        draws: Draws::PRETRAIN,
    };
    let mut method = DeepCluster::new(&config, &ENCODER, 1, &device).prepare(&plan).unwrap();
    method.network = fixture.fill(method.network, "network");
    // `ORDER` and `STARTS` of the script.
    let order = plan.order(0);
    assert_eq!(order, ORDER);
    for (head, starts) in [STARTS.0.as_slice(), &STARTS.1].into_iter().enumerate() {
        let mut rng = keyed(1, CLUSTERS, 0, head as u64, 0);
        assert_eq!(kmeans::starts(2 * BATCH, starts.len(), &mut rng), starts);
    }
    assert_eq!(method.looks_first(), Some(LARGE));
    for (step, positions) in order.chunks_exact(BATCH).enumerate() {
        method.look(fixture.batch(step, LARGE, &device), positions).unwrap();
    }
    fixture.train(method, sgd(), [0, 1], |step| fixture.batch(step, CROPS, &device));
}

const ORDER: [u64; 16] = [12, 11, 1, 8, 6, 14, 10, 2, 15, 13, 3, 0, 7, 9, 4, 5];
const STARTS: ([usize; 3], [usize; 4]) = ([15, 6, 14], [0, 6, 9, 14]);

/// DINO's last layer gets no gradient in the first epochs; `golden_swav` checks the same for SwAV's prototypes.
#[test]
fn frozen_layers_get_no_gradient() {
    let (fixture, device) = (Fixture::open("dino"), device());
    let config = DinoConfig {
        outputs: 6,
        hidden: 24,
        bottleneck: 8,
        small: 2,
        frozen_epochs: 2,
        ..DinoConfig::default()
    };
    let mut dino = Dino::new(&config, &ENCODER, 1, &device);
    let at = |epoch| Progress { seed: 1, step: 0, steps: 8, epoch, epochs: 4, seen: 0 };
    let learns = |dino: &mut Dino, epoch: usize| {
        let step = dino.forward(fixture.batch(0, CROPS, &device), &at(epoch)).unwrap();
        let grads = burn::optim::GradientsParams::from_grads(step.loss.backward(), dino);
        let grads = dino.gradients(grads, &at(epoch));
        assert!(grads.get::<4>(first_kernel(dino)).is_some());
        grads.get::<2>(dino.student.directions.id).is_some()
    };
    assert!(!learns(&mut dino, 0) && !learns(&mut dino, 1) && learns(&mut dino, 2));
}

/// The first convolution of the student.
fn first_kernel(dino: &Dino) -> burn::module::ParamId {
    struct First(Option<burn::module::ParamId>);
    impl ssl_backdoor_model::OnParameter for First {
        fn parameter<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
            if D == 4 && self.0.is_none() {
                self.0 = Some(param.id);
            }
        }
    }
    let mut first = First(None);
    ssl_backdoor_model::for_each_parameter(&dino.student, &mut first);
    first.0.unwrap()
}
