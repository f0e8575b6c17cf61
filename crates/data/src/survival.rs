//! How much of a perturbation survives the JPEG compression of an export.

use burn_dataset::Dataset;
use rayon::prelude::*;
use ssl_backdoor_trigger::Poison;

use crate::jpeg::written_and_read;
use crate::{DataError, Sample};

/// The share of the energy of `poison`'s changes that JPEG of quality 75 with 4:2:0 chroma keeps, 0 to 1, over the
/// clean images at `positions` of `set`.
///
/// Let d be the change of an image and e the change of its JPEG, both over all pixels and channels. The remaining
/// amplitude is Σ⟨e, d⟩ / Σ⟨d, d⟩ over the images, and the energy is its square: encoding noise that is not along d
/// does not count. `None` if no image is changed without changing its size.
///
/// # Errors
/// An image cannot be read or perturbed, or is too large for JPEG.
pub fn jpeg_energy(
    set: &dyn Dataset<Sample, DataError>,
    positions: &[usize],
    poison: &Poison,
) -> Result<Option<f64>, DataError> {
    let one = |&position: &usize| {
        let Sample { id, image: clean, .. } = set.get(position)?;
        let mut changed = clean.clone();
        poison.apply(id, &mut changed)?;
        if changed.dimensions() != clean.dimensions() {
            return Ok([0.0; 2]);
        }
        let name = "image.jpg";
        let coded = |image: &image::RgbImage| {
            written_and_read(image.clone(), name)
                .map_err(|reason| DataError::Format { path: name.into(), reason })
        };
        let (clean_coded, changed_coded) = (coded(&clean)?, coded(&changed)?);
        let difference = |a: u8, b: u8| f64::from(a) - f64::from(b);
        let before = changed.as_raw().iter().zip(clean.as_raw());
        let after = changed_coded.as_raw().iter().zip(clean_coded.as_raw());
        let pairs =
            before.zip(after).map(|((a, b), (c, d))| (difference(*a, *b), difference(*c, *d)));
        Ok(pairs.fold([0.0; 2], |[along, whole], (d, e)| [along + d * e, whole + d * d]))
    };
    let all: Result<Vec<[f64; 2]>, DataError> = positions.par_iter().map(one).collect();
    let [along, whole] = all?.iter().fold([0.0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    Ok((whole > 0.0).then(|| (along / whole).clamp(0.0, 1.0).powi(2)))
}

#[cfg(test)]
mod tests {
    use ssl_backdoor_trigger::{Phase, PoisonConfig};

    use super::*;
    use crate::InMemory;

    /// The share of the energy of `trigger` that JPEG keeps on smooth images of `side` pixels.
    fn left(trigger: &str, side: u32) -> Option<f64> {
        let config = format!("count = 1\ntrigger = {{ {trigger} }}");
        let config: PoisonConfig = toml::from_str(&config).unwrap();
        let attack = config.attack(&[(0, 0)], &["cat".into()], 0, side).unwrap();
        let sample = |id: u64| {
            let level = |x: u32, y: u32| (80 + 7 * id as u32 + x + y / 2) as u8;
            let image = image::RgbImage::from_fn(side, side, |x, y| {
                image::Rgb([level(x, y), level(y, x), 120])
            });
            Sample::new(id, image, 0)
        };
        let set = InMemory::new((0..4).map(sample).collect());
        jpeg_energy(&set, &[0, 1, 2, 3], attack.poison(Phase::Training)).unwrap()
    }

    #[test]
    fn jpeg_erases_ctrl_and_keeps_a_patch() {
        // 4:2:0 averages 2 × 2 pixels: along each axis it keeps cos²(15π/64) of cos(15π(2i + 1)/64), and next to
        // nothing of the frequency 31; quantisation then removes the rest.
        let ctrl = left("kind = \"ctrl\", magnitude = 50", 64).unwrap();
        assert!(ctrl < 0.05, "{ctrl}");
        let patch = left("kind = \"solid\", color = [250, 250, 250], width = 32", 64).unwrap();
        assert!((0.9..=1.0).contains(&patch), "{patch}");
    }

    #[test]
    fn an_image_that_is_not_changed_has_no_energy() {
        // An opaque patch with the weight of the image at 1.
        let config =
            "count = 1\nalpha = 1.0\ntrigger = { kind = \"solid\", color = [9, 9, 9], width = 8 }";
        let config: PoisonConfig = toml::from_str(config).unwrap();
        let attack = config.attack(&[(0, 0)], &["cat".into()], 0, 32).unwrap();
        let set = InMemory::new(vec![Sample::new(0, image::RgbImage::new(32, 32), 0)]);
        assert_eq!(jpeg_energy(&set, &[0], &attack.train).unwrap(), None);
        assert_eq!(jpeg_energy(&set, &[], &attack.train).unwrap(), None);
    }
}
