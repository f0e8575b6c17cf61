//! Reads a fixture file and compares results with it; the crate `compress` uses this module too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use ssl_backdoor_kernels::multiply_in_bf16;
use ssl_backdoor_model::{OnParameter, for_each_parameter};

use ssl_backdoor_ssl::{
    Batch, Method, OptimizerConfig, PretrainError, Progress, Step, WeightDecayScope,
};

/// Tolerance for losses, outputs and buffers.
const CLOSE: f64 = 1e-4;
/// Tolerance for gradients, and for weights after two steps.
const STEPPED: f64 = 1e-3;
/// Smaller gradients are zero except for rounding in double precision.
const NOTHING: f32 = 1e-12;

/// If this variable is set, encoders multiply in bf16, and results are compared with `bf16-NAME.safetensors`.
pub(crate) const BF16: &str = "GOLDEN_BF16";

/// Values with their shape, by name.
type Values = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub(crate) struct Fixture {
    values: Values,
    in_bf16: bool,
}

fn read(name: &str) -> Values {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ssl/tests/fixtures/golden");
    let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
    let values = |view: safetensors::tensor::TensorView<'_>| {
        let dtype = match view.dtype() {
            Dtype::F16 => DType::F16,
            _ => DType::F32,
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        (view.shape().to_vec(), data.iter::<f32>().collect())
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, values(view))).collect()
}

impl Fixture {
    /// The file of a method, with the encoder that all methods share.
    pub(crate) fn open(name: &str) -> Self {
        let mut all = BTreeMap::new();
        for (name, value) in read("encoder") {
            all.insert(format!("shared.{}", name.trim_start_matches("init.")), value);
        }
        all.extend(read(name));
        let in_bf16 = std::env::var_os(BF16).is_some();
        if in_bf16 {
            all.extend(read(&format!("bf16-{name}")));
        }
        Self { values: all, in_bf16 }
    }

