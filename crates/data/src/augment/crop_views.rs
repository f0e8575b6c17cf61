//! A random crop of the resized image, and a flip: the reference's views of RotNet's probe (docs/protocol.md, 3.5).

use image::RgbImage;
use rand::RngExt;

use super::crop::{resize_crop, resized, shorter_side};
use super::{Geometry, Scratch, ViewKey, Views, normalize, to_planes};

/// Resizes the shorter side (to 256 for 224), crops `size` at a random place, and flips at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropViews {
    /// Side of the crop in pixels.
    pub size: u32,
}

impl Views for CropViews {
    fn count(&self) -> usize {
        1
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    ) {
        let mut rng = key.rng(0);
        let shorter = shorter_side(self.size);
        let (width, height) = resized(image.dimensions(), shorter);
        let corner = [width, height].map(|side| rng.random_range(0..=side - self.size));
        let flip = rng.random_bool(0.5);
        scratch.square(self.size);
        let Scratch { resizer, bytes, .. } = scratch;
        let place = resize_crop(image, shorter, corner, resizer, bytes);
        let side = self.size as usize;
        for (out, geometry) in out.iter_mut().zip(geometry) {
            to_planes(bytes, out);
            if flip {
                out.chunks_exact_mut(side).for_each(<[f32]>::reverse);
            }
            normalize(out);
            *geometry = Geometry { flip, ..place };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;
    use image::Rgb;

    /// An image whose red encodes the column, at the size that the crop is taken from.
    #[test]
    fn crops_lie_anywhere_and_flip() {
        let shorter = shorter_side(28);
        let image = RgbImage::from_fn(shorter, shorter, |x, _| Rgb([x as u8 * 4, 0, 0]));
        let views = CropViews { size: 28 };
        let mut scratch = Scratch::default();
        let (mut lefts, mut flips) = (std::collections::BTreeSet::new(), 0);
        for id in 0..200 {
            let mut out = vec![0.0; 3 * 28 * 28];
            let mut geometry = [Geometry::default()];
            let key = ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id };
            views.write(&image, &key, &mut scratch, &mut [&mut out], &mut geometry);
            let column = |v: f32| ((v * 0.229 + 0.485) * 255.0 / 4.0).round() as i32;
            let (first, second) = (column(out[0]), column(out[1]));
            assert_eq!(second - first, if geometry[0].flip { -1 } else { 1 });
            flips += i32::from(geometry[0].flip);
            lefts.insert(if geometry[0].flip { first - 27 } else { first });
        }
        assert!((70..130).contains(&flips), "{flips}");
        let all: Vec<i32> = (0..=(shorter - 28) as i32).collect();
        assert_eq!(lefts.into_iter().collect::<Vec<_>>(), all);
    }
}
