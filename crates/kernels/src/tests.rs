//! The kernels against plain Burn operations, values and gradients, on every instruction path this
//! machine has.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::conv::{self, Geometry};
use crate::norm::{self, After};
use crate::path::{Path, has};
use crate::{Norm, plain};

const TOLERANCE: f32 = 1e-4;

fn paths() -> impl Iterator<Item = Path> {
    [Path::Avx512, Path::Avx2, Path::Portable].into_iter().filter(|path| has(*path))
}

fn random(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn tracked<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Largest deviation over the largest value.
fn assert_near(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= TOLERANCE * scale, "{what}: off by {worst} at a scale of {scale}");
}

fn geometries() -> Vec<Geometry> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut all: Vec<Geometry> = (0..60)
        .map(|_| Geometry {
            batch: rng.random_range(1..4),
            height: rng.random_range(1..11),
            width: rng.random_range(1..11),
            channels: [1, 3, 7, 8, 16, 17, 32, 40][rng.random_range(0..8)],
            out: [1, 3, 8, 15, 16, 17, 32, 33, 50, 64][rng.random_range(0..10)],
            kernel: [1, 3, 3, 7][rng.random_range(0..4)],
            stride: rng.random_range(1..3),
        })
        .collect();
    let one = Geometry { batch: 1, height: 1, width: 1, channels: 1, out: 1, kernel: 1, stride: 2 };
    all.push(one);
    all.push(Geometry {
        batch: 33,
        height: 4,
        width: 4,
        channels: 16,
        out: 16,
        kernel: 3,
        stride: 1,
    });
    all
}

#[test]
fn convolution_and_its_gradients_equal_plain_burn() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for g in geometries() {
        let images = random(g.batch * g.height * g.width * g.channels, &mut rng);
        let weight = random(g.out * g.channels * g.kernel * g.kernel, &mut rng);
        let gradient = random(g.batch * g.out_height() * g.out_width() * g.out, &mut rng);

        let x = tracked(&images, [g.batch, g.height, g.width, g.channels]);
        let w = tracked(&weight, [g.out, g.channels, g.kernel, g.kernel]);
        let y = plain::conv2d(x.clone(), w.clone(), g.stride);
        let dy = tracked(&gradient, [g.batch, g.out_height(), g.out_width(), g.out]).detach();
        let grads = (y.clone() * dy).sum().backward();
        let dx = values(x.grad(&grads).unwrap());
        let dw = values(w.grad(&grads).unwrap());
        let y = values(y);

        for path in paths() {
            let what = |name| format!("{name} on {path:?} of {g:?}");
            let mut out = vec![f32::NAN; y.len()];
            conv::forward(path, g, &images, &weight, &mut out);
            assert_near(&out, &y, &what("forward"));
            let mut out = vec![0.0; dx.len()];
            conv::input_gradient(path, g, &gradient, &weight, &mut out);
            assert_near(&out, &dx, &what("input gradient"));
            let mut out = vec![f32::NAN; dw.len()];
            conv::weight_gradient(path, g, &images, &gradient, &mut out);
            assert_near(&out, &dw, &what("weight gradient"));
        }
    }
}

