//! Attention of all heads, image by image: softmax(q · kᵀ / √e) · v. The weights never leave the cache;
//! the backward pass recomputes them.

use rayon::prelude::*;

use super::exp::exp;
use super::product::{TILE, product};
use crate::fill::{fill_init, zeros};
use crate::path::{Path, kernel, mul_add};

/// Sizes of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Tokens of an image.
    pub tokens: usize,
    /// Length of a token.
    pub dim: usize,
    /// Heads.
    pub heads: usize,
}

impl Heads {
    /// Length of a token in one head.
    fn each(&self) -> usize {
        self.dim / self.heads
    }

    /// Floats of an image's queries, keys and values.
    fn image(&self) -> usize {
        3 * self.tokens * self.dim
    }

    /// Tokens, and their length in a head, each rounded up to whole tiles.
    fn padded(&self) -> [usize; 2] {
        [self.tokens, self.each()].map(|n| n.next_multiple_of(TILE))
    }
}

/// `qkv` is `[images, tokens, 3, heads, each]`; returns `[images, tokens, heads · each]`.
pub(crate) fn attention(path: Path, qkv: &[f32], sizes: Heads) -> Vec<f32> {
    let image = sizes.tokens * sizes.dim;
    let (images, buffers) = (qkv.par_chunks(sizes.image()), || Buffers::new(&sizes));
    fill_init(qkv.len() / 3, image, images, buffers, |buffers, qkv, out| {
        forward(path, qkv, out.rest(zeros), sizes, buffers);
    })
    .0
}

/// The gradient of `qkv`, given the `gradient` of the output.
pub(crate) fn attention_backward(
    path: Path,
    qkv: &[f32],
    gradient: &[f32],
    sizes: Heads,
) -> Vec<f32> {
    let image = sizes.tokens * sizes.dim;
    let images = (qkv.par_chunks(sizes.image()), gradient.par_chunks(image));
    let buffers = || Buffers::new(&sizes);
    fill_init(qkv.len(), sizes.image(), images, buffers, |buffers, (qkv, gradient), found| {
        backward(path, qkv, gradient, found.rest(zeros), sizes, buffers);
    })
    .0
}

/// One head of one image, padded with zeros; the transposed buffers are `[each, tokens]`.
struct Buffers {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    k_transposed: Vec<f32>,
    v_transposed: Vec<f32>,
    /// Gradient of the output.
    g: Vec<f32>,
    /// Weights, and their gradient, `[tokens, tokens]`.
    weights: Vec<f32>,
    of_weights: Vec<f32>,
    /// A product, `[tokens, each]`.
    product: Vec<f32>,
}

impl Buffers {
    fn new(sizes: &Heads) -> Self {
        let [tokens, each] = sizes.padded();
        let rows = || vec![0.0; tokens * each];
        let square = || vec![0.0; tokens * tokens];
        Self {
            q: rows(),
            k: rows(),
            v: rows(),
            k_transposed: rows(),
            v_transposed: rows(),
            g: rows(),
            weights: square(),
            of_weights: square(),
            product: rows(),
        }
    }
}

/// Copies a head's queries, keys or values (`part` 0, 1 or 2) into padded rows.
fn take(qkv: &[f32], sizes: Heads, head: usize, part: usize, to: &mut [f32]) {
    let (each, [_, padded]) = (sizes.each(), sizes.padded());
    for (token, row) in qkv.chunks_exact(3 * sizes.dim).zip(to.chunks_exact_mut(padded)) {
        row[..each].copy_from_slice(&token[part * sizes.dim + head * each..][..each]);
    }
}

fn transpose(from: &[f32], [tokens, each]: [usize; 2], to: &mut [f32]) {
    for (t, row) in from.chunks_exact(each).enumerate() {
        for (e, &v) in row.iter().enumerate() {
            to[e * tokens + t] = v;
        }
    }
}

/// Fills queries, keys, values and weights of a head.
fn weigh(path: Path, qkv: &[f32], sizes: Heads, head: usize, buffers: &mut Buffers) {
    let Buffers { q, k, v, k_transposed, weights, .. } = buffers;
    take(qkv, sizes, head, 0, q);
    take(qkv, sizes, head, 1, k);
    take(qkv, sizes, head, 2, v);
    let [tokens, each] = sizes.padded();
    transpose(k, [tokens, each], k_transposed);
    product(path, q, [each, 1], k_transposed, weights, [tokens, sizes.each(), tokens]);
    let scale = (sizes.each() as f32).powf(-0.5);
    for (t, row) in weights.chunks_exact_mut(tokens).enumerate() {
        let (seen, beyond) = row.split_at_mut(sizes.tokens);
        beyond.fill(0.0);
        if t < sizes.tokens { soften(path, seen, scale) } else { seen.fill(0.0) }
    }
}

