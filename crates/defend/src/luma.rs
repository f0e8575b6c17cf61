//! Luma at test time: the encoder sees images in grey when the probe is trained and when it is used (arXiv
//! 2403.15918). This removes triggers in the chroma channels, such as CTRL's.

use std::sync::Arc;

use image::Rgb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ssl_backdoor_data::{DataError, Sample, Splits};
use ssl_backdoor_ssl::PretrainConfig;

use crate::{
    Defence, DefenceSettings, DefendError, Identity, ImageHook, ModelId, Needs, Role, Workload,
};

/// Settings of luma-only evaluation: none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LumaConfig {}

impl DefenceSettings for LumaConfig {
    fn check(&self, _: &PretrainConfig, _: Option<usize>, _: u32) -> Result<(), DefendError> {
        Ok(())
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        vec![Box::new(LumaOnly)]
    }

    fn training(&self) -> &'static str {
        "none"
    }
}

/// The backdoored encoder, unchanged, on images without colour.
struct LumaOnly;

impl Defence for LumaOnly {
    fn model(&self) -> ModelId {
        Role::new("luma").into()
    }

    fn needs(&self) -> Needs {
        Needs::BackdooredModel
    }

    fn identity(&self, _: &PretrainConfig) -> Identity {
        let (model, defend) = (json!({ "name": self.model() }), json!({ "kind": "luma" }));
        Identity { model, pretrain: json!(null), defend }
    }

    fn workload(&self, _: &PretrainConfig, _: &Splits) -> Result<Workload, DefendError> {
        Ok(Workload { what: "no training", steps: 0, images: 0 })
    }

    fn on_image(&self) -> Option<Arc<dyn ImageHook>> {
        Some(Arc::new(Luma))
    }
}

/// Puts the luma of each pixel, Y of YUV, into all three channels.
pub(crate) struct Luma;

impl ImageHook for Luma {
    fn map(&self, mut sample: Sample) -> Result<Sample, DataError> {
        sample.image.pixels_mut().for_each(|Rgb(pixel)| *pixel = [luma(*pixel); 3]);
        Ok(sample)
    }
}

/// 0.299 R + 0.587 G + 0.114 B, rounded as in PIL's `convert("L")`, with 16 fractional bits.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
    // The weights add up to 1, so the result is a byte.
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    /// Values of `Image.new("RGB", (1, 1), pixel).convert("L").getpixel((0, 0))` of Pillow 13.0.
    #[test]
    fn the_luma_is_that_of_pil() {
        for (pixel, expected) in [
            ([0, 0, 0], 0),
            ([255, 255, 255], 255),
            ([255, 0, 0], 76),
            ([0, 255, 0], 150),
            ([0, 0, 255], 29),
            ([1, 2, 3], 2),
            ([200, 17, 93], 80),
            ([13, 240, 101], 156),
            ([254, 254, 1], 225),
        ] {
            assert_eq!(luma(pixel), expected, "{pixel:?}");
        }
    }

    /// The tile that CTRL adds, from its definition: two coefficients of the 32 × 32 DCT in the channels U and V.
    #[test]
    fn ctrls_tile_leaves_no_trace_in_the_luma() {
        let wave = |k: usize, i: u32| {
            let angle = (2 * i + 1) as f64 * k as f64 * std::f64::consts::PI / 64.0;
            (2.0f64 / 32.0).sqrt() * angle.cos()
        };
        let tile = |x, y| 100.0 * (wave(15, x) * wave(15, y) + wave(31, x) * wave(31, y));
        let clean = |x: u32, y: u32| [90 + 2 * x as u8, 80 + 3 * y as u8, 60 + x as u8 + y as u8];
        let attacked = |x, y| {
            let [r, g, b] = clean(x, y).map(f64::from);
            let d = tile(x, y);
            [r + 1.14 * d, g - 0.977 * d, b + 2.029 * d].map(|v| v.round().clamp(0.0, 255.0) as u8)
        };
        let picture = |of: &dyn Fn(u32, u32) -> [u8; 3]| {
            let image = RgbImage::from_fn(32, 32, |x, y| Rgb(of(x, y)));
            let seen = Luma.map(Sample::new(0, image.clone(), 0)).unwrap().image;
            (image, seen)
        };
        let [(clean, clean_luma), (attacked, luma)] = [picture(&clean), picture(&attacked)];
        let most = |a: &RgbImage, b: &RgbImage| {
            let pairs = a.as_raw().iter().zip(b.as_raw());
            pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
        };
        assert!(most(&clean, &attacked) >= 20, "{}", most(&clean, &attacked));
        // Only the rounding of the attacked bytes remains.
        assert!(most(&clean_luma, &luma) <= 1, "{}", most(&clean_luma, &luma));
    }
}
