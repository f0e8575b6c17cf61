//! Options for importing a checkpoint.

use crate::{Interpolation, ModelError};

/// Properties of a checkpoint that the file itself does not contain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// Prefix of the names of the encoder's arrays, such as `module.encoder_q`; absent = detected. The last dot,
    /// parts called `module` and outer tables such as `state_dict` may be omitted.
    pub prefix: Option<String>,
    /// Attention heads of a transformer; absent = as its tool builds it, else one for each 64 numbers of a token.
    pub heads: Option<usize>,
    /// Padding of a ResNet's first convolution; absent = as its tool builds it, else half the kernel.
    pub stem_padding: Option<usize>,
    /// Stride of the first convolution; absent = 2 for a ResNet's 7×7 kernel, 1 for its 3×3 kernel, 2 for a RegNet.
    pub stem_stride: Option<usize>,
    /// Whether a max-pool follows a ResNet's first convolution; absent = as the file shows, else after a 7×7 kernel.
    pub max_pool: Option<bool>,
    /// Side of the images in pixels; absent = 224 for a ResNet with a 7×7 stem and a RegNet with a stem of stride 2,
    /// and the size that stored positions are for.
    pub size: Option<u32>,
    /// Mean and standard deviation per channel; absent = ImageNet's.
    pub mean_std: Option<[[f32; 3]; 2]>,
    /// How evaluation images are resized; absent = bilinear.
    pub interpolation: Option<Interpolation>,
}

/// An option about the network itself, not about its images.
pub(crate) struct NetworkOption {
    /// The field of [`ImportOptions`].
    pub name: &'static str,
    /// The finding that it overrides.
    pub finding: &'static str,
    /// Its subject, in words.
    pub about: &'static str,
    /// Its value, if it is given.
    pub value: Option<String>,
}

impl ImportOptions {
    /// The options about the network itself.
    pub(crate) fn of_network(&self) -> [NetworkOption; 4] {
        let Self { heads, stem_padding, stem_stride, max_pool, .. } = self;
        let stem = |name, value| NetworkOption { name, finding: "stem", about: "stem", value };
        let number = |value: &Option<usize>| value.map(|value| value.to_string());
        let about = "attention heads";
        [
            NetworkOption { name: "heads", finding: "heads", about, value: number(heads) },
            stem("stem_padding", number(stem_padding)),
            stem("stem_stride", number(stem_stride)),
            stem("max_pool", max_pool.map(|value| value.to_string())),
        ]
    }

    /// These options; `others` fill in those about the network that are not set.
    pub(crate) fn or(&self, others: &Self) -> Self {
        Self {
            heads: self.heads.or(others.heads),
            stem_padding: self.stem_padding.or(others.stem_padding),
            stem_stride: self.stem_stride.or(others.stem_stride),
            max_pool: self.max_pool.or(others.max_pool),
            ..self.clone()
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`ModelError::Option`] with the field.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let wrong = |field, value: &dyn ToString, allowed| {
            Err(ModelError::option(field, value.to_string(), allowed))
        };
        if let Some(size) = self.size
            && !(8..=1024).contains(&size)
        {
            return wrong("size", &size, "allowed are 8 to 1024 pixels");
        }
        for value in self.mean_std.iter().flat_map(|[mean, _]| mean) {
            if !(0.0..=1.0).contains(value) {
                let allowed = "allowed are means of pixel values from 0 to 1 (divide those of 0 to 255 by 255)";
                return wrong("mean", value, allowed);
            }
        }
        for value in self.mean_std.iter().flat_map(|[_, std]| std) {
            if !(*value > 0.0 && *value <= 1.0) {
                let allowed = "allowed are deviations of pixel values from 0 to 1, above 0 (divide those of 0 to 255 by 255)";
                return wrong("std", value, allowed);
            }
        }
        Ok(())
    }
}
