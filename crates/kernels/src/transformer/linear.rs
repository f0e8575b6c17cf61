//! A linear layer on rows, y = x · W + b, optionally followed by GELU, with the gradients of x, W and b. The product
//! is a gather whose pixels are the rows; the weight gradient sums outer products of rows.

use rayon::prelude::*;

use super::gelu;
use crate::fill::{Filling, fill, fill_two, zeros};
use crate::gather::{Axis, Gather, Inputs, Padded, Weights};
use crate::outer::{Group, LANES, Outer, SPARE};
use crate::pairs::{Format, pair_channels, pair_image};
use crate::path::{Path, kernel};
use crate::scratch::{Aligned, Scratch, scratch};
use crate::wanted::Wanted;

/// Rows per task: sums over rows are added in the order of the tasks.
const ROWS: usize = if cfg!(miri) { 4 } else { 128 };

/// A linear layer.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    /// `[from, to]`.
    pub weight: &'a [f32],
    /// `[to]`.
    pub bias: &'a [f32],
    /// The number format of the products.
    pub format: Format,
}

/// Gradients of the rows, the weight and the bias; empty if not wanted.
pub(crate) struct Gradients {
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Rows times a matrix.
struct Product {
    gather: Gather,
    weights: Aligned,
    from: usize,
    to: usize,
}

impl Product {
    /// Value i of a row counts towards value o of the result with `weight[i · by_row + o · by_column]`.
    fn new(
        weight: &[f32],
        [from, to]: [usize; 2],
        [by_row, by_column]: [usize; 2],
        format: Format,
    ) -> Self {
        let row = Padded { inner: [1, 1, from], pad: [(0, 0); 2] };
        let [one, same] = [(); 2].map(|()| Axis::forward(1, 1, 1, 1, 0));
        let gather = Gather::new(row, &one, &same, [1, 1, to], ROWS, format);
        let weights = gather.pack(weight, 1, by_row, by_column);
        Self { gather, weights, from, to }
    }

    /// The products of at most [`ROWS`] rows, written to the next floats of `out`.
    fn run<'a>(&self, path: Path, x: &[f32], out: &'a mut Filling<'_>) -> &'a mut [f32] {
        let Self { gather, weights, from, to } = self;
        let rows = x.len() / from;
        let pairs = (gather.format() == Format::Pairs).then(|| {
            let mut pairs = scratch(rows * Format::Pairs.places(*from));
            pair_channels(path, x, *from, &mut pairs);
            pairs
        });
        let padded = pairs.as_deref().unwrap_or(x);
        let weights = Weights { packed: weights, stride: gather.block() };
        out.next(rows * to, |y| gather.begin(path, Inputs { padded, weights }, y, rows))
    }
}

impl Layer<'_> {
    fn sizes(&self) -> [usize; 2] {
        [self.weight.len() / self.bias.len(), self.bias.len()]
    }

    fn product(&self) -> Product {
        let [from, to] = self.sizes();
        Product::new(self.weight, [from, to], [to, 1], self.format)
    }
}

/// The rows of the result.
pub(crate) fn linear(path: Path, x: &[f32], layer: Layer) -> Vec<f32> {
    let ([from, to], product) = (layer.sizes(), layer.product());
    fill(x.len() / from * to, ROWS * to, x.par_chunks(ROWS * from), |x, out| {
        add_bias(path, layer.bias, product.run(path, x, out));
    })
    .0
}

/// The rows of the result before and after GELU.
pub(crate) fn linear_gelu(path: Path, x: &[f32], layer: Layer) -> [Vec<f32>; 2] {
    let ([from, to], product) = (layer.sizes(), layer.product());
    fill_two(x.len() / from * to, ROWS * to, x.par_chunks(ROWS * from), |x, hidden, out| {
        let y = product.run(path, x, hidden);
        add_bias(path, layer.bias, y);
        out.rest(|out| gelu::forward(path, y, out));
    })
}

