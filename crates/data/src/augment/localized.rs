//! Localized cropping, a defence of CorruptEncoder (Zhang et al., CVPR 2024, section 6): the two crops of an image
//! are close to each other, so that a trigger in one and the target's object in the other rarely form a pair.

use image::RgbImage;
use rand::RngExt;
use ssl_backdoor_rng::ChaCha8Rng;

use super::crop_box::{CropBox, tried_crop_box};
use super::{Chain, ChainViews, Geometry, Scratch, ViewKey, Views};

/// View number of the draw that decides which view comes first; the actual views count from 0.
const ORDER: u64 = 1 << 33;

/// Two views, the second of which is cropped from the neighbourhood of the first. Either may come first.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalizedViews {
    chains: [Chain; 2],
    grow: f64,
}

impl LocalizedViews {
    /// The same two chains as `views`. The second view is cropped from the box of the first, grown on each side by
    /// the share `grow` of its width or height. `None` unless `views` are two chains.
    pub fn of(views: &dyn Views, grow: f64) -> Option<Self> {
        let chains = ChainViews::of(views)?.0.as_slice();
        let chains = chains.try_into().ok()?;
        Some(Self { chains, grow })
    }

    /// The boxes of the first and the second view: the usual box of the first chain, and a box inside the grown first
    /// one. The area of the second is between the smallest that the `second` chain would take of the whole image and
    /// all of the grown box. If ten draws do not fit, it has the size of the first box.
    fn boxes(
        &self,
        image: (u32, u32),
        [first, second]: [&Chain; 2],
        [rng, second_rng]: [&mut ChaCha8Rng; 2],
    ) -> [CropBox; 2] {
        let near = first.crop_box(image, rng);
        let region = grown(near, self.grow, image);
        let area = |(width, height): (u32, u32)| f64::from(width) * f64::from(height);
        let sides = (region.width, region.height);
        let least = (second.crop.0 * area(image) / area(sides)).min(1.0);
        let inside = tried_crop_box(sides, (least, 1.0), second_rng).unwrap_or_else(|| {
            let CropBox { width, height, .. } = near;
            let y = second_rng.random_range(0..=region.height - height);
            let x = second_rng.random_range(0..=region.width - width);
            CropBox { x, y, width, height }
        });
        [near, CropBox { x: region.x + inside.x, y: region.y + inside.y, ..inside }]
    }
}

/// `inner` grown on each side by the share `by` of its width or height, in whole pixels, and clipped to an image of
/// these sides.
fn grown(inner: CropBox, by: f64, (width, height): (u32, u32)) -> CropBox {
    let along = |from: u32, length: u32, image: u32| {
        let more = (by * f64::from(length)) as u32;
        let start = from.saturating_sub(more);
        let end = (from + length).saturating_add(more).min(image);
        (start, end - start)
    };
    let (x, width) = along(inner.x, inner.width, width);
    let (y, height) = along(inner.y, inner.height, height);
    CropBox { x, y, width, height }
}

impl Views for LocalizedViews {
    fn count(&self) -> usize {
        2
    }

    fn pairs(&self) -> Vec<[usize; 2]> {
        vec![[0, 1], [1, 0]]
    }

