//! The first layers of a ResNet.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first layers of a ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A 3×3 convolution of padding 1, no pooling: for images up to 64 px.
    Small,
    /// A 7×7 convolution of stride 2 and padding 3, then a 3×3 max-pool of stride 2.
    Imagenet,
    /// Any other, as some tools build it.
    Custom(StemShape),
}

/// A convolution, batch norm, ReLU, and possibly a max-pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StemShape {
    /// Side of the convolution's kernel in pixels. Range: odd numbers, 1 to 15.
    #[schemars(range(min = 1, max = 15))]
    pub kernel: usize,
    /// Stride of the convolution in pixels.
    #[schemars(range(min = 1, max = 4))]
    pub stride: usize,
    /// Zeros around the image in pixels, from half the kernel (rounded down) to the kernel minus 1.
    #[schemars(range(min = 0, max = 14))]
    pub padding: usize,
    /// Adds a 3×3 max-pool of stride 2 and padding 1.
    pub maxpool: bool,
}

const SMALL: StemShape = StemShape { kernel: 3, stride: 1, padding: 1, maxpool: false };
const IMAGENET: StemShape = StemShape { kernel: 7, stride: 2, padding: 3, maxpool: true };

impl Stem {
    /// The layers of the stem.
    pub fn shape(self) -> StemShape {
        match self {
            Self::Small => SMALL,
            Self::Imagenet => IMAGENET,
            Self::Custom(shape) => shape,
        }
    }
}

impl From<StemShape> for Stem {
    /// The stem of this shape, by name if it has one.
    fn from(shape: StemShape) -> Self {
        match shape {
            SMALL => Self::Small,
            IMAGENET => Self::Imagenet,
            _ => Self::Custom(shape),
        }
    }
}

impl StemShape {
    /// The first invalid field, its value, and the allowed range.
    pub(crate) fn wrong(&self) -> Option<(&'static str, usize, &'static str)> {
        let Self { kernel, stride, padding, .. } = *self;
        if !(1..=15).contains(&kernel) || kernel % 2 == 0 {
            return Some(("kernel", kernel, "allowed are odd numbers from 1 to 15"));
        }
        if !(1..=4).contains(&stride) {
            return Some(("stride", stride, "allowed are 1 to 4 pixels"));
        }
        if !(kernel / 2..kernel.max(2)).contains(&padding) {
            let allowed = "allowed are half the kernel (rounded down) to a pixel less than it";
            return Some(("padding", padding, allowed));
        }
        None
    }
}

impl fmt::Display for StemShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, stride, padding, maxpool } = self;
        let pool = if *maxpool { "with" } else { "without" };
        write!(f, "{kernel}x{kernel}, stride {stride}, padding {padding}, {pool} max-pool")
    }
}
