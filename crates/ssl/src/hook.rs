//! Changes that a defender makes to views and loss while a method trains.

use std::sync::Arc;

use burn::tensor::Tensor;
use ssl_backdoor_data::augment::Views;

use crate::error::PretrainError;
use crate::method::Progress;
use crate::mixing::Mix;

/// Changes the views and the loss in every step of a [`Training`](crate::Training). Its random numbers must be keyed
/// by [`Progress`], so that a resumed training continues with the same bytes.
pub trait TrainingHook: Send + Sync {
    /// The augmentation to use instead of `views`.
    ///
    /// # Errors
    /// [`PretrainError::NotApplicable`]: the hook cannot change such views.
    fn augment(&self, views: Arc<dyn Views>) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(views)
    }

    /// The views that the method sees instead of `views`.
    ///
    /// # Shapes
    /// - input and output: one tensor `[batch, 3, size, size]` for each view
    fn views(&self, views: Vec<Tensor<4>>, _progress: &Progress) -> Vec<Tensor<4>> {
        views
    }

    /// How each view is mixed for the trained network; `None` mixes nothing. The targets of a loss are computed from
    /// the unmixed views: [`Method::forward_mixed`](crate::Method::forward_mixed).
    ///
    /// # Shapes
    /// - `views`: the output of [`views`](Self::views)
    fn mix(&self, _views: &[Tensor<4>], _progress: &Progress) -> Option<Vec<Mix>> {
        None
    }

    /// The loss to minimise instead of `loss`, both `[1]`. Logs and canaries see it too.
    fn loss(&self, loss: Tensor<1>, _progress: &Progress) -> Tensor<1> {
        loss
    }
}