#[test]
fn norm_and_its_gradients_equal_plain_burn() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let sizes = [[1, 1, 2, 1], [2, 3, 3, 5], [3, 5, 4, 16], [4, 7, 7, 33], [64, 4, 4, 8]];
    for (case, (shape, of_batch)) in
        sizes.iter().flat_map(|s| [(*s, true), (*s, false)]).enumerate()
    {
        let channels = shape[3];
        let len: usize = shape.iter().product();
        let (has_residual, relu) = (case % 3 != 0, case % 4 < 3);
        // A mean far from zero: where naive sums of squares lose their digits.
        let x: Vec<f32> = random(len, &mut rng).iter().map(|v| v + 20.0).collect();
        let [residual, gradient] = [(); 2].map(|()| random(len, &mut rng));
        let [weight, bias, mean] = [(); 3].map(|()| random(channels, &mut rng));
        let variance: Vec<f32> = random(channels, &mut rng).iter().map(|v| v.abs() + 0.1).collect();
        let fixed: Vec<f32> = mean.iter().map(|m| m + 20.0).chain(variance).collect();

        let (tx, tr) = (tracked(&x, shape), tracked(&residual, shape));
        let (tw, tb) = (tracked(&weight, [channels]), tracked(&bias, [channels]));
        let statistics = if of_batch {
            plain::channel_statistics(tx.clone())
        } else {
            tracked(&fixed, [2, channels]).detach()
        };
        let norm = Norm {
            weight: tw.clone(),
            bias: tb.clone(),
            statistics: statistics.clone(),
            epsilon: 1e-5,
            of_batch,
        };
        let y = plain::norm_act(tx.clone(), norm, has_residual.then(|| tr.clone()), relu);
        let dy = tracked(&gradient, shape).detach();
        let grads = (y.clone() * dy).sum().backward();
        let expected = [tx.grad(&grads).unwrap()].map(values);
        let [dw, db] = [tw, tb].map(|t| values(t.grad(&grads).unwrap()));
        let dresidual = has_residual.then(|| values(tr.grad(&grads).unwrap()));
        let (y, stats) = (values(y), values(statistics));

        for path in paths() {
            let what = |name| format!("{name} on {path:?} of {shape:?}, case {case}");
            let mut found = vec![0.0; 2 * channels];
            norm::statistics(path, &x, &mut found);
            if of_batch {
                assert_near(&found, &stats, &what("statistics"));
            }
            let affine = norm::scale_shift(&weight, &bias, &stats, 1e-5);
            let after = After { residual: has_residual.then_some(&residual[..]), relu };
            let mut out = vec![f32::NAN; len];
            norm::forward(path, &x, &affine, after, &mut out);
            assert_near(&out, &y, &what("forward"));
            let start = norm::Backward {
                gradient: &gradient,
                output: relu.then_some(&y[..]),
                x: &x,
                weight: &weight,
                stats: &stats,
                epsilon: 1e-5,
                of_batch,
            };
            let mut dx = vec![f32::NAN; len];
            let mut into = vec![f32::NAN; len];
            let wanted = has_residual.then_some(&mut into[..]);
            let found = norm::backward(path, &start, &mut dx, wanted);
            assert_near(&found.weight, &dw, &what("weight gradient"));
            assert_near(&found.bias, &db, &what("bias gradient"));
            if let Some(dresidual) = &dresidual {
                assert_near(&into, dresidual, &what("residual gradient"));
            }
            assert_near(&dx, &expected[0], &what("input gradient"));
        }
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let g = Geometry { batch: 37, height: 6, width: 5, channels: 9, out: 19, kernel: 3, stride: 1 };
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let images = random(g.batch * 30 * 9, &mut rng);
    let gradient = random(g.batch * 30 * 19, &mut rng);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut out = vec![0.0; 19 * 9 * 9];
            conv::weight_gradient(crate::path::path(), g, &images, &gradient, &mut out);
            let mut stats = vec![0.0; 2 * 9];
            norm::statistics(crate::path::path(), &images, &mut stats);
            (out, stats)
        })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(5));
}

#[test]
fn the_extension_is_taken_on_flex_and_carries_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let shape = [2, 5, 5, 4];
    let (x, r) = (random(200, &mut rng), random(2 * 25 * 6, &mut rng));
    let w = random(6 * 4 * 9, &mut rng);
    let run = |kernels: bool| {
        let x = tracked(&x, shape);
        let w = tracked(&w, [6, 4, 3, 3]);
        let r = tracked(&r, [2, 5, 5, 6]);
        let y = if kernels {
            crate::conv2d(x.clone(), w.clone(), 1)
        } else {
            plain::conv2d(x.clone(), w.clone(), 1)
        };
        let statistics = crate::channel_statistics(y.clone());
        let (weight, bias) = (tracked(&[1.5; 6], [6]), tracked(&[0.2; 6], [6]));
        let norm = Norm { weight: weight.clone(), bias, statistics, epsilon: 1e-5, of_batch: true };
        let y = if kernels {
            crate::norm_act(y, norm, Some(r.clone()), true)
        } else {
            plain::norm_act(y, norm, Some(r.clone()), true)
        };
        let grads = y.clone().powi_scalar(2).sum().backward();
        let out = [x.grad(&grads), r.grad(&grads), w.grad(&grads)].map(|g| values(g.unwrap()));
        (values(y), out, values(weight.grad(&grads).unwrap()))
    };
    let (kernels, plain) = (run(true), run(false));
    assert_near(&kernels.0, &plain.0, "output");
    for (a, b) in kernels.1.iter().zip(&plain.1) {
        assert_near(a, b, "gradient");
    }
    assert_near(&kernels.2, &plain.2, "weight gradient");
}
