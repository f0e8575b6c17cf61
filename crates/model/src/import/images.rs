//! How the images of an imported encoder are prepared: as its file says, as the user says, or as is usual.

use crate::found::Found;
use crate::{EncoderHeader, ImportOptions, ModelError, Preprocessing};

/// Mean and standard deviation of ImageNet by channel: what nearly every published encoder was trained with.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// The contract of the file, unless the options say otherwise.
///
/// # Errors
/// A message that names what the file says itself.
pub(super) fn contradicted(
    stated: &EncoderHeader,
    options: &ImportOptions,
) -> Result<Preprocessing, String> {
    let contract = &stated.preprocessing;
    let [mean, std] = options.mean_std.unwrap_or([contract.mean, contract.std]);
    let asked = Preprocessing {
        size: options.size.unwrap_or(contract.size),
        mean,
        std,
        interpolation: options.interpolation.unwrap_or(contract.interpolation),
    };
    if asked != *contract {
        return Err(format!(
            "records that it is for {contract}: omit the options that set {asked}"
        ));
    }
    let own = stated.encoder.hidden().of_network();
    for (own, asked) in own.into_iter().zip(options.of_network()) {
        if let (name, Some(own), Some(asked)) = (own.name, own.value, asked.value)
            && own != asked
        {
            return Err(format!("records that {name} is {own}: omit `{name}` = {asked}"));
        }
    }
    Ok(contract.clone())
}

/// What the images of an encoder of another tool are taken to be; `size` is the side that its arrays tell of.
///
/// # Errors
/// [`ModelError::Unstated`] if nothing tells of their size.
pub(super) fn assumed(found: &Found<'_>, size: Option<u32>) -> Result<Preprocessing, ModelError> {
    let options = found.options;
    let size = options.size.or(size);
    let size = size.ok_or_else(|| found.unstated("the size of its images", "size"))?;
    let [mean, std] = options.mean_std.unwrap_or(IMAGENET);
    let interpolation = options.interpolation.unwrap_or_default();
    Ok(Preprocessing { size, mean, std, interpolation })
}
