//! Images that show a part of another image, with losses against the targets of both, as CutMix and its relatives use
//! them.

use burn::tensor::{Int, Tensor, s};
use ssl_backdoor_fields::{OutOfRange, require};

use crate::loss::indices;

/// How a view of a batch is mixed: in one box, the same for all images, each image shows its partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Left and top edge of the box, in pixels.
    pub corner: [usize; 2],
    /// Width and height of the box; 0 mixes nothing.
    pub sides: [usize; 2],
    /// For each image of the batch, the index of the image that is shown in the box.
    pub partners: Vec<usize>,
}

impl Mix {
    /// `view` with the box of each image taken from its partner.
    ///
    /// # Shapes
    /// - `view`: `[batch, 3, height, width]`
    ///
    /// # Errors
    /// [`OutOfRange`] for a box that is not inside the view, another number of partners than of images, or a partner
    /// that is not an image of the batch.
    pub fn of(&self, view: Tensor<4>) -> Result<Seen, OutOfRange> {
        let [batch, channels, height, width] = view.dims();
        let ([left, top], [wide, high]) = (self.corner, self.sides);
        let [right, bottom] = [left.saturating_add(wide), top.saturating_add(high)];
        let value = format!("{right} by {bottom}");
        let allowed = format!("at most {width} by {height}, the view");
        require(right <= width && bottom <= height, "corner + sides of a mix", value, allowed)?;
        let fits = self.partners.len() == batch && self.partners.iter().all(|&one| one < batch);
        let value = format!("{:?}", self.partners);
        require(fits, "partners of a mix", value, format!("{batch} indices below {batch}"))?;
        let partners = self.partners.iter().map(|&partner| partner as i64).collect();
        let partners = indices(partners, &view.device());
        let own = 1.0 - (wide * high) as f64 / (width * height).max(1) as f64;
        let images = if wide * high == 0 {
            view
        } else {
            let part = s![0..batch, 0..channels, top..bottom, left..right];
            let others = view.clone().select(0, partners.clone()).slice(part);
            view.slice_assign(part, others)
        };
        Ok(Seen { images, partner: Some((partners, own)) })
    }
}

/// A view as the trained network sees it, whole or mixed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The images, `[batch, 3, height, width]`.
    pub images: Tensor<4>,
    /// The partners, and the share of each image that is its own.
    partner: Option<(Tensor<1, Int>, f64)>,
}

impl Seen {
    /// A view as it is.
    pub fn whole(images: Tensor<4>) -> Self {
        Self { images, partner: None }
    }

    /// The `loss` of the network's outputs for the images against `targets`, one for each whole image. For mixed
    /// images it is λ · loss(own targets) + (1 − λ) · loss(targets of the partners), where λ is the share of an image
    /// that is its own.
    ///
    /// # Shapes
    /// - `targets`: `[batch, dim]`
    /// - output: that of `loss`, `[1]`
    pub fn loss(&self, targets: Tensor<2>, loss: impl Fn(Tensor<2>) -> Tensor<1>) -> Tensor<1> {
        let Some((partners, own)) = &self.partner else { return loss(targets) };
        let of_partners = targets.clone().select(0, partners.clone());
        loss(targets).mul_scalar(*own) + loss(of_partners).mul_scalar(1.0 - own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ssl_backdoor_model::init;

    /// Two images of 4 × 3 pixels; every value is its index.
    fn view() -> Tensor<4> {
        let values: Vec<f32> = (0..72).map(|i| i as f32).collect();
        Tensor::from_data(TensorData::new(values, [2, 3, 3, 4]), &Device::flex())
    }

    #[test]
    fn the_box_shows_the_partner_and_the_share_is_what_is_left() {
        let mix = Mix { corner: [1, 0], sides: [2, 2], partners: vec![1, 0] };
        let seen = mix.of(view()).unwrap();
        let found: Vec<f32> = seen.images.clone().into_data().iter::<f32>().collect();
        for (at, value) in found.iter().enumerate() {
            let (row, column) = (at % 12 / 4, at % 4);
            let inside = row < 2 && (1..3).contains(&column);
            let from = if inside { (at + 36) % 72 } else { at };
            assert_eq!(*value, from as f32, "{at}");
        }
        // A third of the pixels is the partner's.
        let targets = init::matrix(vec![3.0, 30.0], 1, &Device::flex());
        let first = |targets: Tensor<2>| targets.slice(s![0..1, ..]).sum();
        let loss: f32 = seen.loss(targets, first).into_scalar();
        assert!((loss - (2.0 / 3.0 * 3.0 + 1.0 / 3.0 * 30.0)).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn a_box_without_a_pixel_changes_neither_images_nor_loss() {
        let mix = Mix { corner: [4, 3], sides: [0, 0], partners: vec![1, 0] };
        let seen = mix.of(view()).unwrap();
        assert_eq!(seen.images.clone().into_data(), view().into_data());
        let targets = init::matrix(vec![0.3, 7.7], 1, &Device::flex());
        let mean = |targets: Tensor<2>| targets.mean();
        assert_eq!(seen.loss(targets.clone(), mean).into_data(), mean(targets).into_data());
    }

    #[test]
    fn a_mix_that_does_not_fit_is_an_error() {
        let fits = Mix { corner: [2, 1], sides: [2, 2], partners: vec![0, 0] };
        assert!(fits.of(view()).is_ok());
        for (mix, what) in [
            (Mix { sides: [3, 2], ..fits.clone() }, "corner + sides of a mix = 5 by 3"),
            (Mix { corner: [2, usize::MAX], ..fits.clone() }, "at most 4 by 3"),
            (Mix { partners: vec![0], ..fits.clone() }, "partners of a mix = [0]"),
            (Mix { partners: vec![0, 2], ..fits }, "2 indices below 2"),
        ] {
            let message = mix.of(view()).unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
        }
    }
}
