//! Blur and luma during training: the victim's method, trained again on views that are sometimes slightly blurred and
//! sometimes without colour (arXiv 2403.15918).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_fields::require;
use ssl_backdoor_ssl::{PretrainConfig, PretrainError, TrainingHook};

use crate::luma::Luma;
use crate::retrained::{Retrained, not_for};
use crate::{Defence, DefenceSettings, DefendError, ImageHook};

const KIND: &str = "blur-luma";
const NEEDS: &str = "views that are augmented crops (moco-v2, moco-v3, byol, msf, simclr, simclr-v2, simsiam, \
                     barlow-twins, vicreg, swav, dino, deepcluster-v2)";

/// Settings of blur and luma. The defaults are those of the reference code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlurLumaConfig {
    /// Probability that a view is blurred after all other augmentations, by a Gaussian of σ from 0.1 to 2 in a kernel
    /// of 3 × 3 pixels.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub blur: f64,
    /// Probability that a view then shows its luma in all three channels.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub luma: f64,
    /// Also shows the images of the probe and the evaluation images as luma.
    pub test_luma: bool,
}

impl Default for BlurLumaConfig {
    fn default() -> Self {
        Self { blur: 0.5, luma: 0.2, test_luma: true }
    }
}

impl DefenceSettings for BlurLumaConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        _: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        for (field, share) in [("blur", self.blur), ("luma", self.luma)] {
            require((0.0..=1.0).contains(&share), field, share, "0 to 1")?;
        }
        match ChainViews::of(victim.views(size)?.as_ref()) {
            Some(_) => Ok(()),
            None => Err(not_for(KIND, victim, NEEDS)),
        }
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        let Self { blur, luma, test_luma } = *self;
        let hook = Arc::new(BlurLuma { blur, luma });
        let image = test_luma.then(|| -> Arc<dyn ImageHook> { Arc::new(Luma) });
        vec![Box::new(Retrained { kind: KIND, config: json!(self), hook, image })]
    }

    fn training(&self) -> &'static str {
        "as the victim"
    }
}

/// Adds the two operations to every chain of augmentations.
struct BlurLuma {
    blur: f64,
    luma: f64,
}

impl TrainingHook for BlurLuma {
    fn augment(&self, views: Arc<dyn Views>) -> Result<Arc<dyn Views>, PretrainError> {
        let needed = PretrainError::NotApplicable { what: KIND, needs: NEEDS };
        let chains = ChainViews::of(views.as_ref()).ok_or(needed)?.clone();
        Ok(Arc::new(chains.with_blur_and_luma(self.blur, self.luma)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrained::tests::{METHODS, victim};
    use image::{Rgb, RgbImage};
    use ssl_backdoor_data::augment::{Geometry, MEAN, STD, Scratch, ViewKey};
    use ssl_backdoor_data::purpose;

    fn view(views: &dyn Views, id: u64) -> Vec<f32> {
        let image = RgbImage::from_fn(24, 24, |x, y| Rgb([x as u8 * 10, y as u8 * 9, 40]));
        let mut out = vec![0.0; 2 * 3 * 16 * 16];
        let (a, b) = out.split_at_mut(3 * 16 * 16);
        let key = ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id };
        let geometry = &mut [Geometry::default(); 2];
        views.write(&image, &key, &mut Scratch::default(), &mut [a, b], geometry);
        out.truncate(3 * 16 * 16);
        out
    }

    /// Whether a view looks the same in all channels.
    fn is_grey(view: &[f32]) -> bool {
        let value = |c: usize, i: usize| view[c * 256 + i] * STD[c] + MEAN[c];
        (0..256).all(|i| {
            (value(0, i) - value(1, i)).abs().max((value(1, i) - value(2, i)).abs()) < 1e-5
        })
    }

    #[test]
    fn each_operation_comes_with_its_probability_after_the_usual_ones() {
        let usual: Arc<dyn Views> = Arc::new(ChainViews::moco(16, (0.2, 1.0), false));
        let with = |blur, luma| BlurLuma { blur, luma }.augment(usual.clone()).unwrap();
        let (none, blurs, lumas, both) =
            (with(0.0, 0.0), with(1.0, 0.0), with(0.0, 1.0), with(0.5, 0.2));
        let (mut blurred, mut changed, mut grey) = (0, 0, [0; 2]);
        for id in 0..400 {
            let plain = view(usual.as_ref(), id);
            assert_eq!(view(none.as_ref(), id), plain);
            assert!(is_grey(&view(lumas.as_ref(), id)));
            blurred += usize::from(view(blurs.as_ref(), id) != plain);
            let found = view(both.as_ref(), id);
            changed += usize::from(found != plain);
            grey[0] += usize::from(is_grey(&plain));
            grey[1] += usize::from(is_grey(&found));
        }
        // A blur of σ below 0.18, 4 % of them, has no effect in single precision. 0.2 of the usual views are grey,
        // and 0.36 of those with luma. Blur or luma changes 0.48 + 0.52 · 0.2 · 0.8 = 0.56 of the views.
        assert!((365..400).contains(&blurred), "{blurred}");
        assert!((50..110).contains(&grey[0]) && (115..175).contains(&grey[1]), "{grey:?}");
        assert!((195..270).contains(&changed), "{changed}");
    }

    #[test]
    fn it_is_for_methods_whose_views_are_chains() {
        let config = BlurLumaConfig::default();
        for method in METHODS {
            let (victim, size) = victim(method);
            let fits = !["jigsaw", "rotnet", "mae"].contains(&method);
            let checked = config.check(&victim, None, size).map_err(|e| e.to_string());
            assert_eq!(checked.is_ok(), fits, "{method}: {checked:?}");
        }
        let (victim, size) = victim("msf");
        for config in [
            BlurLumaConfig { blur: 1.1, ..config.clone() },
            BlurLumaConfig { luma: f64::NAN, ..config.clone() },
        ] {
            let message = config.check(&victim, None, size).unwrap_err().to_string();
            assert!(message.contains("0 to 1"), "{message}");
        }
        let image = |test_luma| {
            let config = BlurLumaConfig { test_luma, ..BlurLumaConfig::default() };
            config.defences()[0].on_image().is_some()
        };
        assert!(image(true) && !image(false));
    }
}
