//! Multi-crop: besides the large views of an image, several small views of small parts of it (Caron et al., SwAV,
//! arXiv 2006.09882, section 3.3).

use super::{Chain, ChainViews};

/// Small crops in addition to the large ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SmallCrops {
    /// How many.
    pub count: usize,
    /// Side in pixels.
    pub size: u32,
    /// Share of the image's area that each takes, low and high.
    pub crop: (f64, f64),
}

impl ChainViews {
    /// These views and small crops from the chain `like`, with its size and crop replaced.
    pub fn with_small(mut self, like: Chain, small: SmallCrops) -> Self {
        let SmallCrops { count, size, crop } = small;
        self.0.extend(std::iter::repeat_n(Chain { size, crop, ..like }, count));
        self
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use ssl_backdoor_trigger::Spot;

    use super::super::{Filter, Geometry, Jitter, MEAN, STD, Scratch, ViewKey, Views};
    use super::*;
    use crate::purpose;

    const SMALL: SmallCrops = SmallCrops { count: 4, size: 12, crop: (0.05, 0.3) };

    const CHAIN: Chain = Chain {
        size: 28,
        crop: (0.3, 1.0),
        filter: Filter::Bilinear,
        one_draw: false,
        jitter: 0.8,
        jitter_by: Jitter::SIMCLR,
        grey: 0.2,
        blur: 0.0,
        solarize: 0.0,
        small_blur: 0.0,
        luma: 0.0,
    };

    fn large() -> ChainViews {
        ChainViews(vec![CHAIN; 2])
    }

    /// The views of image `id`, each of its own size, and their crops.
    fn write(views: &ChainViews, image: &RgbImage, id: u64) -> (Vec<Vec<f32>>, Vec<Geometry>) {
        let blank = |view| vec![0.0; 3 * (views.size_of(view) as usize).pow(2)];
        let mut out: Vec<Vec<f32>> = (0..views.count()).map(blank).collect();
        let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let mut geometry = vec![Geometry::default(); views.count()];
        let key = ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id };
        views.write(image, &key, &mut Scratch::default(), &mut slices, &mut geometry);
        (out, geometry)
    }

    #[test]
    fn each_large_crop_is_paired_with_every_other_crop() {
        let views = large().with_small(CHAIN, SMALL);
        assert_eq!((views.count(), views.size()), (6, 28));
        let sizes: Vec<u32> = (0..6).map(|view| views.size_of(view)).collect();
        assert_eq!(sizes, [28, 28, 12, 12, 12, 12]);
        let pairs = views.pairs();
        assert_eq!(pairs.len(), 10);
        assert_eq!(pairs[..6], [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [1, 0]]);
        // Without small crops, as in the views of other methods, the two views are paired both ways.
        assert_eq!(ChainViews::moco(28, (0.2, 1.0), false).pairs(), [[0, 1], [1, 0]]);
        assert_eq!(ChainViews::weak(28, (0.2, 1.0)).pairs(), [[0usize; 2]; 0]);
    }

    #[test]
    fn the_first_views_do_not_depend_on_small_crops() {
        let image = RgbImage::from_fn(40, 40, |x, y| image::Rgb([x as u8 * 6, y as u8 * 6, 90]));
        let none = SmallCrops { count: 0, ..SMALL };
        let alone = large().with_small(CHAIN, none);
        let both = large().with_small(CHAIN, SMALL);
        for id in 0..20 {
            let ((a, _), (b, _)) = (write(&alone, &image, id), write(&both, &image, id));
            assert_eq!(a, b[..2]);
            assert_eq!(b[2].len(), 3 * 12 * 12);
            assert_ne!(b[2], b[3]);
        }
    }

    #[test]
    fn crops_take_the_share_of_the_area_that_is_theirs() {
        let image = RgbImage::new(100, 100);
        let views = ChainViews::moco(28, (0.4, 1.0), false).with_small(CHAIN, SMALL);
        for id in 0..100 {
            let (_, geometry) = write(&views, &image, id);
            for (view, Geometry { extent: [width, height], .. }) in geometry.iter().enumerate() {
                let share = width * height / 1e4;
                let (low, high) = if view < 2 { (0.4, 1.0) } else { SMALL.crop };
                assert!(share > low - 0.02 && share < high + 0.02, "view {view}: {share}");
            }
        }
    }

    /// A white square on black: the pixels of large and small crops must agree with the geometry.
    #[test]
    fn the_geometry_follows_a_trigger_into_every_crop() {
        let spot = Spot { x: 14, y: 9, width: 12, height: 12 };
        let inside = |x, y| (14..26).contains(&x) && (9..21).contains(&y);
        let image = RgbImage::from_fn(48, 36, |x, y| image::Rgb([255 * u8::from(inside(x, y)); 3]));
        let large = Chain::weak(28, (0.3, 1.0));
        let views = ChainViews(vec![large; 2]).with_small(large, SMALL);
        let mut seen = [0; 2];
        for id in 0..200 {
            let (out, geometry) = write(&views, &image, id);
            for (view, (pixels, geometry)) in out.iter().zip(&geometry).enumerate() {
                let count = pixels.len() / 3;
                let white = |v: &f32| f64::from(v * STD[0] + MEAN[0]);
                let share = pixels[..count].iter().map(white).sum::<f64>() / count as f64;
                let area = geometry.place(&spot).map_or(0.0, |[l, t, r, b]| (r - l) * (b - t));
                seen[usize::from(view > 1)] += usize::from(area > 0.05);
                let allowed = if view < 2 { 0.012 } else { 0.05 };
                assert!((share - area).abs() < 0.06 * area + allowed, "{view}: {share} {area}");
            }
        }
        assert!(seen[0] > 300 && seen[1] > 100, "{seen:?}");
    }
}
