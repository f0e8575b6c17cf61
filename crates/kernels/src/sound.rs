//! Every kernel, without Burn, on the smallest shapes that cover each of its code paths. Under Miri (`.ci/run`) this
//! finds reads of uninitialised memory, out-of-bounds accesses and aliasing references; everywhere it checks
//! identities that hold for any values.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::block::{self, BlockSaved, BlockUnits};
use crate::conv::{self, Branch};
use crate::geometry::Geometry;
use crate::pairs::Format;
use crate::path::Path;
use crate::scratch::scratch;
use crate::stem::{self, StemSaved};
use crate::transformer::{Heads, Layer, Norm, kernels as transformer};
use crate::unit::Unit;
use crate::wanted::Wanted;

fn random(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Runs `work` on two threads whose buffers are full of NaN, which exposes reads of values that were not written.
fn on_dirty_threads(work: impl FnOnce() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let pool = pool.unwrap_or_else(|error| unreachable!("two threads can be had: {error}"));
    pool.broadcast(|_| {
        let buffers = [(); 6].map(|()| scratch(1 << 11));
        buffers.into_iter().for_each(|mut buffer| buffer.fill(f32::NAN));
    });
    pool.install(work);
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Batch, side, channels, out, kernel, stride.
const SIZES: [[usize; 6]; 14] = [
    // One pixel; a short tile; several groups; a stride over odd sides.
    [1, 1, 1, 1, 3, 1],
    [3, 3, 3, 4, 3, 1],
    [5, 3, 2, 8, 1, 1],
    [2, 5, 3, 5, 3, 2],
    // Pixels that no kernel position reaches; a kernel larger than the image.
    [2, 3, 2, 3, 1, 2],
    [1, 2, 2, 3, 7, 1],
    // Two blocks of lanes, the second short; several slabs.
    [1, 3, 2, 40, 3, 1],
    [1, 2, 24, 17, 3, 1],
    // Winograd at Miri's sizes, and weights that the threads split.
    [2, 4, 16, 16, 3, 1],
    [2, 4, 16, 48, 3, 1],
    [2, 5, 16, 16, 3, 1],
    // The same elsewhere: floats alone, both formats, and weights that the threads split.
    [2, 5, 32, 32, 3, 1],
    [3, 4, 64, 80, 3, 1],
    [2, 4, 128, 128, 3, 1],
];

fn geometry([batch, side, channels, out, kernel, stride]: [usize; 6], format: Format) -> Geometry {
    Geometry { batch, height: side, width: side, channels, out, kernel, stride, format }
}

/// The convolution by its definition, padded with zeros by half the kernel.
fn convolution(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let half = g.kernel / 2;
    let mut y = Vec::new();
    for image in x.chunks_exact(g.image()) {
        for (oy, ox) in (0..g.out_height()).flat_map(|y| (0..g.out_width()).map(move |x| (y, x))) {
            for kernel in weight.chunks_exact(g.channels * g.kernel * g.kernel) {
                let mut sum = 0.0f64;
                for (tap, &w) in kernel.iter().enumerate() {
                    let (ky, kx) = (tap / g.kernel % g.kernel, tap % g.kernel);
                    let at = |o: usize, k: usize| (o * g.stride + k).wrapping_sub(half);
                    let (y, x) = (at(oy, ky), at(ox, kx));
                    if y < g.height && x < g.width {
                        let channel = tap / (g.kernel * g.kernel);
                        let value = image[(y * g.width + x) * g.channels + channel];
                        sum += f64::from(w) * f64::from(value);
                    }
                }
                y.push(sum as f32);
            }
        }
    }
    y
}

/// Multiples of 1/8 from −1 to 1: bf16 represents them, their Winograd transforms and the sums of two exactly, so a
/// convolution in bf16 gives the same result as one in 32 bits.
fn rough(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-8..=8) as f32 / 8.0).collect()
}

/// Both formats on every path.
fn ways() -> impl Iterator<Item = (Format, Path)> {
    [Format::Floats, Format::Pairs].into_iter().flat_map(|f| Path::found().map(move |p| (f, p)))
}

