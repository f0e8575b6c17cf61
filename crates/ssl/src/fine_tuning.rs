//! What of a method's head stays behind its encoder in a fine-tuning.

use std::path::Path;

use burn::tensor::Device;
use ssl_backdoor_model::Mlp;

use crate::checkpoint::read_method;
use crate::error::PretrainError;
use crate::folder::newest_method;
use crate::method::Method;
use crate::pretrain::PretrainConfig;
use crate::registry::WithMethod;

/// The layers of its head that the method of `config` keeps in a fine-tuning ([`Method::kept_head`]), on the autodiff
/// `device`: those of the training in `folder`, which holds `checkpoint/`, or without a folder those that a training with
/// `seed` starts from. None for a method that keeps none, whose folder is not looked at.
///
/// # Errors
/// There is no checkpoint, or it is another method's.
pub fn kept_head(
    config: &PretrainConfig,
    folder: Option<&Path>,
    seed: u64,
    device: &Device,
) -> Result<Option<Mlp>, PretrainError> {
    config.with_method(seed, device, Keeping { config, folder })
}

struct Keeping<'a> {
    config: &'a PretrainConfig,
    folder: Option<&'a Path>,
}

impl WithMethod for Keeping<'_> {
    type Output = Option<Mlp>;

    fn on<M: Method>(self, method: M) -> Result<Option<Mlp>, PretrainError> {
        let initial = method.kept_head();
        let (Some(_), Some(folder)) = (&initial, self.folder) else { return Ok(initial) };
        let method = read_method(&newest_method(folder)?, method, &self.config.train)?;
        Ok(method.kept_head())
    }
}
