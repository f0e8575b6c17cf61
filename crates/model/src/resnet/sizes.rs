//! The ResNets, their sizes and their arrays.

use super::block::Blocks;
use super::stem::Stem;
use crate::family::{Architecture, Arrays};
use crate::{ImportOptions, ModelError};

/// The sizes of a ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResNetSizes {
    pub depth: Depth,
    /// Inner channels of the first stage; 64 is the standard network.
    pub width: usize,
    pub stem: Stem,
}

/// Number of layers of a ResNet (He et al., 2016, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    D18,
    D34,
    D50,
    D101,
    D152,
}

impl Depth {
    pub(super) const ALL: [Self; 5] = [Self::D18, Self::D34, Self::D50, Self::D101, Self::D152];

    /// Blocks in each stage.
    pub(super) fn counts(self) -> [usize; 4] {
        match self {
            Self::D18 => [2, 2, 2, 2],
            Self::D34 | Self::D50 => [3, 4, 6, 3],
            Self::D101 => [3, 4, 23, 3],
            Self::D152 => [3, 8, 36, 3],
        }
    }

    pub(super) fn blocks(self) -> Blocks {
        match self {
            Self::D18 | Self::D34 => Blocks::Basic,
            Self::D50 | Self::D101 | Self::D152 => Blocks::Bottleneck,
        }
    }
}

impl Architecture for ResNetSizes {
    fn kind(&self) -> &'static str {
        match self.depth {
            Depth::D18 => "resnet18",
            Depth::D34 => "resnet34",
            Depth::D50 => "resnet50",
            Depth::D101 => "resnet101",
            Depth::D152 => "resnet152",
        }
    }

    fn check(&self) -> Result<(), ModelError> {
        if !(1..=512).contains(&self.width) {
            let allowed = "allowed are 1 to 512 channels";
            return Err(ModelError::range("width", self.width, allowed));
        }
        match self.stem.shape().wrong() {
            None => Ok(()),
            Some((part, value, allowed)) => {
                let field = match part {
                    "kernel" => "stem.custom.kernel",
                    "stride" => "stem.custom.stride",
                    _ => "stem.custom.padding",
                };
                Err(ModelError::range(field, value, allowed))
            }
        }
    }

    fn dim(&self) -> usize {
        8 * self.width * self.depth.blocks().expansion()
    }

    fn stage_count(&self) -> usize {
        5
    }

    fn has_maps(&self) -> bool {
        true
    }

    fn arrays(&self) -> Arrays {
        let Self { depth, width, stem } = *self;
        let (blocks, counts) = (depth.blocks(), depth.counts());
        let mut all = Arrays::new();
        let mut unit = |conv: String, norm: String, [from, to]: [usize; 2], kernel: usize| {
            all.insert(format!("{conv}.weight"), vec![to, from, kernel, kernel]);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                all.insert(format!("{norm}.{part}"), vec![to]);
            }
        };
        unit("conv1".into(), "bn1".into(), [3, width], stem.shape().kernel);
        let mut from = width;
        for (stage, &count) in counts.iter().enumerate() {
            let inner = width << stage;
            let to = inner * blocks.expansion();
            for block in 0..count {
                let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
                let layers = match blocks {
                    Blocks::Basic => vec![([from, inner], 3), ([inner, to], 3)],
                    Blocks::Bottleneck => {
                        vec![([from, inner], 1), ([inner, inner], 3), ([inner, to], 1)]
                    }
                };
                for (i, (channels, kernel)) in (1..).zip(layers) {
                    unit(name(&format!("conv{i}")), name(&format!("bn{i}")), channels, kernel);
                }
                if from != to || (stage > 0 && block == 0) {
                    unit(name("downsample.0"), name("downsample.1"), [from, to], 1);
                }
                from = to;
            }
        }
        all
    }

    fn hidden(&self) -> ImportOptions {
        let shape = self.stem.shape();
        ImportOptions {
            stem_padding: Some(shape.padding),
            stem_stride: Some(shape.stride),
            max_pool: Some(shape.maxpool),
            ..ImportOptions::default()
        }
    }
}
