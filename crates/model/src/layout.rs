//! Whether a set of arrays is the network that it is held to be.

use crate::EncoderConfig;
use crate::family::Shapes;
use crate::parts::listed;

/// Checks that `held` has all arrays of a network of `config`, and none inside it that it has no place for. Heads,
/// counters and other networks beside it do not matter.
///
/// # Errors
/// A message that names the arrays.
pub(crate) fn check(config: &EncoderConfig, held: &Shapes<'_>) -> Result<(), String> {
    let wanted = config.arrays();
    let strange: Vec<&str> = held
        .keys()
        .filter(|name| !wanted.contains_key(**name) && config.inside(name))
        .copied()
        .collect();
    if !strange.is_empty() {
        return Err(format!(
            "has arrays that the networks known here have no place for: {}",
            listed(&strange)
        ));
    }
    for (name, shape) in &wanted {
        match held.get(name.as_str()) {
            None => return Err(format!("has no array {name}, which its other arrays ask for")),
            Some(found) if *found != shape.as_slice() => {
                return Err(format!(
                    "{name} has the shape {found:?}, which its other arrays ask to be {shape:?}"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{EncoderConfig, Positions, Stem, StemShape};
    use burn::module::Module;
    use burn::tensor::Device;
    use rand::SeedableRng;

    /// The lists here and the networks themselves are two descriptions of one thing.
    #[test]
    fn the_list_of_arrays_is_the_networks_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encoder.safetensors");
        let shape = StemShape { kernel: 3, stride: 1, padding: 2, maxpool: true };
        let vit =
            |positions| EncoderConfig::Vit { dim: 8, depth: 2, heads: 2, patch: 4, positions };
        for config in [
            EncoderConfig::Resnet18 { width: 2, stem: Stem::Custom(shape) },
            EncoderConfig::Resnet34 { width: 1, stem: Stem::Imagenet },
            EncoderConfig::Resnet50 { width: 1, stem: Stem::Small },
            EncoderConfig::Resnet101 { width: 1, stem: Stem::Small },
            vit(Positions::Fixed),
            vit(Positions::Learned(3)),
        ] {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
            let encoder = config.init(&mut rng, &Device::flex()).valid();
            let preprocessing = crate::Preprocessing {
                size: 32,
                mean: [0.0; 3],
                std: [1.0; 3],
                interpolation: crate::Interpolation::Bilinear,
            };
            let header = crate::EncoderHeader::new(config, preprocessing);
            crate::save_encoder(&encoder, &header, &path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let held: BTreeMap<String, Vec<usize>> =
                file.iter().map(|(name, view)| (name.into(), view.shape().into())).collect();
            assert_eq!(config.arrays(), held, "{config:?}");
        }
    }
}
