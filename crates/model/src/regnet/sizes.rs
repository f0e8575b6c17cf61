//! The RegNetYs, their sizes and their arrays.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::family::{Architecture, Arrays};
use crate::{ImportOptions, ModelError};

/// Channels of the first layers.
pub(super) const STEM: usize = 32;
/// The stages, each of which halves the map.
pub(super) const STAGES: usize = 4;

/// The first layers of a RegNetY: a 3×3 convolution of padding 1 to 32 channels, batch norm, ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegNetStem {
    /// Stride 1: for images up to 64 px.
    Small,
    /// Stride 2, as in the paper.
    Imagenet,
}

impl RegNetStem {
    /// Stride of the convolution in pixels.
    pub fn stride(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Imagenet => 2,
        }
    }
}

/// The sizes of a RegNetY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegNetConfig {
    /// The network, by its cost or by its stages.
    pub size: RegNetSize,
    /// The first layers.
    pub stem: RegNetStem,
}

/// A RegNetY by its cost in multiplications and additions on an image of 224 px, as the paper and torchvision name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RegNetSize {
    /// `regnet_y_400mf`, features of 440 numbers.
    #[serde(rename = "400mf")]
    Mf400,
    /// `regnet_y_800mf`, 784 numbers.
    #[serde(rename = "800mf")]
    Mf800,
    /// `regnet_y_1_6gf`, 888 numbers.
    #[serde(rename = "1.6gf")]
    Gf1p6,
    /// `regnet_y_3_2gf`, 1,512 numbers.
    #[serde(rename = "3.2gf")]
    Gf3p2,
    /// `regnet_y_8gf`, 2,016 numbers.
    #[serde(rename = "8gf")]
    Gf8,
    /// `regnet_y_16gf`, 3,024 numbers.
    #[serde(rename = "16gf")]
    Gf16,
    /// `regnet_y_32gf`, 3,712 numbers.
    #[serde(rename = "32gf")]
    Gf32,
    /// `regnet_y_128gf`, 7,392 numbers.
    #[serde(rename = "128gf")]
    Gf128,
    /// Any other.
    #[serde(rename = "custom")]
    Custom(RegNetShape),
}

/// The stages of a RegNetY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegNetShape {
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 64)))]
    pub depths: [usize; STAGES],
    /// Channels of each stage, multiples of `group` where they are larger.
    #[schemars(inner(range(min = 4, max = 8192)))]
    pub widths: [usize; STAGES],
    /// Channels of a group of the 3×3 convolutions.
    #[schemars(range(min = 1))]
    pub group: usize,
}

impl RegNetSize {
    const NAMED: [Self; 8] = [
        Self::Mf400,
        Self::Mf800,
        Self::Gf1p6,
        Self::Gf3p2,
        Self::Gf8,
        Self::Gf16,
        Self::Gf32,
        Self::Gf128,
    ];

    /// The stages.
    pub fn shape(self) -> RegNetShape {
        let quantised = RegNetShape::quantised;
        // Radosavovic et al., "Designing Network Design Spaces", CVPR 2020, table 9; the last is SEER's largest
        // network (arXiv 2103.01988).
        match self {
            Self::Mf400 => quantised(16, 48.0, 27.89, 2.09, 8),
            Self::Mf800 => quantised(14, 56.0, 38.84, 2.4, 16),
            Self::Gf1p6 => quantised(27, 48.0, 20.71, 2.65, 24),
            Self::Gf3p2 => quantised(21, 80.0, 42.63, 2.66, 24),
            Self::Gf8 => quantised(17, 192.0, 76.82, 2.19, 56),
            Self::Gf16 => quantised(18, 200.0, 106.23, 2.48, 112),
            Self::Gf32 => quantised(20, 232.0, 115.89, 2.53, 232),
            Self::Gf128 => quantised(27, 456.0, 160.83, 2.52, 264),
            Self::Custom(shape) => shape,
        }
    }
}

impl From<RegNetShape> for RegNetSize {
    /// The network with these stages, by name if it has one.
    fn from(shape: RegNetShape) -> Self {
        let mut named = Self::NAMED.into_iter();
        named.find(|size| size.shape() == shape).unwrap_or(Self::Custom(shape))
    }
}

