//! The loss of swapped predictions, which SwAV and DINO share, and checks of fields that multi-crop methods share.

use burn::tensor::Tensor;
use ssl_backdoor_fields::require;

use crate::crops::of_view;
use crate::error::PretrainError;

/// The cross entropy of each crop's prediction against the code of each *other* crop that has one: the mean over the
/// images, the other crops and the codes.
///
/// # Shapes
/// - `codes`: `[batch, prototypes]` each, of the first crops
/// - `predicted`: `[crops · batch, prototypes]`, logarithms of probabilities, all images of the first crop first
/// - output: `[1]`
pub fn swapped_prediction(codes: &[Tensor<2>], predicted: &Tensor<2>) -> Tensor<1> {
    let batch = codes.first().map_or(1, |codes| codes.dims()[0]);
    let crops = predicted.dims()[0] / batch;
    // The cross entropy is linear in the code, so each crop needs only one product, with the sum of its codes.
    let all = sum(codes.iter().cloned());
    let others = |crop: usize| match crop < codes.len() {
        true => sum((0..).zip(codes).filter(|(code, _)| *code != crop).map(|(_, c)| c.clone())),
        false => all.clone(),
    };
    let loss = |(crop, codes): (usize, Tensor<2>)| {
        (codes * of_view(predicted, crop, batch)).sum_dim(1).mean()
    };
    let losses = (0..crops).filter_map(|crop| Some((crop, others(crop)?))).map(loss);
    let pairs = codes.len() * crops.saturating_sub(1);
    let none = || Tensor::zeros([1], &predicted.device());
    sum(losses).unwrap_or_else(none).div_scalar(-(pairs.max(1) as f64))
}

/// The sum of all tensors; `None` if there are none.
fn sum<const D: usize>(mut all: impl Iterator<Item = Tensor<D>>) -> Option<Tensor<D>> {
    let first = all.next()?;
    Some(all.fold(first, |sum, next| sum + next))
}

pub(crate) fn check_prototypes(field: &str, count: usize) -> Result<(), PretrainError> {
    Ok(require((2..=1 << 20).contains(&count), field, count, "2 to 1,048,576")?)
}

pub(crate) fn check_large(large: usize) -> Result<(), PretrainError> {
    Ok(require((2..=16).contains(&large), "method.large", large, "2 to 16 crops")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn::tensor::activation::{log_softmax, softmax};
    use ssl_backdoor_model::init::matrix;

    #[test]
    fn the_loss_holds_every_other_crop_against_each_code() {
        let device = Device::flex();
        // One image, three crops, two prototypes; codes of the first two crops.
        let scores = matrix(vec![1.0, 0.0, 0.2, 0.4, -0.3, 0.5], 2, &device);
        let codes = [matrix(vec![0.9, 0.1], 2, &device), matrix(vec![0.3, 0.7], 2, &device)];
        let loss: f32 = swapped_prediction(&codes, &log_softmax(scores.clone(), 1)).into_scalar();
        let p: Vec<f32> = softmax(scores.clone(), 1).into_data().try_to_vec().unwrap();
        let entropy = |code: [f32; 2], crop: usize| {
            -(code[0] * p[2 * crop].ln() + code[1] * p[2 * crop + 1].ln())
        };
        let of_first = (entropy([0.9, 0.1], 1) + entropy([0.9, 0.1], 2)) / 2.0;
        let of_second = (entropy([0.3, 0.7], 0) + entropy([0.3, 0.7], 2)) / 2.0;
        assert!((loss - (of_first + of_second) / 2.0).abs() < 1e-6, "{loss}");
        // With three codes, each crop is compared with two.
        let third = matrix(vec![0.5, 0.5], 2, &device);
        let codes = [codes[0].clone(), codes[1].clone(), third];
        let loss: f32 = swapped_prediction(&codes, &log_softmax(scores, 1)).into_scalar();
        let of_third = (entropy([0.5, 0.5], 0) + entropy([0.5, 0.5], 1)) / 2.0;
        assert!((loss - (of_first + of_second + of_third) / 3.0).abs() < 1e-6, "{loss}");
    }
}
