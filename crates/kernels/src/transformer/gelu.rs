//! GELU: x · Φ(x), Φ the normal distribution (Hendrycks & Gimpel, 2016), not the tanh approximation.

use rayon::prelude::*;

use super::exp::exp;
use crate::fill::{Slot, fill, write};
use crate::path::{Path, kernel, mul_add};

/// Floats per task.
const CHUNK: usize = if cfg!(miri) { 64 } else { 1 << 13 };

/// GELU of each value.
pub(crate) fn gelu(path: Path, x: &[f32]) -> Vec<f32> {
    let chunks = x.par_chunks(CHUNK);
    fill(x.len(), CHUNK, chunks, |x, y| {
        y.rest(|y| forward(path, x, y));
    })
    .0
}

/// The gradient of x, given the `gradient` of y.
pub(crate) fn gelu_backward(path: Path, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let chunks = (x.par_chunks(CHUNK), gradient.par_chunks(CHUNK));
    fill(x.len(), CHUNK, chunks, |(x, gradient), dx| {
        dx.rest(|dx| backward(path, x, gradient, dx));
    })
    .0
}

/// Φ(x), and e^(−x²/2). Abramowitz & Stegun 7.1.26: off by 8e-8 at most.
#[inline(always)]
fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let t = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let k = 1.0 / mul_add::<FMA>(0.327_591_1, t, 1.0);
    let mut series = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        series = mul_add::<FMA>(series, k, coefficient);
    }
    let bell = exp::<FMA>(-t * t);
    // Half of 1 − erf(t): the tail beyond |x|.
    let tail = 0.5 * series * k * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

#[inline(always)]
fn forward_body<'a, const FMA: bool>(x: &[f32], y: &'a mut [Slot]) -> &'a mut [f32] {
    write(y, x.iter().map(|&x| x * normal::<FMA>(x).0))
}

#[inline(always)]
fn backward_body<'a, const FMA: bool>(
    x: &[f32],
    gradient: &[f32],
    dx: &'a mut [Slot],
) -> &'a mut [f32] {
    // 1 / √(2π)
    const DENSITY: f32 = 0.398_942_3;
    let values = x.iter().zip(gradient).map(|(&x, &gradient)| {
        let (below, bell) = normal::<FMA>(x);
        gradient * mul_add::<FMA>(x * DENSITY, bell, below)
    });
    write(dx, values)
}

kernel! {
    forward<'a>(x: &[f32], y: &'a mut [Slot]) -> &'a mut [f32] = forward_body
}
kernel! {
    backward<'a>(x: &[f32], gradient: &[f32], dx: &'a mut [Slot]) -> &'a mut [f32] = backward_body
}
