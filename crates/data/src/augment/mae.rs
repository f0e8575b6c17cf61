//! MAE's view and mask (docs/protocol.md, 2.6): a bicubic crop and flip, and which of its patches the encoder
//! does not see.

use image::RgbImage;
use rand::Rng;

use super::{Chain, Filter, Geometry, Scratch, ViewKey, Views};

/// View number of the mask's draw; the actual views count from 0.
const MASK: u64 = 1 << 32;

/// One weak bicubic view, and a mask drawn for each image.
#[derive(Debug, Clone, PartialEq)]
pub struct MaeViews {
    chain: Chain,
    patch: u32,
    ratio: f64,
}

impl MaeViews {
    /// Views of `size` pixels in patches of `patch`, of which the share `ratio` is hidden.
    pub fn new(size: u32, crop: (f64, f64), patch: u32, ratio: f64) -> Self {
        let chain = Chain { filter: Filter::Bicubic, ..Chain::weak(size, crop) };
        Self { chain, patch, ratio }
    }
}

impl Views for MaeViews {
    fn count(&self) -> usize {
        1
    }

    fn size(&self) -> u32 {
        self.chain.size
    }

    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    ) {
        for (out, geometry) in out.iter_mut().zip(geometry) {
            *geometry = self.chain.view(image, &mut key.rng(0), scratch, out);
        }
    }

    /// Draws noise for each patch and keeps the `int(n · (1 − ratio))` lowest.
    fn hidden(&self, key: &ViewKey) -> Option<Vec<bool>> {
        let side = (self.chain.size / self.patch.max(1)) as usize;
        let count = side * side;
        let mut rng = key.rng(MASK);
        let mut noise: Vec<(u64, usize)> = (0..count).map(|i| (rng.next_u64(), i)).collect();
        noise.sort_unstable();
        let kept = (count as f64 * (1.0 - self.ratio)) as usize;
        let mut hidden = vec![true; count];
        noise.iter().take(kept).for_each(|&(_, i)| hidden[i] = false);
        Some(hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;

    #[test]
    fn a_quarter_of_196_patches_stays_and_each_is_as_likely() {
        let views = MaeViews::new(224, (0.2, 1.0), 16, 0.75);
        let mut kept = vec![0; 196];
        for id in 0..4000 {
            let hidden =
                views.hidden(&ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id }).unwrap();
            assert_eq!(hidden.iter().filter(|&&h| !h).count(), 49);
            kept.iter_mut().zip(&hidden).for_each(|(k, &h)| *k += usize::from(!h));
        }
        // 1,000 each on average, standard deviation 27.
        assert!(kept.iter().all(|&k| (860..1140).contains(&k)), "{kept:?}");
    }
}