fn forward(path: Path, qkv: &[f32], out: &mut [f32], sizes: Heads, buffers: &mut Buffers) {
    let [tokens, each] = sizes.padded();
    for head in 0..sizes.heads {
        weigh(path, qkv, sizes, head, buffers);
        let Buffers { v, weights, product: mixed, .. } = buffers;
        product(path, weights, [tokens, 1], v, mixed, [tokens, sizes.tokens, each]);
        put(mixed, sizes, head, out, [sizes.dim, 0], 1.0);
    }
}

/// Copies the rows of a head, times `factor`, to `to` at `[token stride, offset]`.
fn put(from: &[f32], sizes: Heads, head: usize, to: &mut [f32], at: [usize; 2], factor: f32) {
    let (each, [_, padded]) = (sizes.each(), sizes.padded());
    for (row, token) in from.chunks_exact(padded).zip(to.chunks_exact_mut(at[0])) {
        let to = &mut token[at[1] + head * each..][..each];
        to.iter_mut().zip(row).for_each(|(to, &v)| *to = v * factor);
    }
}

fn backward(
    path: Path,
    qkv: &[f32],
    gradient: &[f32],
    found: &mut [f32],
    sizes: Heads,
    buffers: &mut Buffers,
) {
    let [tokens, each] = sizes.padded();
    let (inner, dim) = (sizes.each(), sizes.dim);
    let scale = (inner as f32).powf(-0.5);
    let by_tokens = [tokens, sizes.tokens, each];
    for head in 0..sizes.heads {
        weigh(path, qkv, sizes, head, buffers);
        let Buffers { q, k, v, v_transposed, g, weights, of_weights, product: back, .. } = buffers;
        for (token, row) in gradient.chunks_exact(dim).zip(g.chunks_exact_mut(each)) {
            row[..inner].copy_from_slice(&token[head * inner..][..inner]);
        }
        transpose(v, [tokens, each], v_transposed);
        product(path, weights, [1, tokens], g, back, by_tokens);
        put(back, sizes, head, found, [3 * dim, 2 * dim], 1.0);
        product(path, g, [each, 1], v_transposed, of_weights, [tokens, inner, tokens]);
        for (w, of) in weights.chunks_exact(tokens).zip(of_weights.chunks_exact_mut(tokens)) {
            softmax_backward(path, w, of);
        }
        product(path, of_weights, [tokens, 1], k, back, by_tokens);
        put(back, sizes, head, found, [3 * dim, 0], scale);
        product(path, of_weights, [1, tokens], q, back, by_tokens);
        put(back, sizes, head, found, [3 * dim, dim], scale);
    }
}

/// Lanes of partial sums and maxima, so that the loops vectorise.
const LANES: usize = 16;

/// Softmax of a row times `scale`.
#[inline(always)]
fn soften_body<const FMA: bool>(row: &mut [f32], scale: f32) {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::MIN; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], chunk[l]);
        }
    }
    let most = lanes.iter().chain(rest).fold(f32::MIN, |most, &v| larger(most, v));
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            chunk[l] = exp::<FMA>((chunk[l] - most) * scale);
            sums[l] += chunk[l];
        }
    }
    let mut total: f32 = sums.iter().sum();
    for v in rest {
        *v = exp::<FMA>((*v - most) * scale);
        total += *v;
    }
    let inverse = 1.0 / total;
    row.iter_mut().for_each(|v| *v *= inverse);
}

/// The backward pass of the softmax, for a row of whole tiles: subtracts the weighted mean of the
/// gradients.
#[inline(always)]
fn softmax_backward_body<const FMA: bool>(weights: &[f32], of: &mut [f32]) {
    let mut sums = [0.0f32; LANES];
    for (w, of) in weights.as_chunks::<LANES>().0.iter().zip(of.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            sums[l] = mul_add::<FMA>(w[l], of[l], sums[l]);
        }
    }
    let mean: f32 = sums.iter().sum();
    of.iter_mut().zip(weights).for_each(|(of, &w)| *of = w * (*of - mean));
}

kernel! {
    soften(row: &mut [f32], scale: f32) = soften_body
}
kernel! {
    softmax_backward(weights: &[f32], of: &mut [f32]) = softmax_backward_body
}
