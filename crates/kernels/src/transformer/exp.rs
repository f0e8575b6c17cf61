//! The exponential in single precision as plain arithmetic, so that loops over it vectorise.

use std::f32::consts::LOG2_E;

use crate::path::mul_add;

/// 3 · 2²²: adding it rounds to an integer, which is then in the last bits.
const MAGIC: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with few bits: its products with small integers are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// eˣ, with a relative error of about 2e-7; x is clamped to −87 … 88.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + MAGIC;
    let whole = rounded - MAGIC;
    let rest = mul_add::<FMA>(-whole, LN_2[1], mul_add::<FMA>(-whole, LN_2[0], x));
    // The Taylor series of eʳ for |r| ≤ ln 2 / 2.
    let mut series = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = mul_add::<FMA>(series, rest, coefficient);
    }
    let exponent = rounded.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127);
    series * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_library() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0;
            let (found, wanted) = (super::exp::<false>(x), f64::from(x).exp());
            assert!((f64::from(found) / wanted - 1.0).abs() < 4e-7, "{x}: {found} {wanted}");
        }
    }
}