/// The backward pass of [`linear`], given the `gradient` of the result: the `wanted` ones.
pub(crate) fn linear_backward(
    path: Path,
    x: &[f32],
    layer: Layer,
    gradient: &[f32],
    wanted: Wanted,
) -> Gradients {
    let [from, to] = layer.sizes();
    let (weight, bias) = match wanted.parameters {
        true => (
            weight_gradient(path, x, gradient, [from, to], layer.format),
            sum_of_rows(gradient, to),
        ),
        false => (Vec::new(), Vec::new()),
    };
    let x = if wanted.inputs {
        let product = Product::new(layer.weight, [to, from], [1, to], layer.format);
        let rows = gradient.par_chunks(ROWS * to);
        let one = |gradient: &[f32], dx: &mut Filling<'_>| {
            product.run(path, gradient, dx);
        };
        fill(x.len(), ROWS * from, rows, one).0
    } else {
        Vec::new()
    };
    Gradients { x, weight, bias }
}

/// The sum over rows: parts are summed in single precision, and their sums in double.
fn sum_of_rows(rows: &[f32], len: usize) -> Vec<f32> {
    let part = |rows: &[f32]| {
        let mut sums = vec![0.0f32; len];
        for row in rows.chunks_exact(len) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        sums
    };
    let parts: Vec<Vec<f32>> = rows.par_chunks(ROWS * len).map(part).collect();
    let mut all = vec![0.0f64; len];
    for part in parts {
        all.iter_mut().zip(part).for_each(|(sum, v)| *sum += f64::from(v));
    }
    all.into_iter().map(|sum| sum as f32).collect()
}

/// xᵀ · gradient, `[from, to]`. Threads split the blocks of columns; each sum runs over the rows in order.
fn weight_gradient(
    path: Path,
    x: &[f32],
    gradient: &[f32],
    [from, to]: [usize; 2],
    format: Format,
) -> Vec<f32> {
    // A group of rows is an image of one column, so that its rows pair up.
    let [input, result] = [from, to].map(|n| Padded { inner: [ROWS, 1, n], pad: [(0, 0); 2] });
    let outer = Outer::new(input, 0, result, [1, 1], 1, format);
    let each = outer.chunks().div_ceil(rayon::current_num_threads());
    let mut sums = vec![0.0; outer.chunks() * outer.chunk()];
    sums.par_chunks_mut(each * outer.chunk()).enumerate().for_each(|(task, sums)| {
        for start in (0..x.len() / from).step_by(ROWS) {
            let [x, gradient] = [(x, from), (gradient, to)]
                .map(|(rows, len)| image(path, &rows[start * len..], len, format));
            let group = Group { padded: &x, gradient: &gradient, images: 1 };
            for (c, sums) in sums.chunks_exact_mut(outer.chunk()).enumerate() {
                outer.run(path, group, task * each + c, sums);
            }
        }
    });
    let rows = 0..from;
    let row = |i: usize, row: &mut Filling<'_>| {
        let row = row.rest(zeros);
        for (b, row) in row.chunks_mut(LANES).enumerate() {
            row.copy_from_slice(&sums[b * outer.chunk() + i * LANES..][..row.len()]);
        }
    };
    fill(from * to, to, rows, row).0
}

/// The first [`ROWS`] of `rows`, of `len` floats each, padded with zeros if there are fewer, in pairs if that is the
/// format, followed by [`SPARE`] arbitrary floats.
fn image(path: Path, rows: &[f32], len: usize, format: Format) -> Image<'_> {
    let whole = ROWS * len;
    if format == Format::Floats && rows.len() >= whole + SPARE {
        return Image::There(rows);
    }
    let mut image = scratch(whole + SPARE);
    let count = whole.min(rows.len());
    let (inside, beyond) = image[..whole].split_at_mut(count);
    inside.copy_from_slice(&rows[..count]);
    beyond.fill(0.0);
    if format == Format::Pairs {
        pair_image(path, &mut image[..whole], len, 1);
    }
    Image::Made(image)
}

/// Rows read in place, or copied into a buffer.
enum Image<'a> {
    There(&'a [f32]),
    Made(Scratch),
}

impl std::ops::Deref for Image<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::There(rows) => rows,
            Self::Made(image) => image,
        }
    }
}

#[inline(always)]
fn add_bias_body<const FMA: bool>(bias: &[f32], rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(v, bias)| *v += bias);
    }
}

kernel! {
    add_bias(bias: &[f32], rows: &mut [f32]) = add_bias_body
}
