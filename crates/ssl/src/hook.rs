//! What a defender may do to views and loss while a method trains.

use burn::tensor::Tensor;

use crate::method::Progress;

/// Acts on views and loss of every step of a [`Training`](crate::Training). Its chance must be keyed by what [`Progress`]
/// says, so that a resumed training goes on with the same bytes.
pub trait TrainingHook: Send + Sync {
    /// The views that the method sees instead of `views`.
    ///
    /// # Shapes
    /// - input and output: one tensor `[batch, 3, size, size]` for each view
    fn views(&self, views: Vec<Tensor<4>>, _progress: &Progress) -> Vec<Tensor<4>> {
        views
    }

    /// The loss that is minimised instead of `loss`, both `[1]`. Logs and canaries see it too.
    fn loss(&self, loss: Tensor<1>, _progress: &Progress) -> Tensor<1> {
        loss
    }
}
