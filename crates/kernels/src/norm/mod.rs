//! Batch norm, ReLU and the residual addition, row by row: what the passes of a layer do to a row of an
//! image while it is in the cache.
//!
//! A row holds `width · channels` floats; per-channel coefficients are repeated to that length, so that
//! every loop is one flat loop over floats.

mod moments;

pub(crate) use self::moments::{Affine, Backward, GradientSums, Moments, fold, repeat};
use crate::fill::{Slot, write};
use crate::path::{kernel, mul_add};

/// A row of a convolution's outputs, with the mean of each float's channel.
#[derive(Clone, Copy)]
pub(crate) struct Centred<'a> {
    pub y: &'a [f32],
    pub mean: &'a [f32],
}

/// NaN stays NaN, so that diverged training is noticed.
#[inline(always)]
fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

kernel!(
    /// `row = relu(y · scale + shift)`, overwriting `row`.
    affine_relu(y: &[f32], affine: &Affine, row: &mut [f32]) = affine_relu_body
);

#[inline(always)]
fn affine_relu_body<const FMA: bool>(y: &[f32], affine: &Affine, row: &mut [f32]) {
    let coefficients = affine.scale.iter().zip(&affine.shift);
    for ((row, &y), (&a, &b)) in row.iter_mut().zip(y).zip(coefficients) {
        *row = relu(mul_add::<FMA>(y, a, b));
    }
}

kernel!(
    /// `out = relu(y · scale + shift)`.
    affine_relu_out<'a>(
        y: &[f32],
        affine: &Affine,
        out: &'a mut [Slot],
    ) -> &'a mut [f32] = affine_relu_out_body
);

#[inline(always)]
fn affine_relu_out_body<'a, const FMA: bool>(
    y: &[f32],
    affine: &Affine,
    out: &'a mut [Slot],
) -> &'a mut [f32] {
    let inputs = y.iter().zip(affine.scale.iter().zip(&affine.shift));
    write(out, inputs.map(|(&y, (&a, &b))| relu(mul_add::<FMA>(y, a, b))))
}

kernel!(
    /// `out = relu(y · scale + shift + r)`.
    affine_add_relu<'a>(
        y: &[f32],
        affine: &Affine,
        r: &[f32],
        out: &'a mut [Slot],
    ) -> &'a mut [f32] = affine_add_relu_body
);

#[inline(always)]
fn affine_add_relu_body<'a, const FMA: bool>(
    y: &[f32],
    affine: &Affine,
    r: &[f32],
    out: &'a mut [Slot],
) -> &'a mut [f32] {
    let inputs = y.iter().zip(r).zip(affine.scale.iter().zip(&affine.shift));
    write(out, inputs.map(|((&y, &r), (&a, &b))| relu(mul_add::<FMA>(y, a, b) + r)))
}

kernel!(
    /// `out = relu(y · scale + shift + d · scale' + shift')`: the end of a block with downsampling.
    affine_pair_relu<'a>(
        y: &[f32],
        affine: &Affine,
        d: &[f32],
        down: &Affine,
        out: &'a mut [Slot],
    ) -> &'a mut [f32] = affine_pair_relu_body
);

#[inline(always)]
fn affine_pair_relu_body<'a, const FMA: bool>(
    y: &[f32],
    affine: &Affine,
    d: &[f32],
    down: &Affine,
    out: &'a mut [Slot],
) -> &'a mut [f32] {
    let first = affine.scale.iter().zip(&affine.shift);
    let second = down.scale.iter().zip(&down.shift);
    let inputs = y.iter().zip(d).zip(first.zip(second));
    let value =
        |((&y, &d), ((&a, &b), (&c, &e)))| relu(mul_add::<FMA>(y, a, b) + mul_add::<FMA>(d, c, e));
    write(out, inputs.map(value))
}

kernel!(
    /// Adds the gradient `g` where `out > 0`, and its products with `y − mean`, to the sums.
    add_masked(
        g: &[f32],
        out: &[f32],
        y: Centred,
        first: &mut [f32],
        second: &mut [f32],
    ) = add_masked_body
);

