//! CorruptEncoder (Zhang et al., *Data Poisoning based Backdoor Attacks to Contrastive Learning*, CVPR 2024). The
//! object of a reference image, cut out by its mask, and the trigger go into the two halves of a background, so that
//! of two random crops, one shows the object and the other the trigger.
//!
//! The authors' code makes a poisoned image as follows; o is the object, p the result and b the background.
//!
//! 1. A reference is drawn, and the box of its mask is cut out. A box wider than 400 pixels is shrunk to 400.
//! 2. The result has p_h = o_h and p_w = 2·o_w. The background, here the image that is replaced, is enlarged by
//!    max(p_h / b_h, p_w / b_w, 1). Its lowest p_h rows are used, starting at a random column.
//! 3. The object is on the left (probability 1/2) at x ~ U(0, 0.05·p_w), or at the mirrored position on the right.
//!    It is composited through its mask, which is blurred with a Gaussian of σ = 1 pixel.
//! 4. The trigger is in the free half: x ~ U(object's edge + p_w / 8, p_w − p_w / 8 − t_w), or the mirrored position,
//!    and y ~ U(p_h / 4, p_h − p_h / 4 − t_h).
//!
//! CorruptEncoder+ makes a share of the images *support* images: a reference beside another image of the target
//! class, in random order, at the size of the latter, without a trigger.
//!
//! Differences from that code: the blur is exact, not PIL's three box filters; the box contains the whole mask, not
//! only its largest part; each image becomes a support image at random, so their number varies; and images are
//! replaced, not added.

use std::fmt;
use std::sync::Arc;

use image::{GenericImage, GrayImage, Rgb, RgbImage, imageops};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::require;
use ssl_backdoor_images::Filter;
use ssl_backdoor_rng::ChaCha8Rng;

use crate::sampled::{Sampled, chance};
use crate::{
    Footprint, Key, Perturbation, Phase, Record, References, Spot, Trigger, TriggerError, resize,
    stamp,
};

/// Largest width of an object, in pixels.
const WIDEST: u32 = 400;
/// Largest distance of the object from the left or right edge, as a share of the result's width.
const OBJECT_MARGIN: f64 = 0.05;
/// Margin from the trigger to object and edges, as a share of the result's height; half that share of its width.
const TRIGGER_MARGIN: f64 = 0.25;
/// Mask level from which a pixel belongs to the object.
const INSIDE: u8 = 128;
/// Radius of the blur kernel, in pixels.
const RADIUS: i64 = 3;

/// The table of the composition `corrupt-encoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorruptEncoder {
    /// Number of reference images, a seeded sample of the target class. The paper uses 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1))]
    pub references: usize,
    /// Share of the poisoned images that are support images. CorruptEncoder+ uses 0.2.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub support: f64,
    /// Number of other images of the target class that may stand next to a reference in a support image.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    pub supports: usize,
}

fn three() -> usize {
    3
}

fn five() -> usize {
    5
}

impl Default for CorruptEncoder {
    fn default() -> Self {
        Self { references: three(), support: 0.0, supports: five() }
    }
}

impl fmt::Display for CorruptEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.support > 0.0 { "CorruptEncoder+" } else { "CorruptEncoder" })
    }
}

impl CorruptEncoder {
    pub(crate) fn check(&self) -> Result<(), TriggerError> {
        let Self { references, support, supports } = *self;
        require(references > 0, "compose.references", references, "allowed is 1 or more")?;
        let share = (0.0..=1.0).contains(&support);
        require(share, "compose.support", support, "allowed are 0 to 1 (of the poisoned images)")?;
        Ok(require(supports > 0, "compose.supports", supports, "allowed is 1 or more")?)
    }

    /// The perturbation that pastes `trigger`, under which the image has the weight `alpha`.
    pub(crate) fn build(
        &self,
        trigger: Trigger,
        alpha: f64,
        references: Arc<dyn References>,
    ) -> Arc<dyn Perturbation> {
        let name = format!("corrupt-encoder-{}", trigger.name);
        let references = Sampled::new(references, Some(self.references));
        Arc::new(Composed { name, trigger, alpha, references, config: self.clone() })
    }
}

