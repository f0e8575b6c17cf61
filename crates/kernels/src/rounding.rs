//! Convolutions and linear layers in bf16 against double precision, within bounds that follow from rounding their
//! factors: bf16 keeps 8 bits, so the relative error of a rounded factor is at most 2⁻⁹, and that of a product of two
//! 2⁻⁸ + 2⁻¹⁸. The error of a sum of products is at most that share of the sum of their magnitudes.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::conv::{self, Branch};
use crate::geometry::Geometry;
use crate::pairs::Format;
use crate::path::Path;
use crate::transformer::{Layer, kernels as transformer};
use crate::wanted::Wanted;
use crate::winograd;

/// Relative error of a product of two rounded factors, with a margin for the sums in 32 bits.
const SHARE: f64 = 1.0 / 256.0 + 1.0 / 65_536.0;

fn random(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Asserts that each value is within its bound, and that something was rounded: values in bf16 are not exact.
fn assert_within(found: &[f32], exact: &[f64], magnitudes: &[f64], what: &str) {
    assert_eq!(found.len(), exact.len(), "{what}");
    let mut largest = 0f64;
    for ((&found, exact), magnitude) in found.iter().zip(exact).zip(magnitudes) {
        let (off, bound) = ((f64::from(found) - exact).abs(), SHARE * magnitude + 1e-6);
        assert!(off <= bound, "{what}: {found}, not {exact}: off by {off}, at most {bound}");
        largest = largest.max(off / bound);
    }
    assert!(largest > 1e-3, "{what}: nothing was rounded");
}

/// `Σ x · w` for each output, from zero-padded images `[height, width, in]` and weights
/// `[out, in, row, column]`.
fn convolve(g: &Geometry, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let (half, mut y) = (g.kernel / 2, Vec::new());
    for image in x.chunks_exact(g.image()) {
        for (oy, ox) in (0..g.out_height()).flat_map(|y| (0..g.out_width()).map(move |x| (y, x))) {
            for kernel in weight.chunks_exact(g.channels * g.kernel * g.kernel) {
                let value = |(tap, &w): (usize, &f64)| {
                    let (ky, kx) = (tap / g.kernel % g.kernel, tap % g.kernel);
                    let [y, x] =
                        [(oy, ky), (ox, kx)].map(|(o, k)| (o * g.stride + k).wrapping_sub(half));
                    let channel = tap / (g.kernel * g.kernel);
                    let inside = y < g.height && x < g.width;
                    if inside { w * image[(y * g.width + x) * g.channels + channel] } else { 0.0 }
                };
                y.push(kernel.iter().enumerate().map(value).sum());
            }
        }
    }
    y
}

/// Winograd's transforms with the magnitude of each coefficient.
const B: [[f64; 4]; 4] =
    [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]];
const G: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5; 3], [0.5; 3], [0.0, 0.0, 1.0]];
const A: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]];

/// The magnitudes of Winograd's products for the first `count` weights' gradients.
fn winograd_gradient_magnitudes(g: &Geometry, x: &[f64], dy: &[f64], count: usize) -> Vec<f64> {
    let tiles = |image: usize| {
        let rows = (0..g.height).step_by(2);
        rows.flat_map(move |y| (0..g.width).step_by(2).map(move |x| (image, y, x)))
    };
    // The input, or 0 outside of the image.
    let input = |image: usize, y: usize, x_: usize, i: usize| {
        let [y, x_] = [y, x_].map(|at| at.wrapping_sub(1));
        let inside = y < g.height && x_ < g.width;
        if inside { x[((image * g.height + y) * g.width + x_) * g.channels + i] } else { 0.0 }
    };
    let of_weight = |w: usize| {
        let (o, i, ky, kx) = (w / 9 / g.channels, w / 9 % g.channels, w / 3 % 3, w % 3);
        let mut sum = 0.0;
        for (image, ty, tx) in (0..g.batch).flat_map(tiles) {
            for (u, v) in (0..4).flat_map(|u| (0..4).map(move |v| (u, v))) {
                let (mut d, mut m) = (0.0, 0.0);
                for k in 0..16 {
                    d += B[u][k / 4] * B[v][k % 4] * input(image, ty + k / 4, tx + k % 4, i);
                }
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let (oy, ox) = (ty + y, tx + x);
                    if oy < g.height && ox < g.width {
                        let at = (image * g.height + oy) * g.width + ox;
                        m += A[y][u] * A[x][v] * dy[at * g.out + o];
                    }
                }
                sum += G[u][ky] * G[v][kx] * d * m;
            }
        }
        sum
    };
    (0..count).map(of_weight).collect()
}

