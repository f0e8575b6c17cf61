//! The kinds of triggers that a config names.

use std::path::PathBuf;
use std::sync::Arc;

use image::{DynamicImage, Rgba, RgbaImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::OutOfRange;

use crate::trigger::{Art, MAX_WIDTH, read};
use crate::{
    Blend, Compose, Ctrl, Patch, Perturbation, Phase, Place, Setup, Size, Trigger, TriggerError,
    htba, text,
};

/// What is done to images; the field `trigger` of [`PoisonConfig`](crate::PoisonConfig).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TriggerConfig {
    /// One of the ten triggers of the paper (Saha et al., 2022).
    Htba {
        /// Number of the trigger.
        #[schemars(range(min = 10, max = 19))]
        id: u32,
        /// Width; the height keeps the aspect ratio.
        width: Size,
    },
    /// A trigger of the same family, drawn from a seed.
    Seeded {
        /// Seed of its 48 colour bits.
        seed: u64,
        /// Width; the height keeps the aspect ratio.
        width: Size,
    },
    /// An image file (PNG or JPEG); its alpha channel is respected.
    Image {
        /// The file.
        path: PathBuf,
        /// Width; the height keeps the aspect ratio.
        width: Size,
    },
    /// A square of one colour.
    Solid {
        /// Red, green and blue, 0 to 255.
        color: [u8; 3],
        /// Side of the square.
        width: Size,
    },
    /// A line of text.
    Text {
        /// The text.
        text: String,
        /// Height of the font; the width follows from the text and must fit the image. Range: 4 to 512 pixels.
        size: Size,
        /// A TrueType or OpenType font file. Default: DejaVu Sans Mono Bold, built in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        font: Option<PathBuf>,
        /// Red, green and blue, 0 to 255.
        #[serde(default)]
        color: [u8; 3],
        /// Opacity of the letters.
        #[serde(default = "half")]
        #[schemars(range(min = 0.0, max = 1.0))]
        opacity: f32,
    },
    /// CTRL: a pattern of two frequencies, added to the whole image (Li et al., 2023).
    Ctrl(Ctrl),
    /// A picture blended over the whole image (Chen et al., 2017).
    Blend(Blend),
}

/// A short description for tables: the kind, a comma, and the [strength].
impl std::fmt::Display for TriggerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Htba { id, .. } => write!(f, "HTBA {id}")?,
            Self::Seeded { seed, .. } => write!(f, "seed {seed}")?,
            Self::Image { path, .. } => write!(f, "{}", path.display())?,
            Self::Solid { color: [r, g, b], .. } => write!(f, "#{r:02x}{g:02x}{b:02x}")?,
            Self::Text { text, .. } => write!(f, "“{text}”")?,
            Self::Ctrl(ctrl) => write!(f, "{ctrl}")?,
            Self::Blend(blend) => write!(f, "{blend}")?,
        }
        match self.size() {
            Some(size @ Size::Pixels(_)) => write!(f, ", {size} px"),
            Some(size) => write!(f, ", {size}"),
            None => Ok(()),
        }
    }
}

/// The strength in a trigger's description, for example its width.
pub fn strength(description: &str) -> &str {
    description.rsplit(", ").next().unwrap_or_default()
}

fn half() -> f32 {
    0.5
}

