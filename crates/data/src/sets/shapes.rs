//! `shapes`: ten classes of pictograms drawn from (seed, split, id), at any size. Needs no files,
//! so every command of the project works offline in minutes.
//!
//! Colour, background, clutter, scale, place, tilt (at most ±15°) and noise vary; only the outline determines the
//! class. Colours are muted on purpose: if each image had its own colours, they alone would solve instance
//! discrimination, and an encoder could ignore the outline.

mod outline;

use std::ops::Range;

use image::{GrayImage, Luma, Rgb, RgbImage};
use rand::RngExt;
use rayon::prelude::*;
use ssl_backdoor_rng::{ChaCha8Rng, keyed};

use crate::Sample;
use crate::purpose;
pub(crate) use outline::CLASSES;
use outline::inside;

/// Part of the unlimited supply of drawings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Train = 0,
    Dev = 1,
    Test = 2,
}

/// Sub-samples per pixel side, for antialiasing.
const SUB: u32 = 3;
/// The steepest tilt, in radians (15°).
const MAX_TILT: f32 = 15.0 * std::f32::consts::PI / 180.0;
/// Levels (0 to 255) of backgrounds and of shapes, which always contrast.
const GROUND: Range<f32> = 20.0..90.0;
const INK: Range<f32> = 150.0..240.0;
/// Half the side of a drawing, as a share of half the side of its image.
const SCALE: Range<f32> = 0.6..0.85;
/// Stretch of an outline along each axis, and how far it is bent, in units of half its side.
const STRETCH: Range<f32> = 0.85..1.2;
const BEND: f32 = 0.12;
/// Radians of the stripes across half an image, and their largest depth in levels.
const STRIPES: Range<f32> = 5.0..14.0;
const STRIPE_DEPTH: f32 = 90.0;
/// Largest distance of a channel from the level of its colour, which keeps colours muted.
const TINT: f32 = 12.0;

/// `per_class` images of each class in class-interleaved order, `size`×`size` pixels.
pub(crate) fn draw_set(size: u32, per_class: u32, seed: u64, split: Split) -> Vec<Sample> {
    (0..u64::from(per_class) * CLASSES.len() as u64)
        .into_par_iter()
        .map(|index| {
            let id = (split as u64) << 32 | index;
            let mut rng = keyed(seed, purpose::DRAW, 0, id, 0);
            let drawing = Drawing::random(label(id), &mut rng);
            Sample::new(id, drawing.image(size, &mut rng), drawing.label)
        })
        .collect()
}

/// The class of the image `id`.
fn label(id: u64) -> u32 {
    ((id & u64::from(u32::MAX)) % CLASSES.len() as u64) as u32
}

/// The outlines of the drawings of a set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlines {
    /// Side of the drawings in pixels.
    pub size: u32,
    /// Seed of the set.
    pub seed: u64,
}

impl Outlines {
    /// Mask of the ink of drawing `id`: 255 where it covers at least half of a pixel, 0 elsewhere.
    pub fn of(&self, id: u64) -> GrayImage {
        let mut rng = keyed(self.seed, purpose::DRAW, 0, id, 0);
        let drawing = Drawing::random(label(id), &mut rng);
        GrayImage::from_fn(self.size, self.size, |x, y| {
            let inside = drawing.covered(self.size, x, y) >= 0.5;
            Luma([if inside { 255 } else { 0 }])
        })
    }
}

type Color = [f32; 3];

/// A linear blend of two colours along a direction.
struct Gradient {
    from: Color,
    to: Color,
    direction: (f32, f32),
}

impl Gradient {
    /// Colour at (u, v), each in −1 to 1.
    fn at(&self, u: f32, v: f32) -> Color {
        let t = (0.5 + 0.5 * (u * self.direction.0 + v * self.direction.1)).clamp(0.0, 1.0);
        std::array::from_fn(|c| self.from[c] + t * (self.to[c] - self.from[c]))
    }