/// Object and trigger on a background. It writes the ledger columns `layout` (the side of the object, `left` or
/// `right`; in support images that of the reference, `support-left` or `support-right`), `reference` and `support`
/// (ids of the images), `crop_x` and `object_x` (left edges of the background and of the object), and `x`, `y`,
/// `width` and `alpha` of the trigger. Columns that do not apply to an image are empty.
#[derive(Debug)]
struct Composed {
    name: String,
    trigger: Trigger,
    alpha: f64,
    references: Sampled,
    config: CorruptEncoder,
}

/// An object and its mask, both cut out.
struct Object {
    image: RgbImage,
    mask: GrayImage,
}

impl Object {
    /// The object of the image `id`.
    fn of(references: &dyn References, id: u64) -> Result<Self, TriggerError> {
        let (image, mask) = (references.get(id)?, references.mask(id)?);
        let wrong = |reason: &str| TriggerError::Reference { id, reason: reason.into() };
        if image.dimensions() != mask.dimensions() {
            return Err(wrong("its mask has another size"));
        }
        let inside = mask.enumerate_pixels().filter(|(_, _, level)| level[0] >= INSIDE);
        let bounds = inside.fold(None, |bounds, (x, y, _)| {
            let (left, top, right, bottom) = bounds.unwrap_or((x, y, x, y));
            Some((left.min(x), top.min(y), right.max(x), bottom.max(y)))
        });
        let (left, top, right, bottom) = bounds.ok_or_else(|| wrong("its mask is empty"))?;
        let (width, height) = (right - left + 1, bottom - top + 1);
        let size = shrunk((width, height));
        let image = imageops::crop_imm(&image, left, top, width, height).to_image();
        let mut mask = imageops::crop_imm(&mask, left, top, width, height).to_image();
        mask.pixels_mut().for_each(|level| level[0] = if level[0] >= INSIDE { 255 } else { 0 });
        Ok(Self {
            image: resize::image(&image, size, Filter::Bicubic),
            mask: resize::mask(&mask, size),
        })
    }

    /// Width and height of the composed image.
    fn canvas(&self) -> (u32, u32) {
        (2 * self.image.width(), self.image.height())
    }
}

/// The size, shrunk to a width of at most [`WIDEST`].
fn shrunk((width, height): (u32, u32)) -> (u32, u32) {
    let to = width.min(WIDEST);
    let height = f64::from(to) / f64::from(width.max(1)) * f64::from(height);
    (to, (height as u32).max(1))
}

/// The size to which a background of `size` pixels is enlarged so that it covers `canvas`.
fn enlarged(size: (u32, u32), canvas: (u32, u32)) -> (u32, u32) {
    let (width, height) = (f64::from(size.0.max(1)), f64::from(size.1.max(1)));
    let factor = (f64::from(canvas.1) / height).max(f64::from(canvas.0) / width).max(1.0);
    let to = (factor * height) as u32;
    // Truncation to whole pixels must not make it smaller than the canvas.
    let wide = (f64::from(to) / height * width) as u32;
    (wide.max(canvas.0), to.max(canvas.1))
}

/// A draw from U(`from`, `to`), truncated to a whole number, at least 0. The bounds may be in either order.
fn uniform(rng: &mut ChaCha8Rng, from: f64, to: f64) -> u32 {
    let share: f64 = rng.random_range(0.0..1.0);
    (from + share * (to - from)) as u32
}

impl Composed {
    /// The id of the support image: one of the first images of the target class that are not references.
    fn support(&self, seed: u64, rng: &mut ChaCha8Rng) -> Result<u64, TriggerError> {
        let (ids, references) = (self.references.ranked(seed), self.references.size()?);
        let others = &ids[references..];
        match others.len().min(self.config.supports) {
            0 => {
                let reason =
                    "the target class has no image beside the references for a support image";
                Err(TriggerError::Image { image: "an image".into(), reason: reason.into() })
            }
            count => Ok(others[rng.random_range(0..count)]),
        }
    }

