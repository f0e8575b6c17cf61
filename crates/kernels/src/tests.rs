//! The kernels against plain Burn operations, values and gradients, on every instruction path this
//! machine has.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::block::{self, BlockGradients, BlockSaved, BlockUnits};
use crate::geometry::Geometry;
use crate::pairs::Format;
use crate::path::Path;
use crate::plain;
use crate::stem::{self, StemSaved};
use crate::unit::{Unit, UnitGradients};
use crate::wanted::Wanted;

const TOLERANCE: f32 = 1e-4;
const EPSILON: f64 = 1e-5;

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

/// Asserts that the largest deviation is small against the largest value.
fn assert_near(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= TOLERANCE * scale, "{what}: off by {worst} at a scale of {scale}");
}

/// Random parameters of a unit.
struct Drawn {
    geometry: Geometry,
    weight: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    running: Vec<f32>,
}

impl Drawn {
    fn new(geometry: Geometry, rng: &mut ChaCha8Rng) -> Self {
        let out = geometry.out;
        let mean = random(out, rng);
        let variance = random(out, rng).into_iter().map(|v| v.abs() + 0.5);
        Self {
            geometry,
            weight: random(geometry.weights(), rng),
            scale: random(out, rng),
            shift: random(out, rng),
            running: mean.into_iter().chain(variance).collect(),
        }
    }

    fn unit(&self) -> Unit<'_> {
        let Self { geometry, weight, scale, shift, .. } = self;
        Unit { geometry: *geometry, weight, scale, shift, epsilon: EPSILON }
    }

    fn tensors(&self, of_batch: bool) -> crate::Unit {
        let g = &self.geometry;
        crate::Unit {
            weight: tracked(&self.weight, [g.out, g.channels, g.kernel, g.kernel]),
            scale: tracked(&self.scale, [g.out]),
            shift: tracked(&self.shift, [g.out]),
            running: (!of_batch).then(|| tracked(&self.running, [2, g.out]).detach()),
            epsilon: EPSILON,
            stride: g.stride,
        }
    }
}

fn geometries() -> Vec<Geometry> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut all: Vec<Geometry> = (0..60)
        .map(|_| Geometry {
            batch: rng.random_range(1..4),
            height: rng.random_range(1..11),
            width: rng.random_range(1..11),
            channels: [1, 3, 7, 8, 16, 17, 32, 40, 300][rng.random_range(0..9)],
            out: [1, 3, 8, 15, 16, 17, 32, 33, 50, 64][rng.random_range(0..10)],
            kernel: [1, 3, 3, 7][rng.random_range(0..4)],
            stride: rng.random_range(1..3),
            format: Format::Floats,
        })
        // The statistics of fewer than four pixels are noise in any implementation.
        .filter(|g| g.batch * g.out_height() * g.out_width() >= 4)
        .collect();
    // Winograd: many channels in whole vectors; sides that tiles fill, and others.
    for [batch, height, width, channels, out] in [
        [33, 4, 4, 64, 64],
        [3, 8, 6, 64, 80],
        [2, 2, 10, 80, 64],
        [1, 16, 2, 64, 64],
        [3, 7, 7, 64, 32],
        [2, 5, 8, 32, 96],
        [70, 6, 5, 32, 32],
        // Several parts of a group, the last shorter, and more of them than threads share at a time.
        [2, 18, 18, 32, 32],
        [5, 18, 18, 128, 128],
    ] {
        all.push(Geometry {
            batch,
            height,
            width,
            channels,
            out,
            kernel: 3,
            stride: 1,
            format: Format::Floats,
        });
    }
    all
}

