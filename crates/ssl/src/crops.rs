//! Multi-crop (Caron et al., SwAV, arXiv 2006.09882, section 3.3): the small crops that a method uses besides its
//! large ones, and one pass through a network for each crop size.

use burn::tensor::{Tensor, s};
use ssl_backdoor_data::augment::{Chain, ChainViews, SmallCrops};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::EncoderConfig;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::view_pair::ViewPair;

/// The side of a small crop as a share of that of a large one, unless a config says otherwise: 96 of 224 px.
const SHARE: f64 = 96.0 / 224.0;

/// The settings of small crops.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmallConfig {
    pub count: usize,
    pub size: Option<u32>,
    pub crop: (f64, f64),
}

impl SmallConfig {
    /// Checks the values.
    pub fn check(&self) -> Result<(), OutOfRange> {
        require(self.count <= 64, "method.small", self.count, "at most 64 crops")?;
        if let Some(size) = self.size {
            require((1..=4096).contains(&size), "method.small_size", size, "1 to 4,096 pixels")?;
        }
        let (low, high) = self.crop;
        let fits = low > 0.0 && low <= high && high <= 1.0;
        let allowed = "0 < low <= high <= 1 (shares of the area)";
        require(fits, "method.small_crop", format!("[{low}, {high}]"), allowed)
    }

    /// The small crops that go with large ones of `large` pixels, for `encoder`. Their default size is 96 / 224 of
    /// `large`, rounded to whole patches of a transformer.
    ///
    /// # Errors
    /// [`PretrainError::Range`] if they are not smaller than the large ones, or the encoder does not take their size.
    pub fn beside(&self, large: u32, encoder: &EncoderConfig) -> Result<SmallCrops, PretrainError> {
        let patch = encoder.patch().unwrap_or(1).max(1) as f64;
        let round = |side: f64| ((side / patch).round().max(1.0) * patch) as u32;
        let size = self.size.unwrap_or_else(|| round(f64::from(large) * SHARE));
        if self.count > 0 {
            let allowed = format!("below the {large} pixels of a large crop");
            require(size < large, "method.small_size", size, allowed)?;
            encoder.check_size(size).map_err(|e| {
                PretrainError::from(OutOfRange::new("method.small_size", size, e.to_string()))
            })?;
        }
        Ok(SmallCrops { count: self.count, size, crop: self.crop })
    }
}

/// The crops of a method: `large` crops of `size` pixels, which alternate between the two augmentations of `pair`,
/// and small crops with the first of these, blurred with a probability of at most 0.5.
///
/// # Errors
/// As [`SmallConfig::beside`].
pub(crate) fn crops(
    pair: ViewPair,
    large: usize,
    small: SmallConfig,
    train: &TrainConfig,
    encoder: &EncoderConfig,
    size: u32,
) -> Result<ChainViews, PretrainError> {
    let small = small.beside(size, encoder)?;
    let ChainViews(both) = pair.chains(train, size);
    let views = ChainViews(both.iter().cycle().take(large).copied().collect());
    Ok(match both.first() {
        Some(first) => views.with_small(Chain { blur: first.blur.min(0.5), ..*first }, small),
        None => views,
    })
}

/// The outputs of `network` for `views`, concatenated. Neighbouring views of one size go through in one pass, so that
/// batch norm sees the images of all of them.
///
/// # Shapes
/// - `views`: `[batch, 3, side, side]` each
/// - output: `[views · batch, dim]`, all images of the first view first
pub(crate) fn by_size(views: &[Tensor<4>], network: impl Fn(Tensor<4>) -> Tensor<2>) -> Tensor<2> {
    let alike = |a: &Tensor<4>, b: &Tensor<4>| a.dims()[2..] == b.dims()[2..];
    let features = views.chunk_by(alike).map(|same| network(Tensor::cat(same.to_vec(), 0)));
    Tensor::cat(features.collect(), 0)
}

/// The rows of view number `view` in the output of [`by_size`] for views of `batch` images.
pub(crate) fn of_view(rows: &Tensor<2>, view: usize, batch: usize) -> Tensor<2> {
    rows.clone().slice(s![view * batch..(view + 1) * batch, ..])
}