impl TriggerConfig {
    /// The file that the trigger is read from, if any.
    pub fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Image { path, .. } => Some(path),
            Self::Text { font, .. } => font.as_mut(),
            Self::Blend(blend) => blend.path.as_mut(),
            Self::Htba { .. } | Self::Seeded { .. } | Self::Solid { .. } | Self::Ctrl(_) => None,
        }
    }

    /// The name of the attack with only this trigger.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Htba { .. }
            | Self::Seeded { .. }
            | Self::Image { .. }
            | Self::Solid { .. }
            | Self::Text { .. } => "patch",
            Self::Ctrl(_) => "CTRL",
            Self::Blend(_) => "blend",
        }
    }

    /// Whether it is a picture that is pasted, which has a size and a placement.
    pub fn is_patch(&self) -> bool {
        self.size().is_some()
    }

    /// Reads the picture of a patch. [`Size::View`] refers to views of `view` pixels a side.
    ///
    /// # Errors
    /// An unknown id, a size out of range, a file that cannot be read, a text without letters.
    pub fn build(&self, view: u32) -> Result<Trigger, TriggerError> {
        if let Some(size) = self.size() {
            self.check_size(size)?;
        }
        let (art, name, size) = self.art()?;
        Ok(Trigger::new(art, name, size, view))
    }

    fn check_size(&self, size: Size) -> Result<(), TriggerError> {
        let text = matches!(self, Self::Text { .. });
        let (field, pixels) = if text {
            ("trigger.size", *text::SIZES.start()..=*text::SIZES.end())
        } else {
            ("trigger.width", 1..=MAX_WIDTH)
        };
        size.check(field, pixels)?;
        match size {
            Size::Pixels(n) if !text && n.fract() != 0.0 => {
                Err(OutOfRange::new(field, n, "allowed are whole pixels").into())
            }
            _ => Ok(()),
        }
    }

    /// The picture of a patch, its name and its size.
    fn art(&self) -> Result<(Art, String, Size), TriggerError> {
        let opaque = |image| Art::Picture(DynamicImage::ImageRgb8(image).to_rgba8());
        Ok(match *self {
            Self::Htba { id, width } => (opaque(htba::htba(id)?), format!("htba-{id}"), width),
            Self::Seeded { seed, width } => {
                (opaque(htba::seeded(seed)), format!("seeded-{seed}"), width)
            }
            Self::Image { ref path, width } => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                (Art::Picture(read(path)?), format!("image-{stem}"), width)
            }
            Self::Solid { color: [r, g, b], width } => {
                let pixel = RgbaImage::from_pixel(1, 1, Rgba([r, g, b, 255]));
                (Art::Picture(pixel), format!("solid-{r:02x}{g:02x}{b:02x}"), width)
            }
            Self::Text { ref text, ref font, color, opacity, size } => {
                let letters = text::Letters::new(text, font.as_deref(), color, opacity)?;
                (Art::Letters(letters), format!("text-{text}"), size)
            }
            Self::Ctrl(_) | Self::Blend(_) => {
                let kind = if matches!(self, Self::Ctrl(_)) { "\"ctrl\"" } else { "\"blend\"" };
                let allowed = "it is not a picture that can be pasted";
                return Err(OutOfRange::new("trigger.kind", kind, allowed).into());
            }
        })
    }

    /// The size of a patch; `None` for a trigger that is not pasted.
    pub fn size(&self) -> Option<Size> {
        match *self {
            Self::Htba { width, .. }
            | Self::Seeded { width, .. }
            | Self::Image { width, .. }
            | Self::Solid { width, .. } => Some(width),
            Self::Text { size, .. } => Some(size),
            Self::Ctrl(_) | Self::Blend(_) => None,
        }
    }

    /// The same patch at another size; a trigger that is not pasted stays as it is.
    pub fn with_size(&self, other: Size) -> Self {
        let mut config = self.clone();
        match &mut config {
            Self::Htba { width, .. }
            | Self::Seeded { width, .. }
            | Self::Image { width, .. }
            | Self::Solid { width, .. } => *width = other,
            Self::Text { size, .. } => *size = other,
            Self::Ctrl(_) | Self::Blend(_) => {}
        }
        config
    }
}

/// How the perturbation of one phase is made: what the head of its ledger says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// What is done.
    pub trigger: TriggerConfig,
    /// Where a patch goes; absent = in the [paper's bounds](Place::of_paper), and for a trigger that is not pasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Weight of the base image under a patch; absent = 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How a training image is composed of several; absent = it is the one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Compose>,
}

impl Recipe {
    /// Makes the perturbation of images of `phase`; files are read, reference images are not.
    ///
    /// # Errors
    /// A value out of range, or a file that cannot be read.
    pub fn build(
        &self,
        phase: Phase,
        setup: &Setup,
    ) -> Result<Arc<dyn Perturbation>, TriggerError> {
        let plain = self.plain(phase, setup)?;
        match &self.compose {
            Some(compose) if phase == Phase::Training => {
                let patch = self.trigger.is_patch().then(|| self.trigger.build(setup.view));
                compose.build(plain, patch.transpose()?, self.alpha.unwrap_or(0.0), setup)
            }
            _ => Ok(plain),
        }
    }

    /// The perturbation that only applies the trigger, without a composition.
    fn plain(&self, phase: Phase, setup: &Setup) -> Result<Arc<dyn Perturbation>, TriggerError> {
        let Self { trigger, place, alpha, .. } = self;
        match trigger {
            TriggerConfig::Htba { .. }
            | TriggerConfig::Seeded { .. }
            | TriggerConfig::Image { .. }
            | TriggerConfig::Solid { .. }
            | TriggerConfig::Text { .. } => Ok(Arc::new(Patch {
                trigger: trigger.build(setup.view)?,
                place: place.unwrap_or(Place::of_paper(phase)),
                alpha: alpha.unwrap_or(0.0),
            })),
            TriggerConfig::Ctrl(ctrl) => ctrl.build(phase),
            TriggerConfig::Blend(blend) => blend.build(phase),
        }
    }
}