/// The magnitudes of Winograd's products for each output.
fn winograd_magnitudes(g: &Geometry, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut y = Vec::new();
    for image in x.chunks_exact(g.image()) {
        for (oy, ox) in (0..g.height).flat_map(|y| (0..g.width).map(move |x| (y, x))) {
            for kernel in weight.chunks_exact(g.channels * 9) {
                let mut sum = 0.0;
                for (channel, taps) in kernel.chunks_exact(9).enumerate() {
                    let at = |y: usize, x: usize| {
                        let [y, x] =
                            [(oy, y), (ox, x)].map(|(o, k)| (o / 2 * 2 + k).wrapping_sub(1));
                        let inside = y < g.height && x < g.width;
                        if inside { image[(y * g.width + x) * g.channels + channel] } else { 0.0 }
                    };
                    for (u, v) in (0..4).flat_map(|u| (0..4).map(move |v| (u, v))) {
                        let mut d = 0.0;
                        (0..16).for_each(|i| d += B[u][i / 4] * B[v][i % 4] * at(i / 4, i % 4));
                        let mut w = 0.0;
                        (0..9).for_each(|i| w += G[u][i / 3] * G[v][i % 3] * taps[i]);
                        sum += A[oy % 2][u] * A[ox % 2][v] * d * w;
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

#[test]
fn convolutions_in_bf16_are_off_by_the_rounding_of_their_factors() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let sizes = [
        [2, 6, 3, 5, 3, 1],
        [1, 9, 7, 40, 3, 2],
        [2, 4, 16, 16, 1, 2],
        [1, 4, 64, 64, 3, 1],
        [1, 5, 64, 64, 3, 1],
    ];
    for ([batch, side, channels, out, kernel, stride], path) in
        sizes.into_iter().flat_map(|sizes| Path::found().map(move |path| (sizes, path)))
    {
        let format = Format::Pairs;
        let g =
            Geometry { batch, height: side, width: side, channels, out, kernel, stride, format };
        let [x, weight, dy] =
            [batch * g.image(), g.weights(), batch * g.result()].map(|len| random(len, &mut rng));
        let [wide_x, wide_w] =
            [&x, &weight].map(|v| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
        let [far_x, far_w] =
            [&wide_x, &wide_w].map(|v| v.iter().map(|v| v.abs()).collect::<Vec<_>>());
        let rows = |values: &[f32], len: usize, at: usize, to: &mut [f32]| {
            to.copy_from_slice(&values[at * len..][..len]);
        };
        let input = |image: usize, y: usize, to: &mut [f32]| {
            rows(&x, g.width * channels, image * g.height + y, to);
        };
        let (y, _) = conv::forward(path, &g, &weight, input, |_, _| ());
        let magnitudes = if winograd::takes(&g) {
            winograd_magnitudes(&g, &far_x, &far_w)
        } else {
            convolve(&g, &far_x, &far_w)
        };
        assert_within(
            &y,
            &convolve(&g, &wide_x, &wide_w),
            &magnitudes,
            &format!("{g:?} on {path:?}"),
        );

        // A weight's gradient is a sum of products of inputs and output gradients.
        let output = |image: usize, y: usize, to: &mut [f32]| {
            rows(&dy, g.out_width() * out, image * g.out_height() + y, to);
        };
        let branch = Branch { geometry: g, weight: &weight, gradient: &output };
        let found = conv::backward(path, &[branch], input, Wanted::PARAMETERS, |_, _| ());
        let [mut exact, mut magnitudes] = [(); 2].map(|()| Vec::new());
        for w in 0..g.weights() {
            let mut one = vec![0.0; g.weights()];
            one[w] = 1.0;
            let [of_x, of_far] = [&wide_x, &far_x].map(|x| convolve(&g, x, &one));
            let dot = |x: &[f64], size: fn(f64) -> f64| {
                x.iter().zip(&dy).map(|(x, &dy)| x * size(f64::from(dy))).sum::<f64>()
            };
            exact.push(dot(&of_x, |v| v));
            magnitudes.push(dot(&of_far, f64::abs));
            // The other weights take the same code path; a few hundred are enough.
            if w == 300 {
                break;
            }
        }
        if winograd::takes(&g) {
            let far_dy: Vec<f64> = dy.iter().map(|v| f64::from(v.abs())).collect();
            magnitudes = winograd_gradient_magnitudes(&g, &far_x, &far_dy, exact.len());
        }
        assert_within(&found.weights[0][..exact.len()], &exact, &magnitudes, "weight");
    }
}

#[test]
fn linear_layers_in_bf16_are_off_by_the_rounding_of_their_factors() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let [rows, from, to] = [70, 33, 45];
    let [x, weight, dy] = [rows * from, from * to, rows * to].map(|len| random(len, &mut rng));
    let bias = vec![0.0; to];
    let wide = |v: &[f32], i: usize| f64::from(v[i]);
    // A sum of `count` terms (row · column), and the sum of their magnitudes.
    let sums = |count: usize, at: &dyn Fn(usize) -> f64| {
        let terms = || (0..count).map(at);
        (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>())
    };
    for path in Path::found() {
        let layer = Layer { weight: &weight, bias: &bias, format: Format::Pairs };
        let y = transformer::linear(path, &x, layer);
        let back = transformer::linear_backward(path, &x, layer, &dy, Wanted::ALL);
        let each =
            |len: [usize; 2], one: &dyn Fn(usize, usize) -> (f64, f64)| -> (Vec<f64>, Vec<f64>) {
                (0..len[0] * len[1]).map(|i| one(i / len[1], i % len[1])).unzip()
            };
        let of_y = each([rows, to], &|r, o| {
            sums(from, &|i| wide(&x, r * from + i) * wide(&weight, i * to + o))
        });
        let of_x = each([rows, from], &|r, i| {
            sums(to, &|o| wide(&dy, r * to + o) * wide(&weight, i * to + o))
        });
        let of_w = each([from, to], &|i, o| {
            sums(rows, &|r| wide(&x, r * from + i) * wide(&dy, r * to + o))
        });
        for (found, (exact, magnitudes)) in [(&y, of_y), (&back.x, of_x), (&back.weight, of_w)] {
            assert_within(found, &exact, &magnitudes, &format!("{path:?}"));
        }
    }
}
