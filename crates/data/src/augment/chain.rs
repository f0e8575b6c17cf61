//! The chain of random operations behind most views, and sets of such views.

use std::any::Any;

use image::RgbImage;
use rand::RngExt;
use rand::seq::SliceRandom;
use ssl_backdoor_rng::ChaCha8Rng;

use super::crop_box::{CropBox, one_draw_crop_box, random_resized_crop_box};
use super::views::{normalize, to_planes};
use super::{Filter, Geometry, Scratch, ViewKey, Views, blur, color, crop};

/// Strengths of a colour jitter: factors of brightness, contrast and saturation are drawn from 1 − x to 1 + x, the
/// hue shift from −x to x of a full circle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    /// Strength for the brightness.
    pub brightness: f32,
    /// Strength for the contrast.
    pub contrast: f32,
    /// Strength for the saturation.
    pub saturation: f32,
    /// Strength for the hue.
    pub hue: f32,
}

impl Jitter {
    /// MoCo v2's.
    pub const MOCO_V2: Self = Self { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
    /// SimCLR's at strength 1.
    pub const SIMCLR: Self = Self { brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 };
    /// The BYOL paper's, which Barlow Twins, VICReg, MoCo v3 and DINO adopted.
    pub const BYOL_PAPER: Self = Self { brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 };
}

/// Standard deviations of the blur, in pixels.
const SIGMA: std::ops::Range<f32> = 0.1..2.0;

/// RandomResizedCrop, ColorJitter, grey, Gaussian blur σ U(0.1, 2), solarisation, flip with probability ½, small blur
/// σ U(0.1, 2), luma, normalise: in this order, each with its probability (0 = never).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chain {
    /// Side of the view in pixels.
    pub size: u32,
    /// Share of the image's area that the crop takes, low and high.
    pub crop: (f64, f64),
    /// Interpolation of the crop.
    pub filter: Filter,
    /// Whether the crop is a single draw that is clipped to the image, instead of torchvision's ten tries.
    pub one_draw: bool,
    /// Probability of the colour jitter.
    pub jitter: f64,
    /// Strength of the colour jitter.
    pub jitter_by: Jitter,
    /// Probability of grey.
    pub grey: f64,
    /// Probability of blur; 0 at small sizes (≤ 64 px), where σ 2 would blur everything away.
    pub blur: f64,
    /// Probability that values of 128 and more (of 255) are inverted.
    pub solarize: f64,
    /// Probability of a blur with a kernel of 3 × 3 pixels, which is mild enough for small images.
    pub small_blur: f64,
    /// Probability that the view shows its luma in all three channels.
    pub luma: f64,
}

/// Radius of the small blur's kernel in pixels.
const SMALL_RADIUS: usize = 1;

impl Chain {
    /// Crop and flip: CompReSS, the target of MSF, RotNet before its rotation (docs/protocol.md, 2.3, 2.5, 5).
    pub fn weak(size: u32, crop: (f64, f64)) -> Self {
        let filter = Filter::Bilinear;
        Self {
            size,
            crop,
            filter,
            one_draw: false,
            jitter: 0.0,
            jitter_by: Jitter::MOCO_V2,
            grey: 0.0,
            blur: 0.0,
            solarize: 0.0,
            small_blur: 0.0,
            luma: 0.0,
        }
    }

    /// MoCo v2's view (docs/protocol.md, 2.1), also MSF's query.
    pub fn moco(size: u32, crop: (f64, f64), blur: bool) -> Self {
        let blur = if blur { 0.5 } else { 0.0 };
        Self { jitter: 0.8, grey: 0.2, blur, ..Self::weak(size, crop) }
    }

    /// BYOL's view (docs/protocol.md, 2.2).
    pub fn byol(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self { filter: Filter::Bicubic, grey: 0.1, ..Self::moco(size, crop, blur) }
    }

