//! MoCo v2, BYOL, MSF, Jigsaw, RotNet and MAE, and the first two with i-CutMix.

use burn::tensor::Device;
use ssl_backdoor_model::{EncoderConfig, KeyQueue, Positions, Stem};

use super::fixture::Fixture;
use crate::byol::{Byol, ByolConfig};
use crate::jigsaw::{Jigsaw, JigsawConfig};
use crate::mae::{Mae, MaeConfig};
use crate::method::Method;
use crate::mixing::Mix;
use crate::moco::{Moco, MocoConfig};
use crate::msf::{Msf, MsfConfig};
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::rotnet::RotNet;

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };

fn device() -> Device {
    Device::flex().autodiff()
}

fn sgd() -> (OptimizerConfig, f64, WeightDecayScope, f64) {
    (OptimizerConfig::sgd(), 5e-4, WeightDecayScope::All, 0.02)
}

#[test]
fn golden_moco() {
    let (fixture, device) = (Fixture::open("moco"), device());
    let config =
        MocoConfig { queue: 24, momentum: 0.9, temperature: 0.2, dim: 8, bn_groups: Some(2) };
    let mut moco = Moco::new(&config, &ENCODER, 8, 1, &device);
    moco.query = fixture.fill(moco.query, "query");
    moco.key = fixture.fill(moco.key, "query");
    moco.queue = KeyQueue::of(fixture.tensor("init.queue.rows", &device));
    fixture.train(moco, sgd(), [0, 1], |step| fixture.batch(step, 2, &device));
}

#[test]
fn golden_byol() {
    let (fixture, device) = (Fixture::open("byol"), device());
    let config = ByolConfig { momentum: 0.9, hidden: 24, dim: 8, bn_groups: Some(2) };
    let mut byol = Byol::new(&config, &ENCODER, 8, 1, &device);
    byol.online = fixture.fill(byol.online, "online");
    byol.predictor = fixture.fill(byol.predictor, "predictor");
    byol.target = fixture.fill(byol.target, "online");
    let adam = OptimizerConfig::Adam { betas: [0.9, 0.999] };
    let settings = (adam, 1e-3, WeightDecayScope::All, 1e-3);
    fixture.train(byol, settings, [1, 4], |step| fixture.batch(step, 2, &device));
}

/// The script's `MIXES`: left, top, width, height and partners of each view of each step.
fn mixes(step: usize) -> [Mix; 2] {
    let mix =
        |corner, sides, partners: [usize; 8]| Mix { corner, sides, partners: partners.into() };
    match step {
        0 => [
            mix([3, 0], [9, 7], [2, 0, 1, 3, 7, 6, 5, 4]),
            mix([8, 5], [8, 11], [1, 2, 3, 4, 5, 6, 7, 0]),
        ],
        _ => [
            mix([0, 12], [5, 4], [7, 6, 5, 4, 3, 2, 1, 0]),
            mix([6, 6], [1, 2], [0, 1, 2, 3, 4, 5, 6, 7]),
        ],
    }
}

#[test]
fn golden_i_cutmix_moco() {
    let (fixture, device) = (Fixture::open("i-cutmix-moco"), device());
    let config =
        MocoConfig { queue: 24, momentum: 0.9, temperature: 0.2, dim: 8, bn_groups: Some(2) };
    let mut moco = Moco::new(&config, &ENCODER, 8, 1, &device);
    moco.query = fixture.fill(moco.query, "query");
    moco.key = fixture.fill(moco.key, "query");
    moco.queue = KeyQueue::of(fixture.tensor("init.queue.rows", &device));
    fixture.train_by(moco, sgd(), [0, 1], |moco, progress| {
        let step = progress.step;
        moco.forward_mixed(fixture.batch(step, 2, &device), &mixes(step), progress)
    });
}