    /// Draws the positions of background, object and trigger.
    fn arrange(
        &self,
        rng: &mut ChaCha8Rng,
        object: &Object,
        background: (u32, u32),
    ) -> Arrangement {
        let (width, height) = object.canvas();
        let (p_w, p_h) = (f64::from(width), f64::from(height));
        let o_w = f64::from(object.image.width());
        let room = enlarged(background, (width, height)).0 - width;
        let crop_x = uniform(rng, 0.0, room.into());
        let left = rng.random_bool(0.5);
        let slack = OBJECT_MARGIN * p_w;
        let (from, to) = if left { (0.0, slack) } else { (p_w - o_w - slack, p_w - o_w) };
        let object_x = uniform(rng, from, to);
        let trigger = self.trigger.picture((width, height)).dimensions();
        let (t_w, t_h) = (f64::from(trigger.0), f64::from(trigger.1));
        let margin = TRIGGER_MARGIN / 2.0 * p_w;
        let (from, to) = if left {
            (f64::from(object_x) + o_w + margin, p_w - margin - t_w)
        } else {
            (margin, f64::from(object_x) - margin - t_w)
        };
        let x = uniform(rng, from, to).min(width.saturating_sub(trigger.0));
        let margin = TRIGGER_MARGIN * p_h;
        let y = uniform(rng, margin, p_h - margin - t_h).min(height.saturating_sub(trigger.1));
        Arrangement { left, crop_x, object_x, x, y, width: trigger.0 }
    }

    /// The image with object and trigger, on `background`.
    fn composed(
        &self,
        record: &Record,
        background: &RgbImage,
    ) -> Result<(RgbImage, Footprint), TriggerError> {
        let object = Object::of(&*self.references.images, record.id("reference")?)?;
        let (width, height) = object.canvas();
        let size = enlarged(background.dimensions(), (width, height));
        let background = resize::image(background, size, Filter::Bicubic);
        let crop_x = record.whole("crop_x")?.min(size.0 - width);
        let mut image =
            imageops::crop_imm(&background, crop_x, size.1 - height, width, height).to_image();
        composite(&mut image, &object, record.whole("object_x")?);
        let picture = self.trigger.picture((width, height));
        let (x, y) = (record.whole("x")?, record.whole("y")?);
        let spot = Spot { x, y, width: picture.width(), height: picture.height() };
        stamp(&mut image, &picture, spot, record.real("alpha")?);
        Ok((image, Footprint::Boxes(vec![spot])))
    }

    /// A reference beside the support image, at the size of the latter.
    fn supporting(&self, record: &Record, reference_left: bool) -> Result<RgbImage, TriggerError> {
        let images = &self.references.images;
        let support = images.get(record.id("support")?)?;
        let size @ (width, height) = shrunk(support.dimensions());
        let support = resize::image(&support, size, Filter::Bicubic);
        let reference = images.get(record.id("reference")?)?;
        let reference = resize::image(&reference, size, Filter::Bicubic);
        let halves = if reference_left { [&reference, &support] } else { [&support, &reference] };
        let mut image = RgbImage::new(2 * width, height);
        for (half, x) in halves.into_iter().zip([0, width]) {
            let wrong = |reason: String| TriggerError::Image { image: "an image".into(), reason };
            image.copy_from(half, x, 0).map_err(|e| wrong(e.to_string()))?;
        }
        Ok(image)
    }
}

/// The positions of the parts of an image.
struct Arrangement {
    left: bool,
    crop_x: u32,
    object_x: u32,
    x: u32,
    y: u32,
    width: u32,
}

/// Composites `object` onto `image`, of the same height, `left` pixels from its edge, through its blurred mask.
fn composite(image: &mut RgbImage, object: &Object, left: u32) {
    let (width, height) = image.dimensions();
    let (mut mask, mut front) = (GrayImage::new(width, height), RgbImage::new(width, height));
    for (x, y, pixel) in object.image.enumerate_pixels() {
        if let Some(to) = front.get_pixel_mut_checked(left + x, y) {
            *to = *pixel;
            mask.put_pixel(left + x, y, *object.mask.get_pixel(x, y));
        }
    }
    let weights = blurred(&mask);
    for ((back, Rgb(front)), weight) in image.pixels_mut().zip(front.pixels()).zip(weights) {
        for (back, front) in back.0.iter_mut().zip(front) {
            let mixed = weight * f64::from(*front) + (1.0 - weight) * f64::from(*back);
            *back = mixed.round().clamp(0.0, 255.0) as u8;
        }
    }
}