    /// Runs a forward pass in the format of the test; the backward pass follows it.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.in_bf16 { multiply_in_bf16(work) } else { work() }
    }

    pub(crate) fn get(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        self.values.get(name).unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = self.get(name);
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
    }

    /// Fills `module` with the initial weights of the network that the fixture calls `name`.
    pub(crate) fn fill<M: Module>(&self, module: M, name: &str) -> M {
        module.map(&mut Fill { fixture: self, path: vec![name.into()] })
    }

    fn initial(&self, path: &str, shape: &[usize]) -> &[f32] {
        let shared = || {
            let inner = path.split_once("encoder.").or_else(|| path.split_once("student."))?.1;
            self.values.get(&format!("shared.{inner}"))
        };
        let found = self.values.get(&format!("init.{path}")).or_else(shared);
        let (found, values) = found.unwrap_or_else(|| panic!("the fixture has no {path}"));
        assert_eq!(found, shape, "{path}");
        values
    }

    /// The views of a step.
    pub(crate) fn batch(&self, step: usize, views: usize, device: &Device) -> Batch {
        let views: Vec<Tensor<4>> =
            (0..views).map(|view| self.tensor(&format!("view.{step}.{view}"), device)).collect();
        let images = views[0].dims()[0] as u64;
        let first = step as u64 * images;
        Batch { views, ids: (first..first + images).collect(), hidden: Vec::new() }
    }

    /// Runs two steps of `method` and compares them with the fixture.
    pub(crate) fn train<M: Method>(
        &self,
        method: M,
        settings: (OptimizerConfig, f64, WeightDecayScope, f64),
        epochs: [usize; 2],
        batch: impl Fn(usize) -> Batch,
    ) {
        let forward =
            |method: &mut M, progress: &Progress| method.forward(batch(progress.step), progress);
        self.train_by(method, settings, epochs, forward);
    }

    /// The same with another forward pass than [`Method::forward`].
    pub(crate) fn train_by<M: Method>(
        &self,
        mut method: M,
        (optimizer, decay, decayed, lr): (OptimizerConfig, f64, WeightDecayScope, f64),
        epochs: [usize; 2],
        forward: impl Fn(&mut M, &Progress) -> Result<Step, PretrainError>,
    ) {
        let mut optimizer = optimizer.build(decay, decayed, &method);
        for step in 0..2 {
            let [epoch, epochs] = epochs;
            let seen = step * self.get(&format!("view.{step}.0")).0[0];
            let progress = Progress { seed: 1, step, steps: 8, epoch, epochs, seen };
            method = method.before_step(&progress).unwrap();
            let out = self.run(|| forward(&mut method, &progress)).unwrap();
            let loss: f32 = out.loss.clone().into_scalar();
            self.near_loss(step, loss);
            let grads = GradientsParams::from_grads(out.loss.backward(), &method);
            let grads = method.gradients(grads, &progress);
            if step == 0 {
                self.compare_gradients(&method, &grads);
            }
            method = optimizer.step(lr, method, grads);
            method = method.after_step(out.keys, &progress).unwrap();
        }
        self.compare_state(&method);
    }

    pub(crate) fn near_loss(&self, step: usize, loss: f32) {
        self.near("loss", &[loss], &self.get("loss").1[step..=step], CLOSE);
    }

    /// Asserts that max|a − b| ÷ max|b| is at most `tolerance`, and in bf16 what the fixture adds to it, or that a is small
    /// if all of b is only rounding.
    pub(crate) fn near(&self, name: &str, found: &[f32], wanted: &[f32], tolerance: f64) {
        assert_eq!(found.len(), wanted.len(), "{name}");
        let off = found.iter().zip(wanted).map(|(a, b)| f64::from((a - b).abs()));
        // NaN is never near.
        let off = off.fold(0.0, |most, v| if v > most || v.is_nan() { v } else { most });
        let scale = largest(wanted);
        let rounding = match self.in_bf16 {
            true => f64::from(self.get(&format!("tolerance.{name}")).1[0]),
            false => 0.0,
        };
        if scale < 1e-9 {
            assert!(off < 1e-5 + rounding, "{name}: {off} where PyTorch has nothing");
            return;
        }
        let (off, tolerance) = (off / scale, tolerance + rounding / scale);
        assert!(off <= tolerance, "{name}: off by {off:.2e} of its size, at most {tolerance:.2e}");
    }

    pub(crate) fn compare_gradients<M: Module>(&self, module: &M, grads: &GradientsParams) {
        let mut found = Collect { grads: Some(grads), ..Collect::default() };
        for_each_parameter(module, &mut found);
        let wanted = self.values.keys().filter_map(|name| name.strip_prefix("grad."));
        assert_eq!(
            found.values.keys().map(String::as_str).collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>()
        );
        for (path, values) in &found.values {
            let name = format!("grad.{path}");
            self.near(&name, values, &self.get(&name).1, STEPPED);
        }
    }

    /// Weights, running statistics, targets and queues after training. In bf16 they follow from gradients and outputs as in 32
    /// bits, and are not compared.
    pub(crate) fn compare_state<M: Module>(&self, module: &M) {
        if self.in_bf16 {
            return;
        }
        let mut found = Collect::default();
        // `valid` brings the running statistics up to date.
        for_each_parameter(&module.valid(), &mut found);
        let wanted = self.values.keys().filter_map(|name| name.strip_prefix("after."));
        assert_eq!(
            found.values.keys().map(String::as_str).collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>()
        );
        for (path, values) in &found.values {
            let wanted = &self.get(&format!("after.{path}")).1;
            let gradient = self.values.get(&format!("grad.{path}"));
            // The gradient of a bias before batch norm, or of an attention's keys, is only rounding: such weights may
            // go anywhere.
            let learns = |i: usize| gradient.is_none_or(|(_, g)| g[i].abs() > NOTHING);
            let of = |values: &[f32]| -> Vec<f32> {
                (0..).zip(values).filter(|&(i, _)| learns(i)).map(|(_, &v)| v).collect()
            };
            let buffer = path.contains("running_") || path.ends_with("rows");
            let tolerance = if buffer { CLOSE } else { STEPPED };
            self.near(&format!("after.{path}"), &of(values), &of(wanted), tolerance);
        }
    }
}

fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |most, v| f64::max(most, f64::from(v.abs())))
}

/// The parameter's name in the fixture: the path without the family of an encoder, the only part that is not a field.
fn name(path: &str) -> String {
    let is_field = |part: &&str| !part.starts_with(char::is_uppercase);
    path.split('.').filter(is_field).collect::<Vec<_>>().join(".")
}

/// PyTorch keeps a linear layer's weight as `[out, in]`, Burn as `[in, out]`.
fn turned<const D: usize>(name: &str, value: Tensor<D>) -> Tensor<D> {
    if D == 2 && name.ends_with("weight") { value.swap_dims(0, 1) } else { value }
}

struct Fill<'a> {
    fixture: &'a Fixture,
    path: Vec<String>,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = name(&self.path.join("."));
        if name.contains("running_") {
            return param;
        }
        param.map(|old| {
            let shape = turned(&name, old.clone()).dims();
            let values = self.fixture.initial(&name, &shape).to_vec();
            let new = Tensor::from_data(TensorData::new(values, shape), &old.device());
            turned(&name, new).detach().set_require_grad(old.is_require_grad())
        })
    }
}

/// Collects all values, or all gradients.
#[derive(Default)]
struct Collect<'a> {
    grads: Option<&'a GradientsParams>,
    values: BTreeMap<String, Vec<f32>>,
}

impl OnParameter for Collect<'_> {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let value = match self.grads {
            None => Some(param.val()),
            Some(grads) => grads.get::<D>(param.id),
        };
        let name = name(path);
        if let Some(value) = value {
            let values = turned(&name, value).into_data().iter::<f32>().collect();
            self.values.insert(name, values);
        }
    }
}