    fn size(&self) -> u32 {
        self.chains[0].size
    }

    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    ) {
        let mut rngs = [key.rng(0), key.rng(1)];
        let swapped = key.rng(ORDER).random_bool(0.5);
        let (mut chains, [a, b]) = (self.chains.each_ref(), &mut rngs);
        let draws = if swapped { [b, a] } else { [a, b] };
        if swapped {
            chains.reverse();
        }
        let mut boxes = self.boxes(image.dimensions(), chains, draws);
        if swapped {
            boxes.reverse();
        }
        let views = self.chains.iter().zip(boxes).zip(&mut rngs);
        for (((chain, crop_box), rng), (out, geometry)) in
            views.zip(out.iter_mut().zip(geometry.iter_mut()))
        {
            *geometry = chain.view_of(image, crop_box, rng, scratch, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;
    use ssl_backdoor_trigger::Spot;

    fn key(id: u64) -> ViewKey {
        ViewKey { seed: 5, purpose: purpose::VIEW, epoch: 0, id }
    }

    fn localized(crop: (f64, f64), grow: f64) -> LocalizedViews {
        LocalizedViews::of(&ChainViews(vec![Chain::weak(16, crop); 2]), grow).unwrap()
    }

    fn boxes(views: &LocalizedViews, image: (u32, u32), id: u64) -> [CropBox; 2] {
        let [first, second] = &views.chains;
        let key = key(id);
        views.boxes(image, [first, second], [&mut key.rng(0), &mut key.rng(1)])
    }

    #[test]
    fn a_box_grows_by_a_share_of_its_sides_and_stays_in_the_image() {
        let middle = CropBox { x: 30, y: 40, width: 20, height: 14 };
        // A fifth of 20 is 4, of 14 it is 2.8.
        let expected = CropBox { x: 26, y: 38, width: 28, height: 18 };
        assert_eq!(grown(middle, 0.2, (100, 100)), expected);
        let expected = CropBox { x: 26, y: 38, width: 26, height: 17 };
        assert_eq!(grown(middle, 0.2, (52, 55)), expected);
        let corner = CropBox { x: 1, y: 0, width: 10, height: 10 };
        assert_eq!(grown(corner, 0.2, (100, 100)), CropBox { x: 0, y: 0, width: 13, height: 12 });
        assert_eq!(grown(corner, 0.0, (100, 100)), corner);
    }

    #[test]
    fn the_second_box_lies_in_the_grown_first_one_which_is_the_usual_one() {
        let views = localized((0.2, 1.0), 0.2);
        let mut smaller = 0;
        for id in 0..3000 {
            let image = (20 + (id % 37) as u32, 20 + (id % 23) as u32);
            let [first, second] = boxes(&views, image, id);
            assert_eq!(first, views.chains[0].crop_box(image, &mut key(id).rng(0)));
            let region = grown(first, 0.2, image);
            assert!(second.x >= region.x && second.y >= region.y, "{second:?} in {region:?}");
            assert!(second.x + second.width <= region.x + region.width);
            assert!(second.y + second.height <= region.y + region.height);
            assert!(region.x + region.width <= image.0 && region.y + region.height <= image.1);
            // Sides are rounded to pixels.
            let area = f64::from(second.width + 1) * f64::from(second.height + 1);
            assert!(area >= 0.2 * f64::from(image.0 * image.1), "{second:?} of {image:?}");
            smaller += usize::from(second.width * second.height < first.width * first.height);
        }
        assert!((500..2500).contains(&smaller), "{smaller}");
    }

    #[test]
    fn where_no_draw_fits_the_second_box_has_the_size_of_the_first() {
        // A box that fills a region far from square has no allowed ratio.
        let views = localized((0.05, 0.05), 0.0);
        let first = Chain { one_draw: true, crop: (1.0, 1.0), ..views.chains[0] };
        let second = Chain { crop: (1.0, 1.0), ..first };
        for id in 0..50 {
            let draws = [&mut key(id).rng(0), &mut key(id).rng(1)];
            let found = views.boxes((100, 20), [&first, &second], draws);
            assert_eq!(found[0], found[1]);
        }
    }

    /// A white square on black: the pixels of both views must agree with the geometry, and each view comes first in
    /// half of the images.
    #[test]
    fn the_geometry_follows_a_trigger_and_either_view_is_the_usual_one() {
        let spot = Spot { x: 14, y: 9, width: 12, height: 12 };
        let inside = |x, y| (14..26).contains(&x) && (9..21).contains(&y);
        let image = RgbImage::from_fn(48, 36, |x, y| image::Rgb([255 * u8::from(inside(x, y)); 3]));
        let views = localized((0.1, 0.6), 0.2);
        let usual = ChainViews(views.chains.to_vec());
        let (mut seen, mut usuals, mut scratch) = (0, [0; 2], Scratch::default());
        for id in 0..300 {
            let mut write = |views: &dyn Views| {
                let (mut a, mut b) = (vec![0.0; 3 * 256], vec![0.0; 3 * 256]);
                let mut geometry = [Geometry::default(); 2];
                views.write(&image, &key(id), &mut scratch, &mut [&mut a, &mut b], &mut geometry);
                ([a, b], geometry)
            };
            let (pixels, geometry) = write(&views);
            let (_, as_usual) = write(&usual);
            for v in 0..2 {
                usuals[v] += usize::from(geometry[v] == as_usual[v]);
                let white = |v: &f32| f64::from(v * super::super::STD[0] + super::super::MEAN[0]);
                let mass: f64 = pixels[v][..256].iter().map(white).sum();
                let area = geometry[v].place(&spot).map_or(0.0, |[l, t, r, b]| {
                    seen += 1;
                    (r - l) * (b - t) * 256.0
                });
                assert!((mass - area).abs() < 0.08 * area + 8.0, "image {id}: {mass} {area}");
            }
        }
        assert!(seen > 100, "{seen}");
        // The second view's box is rarely the usual one.
        assert!(usuals.iter().all(|count| (110..190).contains(count)), "{usuals:?}");
    }

    #[test]
    fn only_two_chains_can_be_localized() {
        assert!(LocalizedViews::of(&ChainViews::weak(16, (0.2, 1.0)), 0.2).is_none());
        let rotnet = super::super::RotNetViews { chain: Chain::weak(16, (0.2, 1.0)) };
        assert!(LocalizedViews::of(&rotnet, 0.2).is_none());
        assert!(LocalizedViews::of(&ChainViews::msf(16, (0.2, 1.0), false), 0.2).is_some());
    }
}
