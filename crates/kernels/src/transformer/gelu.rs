//! GELU: x · Φ(x), Φ the normal distribution (Hendrycks & Gimpel, 2016), not its tanh approximation.

use rayon::prelude::*;

use super::exp::exp;
use crate::path::{Path, kernel, mul_add};
use crate::scratch::unset;

/// Floats that one task takes.
const CHUNK: usize = 1 << 13;

/// GELU of each value.
pub(super) fn gelu(path: Path, x: &[f32]) -> Vec<f32> {
    let mut y = unset(x.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| forward(path, x, y));
    y
}

/// The gradient of x where y has `gradient`.
pub(super) fn gelu_backward(path: Path, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let mut dx = unset(x.len());
    (dx.par_chunks_mut(CHUNK), x.par_chunks(CHUNK), gradient.par_chunks(CHUNK))
        .into_par_iter()
        .for_each(|(dx, x, gradient)| backward(path, x, gradient, dx));
    dx
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
fn forward_body<const FMA: bool>(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal::<FMA>(x).0;
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(x: &[f32], gradient: &[f32], dx: &mut [f32]) {
    // 1 / √(2π)
    const DENSITY: f32 = 0.398_942_3;
    for ((dx, &x), &gradient) in dx.iter_mut().zip(x).zip(gradient) {
        let (below, bell) = normal::<FMA>(x);
        *dx = gradient * mul_add::<FMA>(x * DENSITY, bell, below);
    }
}

kernel! {
    forward(x: &[f32], y: &mut [f32]) = forward_body
}
kernel! {
    backward(x: &[f32], gradient: &[f32], dx: &mut [f32]) = backward_body
}