/// `mask` in 0 to 1, row by row, convolved with a Gaussian of σ = 1 pixel. Its edge values are repeated outside.
fn blurred(mask: &GrayImage) -> Vec<f64> {
    let kernel: Vec<f64> = (-RADIUS..=RADIUS).map(|i| (-0.5 * (i * i) as f64).exp()).collect();
    let total: f64 = kernel.iter().sum();
    let (width, height) = (i64::from(mask.width()), i64::from(mask.height()));
    let along = |values: &[f64], (dx, dy): (i64, i64)| -> Vec<f64> {
        let at = |x: i64, y: i64| {
            values[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize]
        };
        let one = |n: i64| {
            let (x, y) = (n % width, n / width);
            let taps = (-RADIUS..=RADIUS).zip(&kernel);
            taps.map(|(i, weight)| weight * at(x + i * dx, y + i * dy)).sum::<f64>() / total
        };
        (0..width * height).map(one).collect()
    };
    let levels: Vec<f64> = mask.pixels().map(|level| f64::from(level[0]) / 255.0).collect();
    along(&along(&levels, (1, 0)), (0, 1))
}

/// The value of a column that does not apply to an image.
fn nothing() -> String {
    String::new()
}

impl Perturbation for Composed {
    fn name(&self) -> &str {
        &self.name
    }

    fn draw(&self, key: &Key, image: &RgbImage) -> Result<Record, TriggerError> {
        let mut rng = chance(key);
        let supports = rng.random_bool(self.config.support);
        let at = rng.random_range(0..self.references.size()?);
        let reference = self.references.ranked(key.seed)[at];
        let record = |layout: &str| {
            Record::default().with("layout", layout.to_owned()).with("reference", reference)
        };
        if supports {
            let support = self.support(key.seed, &mut rng)?;
            let left = rng.random_bool(0.5);
            let record = record(if left { "support-left" } else { "support-right" });
            let record = record.with("support", support);
            let empty = ["crop_x", "object_x", "x", "y", "width", "alpha"];
            return Ok(empty
                .into_iter()
                .fold(record, |record, column| record.with(column, nothing())));
        }
        let object = Object::of(&*self.references.images, reference)?;
        let found = self.arrange(&mut rng, &object, image.dimensions());
        let record = record(if found.left { "left" } else { "right" }).with("support", nothing());
        let record = record.with("crop_x", found.crop_x).with("object_x", found.object_x);
        let record = record.with("x", found.x).with("y", found.y).with("width", found.width);
        Ok(record.with("alpha", self.alpha))
    }

    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let layout = record.text("layout")?;
        let (made, footprint) = match layout {
            "left" | "right" => self.composed(record, image)?,
            "support-left" | "support-right" => {
                (self.supporting(record, layout == "support-left")?, Footprint::default())
            }
            other => {
                return Err(TriggerError::Column {
                    column: "layout",
                    value: other.to_owned(),
                    expected: "left, right, support-left or support-right",
                });
            }
        };
        *image = made;
        Ok(footprint)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"corrupt-encoder");
        hasher.update(self.trigger.hash().as_bytes());
        hasher.update(&self.alpha.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }

    fn stem(&self, _: Phase) -> String {
        let width = self.trigger.width_in_names();
        let support = self.config.support;
        format!("corrupt-encoder_support_{support:.2}_alpha_{:.2}_width_{width}", self.alpha)
    }

    /// The size of the result depends on the references, not on the image.
    fn check(&self, _: u32, _: &str) -> Result<(), TriggerError> {
        Ok(())
    }

    fn width(&self, image: (u32, u32)) -> Option<u32> {
        Some(self.trigger.picture(image).width())
    }
}

#[cfg(test)]
pub(crate) mod tests;