    fn random(rng: &mut ChaCha8Rng, levels: Range<f32>) -> Self {
        let (from, to) = (color(rng, levels.clone()), color(rng, levels));
        let angle = rng.random_range(0.0..std::f32::consts::TAU);
        Self { from, to, direction: (angle.cos(), angle.sin()) }
    }

    fn middle(&self) -> Color {
        self.at(0.0, 0.0)
    }
}

/// A muted colour: a level within `levels` with a slight tint.
fn color(rng: &mut ChaCha8Rng, levels: Range<f32>) -> Color {
    let level = rng.random_range(levels);
    std::array::from_fn(|_| level + rng.random_range(-TINT..TINT))
}

/// How one drawing's outline differs from its class's: it is stretched and bent.
struct Warp {
    stretch: (f32, f32),
    bend: (f32, f32),
    phase: (f32, f32),
}

impl Warp {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let mut pair =
            |range: Range<f32>| (rng.random_range(range.clone()), rng.random_range(range));
        Self {
            stretch: pair(STRETCH),
            bend: pair(-BEND..BEND),
            phase: pair(0.0..std::f32::consts::TAU),
        }
    }

    /// Maps a point of the drawing to a point of the class's outline.
    fn apply(&self, u: f32, v: f32) -> (f32, f32) {
        let u = u * self.stretch.0 + self.bend.0 * (2.5 * v + self.phase.0).sin();
        (u, v * self.stretch.1 + self.bend.1 * (2.5 * u + self.phase.1).sin())
    }
}

/// Stripes on a shape, with their own width and direction.
struct Stripes {
    direction: (f32, f32),
    phase: f32,
    depth: f32,
}

impl Stripes {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let angle = rng.random_range(0.0..std::f32::consts::TAU);
        let waves = rng.random_range(STRIPES);
        Self {
            direction: (waves * angle.cos(), waves * angle.sin()),
            phase: rng.random_range(0.0..std::f32::consts::TAU),
            depth: rng.random_range(0.0..STRIPE_DEPTH),
        }
    }

    /// How much the stripes lower the level of the ink at (u, v).
    fn at(&self, u: f32, v: f32) -> f32 {
        let wave = (u * self.direction.0 + v * self.direction.1 + self.phase).sin();
        self.depth * (0.5 + 0.5 * wave)
    }
}

/// A soft-edged disc of background clutter.
struct Blob {
    center: (f32, f32),
    radius: f32,
    color: Color,
}

/// All random properties of a drawing except the noise of its pixels.
struct Drawing {
    label: u32,
    ground: Gradient,
    ink: Gradient,
    blobs: Vec<Blob>,
    scale: f32,
    center: (f32, f32),
    /// Sine and cosine of the tilt.
    tilt: (f32, f32),
    mirrored: bool,
    warp: Warp,
    stripes: Stripes,
    noise: f32,
}

/// The position of sub-sample `sub` of pixel `i` along a side of `size` pixels, in −1 to 1.
fn to_unit(size: u32, i: u32, sub: u32) -> f32 {
    2.0 * (i as f32 + (sub as f32 + 0.5) / SUB as f32) / size as f32 - 1.0
}