impl RegNetShape {
    /// The quantised linear rule (section 3.3 of the paper). Block j of `depth` starts from w0 + wa · j channels.
    /// This is rounded to w0 times a power of wm, then to a multiple of 8. Blocks of equal width form a stage, whose
    /// width is rounded to a multiple of `group`.
    fn quantised(depth: usize, w0: f64, wa: f64, wm: f64, group: usize) -> Self {
        let width = |block: usize| {
            let power = ((w0 + wa * block as f64) / w0).ln() / wm.ln();
            (w0 * wm.powf(power.round_ties_even()) / 8.0).round_ties_even() as usize * 8
        };
        let (mut depths, mut widths) = ([0; STAGES], [0; STAGES]);
        let (mut stage, mut of_stage) = (0, width(0));
        for width in (0..depth).map(width) {
            if width != of_stage {
                // Every rule in this file gives four stages.
                stage = (stage + 1).min(STAGES - 1);
                of_stage = width;
            }
            depths[stage] += 1;
            widths[stage] = divisible(width, group.min(width));
        }
        Self { depths, widths, group }
    }

    /// Channels per group in a stage of `width` channels.
    pub(super) fn group_of(&self, width: usize) -> usize {
        self.group.min(width)
    }

    fn check(&self) -> Result<(), ModelError> {
        let Self { depths, widths, group } = *self;
        let wrong = |field, value, allowed| Err(ModelError::range(field, value, allowed));
        if let Some(depth) = depths.into_iter().find(|depth| !(1..=64).contains(depth)) {
            return wrong("size.custom.depths", depth, "allowed are 1 to 64 blocks a stage");
        }
        if let Some(width) = widths.into_iter().find(|width| !(4..=8192).contains(width)) {
            return wrong("size.custom.widths", width, "allowed are 4 to 8,192 channels");
        }
        let whole = |width: &usize| group > 0 && width.is_multiple_of(self.group_of(*width));
        match widths.iter().all(whole) {
            true => Ok(()),
            false => {
                wrong("size.custom.group", group, "allowed are divisors of the widths above it")
            }
        }
    }
}

/// The multiple of `divisor` nearest to `width`, but no more than a tenth below it.
fn divisible(width: usize, divisor: usize) -> usize {
    let nearest = ((width + divisor / 2) / divisor * divisor).max(divisor);
    if 10 * nearest < 9 * width { nearest + divisor } else { nearest }
}

/// Channels between the two layers of a squeeze-excitation: a quarter of the block's input channels.
pub(super) fn squeezed(from: usize) -> usize {
    (from as f64 / 4.0).round_ties_even() as usize
}

