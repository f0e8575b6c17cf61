//! The registry of encoder families. A family is a line in `families!`, its kinds in [`EncoderConfig`], and the
//! conversions between the two; everything else about it is in its own module.

use std::borrow::Cow;

use burn::module::Module;
use burn::store::{SafetensorsStore, SafetensorsStoreError};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conv4::{Conv4, Conv4Config};
use crate::family::{Architecture, Arrays, Computed, Detected, Family, Network};
use crate::found::{Found, Naming, Place};
use crate::regnet::{RegNet, RegNetConfig};
use crate::resnet::{Depth, ResNet, ResNetSizes, Stem};
use crate::vit::{Positions, Vit, VitInitial, VitSizes};
use crate::{Finding, ImportOptions, ModelError};

/// A network by its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EncoderConfig {
    /// ResNet-18: 2, 2, 2, 2 basic blocks in stages of 1, 2, 4, 8 × `width` channels.
    Resnet18 {
        /// Inner channels of the first stage; 64 is the standard network.
        #[schemars(range(min = 1, max = 512))]
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-34: 3, 4, 6, 3 basic blocks.
    Resnet34 {
        /// Inner channels of the first stage; 64 is the standard network.
        #[schemars(range(min = 1, max = 512))]
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-50: 3, 4, 6, 3 bottlenecks in stages of 4, 8, 16, 32 × `width` channels.
    Resnet50 {
        /// Inner channels of the first stage; 64 is the standard network.
        #[schemars(range(min = 1, max = 512))]
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-101: 3, 4, 23, 3 bottlenecks.
    Resnet101 {
        /// Inner channels of the first stage; 64 is the standard network.
        #[schemars(range(min = 1, max = 512))]
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-152: 3, 8, 36, 3 bottlenecks.
    Resnet152 {
        /// Inner channels of the first stage; 64 is the standard network.
        #[schemars(range(min = 1, max = 512))]
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// A vision transformer with a class token.
    Vit {
        /// Length of a token, a multiple of 4. ViT-Ti has 192, ViT-S 384, ViT-B 768.
        #[schemars(range(min = 4, max = 8192))]
        dim: usize,
        /// Number of blocks. ViT-Ti, ViT-S and ViT-B have 12.
        #[schemars(range(min = 1, max = 128))]
        depth: usize,
        /// Attention heads, a divisor of `dim`. ViT-Ti has 3, ViT-S 6 (in MoCo v3 12), ViT-B 12.
        #[schemars(range(min = 1))]
        heads: usize,
        /// Side of a patch in pixels, a divisor of the side of the views; 16 at 224 px, 4 at 32 px.
        #[schemars(range(min = 1, max = 256))]
        patch: usize,
        /// Position embedding. Default: `"fixed"`.
        #[serde(default, skip_serializing_if = "Positions::is_fixed")]
        positions: Positions,
    },
    /// Four convolutions, as in few-shot learning.
    Conv4(Conv4Config),
    /// A RegNetY, the encoder of SEER.
    RegnetY(RegNetConfig),
}

/// `NETWORK from SIZES` for each family: the type of its networks, and the sizes they are built from.
macro_rules! families {
    ($($(#[$about:meta])+ $network:ident from $sizes:ident;)+) => {
        /// The sizes of a network of any family.
        enum Sizes {
            $($network($sizes),)+
        }

        impl Sizes {
            fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$network(sizes) => sizes,)+
                }
            }

            fn init(&self, rng: &mut impl Rng, device: &Device) -> Encoder {
                match self {
                    $(Self::$network(sizes) => Encoder::$network(sizes.init(rng, device)),)+
                }
            }
        }

        /// A network that maps images to features.
        #[derive(Module, Debug)]
        pub enum Encoder {
            $($(#[$about])+ $network($network),)+
        }

        impl Encoder {
            fn network(&self) -> &dyn Network {
                match self {
                    $(Self::$network(network) => network,)+
                }
            }

            fn network_mut(&mut self) -> &mut dyn Network {
                match self {
                    $(Self::$network(network) => network,)+
                }
            }

            fn noun(&self) -> &'static str {
                match self {
                    $(Self::$network(_) => <$sizes as Family>::NOUN,)+
                }
            }
        }

        $(
            impl From<$network> for Encoder {
                fn from(network: $network) -> Self {
                    Self::$network(network)
                }
            }

            impl TryFrom<Encoder> for $network {
                type Error = ModelError;

                /// # Errors
                /// [`ModelError::Family`] if the encoder is of another family.
                fn try_from(encoder: Encoder) -> Result<Self, ModelError> {
                    let found = encoder.noun();
                    match encoder {
                        Encoder::$network(network) => Ok(network),
                        _ => Err(ModelError::Family { needed: <$sizes as Family>::NOUN, found }),
                    }
                }
            }
        )+

        /// How to find each family in checkpoints.
        pub(crate) static FAMILIES: &[Row] = &[
            $(Row {
                noun: <$sizes as Family>::NOUN,
                anchor: <$sizes as Family>::ANCHOR,
                options: <$sizes as Family>::OPTIONS,
                find: <$sizes as Family>::find,
                common: <$sizes as Family>::common,
                read: |found| {
                    let detected = <$sizes as Family>::read(found)?;
                    Ok(detected.map(|sizes| Sizes::$network(sizes).into()))
                },
                near_miss: <$sizes as Family>::near_miss,
            },)+
        ];
    };
}

families! {
    /// A residual network; its feature is the average-pooled last map.
    ResNet from ResNetSizes;
    /// A vision transformer; its feature is the class token.
    Vit from VitSizes;
    /// Four convolutions; its feature is the average of the last map.
    Conv4 from Conv4Config;
    /// A RegNetY; its feature is the average-pooled last map.
    RegNet from RegNetConfig;
}

impl From<EncoderConfig> for Sizes {
    fn from(config: EncoderConfig) -> Self {
        use EncoderConfig::{Resnet18, Resnet34, Resnet50, Resnet101, Resnet152, Vit};
        let resnet = |depth, width, stem| Self::ResNet(ResNetSizes { depth, width, stem });
        match config {
            Resnet18 { width, stem } => resnet(Depth::D18, width, stem),
            Resnet34 { width, stem } => resnet(Depth::D34, width, stem),
            Resnet50 { width, stem } => resnet(Depth::D50, width, stem),
            Resnet101 { width, stem } => resnet(Depth::D101, width, stem),
            Resnet152 { width, stem } => resnet(Depth::D152, width, stem),
            Vit { dim, depth, heads, patch, positions } => {
                Self::Vit(VitSizes { dim, depth, heads, patch, positions })
            }
            EncoderConfig::Conv4(sizes) => Self::Conv4(sizes),
            EncoderConfig::RegnetY(sizes) => Self::RegNet(sizes),
        }
    }
}

impl From<Sizes> for EncoderConfig {
    fn from(sizes: Sizes) -> Self {
        match sizes {
            Sizes::ResNet(ResNetSizes { depth, width, stem }) => match depth {
                Depth::D18 => Self::Resnet18 { width, stem },
                Depth::D34 => Self::Resnet34 { width, stem },
                Depth::D50 => Self::Resnet50 { width, stem },
                Depth::D101 => Self::Resnet101 { width, stem },
                Depth::D152 => Self::Resnet152 { width, stem },
            },
            Sizes::Vit(VitSizes { dim, depth, heads, patch, positions }) => {
                Self::Vit { dim, depth, heads, patch, positions }
            }
            Sizes::Conv4(sizes) => Self::Conv4(sizes),
            Sizes::RegNet(sizes) => Self::RegnetY(sizes),
        }
    }
}

/// How to find a family in checkpoints: the items of [`Family`] for the import.
pub(crate) struct Row {
    pub noun: &'static str,
    pub anchor: &'static str,
    pub options: &'static [&'static str],
    pub find: fn(&str, &Arrays) -> Option<Place>,
    pub common: for<'n> fn(Naming, &'n str) -> Cow<'n, str>,
    pub read: fn(&Found<'_>) -> Result<Detected<EncoderConfig>, ModelError>,
    pub near_miss: fn(&Arrays) -> Option<String>,
}

impl EncoderConfig {
    /// Its `kind` in a config.
    pub fn kind(&self) -> &'static str {
        Sizes::from(*self).architecture().kind()
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`ModelError::Range`] for a size that is out of range or does not fit the others.
    pub fn check(&self) -> Result<(), ModelError> {
        Sizes::from(*self).architecture().check()
    }

    /// Checks that images of `size` pixels a side fit the encoder.
    ///
    /// # Errors
    /// [`ModelError::Range`], for example for a patch that does not divide `size`.
    pub fn check_size(&self, size: u32) -> Result<(), ModelError> {
        Sizes::from(*self).architecture().check_size(size)
    }

    /// Length of a feature.
    pub fn dim(&self) -> usize {
        Sizes::from(*self).architecture().dim()
    }

    /// Number of stages that [`Encoder::stages`] returns.
    pub fn stage_count(&self) -> usize {
        Sizes::from(*self).architecture().stage_count()
    }

    /// Whether [`Encoder::maps`] returns maps.
    pub fn has_maps(&self) -> bool {
        Sizes::from(*self).architecture().has_maps()
    }

    /// Side of a patch in pixels, for an encoder that makes a token of each patch.
    pub fn patch(&self) -> Option<usize> {
        Sizes::from(*self).architecture().patch()
    }

    /// The fields of [`ImportOptions`] that override `finding` on import of such an encoder.
    pub fn overriding(&self, finding: &Finding) -> Vec<&'static str> {
        // A family has an option for each property that its arrays do not show.
        let all = self.hidden().of_network().into_iter();
        let of = all.filter(|option| option.finding == finding.of && option.value.is_some());
        of.map(|option| option.name).collect()
    }

    /// Draws initial weights.
    pub fn init(&self, rng: &mut impl Rng, device: &Device) -> Encoder {
        Sizes::from(*self).init(rng, device)
    }

    /// Draws initial weights; for a transformer, those of `vit` instead of MAE's.
    pub fn init_as(&self, vit: Option<VitInitial>, rng: &mut impl Rng, device: &Device) -> Encoder {
        match (self.init(rng, device), vit) {
            (Encoder::Vit(network), Some(how)) => network.redrawn(how, rng, device).into(),
            (other, _) => other,
        }
    }

    /// The arrays in its file.
    pub(crate) fn arrays(&self) -> Arrays {
        Sizes::from(*self).architecture().arrays()
    }

    /// Whether an array of this name belongs to the network rather than lies beside it.
    pub(crate) fn inside(&self, name: &str) -> bool {
        Sizes::from(*self).architecture().inside(name)
    }

    /// An array that this network computes but other tools store.
    pub(crate) fn computed(&self) -> Option<Computed> {
        Sizes::from(*self).architecture().computed()
    }

    /// Properties that the arrays do not show, as import options.
    pub(crate) fn hidden(&self) -> ImportOptions {
        Sizes::from(*self).architecture().hidden()
    }
}

impl Encoder {
    /// Features of normalised images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, dim]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.network().forward(images)
    }

    /// The features of [`forward`](Self::forward), with the last spatial map passed through `map`. For a ResNet,
    /// RegNet or Conv-4 this is the map that is averaged; for a transformer, the patch tokens (without the class
    /// token) after the first norm of the last block. The network continues with the map that `map` returns.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - `map`: `[batch, rows, columns, channels]`, input and output
    /// - output: `[batch, dim]`
    pub fn forward_through_map(
        &self,
        images: Tensor<4>,
        mut map: impl FnMut(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<2> {
        self.network().through(images, &mut map)
    }

    /// Features after each stage: for a ResNet or RegNet the averages after the first layers and each of four stages;
    /// for a transformer the class token after each block. The last equal those of [`forward`](Self::forward).
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, channels of the stage]` each
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        self.network().stages(images)
    }

    /// The five maps that the reference probes, if the encoder has them.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, channels, height, width]` each
    pub fn maps(&self, images: Tensor<4>) -> Option<[Tensor<4>; 5]> {
        self.network().maps(images)
    }

    /// Writes the arrays of the network under their names in files, without the family as a prefix.
    pub(crate) fn collect_into(
        &self,
        store: SafetensorsStore,
    ) -> Result<(), SafetensorsStoreError> {
        let network = self.network();
        network.collect_into(match network.names() {
            None => store,
            Some(names) => store.with_key_remapping(names.to_file[0], names.to_file[1]),
        })
    }

    /// Loads the arrays of a file with these names.
    pub(crate) fn apply_from(
        &mut self,
        store: SafetensorsStore,
    ) -> Result<(), SafetensorsStoreError> {
        let network = self.network_mut();
        let store = match network.names() {
            None => store,
            Some(names) => store.with_key_remapping(names.from_file[0], names.from_file[1]),
        };
        network.apply_from(store)
    }
}