#[test]
fn a_stem_and_its_gradients_equal_plain_burn() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (case, g) in geometries().into_iter().enumerate() {
        let of_batch = case % 3 != 0;
        // A mean far from zero, where naive sums of squares lose precision.
        let x: Vec<f32> =
            random(g.batch * g.image(), &mut rng).iter().map(|v| v + (case % 2) as f32).collect();
        let pool = case % 4 == 1;
        let drawn = Drawn::new(g, &mut rng);

        let images = tracked(&x, [g.batch, g.height, g.width, g.channels]);
        let unit = drawn.tensors(of_batch);
        let (y, stats) = plain::stem(images.clone(), unit.clone(), pool);
        let gradient = random(y.dims().iter().product(), &mut rng);
        let dy = tracked(&gradient, y.dims()).detach();
        let grads = (y.clone() * dy).sum().backward();
        let dx = values(images.grad(&grads).unwrap());
        let dw = values(unit.weight.grad(&grads).unwrap());
        let [dscale, dshift] = [unit.scale, unit.shift].map(|t| values(t.grad(&grads).unwrap()));
        let (y, stats) = (values(y), values(stats));

        for path in Path::found() {
            let what = |name| format!("{name} on {path:?} of {g:?}");
            let unit = drawn.unit();
            let fixed = (!of_batch).then_some(&drawn.running[..]);
            let done = stem::stem(path, &x, &unit, pool, fixed);
            assert_near(&done.out, &y, &what("output"));
            assert_near(&done.stats, &stats, &what("statistics"));
            if let Some(stats) = fixed {
                let fixed = stem::stem_fixed(path, &x, &unit, pool, stats);
                assert_near(&fixed, &y, &what("fixed output"));
            }
            let saved = StemSaved {
                out: &done.out,
                y: &done.y,
                winners: &done.winners,
                stats: &done.stats,
                of_batch,
            };
            let (found, into) =
                stem::stem_backward(path, &x, &unit, &saved, &gradient, Wanted::ALL);
            assert_near(&into, &dx, &what("input gradient"));
            assert_near(&found.weight, &dw, &what("weight gradient"));
            assert_near(&found.scale, &dscale, &what("scale gradient"));
            assert_near(&found.shift, &dshift, &what("shift gradient"));
            let back = |wanted| stem::stem_backward(path, &x, &unit, &saved, &gradient, wanted);
            let (alone, none) = back(Wanted::PARAMETERS);
            assert!(none.is_empty());
            assert_eq!(alone.weight, found.weight, "{}", what("without input gradient"));
            let (none, alone) = back(Wanted::INPUTS);
            assert!(none.weight.is_empty() && none.scale.is_empty() && none.shift.is_empty());
            assert_eq!(alone, into, "{}", what("without weight gradient"));
        }
    }
}

/// Sizes of blocks: batch, side, channels, out, stride.
const BLOCKS: [[usize; 5]; 12] = [
    [3, 5, 16, 16, 1],
    [2, 9, 3, 8, 2],
    [5, 4, 32, 32, 1],
    [4, 7, 17, 33, 2],
    [20, 4, 16, 32, 2],
    [2, 6, 40, 20, 1],
    [3, 2, 160, 320, 2],
    [9, 2, 48, 48, 1],
    [1, 12, 1, 1, 1],
    [5, 4, 64, 80, 1],
    [40, 2, 64, 64, 1],
    [33, 4, 64, 80, 2],
];

struct Blocks {
    x: Vec<f32>,
    shape: [usize; 4],
    drawn: Vec<Drawn>,
    gradient: Vec<f32>,
}

fn drawn_block([batch, side, channels, out, stride]: [usize; 5], rng: &mut ChaCha8Rng) -> Blocks {
    let (height, width) = (side, side + 2);
    let first =
        Geometry { batch, height, width, channels, out, kernel: 3, stride, format: Format::Floats };
    let (height, width) = (first.out_height(), first.out_width());
    let second = Geometry { height, width, channels: out, stride: 1, ..first };
    let mut geometries = vec![first, second];
    if stride > 1 || channels != out {
        geometries.push(Geometry { kernel: 1, ..first });
    }
    Blocks {
        x: random(batch * first.image(), rng),
        shape: [batch, first.height, first.width, channels],
        drawn: geometries.into_iter().map(|g| Drawn::new(g, rng)).collect(),
        gradient: random(batch * second.result(), rng),
    }
}

