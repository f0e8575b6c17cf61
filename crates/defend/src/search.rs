//! Searching the training images with a trained encoder.

use ssl_backdoor_data::Watch;

use crate::{Bench, DefendError};

/// Finds images of the training set that a defence removes before its training, with the encoder of the model that
/// the defence [needs](crate::Defence::needs).
pub trait Search {
    /// The ids of the images to remove among those of `bench.training`. The same bench gives the same images.
    ///
    /// # Errors
    /// The encoder file or an image cannot be read, or the images cannot be searched.
    fn removed(&self, bench: &Bench<'_>, watch: &Watch<'_>) -> Result<Vec<u64>, DefendError>;
}