impl Drawing {
    fn random(label: u32, rng: &mut ChaCha8Rng) -> Self {
        let ground = Gradient::random(rng, GROUND);
        let ink = Gradient::random(rng, INK);
        let blobs: Vec<Blob> = (0..rng.random_range(0..=2))
            .map(|_| {
                let other = color(rng, GROUND.start..INK.end);
                let base = ground.middle();
                Blob {
                    center: (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)),
                    radius: rng.random_range(0.15..0.45),
                    color: std::array::from_fn(|c| base[c] + 0.3 * (other[c] - base[c])),
                }
            })
            .collect();
        let scale: f32 = rng.random_range(SCALE);
        let slack = 1.0 - scale;
        let center = (rng.random_range(-slack..=slack), rng.random_range(-slack..=slack));
        let tilt = rng.random_range(-MAX_TILT..=MAX_TILT).sin_cos();
        let mirrored = rng.random_bool(0.5);
        let (warp, stripes) = (Warp::random(rng), Stripes::random(rng));
        let noise: f32 = rng.random_range(2.0..8.0);
        Self { label, ground, ink, blobs, scale, center, tilt, mirrored, warp, stripes, noise }
    }

    /// The share of pixel (`px`, `py`) of an image of `size` pixels a side that the shape covers, 0 to 1.
    fn covered(&self, size: u32, px: u32, py: u32) -> f32 {
        let ((cx, cy), (sin, cos)) = (self.center, self.tilt);
        let mut inked = 0u32;
        for sy in 0..SUB {
            for sx in 0..SUB {
                let (u, v) = (to_unit(size, px, sx) - cx, to_unit(size, py, sy) - cy);
                let (u, v) = ((cos * u + sin * v) / self.scale, (cos * v - sin * u) / self.scale);
                let (u, v) = self.warp.apply(if self.mirrored { -u } else { u }, v);
                inked += u32::from(inside(self.label, u, v));
            }
        }
        inked as f32 / (SUB * SUB) as f32
    }

    /// The image of `size` pixels a side; `rng` continues after [`random`](Self::random) with the noise.
    fn image(&self, size: u32, rng: &mut ChaCha8Rng) -> RgbImage {
        RgbImage::from_fn(size, size, |px, py| {
            let (u, v) = (to_unit(size, px, 1), to_unit(size, py, 1));
            let mut back = self.ground.at(u, v);
            for blob in &self.blobs {
                let d = ((u - blob.center.0).powi(2) + (v - blob.center.1).powi(2)).sqrt();
                let weight = (1.5 - 1.5 * d / blob.radius).clamp(0.0, 1.0);
                back = std::array::from_fn(|c| back[c] + weight * (blob.color[c] - back[c]));
            }
            let shade = self.stripes.at(u, v);
            let front = self.ink.at(u, v).map(|level| level - shade);
            let alpha = self.covered(size, px, py);
            Rgb(std::array::from_fn(|c| {
                let value = back[c] + alpha * (front[c] - back[c]);
                let noise = rng.random_range(-self.noise..self.noise);
                (value + noise).round().clamp(0.0, 255.0) as u8
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of three drawings in ledgers of version 0.1: they must never change.
    #[test]
    fn the_drawings_are_those_of_the_first_version() {
        let drawn = draw_set(24, 2, 1, Split::Train);
        let hash = |id: usize| ssl_backdoor_trigger::pixel_hash(&drawn[id].image)[..16].to_owned();
        let first = ["3f2c65f7d1ff77dd", "54341b6e226893be", "e3df614654c06a99"];
        assert_eq!([0, 7, 19].map(hash), first);
    }

    #[test]
    fn an_outline_is_where_the_ink_is() {
        for sample in draw_set(64, 2, 1, Split::Train) {
            let outline = Outlines { size: 64, seed: 1 }.of(sample.id);
            let mean = |inside: bool| {
                let pixels = sample.image.pixels().zip(outline.pixels());
                let of: Vec<f64> = pixels
                    .filter(|(_, level)| (level[0] == 255) == inside)
                    .map(|(pixel, _)| f64::from(pixel[0]))
                    .collect();
                (of.len(), of.iter().sum::<f64>() / of.len().max(1) as f64)
            };
            let ((inked, ink), (_, ground)) = (mean(true), mean(false));
            // Ink is lighter than ground, and no shape is a dot or fills the image.
            assert!(ink > ground + 20.0, "{}: {ink} {ground}", CLASSES[sample.label as usize]);
            assert!((200..3000).contains(&inked), "{inked}");
        }
    }

    #[test]
    fn a_drawing_depends_on_seed_split_and_id_alone() {
        let few = draw_set(24, 2, 1, Split::Train);
        let more = draw_set(24, 3, 1, Split::Train);
        assert_eq!(few[..], more[..20]);
        assert_ne!(few[0].image, draw_set(24, 2, 2, Split::Train)[0].image);
        let dev = draw_set(24, 2, 1, Split::Dev);
        assert!(few.iter().all(|s| dev.iter().all(|d| d.id != s.id && d.image != s.image)));
    }
}