#[inline(always)]
fn add_masked_body<const FMA: bool>(
    g: &[f32],
    out: &[f32],
    Centred { y, mean }: Centred,
    first: &mut [f32],
    second: &mut [f32],
) {
    let sums = first.iter_mut().zip(second.iter_mut());
    let inputs = g.iter().zip(out).zip(y).zip(mean);
    for ((first, second), (((&g, &out), &y), &mean)) in sums.zip(inputs) {
        let g = if out > 0.0 { g } else { 0.0 };
        *first += g;
        *second = mul_add::<FMA>(g, y - mean, *second);
    }
}

kernel!(
    /// Adds a gradient `g` that is already masked, and its products with `y − mean`, to the sums.
    add_products(
        g: &[f32],
        y: Centred,
        first: &mut [f32],
        second: &mut [f32],
    ) = add_products_body
);

#[inline(always)]
fn add_products_body<const FMA: bool>(
    g: &[f32],
    Centred { y, mean }: Centred,
    first: &mut [f32],
    second: &mut [f32],
) {
    let sums = first.iter_mut().zip(second.iter_mut());
    for ((first, second), ((&g, &y), &mean)) in sums.zip(g.iter().zip(y).zip(mean)) {
        *first += g;
        *second = mul_add::<FMA>(g, y - mean, *second);
    }
}

kernel!(
    /// Masks `g` as the ReLU of `y · scale + shift` does, and adds it to the sums like [`add_products`].
    cut_relu(
        g: &mut [f32],
        y: Centred,
        affine: &Affine,
        first: &mut [f32],
        second: &mut [f32],
    ) = cut_relu_body
);

#[inline(always)]
fn cut_relu_body<const FMA: bool>(
    g: &mut [f32],
    Centred { y, mean }: Centred,
    affine: &Affine,
    first: &mut [f32],
    second: &mut [f32],
) {
    let sums = first.iter_mut().zip(second.iter_mut());
    let coefficients = affine.scale.iter().zip(&affine.shift).zip(mean);
    let inputs = g.iter_mut().zip(y).zip(coefficients);
    for ((first, second), ((g, &y), ((&a, &b), &mean))) in sums.zip(inputs) {
        let kept = if mul_add::<FMA>(y, a, b) > 0.0 { *g } else { 0.0 };
        *g = kept;
        *first += kept;
        *second = mul_add::<FMA>(kept, y - mean, *second);
    }
}

kernel!(
    /// `dy` for a gradient `g` that is already masked.
    spread(g: &[f32], y: &[f32], back: &Backward, dy: &mut [f32]) = spread_body
);

#[inline(always)]
fn spread_body<const FMA: bool>(g: &[f32], y: &[f32], back: &Backward, dy: &mut [f32]) {
    let coefficients = back.of_gradient.iter().zip(&back.of_y).zip(&back.constant);
    for (((dy, &g), &y), ((&a, &b), &c)) in dy.iter_mut().zip(g).zip(y).zip(coefficients) {
        *dy = mul_add::<FMA>(g, a, mul_add::<FMA>(y, b, c));
    }
}

kernel!(
    /// `dy` for a gradient `g` that counts where `out > 0`.
    spread_masked(
        g: &[f32],
        out: &[f32],
        y: &[f32],
        back: &Backward,
        dy: &mut [f32],
    ) = spread_masked_body
);

#[inline(always)]
fn spread_masked_body<const FMA: bool>(
    g: &[f32],
    out: &[f32],
    y: &[f32],
    back: &Backward,
    dy: &mut [f32],
) {
    let coefficients = back.of_gradient.iter().zip(&back.of_y).zip(&back.constant);
    let inputs = g.iter().zip(out).zip(y).zip(coefficients);
    for (dy, (((&g, &out), &y), ((&a, &b), &c))) in dy.iter_mut().zip(inputs) {
        let g = if out > 0.0 { g } else { 0.0 };
        *dy = mul_add::<FMA>(g, a, mul_add::<FMA>(y, b, c));
    }
}

kernel!(
    /// Adds the gradient `g` where `out > 0` to `dx`: the backward pass of the identity shortcut.
    add_where_positive(g: &[f32], out: &[f32], dx: &mut [f32]) = add_where_positive_body
);

#[inline(always)]
fn add_where_positive_body<const FMA: bool>(g: &[f32], out: &[f32], dx: &mut [f32]) {
    for ((dx, &g), &out) in dx.iter_mut().zip(g).zip(out) {
        *dx += if out > 0.0 { g } else { 0.0 };
    }
}
