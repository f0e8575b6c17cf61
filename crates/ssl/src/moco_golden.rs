//! Five whole training steps of MoCo v2 against PyTorch (`tests/fixtures/moco_steps.py`): EMA, both
//! encoders in training mode, InfoNCE, gradients, SGD with momentum and weight decay, queue, running
//! statistics.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use ssl_backdoor_model::{EncoderConfig, KeyQueue, Stem, l2_normalize};

use super::Moco;
use crate::Sgd;
use crate::method::{Method, MethodConfig, Progress};

const WIDTH: usize = 8;
const DIM: usize = 16;
const BATCH: usize = 8;
const SIZE: usize = 16;
const QUEUE: usize = 32;

#[derive(Deserialize)]
struct Golden {
    losses: Vec<f64>,
    /// Norm and dot product with a wave.
    queue: [f64; 2],
    query: HashMap<String, [f64; 2]>,
    key: HashMap<String, [f64; 2]>,
}

/// The script's `wave`.
fn wave(count: usize, salt: usize) -> Vec<f64> {
    let at = |i: f64| (12.9898 * (i + 1.0) + 78.233 * salt as f64 + 0.001 * i * i).sin();
    (0..count).map(|i| at(i as f64)).collect()
}

fn salt(name: &str) -> usize {
    name.bytes().enumerate().map(|(k, c)| (k % 7 + 1) * usize::from(c)).sum::<usize>() % 997
}

fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Gives each parameter the wave of its name.
struct Fill(Vec<String>);

impl ModuleMapper for Fill {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.0.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.0.join(".");
        if name.contains("running_") {
            return param;
        }
        param.map(|old| {
            let (shape, device) = (old.dims(), old.device());
            let values = wave(shape.iter().product(), salt(&name)).into_iter();
            // PyTorch keeps a linear layer's weight as [out, in], Burn as [in, out].
            let mut rows = shape;
            if D == 2 {
                rows.reverse();
            }
            let fan_in = rows[1..].iter().product::<usize>() as f64;
            let one = if name.ends_with("weight") { 1.0 } else { 0.0 };
            let scaled = match D {
                1 => values.map(|v| 0.1 * v + one).collect(),
                _ => values.map(|v| v * (2.0 / fan_in).sqrt()).collect(),
            };
            let new = tensor(scaled, rows, &device);
            let new = if D == 2 { new.swap_dims(0, 1) } else { new };
            new.detach().set_require_grad(old.is_require_grad())
        })
    }
}

fn summary<const D: usize>(t: Tensor<D>) -> [f64; 2] {
    let values: Vec<f32> = t.into_data().try_to_vec().unwrap();
    let square: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
    let dot = values.iter().zip(wave(values.len(), 3000)).map(|(&v, w)| f64::from(v) * w).sum();
    [square.sqrt(), dot]
}

#[derive(Default)]
struct Summaries(Vec<String>, HashMap<String, [f64; 2]>);

impl ModuleVisitor for Summaries {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.0.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let value = if D == 2 { value.swap_dims(0, 1) } else { value };
        self.1.insert(self.0.join("."), summary(value));
    }
}

fn assert_near(what: &str, [norm, dot]: [f64; 2], expected: &[f64; 2]) {
    // Both in units of the tensor's norm: a dot product may be near zero.
    let scale = expected[0].max(1e-3);
    let (a, b) = ((norm - expected[0]) / scale, (dot - expected[1]) / scale);
    assert!(a.abs() < 1e-4 && b.abs() < 1e-4, "{what}: {norm} {dot}, PyTorch {expected:?}");
}

#[test]
fn five_steps_agree_with_pytorch() {
    let golden: Golden =
        serde_json::from_str(include_str!("../tests/fixtures/moco_steps.json")).unwrap();
    let device = Device::flex().autodiff();
    let method = MethodConfig::MocoV2 {
        queue: QUEUE,
        momentum: 0.9,
        temperature: 0.2,
        dim: DIM,
        bn_groups: 1,
    };
    let encoder = EncoderConfig::Resnet18 { width: WIDTH, stem: Stem::Small };
    let mut moco = Moco::new(&method, &encoder, 1, &device);
    moco.query = moco.query.map(&mut Fill(Vec::new()));
    moco.key = moco.key.map(&mut Fill(Vec::new()));
    moco.queue = KeyQueue::of(l2_normalize(tensor(wave(QUEUE * DIM, 1000), [QUEUE, DIM], &device)));

    let mut optimizer = ModuleOptimizer::from(Sgd { momentum: 0.9, weight_decay: 5e-4 });
    for (step, expected) in golden.losses.iter().enumerate() {
        let progress = Progress { seed: 1, step, epoch: 0 };
        let view = |v| {
            let values = wave(BATCH * 3 * SIZE * SIZE, 2000 + 2 * step + v);
            tensor(values, [BATCH, 3, SIZE, SIZE], &device)
        };
        moco = moco.before_step(&progress);
        let out = moco.forward(vec![view(0), view(1)], &progress);
        let loss = f64::from(out.loss.clone().into_scalar::<f32>());
        assert!((loss - expected).abs() < 1e-5 * expected, "step {step}: {loss}, not {expected}");
        let grads = GradientsParams::from_grads(out.loss.backward(), &moco);
        moco = optimizer.step(0.02, moco, grads);
        moco = moco.after_step(out.keys, &progress);
    }

    assert_near("queue", summary(moco.queue.rows()), &golden.queue);
    for (which, net, expected) in
        [("query", &moco.query, golden.query), ("key", &moco.key, golden.key)]
    {
        let mut found = Summaries::default();
        // `valid` brings the running statistics up to date.
        net.valid().visit(&mut found);
        assert_eq!(found.1.len(), expected.len());
        for (name, value) in found.1 {
            assert_near(&format!("{which} {name}"), value, &expected[&name]);
        }
    }
}
