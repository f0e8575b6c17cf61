//! Linear layers, GELU, layer norm and attention against plain Burn operations, values and gradients, on every path.

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::attention::{Heads, attention, attention_backward};
use super::gelu::{gelu, gelu_backward};
use super::layer_norm::{Norm, layer_norm, layer_norm_backward};
use super::linear::{Layer, linear, linear_backward, linear_gelu};
use crate::pairs::Format;
use crate::path::Path;
use crate::plain;
use crate::wanted::Wanted;

fn random(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-3.0..3.0)).collect()
}

fn tracked<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Asserts that the largest deviation is small against the largest value.
fn assert_near(got: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1e-6f32, |most, v| most.max(v.abs()));
    let worst = got.iter().zip(wanted).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(worst <= 1e-4 * scale, "{what}: off by {worst} at a scale of {scale}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn attention_agrees_with_plain_burn(
        (images, tokens, heads, each) in (1..4usize, 1..40usize, 1..4usize, 1..37usize),
        seed in any::<u64>(),
    ) {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let dim = heads * each;
        let (qkv, g) = (random(images * tokens * 3 * dim, rng), random(images * tokens * dim, rng));
        let x = tracked(&qkv, [images, tokens, 3 * dim]);
        let y = plain::attention(x.clone(), heads);
        let grads = (y.clone() * tracked(&g, [images, tokens, dim]).detach()).sum().backward();
        let (y, dx) = (values(y), values(x.grad(&grads).unwrap()));
        let sizes = Heads { tokens, dim, heads };
        for path in Path::found() {
            assert_near(&attention(path, &qkv, sizes), &y, "attention");
            assert_near(&attention_backward(path, &qkv, &g, sizes), &dx, "its gradient");
        }
    }

    #[test]
    fn a_linear_layer_agrees_with_plain_burn(
        (images, tokens, from, to) in (1..4usize, 1..120usize, 1..90usize, 1..90usize),
        behind in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let rows = images * tokens;
        let [x, weight, bias, g] = [rows * from, from * to, to, rows * to].map(|len| random(len, rng));
        let tensors =
            (tracked(&x, [images, tokens, from]), tracked(&weight, [from, to]), tracked(&bias, [to]));
        let y = plain::linear(tensors.0.clone(), tensors.1.clone(), tensors.2.clone());
        let z = if behind { plain::gelu(y.clone()) } else { y.clone() };
        let grads = (z.clone() * tracked(&g, [images, tokens, to]).detach()).sum().backward();
        let (y, z) = (values(y), values(z));
        let dx = values(tensors.0.grad(&grads).unwrap());
        let [dw, db] = [
            values(tensors.1.grad(&grads).unwrap()),
            values(tensors.2.grad(&grads).unwrap()),
        ];
        for path in Path::found() {
            let layer = Layer { weight: &weight, bias: &bias, format: Format::Floats };
            let g = if behind {
                let [hidden, out] = linear_gelu(path, &x, layer);
                assert_near(&hidden, &y, "before GELU");
                assert_near(&out, &z, "behind GELU");
                gelu_backward(path, &hidden, &g)
            } else {
                assert_near(&linear(path, &x, layer), &y, "output");
                g.clone()
            };
            let found = linear_backward(path, &x, layer, &g, Wanted::ALL);
            assert_near(&found.x, &dx, "gradient of the rows");
            assert_near(&found.weight, &dw, "gradient of the weight");
            assert_near(&found.bias, &db, "gradient of the bias");
            let alone = linear_backward(path, &x, layer, &g, Wanted::PARAMETERS);
            assert!(alone.x.is_empty() && alone.weight == found.weight && alone.bias == found.bias);
            let frozen = linear_backward(path, &x, layer, &g, Wanted::INPUTS);
            assert!(frozen.weight.is_empty() && frozen.bias.is_empty() && frozen.x == found.x);
        }
    }

    #[test]
    fn layer_norm_agrees_with_plain_burn(
        (rows, dim) in (1..200usize, 1..50usize),
        seed in any::<u64>(),
    ) {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let (x, g) = (random(rows * dim, rng), random(rows * dim, rng));
        let (scale, shift) = (random(dim, rng), random(dim, rng));
        let [tx, tg] = [&x, &g].map(|v| tracked(v, [1, rows, dim]));
        let [ts, th] = [&scale, &shift].map(|v| tracked(v, [dim]));
        let y = plain::layer_norm(tx.clone(), ts.clone(), th.clone(), 0.1);
        let grads = (y.clone() * tg.detach()).sum().backward();
        let norm = Norm { scale: &scale, shift: &shift, epsilon: 0.1 };
        for path in Path::found() {
            assert_near(&layer_norm(path, &x, norm), &values(y.clone()), "layer norm");
            let found = layer_norm_backward(path, &x, norm, &g);
            assert_near(&found.x, &values(tx.grad(&grads).unwrap()), "its gradient");
            assert_near(&found.scale, &values(ts.grad(&grads).unwrap()), "that of the scale");
            assert_near(&found.shift, &values(th.grad(&grads).unwrap()), "that of the shift");
        }
    }
}

#[test]
fn gelu_agrees_with_plain_burn() {
    gelu_agrees_with(burn::tensor::activation::gelu);
}

#[test]
fn gelu_takes_tensors_of_any_rank() {
    fn check<const D: usize>(shape: [usize; D]) {
        let x: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 / 20.0 - 1.5).collect();
        let [ours, plain] = [crate::gelu, crate::plain::gelu].map(|gelu: fn(Tensor<D>) -> _| {
            let x = tracked(&x, shape);
            let y = gelu(x.clone());
            assert_eq!(y.dims(), shape);
            let grads = y.clone().powi_scalar(2).sum().backward();
            [values(y), values(x.grad(&grads).unwrap())].concat()
        });
        assert_near(&ours, &plain, "output and gradient");
    }
    check([12]);
    check([3, 20]);
    check([2, 3, 4, 5]);
}

/// Our plain GELU, for other devices: their own gradient is that of the tanh approximation.
#[test]
fn gelu_agrees_with_erf() {
    gelu_agrees_with(crate::plain::gelu);
}

fn gelu_agrees_with(other: fn(Tensor<3>) -> Tensor<3>) {
    let x: Vec<f32> = (-1000..=1000).map(|i| i as f32 / 100.0).collect();
    let g: Vec<f32> = x.iter().map(|x| (3.0 * x).sin()).collect();
    let [tx, tg] = [&x, &g].map(|v| tracked(v, [1, 1, v.len()]));
    let y = other(tx.clone());
    let grads = (y.clone() * tg.detach()).sum().backward();
    for path in Path::found() {
        let found = gelu(path, &x);
        for ((found, wanted), x) in found.iter().zip(values(y.clone())).zip(&x) {
            assert!((found - wanted).abs() < 1e-6 * (1.0 + x.abs()), "{x}: {found} {wanted}");
        }
        let dx = values(tx.grad(&grads).unwrap());
        for (found, wanted) in gelu_backward(path, &x, &g).iter().zip(dx) {
            assert!((found - wanted).abs() < 2e-6, "{found} {wanted}");
        }
    }
}