#[test]
fn golden_i_cutmix_byol() {
    let (fixture, device) = (Fixture::open("i-cutmix-byol"), device());
    let config = ByolConfig { momentum: 0.9, hidden: 24, dim: 8, bn_groups: Some(2) };
    let mut byol = Byol::new(&config, &ENCODER, 8, 1, &device);
    byol.online = fixture.fill(byol.online, "online");
    byol.predictor = fixture.fill(byol.predictor, "predictor");
    byol.target = fixture.fill(byol.target, "online");
    let adam = OptimizerConfig::Adam { betas: [0.9, 0.999] };
    let settings = (adam, 1e-3, WeightDecayScope::All, 1e-3);
    fixture.train_by(byol, settings, [1, 4], |byol, progress| {
        let step = progress.step;
        byol.forward_mixed(fixture.batch(step, 2, &device), &mixes(step), progress)
    });
}

#[test]
fn golden_msf() {
    let (fixture, device) = (Fixture::open("msf"), device());
    let config = MsfConfig {
        queue: 24,
        top_k: 3,
        momentum: 0.9,
        hidden: Some(24),
        dim: Some(8),
        bn_groups: Some(2),
        ..MsfConfig::default()
    };
    let mut msf = Msf::new(&config, &ENCODER, 8, 1, &device);
    msf.query = fixture.fill(msf.query, "query");
    msf.predictor = fixture.fill(msf.predictor, "predictor");
    msf.target = fixture.fill(msf.target, "query");
    msf.bank = KeyQueue::of(fixture.tensor("init.bank.rows", &device));
    fixture.train(msf, sgd(), [0, 1], |step| fixture.batch(step, 2, &device));
}

#[test]
fn golden_jigsaw() {
    let (fixture, device) = (Fixture::open("jigsaw"), device());
    let config = JigsawConfig { permutations: 10, resize: 37, tile: 11 };
    let mut jigsaw = Jigsaw::new(&config, &ENCODER, 1, &device);
    jigsaw.encoder = fixture.fill(jigsaw.encoder, "encoder");
    jigsaw.head = fixture.fill(jigsaw.head, "head");
    let (_, orders) = fixture.get("given.permutations");
    let order = |values: &[f32]| std::array::from_fn(|i| values[i] as u8);
    jigsaw.permutations = orders.chunks_exact(9).map(order).collect();
    let settings = (OptimizerConfig::sgd(), 5e-2, WeightDecayScope::NoBiasNoBn, 0.01);
    fixture.train(jigsaw, settings, [0, 1], |step| fixture.batch(step, 9, &device));
}

#[test]
fn golden_rotnet() {
    let (fixture, device) = (Fixture::open("rotnet"), device());
    let mut rotnet = RotNet::new(&ENCODER, 1, &device);
    rotnet.encoder = fixture.fill(rotnet.encoder, "encoder");
    rotnet.head = fixture.fill(rotnet.head, "head");
    fixture.train(rotnet, sgd(), [0, 1], |step| fixture.batch(step, 4, &device));
}

#[test]
fn golden_mae() {
    let (fixture, device) = (Fixture::open("mae"), device());
    let config =
        MaeConfig { decoder_dim: 8, decoder_depth: 1, decoder_heads: 2, ..MaeConfig::default() };
    let encoder =
        EncoderConfig::Vit { dim: 16, depth: 2, heads: 2, patch: 4, positions: Positions::Fixed };
    let mut mae = Mae::new(&config, &encoder, 1, &device).unwrap();
    mae.encoder = fixture.fill(mae.encoder, "encoder");
    mae.decoder = fixture.fill(mae.decoder, "decoder");
    let adam = OptimizerConfig::AdamW { betas: [0.9, 0.95] };
    fixture.train(mae, (adam, 0.5, WeightDecayScope::Matrices, 1e-3), [0, 1], |step| {
        let mut batch = fixture.batch(step, 1, &device);
        let (_, hidden) = fixture.get(&format!("given.hidden.{step}"));
        batch.hidden =
            hidden.chunks_exact(16).map(|m| m.iter().map(|&v| v > 0.5).collect()).collect();
        batch
    });
}