#[test]
fn a_convolution_is_its_definition_and_its_gradients_are_adjoint() {
    on_dirty_threads(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for ((format, path), sizes) in ways().flat_map(|way| SIZES.map(|sizes| (way, sizes))) {
            let g = geometry(sizes, format);
            let [x, weight, dy] = [g.batch * g.image(), g.weights(), g.batch * g.result()]
                .map(|len| rough(len, &mut rng));
            let row = |values: &[f32], len: usize, at: usize, to: &mut [f32]| {
                to.copy_from_slice(&values[at * len..][..len]);
            };
            let input = |image: usize, y: usize, to: &mut [f32]| {
                row(&x, g.width * g.channels, image * g.height + y, to);
            };
            let output = |image: usize, y: usize, to: &mut [f32]| {
                row(&dy, g.out_width() * g.out, image * g.out_height() + y, to);
            };

            let (y, groups) = conv::forward(path, &g, &weight, input, |first, group| {
                (first, group.len() / g.result())
            });
            for (found, expected) in y.iter().zip(convolution(&g, &x, &weight)) {
                assert!((found - expected).abs() < 1e-4, "{g:?}: {found}, not {expected}");
            }
            assert_eq!(groups.iter().map(|(_, images)| images).sum::<usize>(), g.batch);

            // It is linear in both: Σ dy · y = Σ dw · w = Σ dx · x. A second branch doubles dx.
            let branch = || Branch { geometry: g, weight: &weight, gradient: &output };
            let twice = conv::backward(path, &[branch(), branch()], input, Wanted::ALL, |_, _| ());
            let one = |wanted| conv::backward(path, &[branch()], input, wanted, |_, _| ());
            let alone = one(Wanted::PARAMETERS);
            assert!(alone.images.is_empty() && alone.weights[0] == twice.weights[1]);
            let frozen = one(Wanted::INPUTS);
            assert!(frozen.weights.is_empty() && frozen.images == one(Wanted::ALL).images);
            let near = |found: f64| assert!((found - dot(&dy, &y)).abs() < 1e-3, "{g:?}: {found}");
            near(dot(&alone.weights[0], &weight));
            near(0.5 * dot(&twice.images, &x));
        }
    });
}

/// Random parameters of a unit.
struct Drawn {
    geometry: Geometry,
    values: [Vec<f32>; 3],
    stats: Vec<f32>,
}

impl Drawn {
    fn new(geometry: Geometry, rng: &mut ChaCha8Rng) -> Self {
        let values = [geometry.weights(), geometry.out, geometry.out].map(|len| random(len, rng));
        let stats = random(2 * geometry.out, rng).into_iter().map(|v| v.abs() + 0.5).collect();
        Self { geometry, values, stats }
    }

    fn unit(&self) -> Unit<'_> {
        let [weight, scale, shift] = &self.values;
        Unit { geometry: self.geometry, weight, scale, shift, epsilon: 1e-5 }
    }
}

fn assert_finite(values: &[f32], len: usize) {
    assert_eq!(values.len(), len);
    assert!(values.iter().all(|v| v.is_finite()), "{values:?}");
}

#[test]
fn a_stem_reads_only_what_it_wrote() {
    on_dirty_threads(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for ((format, path), pool) in ways().flat_map(|way| [false, true].map(|pool| (way, pool))) {
            let g = geometry([3, 5, 3, 6, 3, 1], format);
            let drawn = Drawn::new(g, &mut rng);
            let x = random(g.batch * g.image(), &mut rng);
            let done = stem::stem(path, &x, &drawn.unit(), pool, None);
            let side = if pool { 3 } else { 5 };
            assert_finite(&done.out, 3 * side * side * 6);
            let fixed = stem::stem_fixed(path, &x, &drawn.unit(), pool, &done.stats);
            let worst = fixed.iter().zip(&done.out).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst < 1e-5, "{worst}");
            let saved = StemSaved {
                out: &done.out,
                y: &done.y,
                winners: &done.winners,
                stats: &done.stats,
                of_batch: true,
            };
            let gradient = random(done.out.len(), &mut rng);
            let (found, dx) =
                stem::stem_backward(path, &x, &drawn.unit(), &saved, &gradient, Wanted::ALL);
            assert_finite(&dx, x.len());
            assert_finite(&found.weight, g.weights());
        }
    });
}

#[test]
fn a_block_reads_only_what_it_wrote() {
    on_dirty_threads(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let shapes = [[3, 3, 5, 5, 3, 1], [2, 4, 3, 6, 3, 2]];
        for ((format, path), sizes) in ways().flat_map(|way| shapes.map(|sizes| (way, sizes))) {
            let sizes = match (cfg!(miri), format, sizes[5]) {
                // Under Miri, where each shape takes minutes, bf16 gets one small block with all three convolutions.
                (true, Format::Pairs, 1) => continue,
                (true, Format::Pairs, _) => [1, 3, 2, 3, 3, 2],
                _ => sizes,
            };
            let first = geometry(sizes, format);
            let (height, width) = (first.out_height(), first.out_width());
            let second = Geometry { height, width, channels: first.out, stride: 1, ..first };
            let down = (first.stride > 1).then_some(Geometry { kernel: 1, ..first });
            let [one, two] = [first, second].map(|g| Drawn::new(g, &mut rng));
            let down = down.map(|g| Drawn::new(g, &mut rng));
            let units = BlockUnits {
                first: one.unit(),
                second: two.unit(),
                down: down.as_ref().map(Drawn::unit),
            };
            let x = random(first.batch * first.image(), &mut rng);
            let third = down.as_ref().map_or(&[][..], |d| &d.stats);
            let fixed = [&one.stats[..], &two.stats, third];
            let done = block::block(path, &x, &units, Some(fixed));
            let alone = block::block_fixed(path, &x, &units, fixed);
            let worst = alone.iter().zip(&done.out).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst < 1e-5, "{worst}");
            for of_batch in [false, true] {
                let done = block::block(path, &x, &units, (!of_batch).then_some(fixed));
                assert_finite(&done.out, first.batch * first.result());
                let saved = BlockSaved {
                    out: &done.out,
                    y1: &done.y1,
                    y2: &done.y2,
                    yd: &done.yd,
                    stats: done.stats.each_ref().map(|s| &s[..]),
                    of_batch,
                };
                let gradient = random(done.out.len(), &mut rng);
                let found = block::block_backward(path, &x, &units, &saved, &gradient, Wanted::ALL);
                assert_finite(&found.images, x.len());
                assert_finite(&found.first.weight, first.weights());
                assert_finite(&found.second.weight, second.weights());
            }
        }
    });
}