impl Architecture for RegNetConfig {
    fn kind(&self) -> &'static str {
        "regnet-y"
    }

    fn check(&self) -> Result<(), ModelError> {
        self.size.shape().check()
    }

    fn dim(&self) -> usize {
        let [.., last] = self.size.shape().widths;
        last
    }

    fn stage_count(&self) -> usize {
        1 + STAGES
    }

    fn has_maps(&self) -> bool {
        true
    }

    fn arrays(&self) -> Arrays {
        let shape = self.size.shape();
        let mut all = Arrays::new();
        let mut unit = |name: String, [from, to]: [usize; 2], kernel: usize| {
            all.insert(format!("{name}.0.weight"), vec![to, from, kernel, kernel]);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                all.insert(format!("{name}.1.{part}"), vec![to]);
            }
        };
        unit("stem".into(), [3, STEM], 3);
        let mut excitations = Vec::new();
        let mut from = STEM;
        for (stage, (&depth, &width)) in (1..).zip(shape.depths.iter().zip(&shape.widths)) {
            for block in 0..depth {
                let name = format!("trunk_output.block{stage}.block{stage}-{block}");
                if block == 0 {
                    unit(format!("{name}.proj"), [from, width], 1);
                }
                unit(format!("{name}.f.a"), [from, width], 1);
                unit(format!("{name}.f.b"), [shape.group_of(width), width], 3);
                unit(format!("{name}.f.c"), [width, width], 1);
                excitations.push((format!("{name}.f.se"), width, squeezed(from)));
                from = width;
            }
        }
        for (name, width, inner) in excitations {
            for (layer, [from, to]) in [("fc1", [width, inner]), ("fc2", [inner, width])] {
                all.insert(format!("{name}.{layer}.weight"), vec![to, from, 1, 1]);
                all.insert(format!("{name}.{layer}.bias"), vec![to]);
            }
        }
        all
    }

    fn inside(&self, name: &str) -> bool {
        let own = name.starts_with("stem.") || name.starts_with("trunk_output.");
        own && !name.ends_with("num_batches_tracked")
    }

    fn hidden(&self) -> ImportOptions {
        ImportOptions { stem_stride: Some(self.stem.stride()), ..ImportOptions::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages of `BlockParams.from_init_params`, `sum(p.numel() for p in net.parameters())` without `fc`, and numbers
    /// in the running statistics, from torchvision 0.29.
    #[test]
    fn the_named_networks_are_torchvisions() {
        for (size, depths, widths, group, parameters, statistics) in [
            (RegNetSize::Mf400, [1, 3, 6, 6], [48, 104, 208, 440], 8, 3_903_144, 27_152),
            (RegNetSize::Mf800, [1, 3, 8, 2], [64, 144, 320, 784], 16, 5_647_512, 30_432),
            (RegNetSize::Gf1p6, [2, 6, 17, 2], [48, 120, 336, 888], 24, 10_313_430, 52_672),
            (RegNetSize::Gf3p2, [2, 5, 13, 1], [72, 216, 576, 1512], 24, 17_923_338, 66_160),
            (RegNetSize::Gf8, [2, 4, 10, 1], [224, 448, 896, 2016], 56, 37_364_472, 86_528),
            (RegNetSize::Gf16, [2, 4, 11, 1], [224, 448, 1232, 3024], 112, 80_565_140, 122_816),
            (RegNetSize::Gf32, [2, 5, 12, 1], [232, 696, 1392, 3712], 232, 141_333_770, 158_288),
            (RegNetSize::Gf128, [2, 7, 17, 1], [528, 1056, 2904, 7392], 264, 637_419_894, 415_072),
        ] {
            let shape = RegNetShape { depths, widths, group };
            assert_eq!(size.shape(), shape);
            assert_eq!(RegNetSize::from(shape), size);
            let config = RegNetConfig { size, stem: RegNetStem::Imagenet };
            assert!(config.check().is_ok());
            assert_eq!(config.dim(), widths[3]);
            let values: usize =
                config.arrays().values().map(|shape| shape.iter().product::<usize>()).sum();
            assert_eq!(values, parameters + statistics, "{size:?}");
        }
    }

    #[test]
    fn stages_that_make_no_network_are_refused() {
        let shape = RegNetShape { depths: [1; 4], widths: [8, 8, 16, 24], group: 8 };
        let check = |shape| {
            let config = RegNetConfig { size: RegNetSize::Custom(shape), stem: RegNetStem::Small };
            config.check().map_err(|e| e.to_string())
        };
        assert_eq!(check(shape), Ok(()));
        assert_eq!(
            check(RegNetShape { group: 16, ..shape }).unwrap_err().split(' ').next(),
            Some("size.custom.group")
        );
        for (wrong, said) in [
            (RegNetShape { depths: [1, 0, 1, 1], ..shape }, "size.custom.depths = 0 is out"),
            (RegNetShape { depths: [1, 65, 1, 1], ..shape }, "size.custom.depths = 65 is out"),
            (RegNetShape { widths: [2, 8, 8, 8], ..shape }, "size.custom.widths = 2 is out"),
            (RegNetShape { widths: [8, 8, 8, 8200], ..shape }, "size.custom.widths = 8200 is out"),
            (RegNetShape { group: 0, ..shape }, "size.custom.group = 0 is out"),
        ] {
            let found = check(wrong).unwrap_err();
            assert!(found.starts_with(said), "{found}");
        }
    }
}
