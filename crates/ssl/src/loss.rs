//! Functions that several losses share.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Mean cross entropy.
///
/// # Shapes
/// - `logits`: `[rows, classes]`
/// - `labels`: `[rows]`
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1)).mean().neg()
}

/// Share of rows of `logits` whose largest entry is the class of `labels`.
///
/// # Shapes
/// - `logits`: `[rows, classes]`
/// - `labels`: `[rows]`
/// - output: `[1]`
pub fn accuracy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let rows = logits.dims()[0];
    logits.argmax(1).reshape([rows]).equal(labels).float().mean()
}

/// Indices as a tensor.
pub(crate) fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
