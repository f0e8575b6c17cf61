//! The methods with two views of an image and no queue.

use burn::tensor::Device;
use ssl_backdoor_model::{EncoderConfig, LarsConfig, Positions, Stem};

use super::fixture::Fixture;
use crate::barlow_twins::{BarlowTwins, BarlowTwinsConfig};
use crate::moco_v3::{MocoV3, MocoV3Config};
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::simclr_v2::{SimclrV2, SimclrV2Config};
use crate::simsiam::{SimSiam, SimSiamConfig};
use crate::vicreg::{Vicreg, VicregConfig};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };

fn device() -> Device {
    Device::flex().autodiff()
}

fn sgd(lr: f64) -> (OptimizerConfig, f64, WeightDecayScope, f64) {
    (OptimizerConfig::sgd(), 5e-4, WeightDecayScope::All, lr)
}

fn lars(clip: bool, lr: f64) -> (OptimizerConfig, f64, WeightDecayScope, f64) {
    with_lars(LarsConfig::new(0.02, clip), lr)
}

fn with_lars(config: LarsConfig, lr: f64) -> (OptimizerConfig, f64, WeightDecayScope, f64) {
    (OptimizerConfig::Lars(config), 1e-2, WeightDecayScope::Matrices, lr)
}

/// LARS as in the official code of SimCLR v2 and MoCo v3.
const JOINT: LarsConfig = LarsConfig { norm_of_sum: true, ..LarsConfig::new(0.02, false) };

#[test]
fn golden_simsiam() {
    let (fixture, device) = (Fixture::open("simsiam"), device());
    let config = SimSiamConfig { dim: 24, layers: 3, hidden: 8, ..SimSiamConfig::default() };
    let mut simsiam = SimSiam::new(&config, &ENCODER, 1, &device);
    simsiam.network = fixture.fill(simsiam.network, "network");
    simsiam.predictor = fixture.fill(simsiam.predictor, "predictor");
    fixture.train(simsiam, sgd(0.02), [0, 1], |step| fixture.batch(step, 2, &device));
}

#[test]
fn golden_barlow_twins() {
    let (fixture, device) = (Fixture::open("barlow-twins"), device());
    let config =
        BarlowTwinsConfig { hidden: 24, dim: 8, redundancy: 0.02, ..BarlowTwinsConfig::default() };
    let mut barlow = BarlowTwins::new(&config, &ENCODER, 1, &device);
    barlow.network = fixture.fill(barlow.network, "network");
    fixture.train(barlow, lars(false, 0.1), [0, 1], |step| fixture.batch(step, 2, &device));
}

#[test]
fn golden_vicreg() {
    let (fixture, device) = (Fixture::open("vicreg"), device());
    let config = VicregConfig { hidden: 24, dim: 8, ..VicregConfig::default() };
    let mut vicreg = Vicreg::new(&config, &ENCODER, 1, &device);
    vicreg.network = fixture.fill(vicreg.network, "network");
    fixture.train(vicreg, lars(true, 0.003), [0, 1], |step| fixture.batch(step, 2, &device));
}

#[test]
fn golden_simclr_v2() {
    let (fixture, device) = (Fixture::open("simclr-v2"), device());
    let config =
        SimclrV2Config { temperature: 0.5, hidden: Some(24), dim: 8, ..SimclrV2Config::default() };
    let mut simclr = SimclrV2::new(&config, &ENCODER, 8, 1, &device);
    simclr.network = fixture.fill(simclr.network, "network");
    let lars = LarsConfig { lr_in_momentum: true, ..JOINT };
    fixture.train(simclr, with_lars(lars, 0.05), [0, 1], |step| fixture.batch(step, 2, &device));
}

/// A MoCo v3 with the weights of the fixture.
fn moco_v3(fixture: &Fixture, temperature: f64, encoder: &EncoderConfig) -> MocoV3 {
    let config = MocoV3Config {
        momentum: 0.9,
        temperature: Some(temperature),
        hidden: 24,
        dim: 8,
        ..MocoV3Config::default()
    };
    let mut moco = MocoV3::new(&config, encoder, 8, 1, &device());
    moco.online = fixture.fill(moco.online, "online");
    moco.predictor = fixture.fill(moco.predictor, "predictor");
    moco.target = fixture.fill(moco.target, "online");
    moco
}

#[test]
fn golden_moco_v3() {
    let (fixture, device) = (Fixture::open("moco-v3"), device());
    let moco = moco_v3(&fixture, 1.0, &ENCODER);
    fixture.train(moco, with_lars(JOINT, 0.05), [0, 1], |step| fixture.batch(step, 2, &device));
}

#[test]
fn golden_moco_v3_vit() {
    let (fixture, device) = (Fixture::open("moco-v3-vit"), device());
    let encoder =
        EncoderConfig::Vit { dim: 16, depth: 2, heads: 2, patch: 4, positions: Positions::Fixed };
    let moco = moco_v3(&fixture, 0.2, &encoder);
    fixture.train(moco, sgd(0.02), [0, 1], |step| fixture.batch(step, 2, &device));
}
