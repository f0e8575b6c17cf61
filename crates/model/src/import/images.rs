//! The preprocessing for an imported encoder: from its file, from the user, or the usual one.

use crate::found::Found;
use crate::{EncoderHeader, ImportOptions, ModelError, Preprocessing};

/// Mean and standard deviation of ImageNet per channel, used by nearly every published encoder.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// The contract in the file, unless the options contradict it.
///
/// # Errors
/// A message with the values that the file records.
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

/// The assumed preprocessing for an encoder of another tool; `size` is the image side that its arrays imply.
///
/// # Errors
/// [`ModelError::Unstated`] if the size is unknown.
pub(super) fn assumed(found: &Found<'_>, size: Option<u32>) -> Result<Preprocessing, ModelError> {
    let options = found.options;
    let size = options.size.or(size);
    let size = size.ok_or_else(|| found.unstated("the size of its images", "size"))?;
    let [mean, std] = options.mean_std.unwrap_or(IMAGENET);
    let interpolation = options.interpolation.unwrap_or_default();
    Ok(Preprocessing { size, mean, std, interpolation })
}