#[test]
fn a_block_and_its_gradients_equal_plain_burn() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (sizes, of_batch) in BLOCKS.into_iter().flat_map(|s| [(s, true), (s, false)]) {
        let Blocks { x, shape, drawn, gradient } = drawn_block(sizes, &mut rng);
        let images = tracked(&x, shape);
        let tensors: Vec<crate::Unit> = drawn.iter().map(|d| d.tensors(of_batch)).collect();
        let down = tensors.get(2).cloned();
        let (out, stats) =
            plain::basic_block(images.clone(), tensors[0].clone(), tensors[1].clone(), down);
        let dy = tracked(&gradient, out.dims()).detach();
        let grads = (out.clone() * dy).sum().backward();
        let dx = values(images.grad(&grads).unwrap());
        let out = values(out);
        let stats: Vec<Vec<f32>> = stats.into_iter().map(values).collect();

        for path in Path::found() {
            let what = |name: &str| format!("{name} on {path:?} of {sizes:?}, batch {of_batch}");
            let units = BlockUnits {
                first: drawn[0].unit(),
                second: drawn[1].unit(),
                down: drawn.get(2).map(Drawn::unit),
            };
            let running = [0, 1, 2].map(|i| drawn.get(i).map_or(&[][..], |d| &d.running));
            let done = block::block(path, &x, &units, (!of_batch).then_some(running));
            assert_near(&done.out, &out, &what("output"));
            for (found, expected) in done.stats.iter().zip(&stats) {
                assert_near(found, expected, &what("statistics"));
            }
            if !of_batch {
                let fixed = block::block_fixed(path, &x, &units, running);
                assert_near(&fixed, &out, &what("fixed output"));
            }
            let saved = BlockSaved {
                out: &done.out,
                y1: &done.y1,
                y2: &done.y2,
                yd: &done.yd,
                stats: done.stats.each_ref().map(|s| &s[..]),
                of_batch,
            };
            let BlockGradients { first, second, down, images } =
                block::block_backward(path, &x, &units, &saved, &gradient, Wanted::ALL);
            assert_near(&images, &dx, &what("input gradient"));
            assert_eq!(down.is_some(), tensors.len() == 3);
            let wanted = Wanted::INPUTS;
            let alone = block::block_backward(path, &x, &units, &saved, &gradient, wanted);
            assert_eq!(alone.images, images, "{}", what("without weight gradients"));
            for unit in [alone.first, alone.second].into_iter().chain(alone.down) {
                assert!(unit.weight.is_empty() && unit.scale.is_empty() && unit.shift.is_empty());
            }
            for (found, unit) in [first, second].into_iter().chain(down).zip(&tensors) {
                let expected = values(unit.weight.grad(&grads).unwrap());
                assert_near(&found.weight, &expected, &what("weight gradient"));
                let expected = values(unit.scale.grad(&grads).unwrap());
                assert_near(&found.scale, &expected, &what("scale gradient"));
                let expected = values(unit.shift.grad(&grads).unwrap());
                assert_near(&found.shift, &expected, &what("shift gradient"));
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    // Direct convolution, also with weights that the threads split; Winograd, for parts of a batch and for such weights.
    let ways = [[37, 6, 9, 19, 2], [19, 4, 64, 128, 2], [19, 9, 64, 64, 1], [5, 10, 64, 128, 1]]
        .into_iter()
        .flat_map(|sizes| [Format::Floats, Format::Pairs].map(|format| (sizes, format)));
    for (sizes, format) in ways {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let Blocks { x, mut drawn, gradient, .. } = drawn_block(sizes, &mut rng);
        drawn.iter_mut().for_each(|drawn| drawn.geometry.format = format);
        let path = crate::path::path();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let units = BlockUnits {
                    first: drawn[0].unit(),
                    second: drawn[1].unit(),
                    down: drawn.get(2).map(Drawn::unit),
                };
                let done = block::block(path, &x, &units, None);
                let stats = done.stats.each_ref().map(|s| &s[..]);
                let (out, y1, y2, yd) = (&done.out, &done.y1, &done.y2, &done.yd);
                let saved = BlockSaved { out, y1, y2, yd, stats, of_batch: true };
                let found = block::block_backward(path, &x, &units, &saved, &gradient, Wanted::ALL);
                let BlockGradients { first, second, down, images } = found;
                let of = |u: UnitGradients| [u.weight, u.scale, u.shift];
                (done.out, done.stats, images, of(first), of(second), down.map(of))
            })
        };
        assert!(run(1) == run(2), "{sizes:?}");
        assert!(run(1) == run(5), "{sizes:?}");
    }
}

