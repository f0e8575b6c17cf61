//! How the images of an imported encoder are prepared: as its file says, as the user says, or as is usual.

use std::path::Path;

use super::ImportOptions;
use crate::{EncoderConfig, EncoderHeader, ModelError, Preprocessing, Stem, StemShape};

/// Mean and standard deviation of ImageNet by channel: what nearly every published encoder was trained with.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// The contract of the file, unless the options say otherwise.
pub(super) fn contradicted(
    stated: &EncoderHeader,
    encoder: &EncoderConfig,
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
    let said = |what: &dyn std::fmt::Display, asked: &dyn std::fmt::Display| {
        Err(format!("says itself that it is for {what}: leave out the options that say {asked}"))
    };
    if asked != *contract {
        return said(contract, &asked);
    }
    if let Some(heads) = options.heads.filter(|_| stated.encoder.heads() != encoder.heads()) {
        let own = stated.encoder.heads().unwrap_or(0);
        return said(&format!("{own} heads"), &format!("{heads} heads"));
    }
    if let Some(shape) = stated.encoder.stem().map(Stem::shape) {
        let asked = StemShape {
            stride: options.stem_stride.unwrap_or(shape.stride),
            padding: options.stem_padding.unwrap_or(shape.padding),
            maxpool: options.max_pool.unwrap_or(shape.maxpool),
            ..shape
        };
        if asked != shape {
            return said(&format!("a stem of {shape}"), &asked);
        }
    }
    Ok(contract.clone())
}

/// What the images of an encoder of another tool are taken to be.
pub(super) fn assumed(
    encoder: &EncoderConfig,
    grid: Option<usize>,
    options: &ImportOptions,
    path: &Path,
) -> Result<Preprocessing, ModelError> {
    let own = match *encoder {
        EncoderConfig::Vit { patch, .. } => grid.map(|side| (side * patch) as u32),
        _ => encoder.stem().is_some_and(|stem| stem.shape().kernel == 7).then_some(224),
    };
    let size = options.size.or(own);
    let size = size.ok_or_else(|| ModelError::unstated(path, "the size of its images", "size"))?;
    let [mean, std] = options.mean_std.unwrap_or(IMAGENET);
    let interpolation = options.interpolation.unwrap_or_default();
    Ok(Preprocessing { size, mean, std, interpolation })
}