/// Number of images in each of `views`, of which the method needs `wanted`.
///
/// # Errors
/// [`PretrainError::ViewCount`] for another number.
pub(crate) fn images(views: &[Tensor<4>], wanted: usize) -> Result<usize, PretrainError> {
    match views.first() {
        Some(first) if views.len() == wanted => Ok(first.dims()[0]),
        _ => Err(PretrainError::ViewCount { wanted, found: views.len() }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use burn::tensor::Device;
    use ssl_backdoor_model::{Positions, Stem};

    use super::*;

    #[test]
    fn views_of_one_size_go_through_together_and_keep_their_order() {
        let device = Device::flex();
        let view = |value: f32, side: usize| Tensor::<4>::full([2, 3, side, side], value, &device);
        let views = [view(0.0, 8), view(1.0, 8), view(2.0, 4), view(3.0, 4), view(4.0, 4)];
        let seen = RefCell::new(Vec::new());
        let rows = by_size(&views, |images| {
            seen.borrow_mut().push(images.dims());
            let [count, ..] = images.dims();
            images.reshape([count as i32, -1]).mean_dim(1)
        });
        assert_eq!(seen.into_inner(), [[4, 3, 8, 8], [6, 3, 4, 4]]);
        for view in 0..5 {
            let found: Vec<f32> = of_view(&rows, view, 2).into_data().try_to_vec().unwrap();
            assert_eq!(found, [view as f32; 2]);
        }
        assert_eq!(images(&views, 5).unwrap(), 2);
        assert!(matches!(images(&views, 4), Err(PretrainError::ViewCount { wanted: 4, found: 5 })));
    }

    #[test]
    fn crops_are_augmented_as_the_pair_says() {
        let train =
            TrainConfig { blur: Some(true), crop: (0.3, 1.0), ..TrainConfig::sgd(1, 2, 0.1) };
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let small = SmallConfig { count: 2, size: None, crop: (0.05, 0.2) };
        let of = |pair, large| crops(pair, large, small, &train, &encoder, 28).unwrap();
        let ChainViews(all) = of(ViewPair::Asymmetric, 3);
        assert_eq!(all.iter().map(|c| c.size).collect::<Vec<_>>(), [28, 28, 28, 12, 12]);
        assert_eq!(all.iter().map(|c| c.blur).collect::<Vec<_>>(), [1.0, 0.1, 1.0, 0.5, 0.5]);
        assert_eq!(all.iter().map(|c| c.solarize).collect::<Vec<_>>(), [0.0, 0.2, 0.0, 0.0, 0.0]);
        assert!(all.iter().all(|c| c.crop == if c.size == 28 { (0.3, 1.0) } else { small.crop }));
        let ChainViews(all) = of(ViewPair::Simclr, 2);
        assert!(all.iter().all(|c| c.blur == 0.5 && c.jitter_by == all[0].jitter_by));
    }

    #[test]
    fn small_crops_follow_the_large_ones_and_fit_the_encoder() {
        let resnet = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let vit = |patch| EncoderConfig::Vit {
            dim: 8,
            depth: 1,
            heads: 2,
            patch,
            positions: Positions::Fixed,
        };
        let small = SmallConfig { count: 6, size: None, crop: (0.05, 0.14) };
        let size = |large, encoder| small.beside(large, &encoder).unwrap().size;
        assert_eq!((size(224, resnet), size(28, resnet), size(32, resnet)), (96, 12, 14));
        assert_eq!((size(224, vit(16)), size(32, vit(4)), size(32, vit(8))), (96, 12, 16));
        let odd = SmallConfig { size: Some(10), ..small };
        let message = odd.beside(28, &vit(4)).unwrap_err().to_string();
        assert!(message.starts_with("method.small_size = 10 is out of range"), "{message}");
        assert!(SmallConfig { count: 0, ..odd }.beside(28, &vit(4)).is_ok());
        let message = odd.beside(10, &resnet).unwrap_err().to_string();
        let expected =
            "method.small_size = 10 is out of range: below the 10 pixels of a large crop";
        assert_eq!(message, expected);
        assert!(odd.beside(11, &resnet).is_ok());
        let bad = [
            SmallConfig { count: 65, ..small },
            SmallConfig { size: Some(0), ..small },
            SmallConfig { crop: (0.2, 0.1), ..small },
            SmallConfig { crop: (0.0, f64::NAN), ..small },
        ];
        let fields =
            ["method.small", "method.small_size", "method.small_crop", "method.small_crop"];
        for (config, field) in bad.iter().zip(fields) {
            assert_eq!(config.check().unwrap_err().field, field);
        }
    }
}