#[test]
fn the_extension_is_taken_on_flex_and_carries_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let stem = Geometry {
        batch: 3,
        height: 8,
        width: 8,
        channels: 3,
        out: 4,
        kernel: 3,
        stride: 1,
        format: Format::Floats,
    };
    let stem_drawn = Drawn::new(stem, &mut rng);
    let Blocks { drawn, .. } = drawn_block([3, 8, 4, 6, 2], &mut rng);
    let x = random(3 * stem.image(), &mut rng);
    for (of_batch, pool) in [(true, false), (true, true), (false, true)] {
        let run = |kernels: bool| {
            let images = tracked(&x, [3, 8, 8, 3]);
            let stem = stem_drawn.tensors(of_batch);
            let all: Vec<crate::Unit> = drawn.iter().map(|d| d.tensors(of_batch)).collect();
            let (first, second, down) = (all[0].clone(), all[1].clone(), Some(all[2].clone()));
            let (out, stats) = if kernels {
                let (y, _) = crate::stem(images.clone(), stem.clone(), pool);
                crate::basic_block(y, first, second, down)
            } else {
                let (y, _) = plain::stem(images.clone(), stem.clone(), pool);
                plain::basic_block(y, first, second, down)
            };
            assert_eq!(stats.len(), 3);
            let grads = out.clone().powi_scalar(2).sum().backward();
            let mut found = vec![values(out), values(images.grad(&grads).unwrap())];
            found.extend(stats.into_iter().map(values));
            for unit in [&stem].into_iter().chain(&all) {
                found.push(values(unit.weight.grad(&grads).unwrap()));
                found.push(values(unit.scale.grad(&grads).unwrap()));
                found.push(values(unit.shift.grad(&grads).unwrap()));
            }
            found
        };
        for (i, (a, b)) in run(true).iter().zip(&run(false)).enumerate() {
            assert_near(a, b, &format!("number {i}, statistics of the batch: {of_batch}"));
        }
    }
}

/// A unit from 3 to 4 channels whose parameters are all 1.
fn unit_of_ones() -> crate::Unit {
    let ones = |len| tracked(&vec![1.0; len], [len]);
    let weight = tracked(&[1.0; 108], [4, 3, 3, 3]);
    crate::Unit {
        weight,
        scale: ones(4),
        shift: ones(4),
        running: None,
        epsilon: EPSILON,
        stride: 1,
    }
}

#[test]
#[should_panic(expected = "the weight [4, 3, ..] does not fit the images")]
fn images_of_other_channels_are_refused() {
    crate::stem(tracked(&[0.0; 32], [1, 4, 4, 2]), unit_of_ones(), false);
}

#[test]
#[should_panic(expected = "no axis may be empty")]
fn an_empty_batch_is_refused() {
    crate::stem(tracked(&[], [0, 4, 4, 3]), unit_of_ones(), false);
}

#[test]
fn a_unit_in_other_bits_takes_the_plain_operations() {
    let unit = unit_of_ones();
    let half = crate::Unit { weight: unit.weight.clone().cast(burn::tensor::DType::BF16), ..unit };
    let (y, _) = crate::stem(tracked(&[0.5; 48], [1, 4, 4, 3]), half, false);
    assert_eq!(y.dims(), [1, 4, 4, 4]);
}

/// A grouped convolution equals one convolution per group of channels, gradients included.
#[test]
fn a_grouped_unit_is_one_unit_for_each_group() {
    let (groups, from, out) = (3, 2, 4);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let images = random(2 * 5 * 6 * groups * from, &mut rng);
    let weight = random(groups * out * from * 9, &mut rng);
    let (scale, shift) = (random(groups * out, &mut rng), random(groups * out, &mut rng));
    let unit = |weight: Tensor<4>, scale: &[f32], shift: &[f32]| crate::Unit {
        weight,
        scale: tracked(scale, [scale.len()]),
        shift: tracked(shift, [shift.len()]),
        running: None,
        epsilon: EPSILON,
        stride: 2,
    };
    let side = |grouped: bool| {
        let x = tracked(&images, [2, 5, 6, groups * from]);
        let w = tracked(&weight, [groups * out, from, 3, 3]);
        let y = if grouped {
            crate::conv_norm(x.clone(), unit(w.clone(), &scale, &shift)).0
        } else {
            let part = |g: usize| {
                let x = x.clone().slice_dim(3, g * from..(g + 1) * from);
                let w = w.clone().slice_dim(0, g * out..(g + 1) * out);
                let of = g * out..(g + 1) * out;
                crate::conv_norm(x, unit(w, &scale[of.clone()], &shift[of])).0
            };
            Tensor::cat((0..groups).map(part).collect(), 3)
        };
        assert_eq!(y.dims(), [2, 3, 3, groups * out]);
        let grads = y.clone().powi_scalar(3).sum().backward();
        let gradients = [x.grad(&grads), w.grad(&grads)].map(|g| values(g.unwrap()));
        (values(y), gradients)
    };
    let ((y, [dx, dw]), (expected, [ex, ew])) = (side(true), side(false));
    assert_near(&y, &expected, "output");
    assert_near(&dx, &ex, "gradient of the images");
    assert_near(&dw, &ew, "gradient of the weight");
}