#[test]
fn a_linear_layer_is_its_definition_and_its_gradients_are_adjoint() {
    on_dirty_threads(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for ((format, path), [rows, from, to]) in
            ways().flat_map(|way| [[1, 1, 1], [5, 3, 7], [9, 6, 33]].map(|sizes| (way, sizes)))
        {
            let [x, weight, bias, dy] =
                [rows * from, from * to, to, rows * to].map(|len| rough(len, &mut rng));
            let layer = Layer { weight: &weight, bias: &bias, format };
            let y = transformer::linear(path, &x, layer);
            for (i, found) in y.iter().enumerate() {
                let row =
                    x[i / to * from..][..from].iter().zip(weight[i % to..].iter().step_by(to));
                let wanted = row.map(|(x, w)| x * w).sum::<f32>() + bias[i % to];
                assert!((found - wanted).abs() < 1e-4, "{found}, not {wanted}");
            }
            // Σ dy · (y − b) = Σ dw · w = Σ dx · x.
            let found = transformer::linear_backward(path, &x, layer, &dy, Wanted::ALL);
            let wanted = dot(&dy, &y) - dot(&found.bias, &bias);
            for got in [dot(&found.weight, &weight), dot(&found.x, &x)] {
                assert!((got - wanted).abs() < 1e-3, "{got}, not {wanted}");
            }
        }
    });
}

#[test]
fn attention_mixes_and_layer_norm_normalises() {
    on_dirty_threads(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for path in Path::found() {
            let sizes = Heads { tokens: 3, dim: 10, heads: 2 };
            let mut qkv = random(2 * 3 * 30, &mut rng);
            // Values of 1 stay 1: the weights of a token sum to 1.
            qkv.chunks_exact_mut(30).for_each(|token| token[20..].fill(1.0));
            let out = transformer::attention(path, &qkv, sizes);
            assert_eq!(out.len(), 2 * 3 * 10);
            assert!(out.iter().all(|v| (v - 1.0).abs() < 1e-5), "{out:?}");
            // Then queries and keys have no effect.
            let found = transformer::attention_backward(path, &qkv, &out, sizes);
            let of_queries = found.chunks_exact(30).flat_map(|token| &token[..20]);
            assert!(of_queries.into_iter().all(|v| v.abs() < 1e-5), "{found:?}");

            let (x, [scale, shift]) = (random(5 * 7, &mut rng), [vec![1.0; 7], vec![0.0; 7]]);
            let norm = Norm { scale: &scale, shift: &shift, epsilon: 0.0 };
            for row in transformer::layer_norm(path, &x, norm).chunks_exact(7) {
                let squares = dot(row, row) / 7.0;
                assert!(dot(row, &scale).abs() < 1e-4 && (squares - 1.0).abs() < 1e-3, "{row:?}");
            }
            let back = transformer::layer_norm_backward(path, &x, norm, &x);
            // A shift common to all inputs has no effect, so each row of the gradient sums to 0.
            back.x.chunks_exact(7).for_each(|row| assert!(dot(row, &scale).abs() < 1e-4));

            // x · Φ(x) + x · Φ(−x) = x, and the slopes of both sum to 1.
            let x = random(150, &mut rng);
            let minus: Vec<f32> = x.iter().map(|v| -v).collect();
            let [a, b] = [&x, &minus].map(|x| transformer::gelu(path, x));
            let ones = vec![1.0; x.len()];
            let [c, d] = [&x, &minus].map(|x| transformer::gelu_backward(path, x, &ones));
            for i in 0..x.len() {
                assert!((a[i] - b[i] - x[i]).abs() < 1e-6 && (c[i] + d[i] - 1.0).abs() < 1e-6);
            }
        }
    });
}