    /// SimCLR's view at strength 1 (arXiv 2002.05709, appendix A).
    pub fn simclr(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self { jitter_by: Jitter::SIMCLR, ..Self::moco(size, crop, blur) }
    }

    /// The two views of the BYOL paper (arXiv 2006.07733, table 6), which differ in blur (always, or 0.1) and
    /// solarisation (never, or 0.2).
    pub fn byol_paper(size: u32, crop: (f64, f64), blur: bool) -> [Self; 2] {
        let both = Self { jitter_by: Jitter::BYOL_PAPER, ..Self::moco(size, crop, blur) };
        let blurred = |p| if blur { p } else { 0.0 };
        [Self { blur: blurred(1.0), ..both }, Self { blur: blurred(0.1), solarize: 0.2, ..both }]
    }

    /// Writes one view to `out`, `[3, size, size]`, and returns its crop.
    pub(super) fn view(
        &self,
        image: &RgbImage,
        rng: &mut ChaCha8Rng,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Geometry {
        let crop_box = self.crop_box(image.dimensions(), rng);
        self.view_of(image, crop_box, rng, scratch, out)
    }

    /// Draws the crop box of a view, which is the view's first draw.
    pub(super) fn crop_box(&self, image: (u32, u32), rng: &mut ChaCha8Rng) -> CropBox {
        let draw = if self.one_draw { one_draw_crop_box } else { random_resized_crop_box };
        draw(image, self.crop, rng)
    }

    /// Writes the view of the part in `crop_box`, with all draws except the first.
    pub(super) fn view_of(
        &self,
        image: &RgbImage,
        crop_box: CropBox,
        rng: &mut ChaCha8Rng,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Geometry {
        let side = self.size as usize;
        scratch.square(self.size);
        let Scratch { resizer, bytes, .. } = scratch;
        crop::crop_resize(image, crop_box, self.filter, resizer, bytes);
        to_planes(bytes, out);
        let happens = |p: f64, rng: &mut ChaCha8Rng| p > 0.0 && rng.random_bool(p);
        if happens(self.jitter, rng) {
            color_jitter(out, self.jitter_by, rng);
        }
        if happens(self.grey, rng) {
            color::grayscale(out);
        }
        if happens(self.blur, rng) {
            let sigma = rng.random_range(SIGMA);
            blur::gaussian_blur(out, side, side, sigma, &mut scratch.blur);
        }
        if happens(self.solarize, rng) {
            color::solarize(out);
        }
        let flip = rng.random_bool(0.5);
        if flip {
            out.chunks_exact_mut(side).for_each(<[f32]>::reverse);
        }
        if happens(self.small_blur, rng) {
            let sigma = rng.random_range(SIGMA);
            let sides = [side, side];
            blur::gaussian_blur_within(out, sides, sigma, SMALL_RADIUS, &mut scratch.blur);
        }
        if happens(self.luma, rng) {
            color::grayscale(out);
        }
        normalize(out);
        Geometry { flip, ..crop_box.into() }
    }
}

/// The four operations of torchvision's ColorJitter in a random order.
fn color_jitter(image: &mut [f32], by: Jitter, rng: &mut ChaCha8Rng) {
    let [brightness, contrast, saturation] = [by.brightness, by.contrast, by.saturation]
        .map(|most| rng.random_range(1.0 - most..=1.0 + most));
    let hue = rng.random_range(-by.hue..=by.hue);
    let mut order = [0, 1, 2, 3];
    order.shuffle(rng);
    for op in order {
        match op {
            0 => color::adjust_brightness(image, brightness),
            1 => color::adjust_contrast(image, contrast),
            2 => color::adjust_saturation(image, saturation),
            _ => color::adjust_hue(image, hue),
        }
    }
}

/// One view per chain: two for MoCo v2 and BYOL, a query and a weak target for MSF, one weak view for CompReSS. Sizes
/// differ if a method also uses [small crops](Self::with_small).
#[derive(Debug, Clone, PartialEq)]
pub struct ChainViews(pub Vec<Chain>);

impl ChainViews {
    /// Query and key of MoCo v2.
    pub fn moco(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self(vec![Chain::moco(size, crop, blur); 2])
    }

    /// The two views of BYOL.
    pub fn byol(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self(vec![Chain::byol(size, crop, blur); 2])
    }

    /// The two views of SimCLR at strength 1.
    pub fn simclr(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self(vec![Chain::simclr(size, crop, blur); 2])
    }

    /// The two views of the BYOL paper; the second is sometimes solarised.
    pub fn byol_paper(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self(Chain::byol_paper(size, crop, blur).to_vec())
    }

    /// Query and weak target of MSF.
    pub fn msf(size: u32, crop: (f64, f64), blur: bool) -> Self {
        Self(vec![Chain::moco(size, crop, blur), Chain::weak(size, crop)])
    }

    /// One weak view.
    pub fn weak(size: u32, crop: (f64, f64)) -> Self {
        Self(vec![Chain::weak(size, crop)])
    }

    /// `views` as a `ChainViews`, if it is one.
    pub fn of(views: &dyn Views) -> Option<&Self> {
        let any: &dyn Any = views;
        any.downcast_ref()
    }

    /// The same views with a blur by 3 × 3 pixels and a reduction to luma, each with its probability, after all other
    /// operations: the augmentations of a defence (arXiv 2403.15918).
    pub fn with_blur_and_luma(self, small_blur: f64, luma: f64) -> Self {
        Self(self.0.into_iter().map(|chain| Chain { small_blur, luma, ..chain }).collect())
    }
}

impl Views for ChainViews {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn size(&self) -> u32 {
        self.0.iter().map(|chain| chain.size).max().unwrap_or(0)
    }

    fn size_of(&self, view: usize) -> u32 {
        self.0.get(view).map_or(0, |chain| chain.size)
    }

    /// Pairs each view of the largest size with every other view.
    fn pairs(&self) -> Vec<[usize; 2]> {
        let count = self.count();
        let targets = (0..count).filter(|&view| self.size_of(view) == self.size());
        let with_others = |target| {
            let others = (0..count).filter(move |&other| other != target);
            others.map(move |other| [target, other])
        };
        targets.flat_map(with_others).collect()
    }

    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    ) {
        for ((v, chain), (out, geometry)) in
            (0..).zip(&self.0).zip(out.iter_mut().zip(geometry.iter_mut()))
        {
            *geometry = chain.view(image, &mut key.rng(v), scratch, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;

    #[test]
    fn a_view_is_a_function_of_its_key() {
        let image = RgbImage::from_fn(20, 20, |x, y| image::Rgb([x as u8 * 12, y as u8 * 12, 90]));
        let views = ChainViews::moco(16, (0.2, 1.0), true);
        let write = |id, scratch: &mut Scratch| {
            let mut out = vec![0.0; 2 * 3 * 16 * 16];
            let (a, b) = out.split_at_mut(3 * 16 * 16);
            let key = ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id };
            let mut geometry = [Geometry::default(); 2];
            views.write(&image, &key, scratch, &mut [a, b], &mut geometry);
            (out, geometry)
        };
        let mut used = Scratch::default();
        let first: Vec<_> = (0..20).map(|id| write(id, &mut used)).collect();
        for id in (0..20).rev() {
            assert_eq!(first[id as usize], write(id, &mut Scratch::default()));
        }
        assert_ne!(first[0], first[1]);
        let (values, [a, b]) = &first[0];
        assert_ne!(a, b);
        assert_ne!(values[..768], values[768..]);
        assert!(first.iter().flat_map(|(v, _)| v).all(|v| v.is_finite() && v.abs() < 3.0));
    }

    /// A solarised view is the same view with its bright values inverted; all other draws stay the same.
    #[test]
    fn solarisation_inverts_bright_values_of_the_same_view() {
        use super::super::{MEAN, STD};
        let image = RgbImage::from_fn(20, 20, |x, y| image::Rgb([x as u8 * 12, y as u8 * 12, 200]));
        let view = |solarize: f64| {
            let chain = Chain { solarize, grey: 0.0, ..Chain::moco(16, (0.2, 1.0), false) };
            let mut out = vec![0.0; 3 * 16 * 16];
            let mut rng = ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id: 4 }.rng(0);
            let geometry = chain.view(&image, &mut rng, &mut Scratch::default(), &mut out);
            let value = |(i, v): (usize, f32)| v * STD[i / 256] + MEAN[i / 256];
            (geometry, out.into_iter().enumerate().map(value).collect::<Vec<f32>>())
        };
        let (plain, solarized) = (view(0.0), view(1.0));
        assert_eq!(plain.0, solarized.0);
        let mut inverted = 0;
        for (plain, solarized) in plain.1.iter().zip(&solarized.1) {
            let bright = *plain >= 128.0 / 255.0;
            let expected = if bright { 1.0 - plain } else { *plain };
            assert!((solarized - expected).abs() < 1e-5, "{plain} {solarized}");
            inverted += usize::from(bright);
        }
        assert!((100..700).contains(&inverted), "{inverted}");
    }

    #[test]
    fn the_byol_papers_views_differ_in_blur_and_solarisation() {
        let [first, second] = Chain::byol_paper(224, (0.08, 1.0), true);
        assert_eq!((first.blur, first.solarize), (1.0, 0.0));
        assert_eq!((second.blur, second.solarize), (0.1, 0.2));
        assert_eq!(Chain { blur: 0.1, solarize: 0.2, ..first }, second);
        let small = Chain::byol_paper(32, (0.08, 1.0), false);
        assert_eq!(small.map(|chain| (chain.blur, chain.solarize)), [(0.0, 0.0), (0.0, 0.2)]);
    }

    /// A white square on black, followed through 200 weak views: the pixels must agree with the geometry.
    #[test]
    fn the_geometry_says_where_a_patch_went() {
        use ssl_backdoor_trigger::Spot;
        let spot = Spot { x: 20, y: 9, width: 12, height: 12 };
        let inside = |x, y| (20..32).contains(&x) && (9..21).contains(&y);
        let image = RgbImage::from_fn(48, 36, |x, y| image::Rgb([255 * u8::from(inside(x, y)); 3]));
        let chain = Chain::weak(32, (0.1, 1.0));
        let mut seen = 0;
        for id in 0..200 {
            let mut rng = ViewKey { seed: 3, purpose: purpose::VIEW, epoch: 0, id }.rng(0);
            let mut out = vec![0.0; 3 * 32 * 32];
            let g = chain.view(&image, &mut rng, &mut Scratch::default(), &mut out);
            let white = |v: f32| v * super::super::STD[0] + super::super::MEAN[0];
            let mass: f64 = out[..1024].iter().map(|&v| f64::from(white(v))).sum();
            let centre = |weigh: &dyn Fn(usize) -> usize| {
                let moment = |(i, &v): (usize, &f32)| f64::from(white(v)) * (weigh(i) as f64 + 0.5);
                out[..1024].iter().enumerate().map(moment).sum::<f64>() / mass / 32.0
            };
            match g.place(&spot) {
                None => assert!(mass < 8.0, "view {id}: {mass} of a patch that is outside"),
                Some([left, top, right, bottom]) => {
                    let area = (right - left) * (bottom - top) * 1024.0;
                    assert!((mass - area).abs() < 0.06 * area + 8.0, "view {id}: {mass} {area}");
                    if area > 60.0 {
                        seen += 1;
                        let x = centre(&|i| i % 32) - (left + right) / 2.0;
                        let y = centre(&|i| i / 32) - (top + bottom) / 2.0;
                        assert!(x.abs() < 0.02 && y.abs() < 0.02, "view {id}: off by {x} {y}");
                    }
                }
            }
        }
        assert!(seen > 60, "{seen}");
    }
}
