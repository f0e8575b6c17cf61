//! What a defender may do to views and loss while a method trains.

use std::sync::Arc;

use burn::tensor::Tensor;
use ssl_backdoor_data::augment::Views;

use crate::error::PretrainError;
use crate::method::Progress;
use crate::mixing::Mix;

/// Acts on views and loss of every step of a [`Training`](crate::Training). Its chance must be keyed by what [`Progress`]
/// says, so that a resumed training continues with the same bytes.
pub trait TrainingHook: Send + Sync {
    /// How images are augmented, instead of `views`.
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

    /// How each of the views is mixed for the network that is trained; none = not at all. The targets of a loss are made
    /// from the views as they are: [`Method::forward_mixed`](crate::Method::forward_mixed).
    ///
    /// # Shapes
    /// - `views`: as in [`views`](Self::views), of which they are the output
    fn mix(&self, _views: &[Tensor<4>], _progress: &Progress) -> Option<Vec<Mix>> {
        None
    }

    /// The loss that is minimised instead of `loss`, both `[1]`. Logs and canaries see it too.
    fn loss(&self, loss: Tensor<1>, _progress: &Progress) -> Tensor<1> {
        loss
    }
}
