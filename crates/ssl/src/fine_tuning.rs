//! The layers of a method's head that fine-tuning keeps.

use std::path::Path;

use burn::tensor::Device;
use ssl_backdoor_model::Mlp;

use crate::checkpoint::read_method;
use crate::error::PretrainError;
use crate::folder::newest_method;
use crate::method::Method;
use crate::pretrain::PretrainConfig;
use crate::registry::WithMethod;

/// The layers of its head that the method of `config` keeps for fine-tuning ([`Method::kept_head`]), on the autodiff
/// `device`. They are read from the training in `folder`, which holds `checkpoint/`; without a folder, they are those
/// that a training with `seed` starts from. `None`, without reading the folder, for a method that keeps no layers.
///
/// # Errors
/// There is no checkpoint, or it belongs to another method.
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
