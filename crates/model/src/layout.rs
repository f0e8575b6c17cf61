//! The arrays of each network by name and shape, as torchvision (ResNets) and timm (transformers) have them.

use std::collections::BTreeMap;

use crate::EncoderConfig;
use crate::encoder::Network;
use crate::resnet::{Blocks, Layout};

/// Names of a network's arrays without their prefix, and their shapes.
pub(crate) type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// The arrays that a network of `config` has, by name; positions that are computed are none of them.
pub(crate) fn arrays(config: &EncoderConfig) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    match config.network() {
        Network::ResNet(layout) => resnet(&layout, &mut all),
        Network::Vit { sizes: [dim, depth, _, patch], positions } => {
            let mut add = |name: String, shape: &[usize]| all.insert(name, shape.to_vec());
            add("cls_token".into(), &[1, 1, dim]);
            if let crate::Positions::Learned(side) = positions {
                add("pos_embed".into(), &[1, 1 + side * side, dim]);
            }
            add("patch_embed.proj.weight".into(), &[dim, 3, patch, patch]);
            add("patch_embed.proj.bias".into(), &[dim]);
            let mut layer = |name: String, shape: &[usize]| {
                add(format!("{name}.weight"), shape);
                add(format!("{name}.bias"), &shape[..1]);
            };
            for block in 0..depth {
                layer(format!("blocks.{block}.norm1"), &[dim]);
                layer(format!("blocks.{block}.attn.qkv"), &[3 * dim, dim]);
                layer(format!("blocks.{block}.attn.proj"), &[dim, dim]);
                layer(format!("blocks.{block}.norm2"), &[dim]);
                layer(format!("blocks.{block}.mlp.fc1"), &[4 * dim, dim]);
                layer(format!("blocks.{block}.mlp.fc2"), &[dim, 4 * dim]);
            }
            layer("norm".into(), &[dim]);
        }
    }
    all
}

fn resnet(layout: &Layout, all: &mut BTreeMap<String, Vec<usize>>) {
    let Layout { blocks, counts, width, stem } = *layout;
    let mut unit = |conv: String, norm: String, [from, to]: [usize; 2], kernel: usize| {
        all.insert(format!("{conv}.weight"), vec![to, from, kernel, kernel]);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            all.insert(format!("{norm}.{part}"), vec![to]);
        }
    };
    unit("conv1".into(), "bn1".into(), [3, width], stem.shape().kernel);
    let mut from = width;
    for (stage, &count) in counts.iter().enumerate() {
        let inner = width << stage;
        let to = inner * blocks.expansion();
        for block in 0..count {
            let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            let layers = match blocks {
                Blocks::Basic => vec![([from, inner], 3), ([inner, to], 3)],
                Blocks::Bottleneck => {
                    vec![([from, inner], 1), ([inner, inner], 3), ([inner, to], 1)]
                }
            };
            for (i, (channels, kernel)) in (1..).zip(layers) {
                unit(name(&format!("conv{i}")), name(&format!("bn{i}")), channels, kernel);
            }
            if from != to || (stage > 0 && block == 0) {
                unit(name("downsample.0"), name("downsample.1"), [from, to], 1);
            }
            from = to;
        }
    }
}

/// Checks that `held` has all arrays of a network of `config`, and none inside it that it has no place for. Heads,
/// counters and other networks beside it do not matter.
///
/// # Errors
/// A message that names the arrays.
pub(crate) fn check(config: &EncoderConfig, held: &Shapes<'_>) -> Result<(), String> {
    let wanted = arrays(config);
    let strange: Vec<&str> = held
        .keys()
        .filter(|name| !wanted.contains_key(**name) && inside(name))
        // Computed positions may lie in a file for the sake of other tools.
        .filter(|name| **name != "pos_embed")
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

/// The first names of many, with what they belong to.
pub(crate) fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(3)
        .map(|name| match part_of(name) {
            Some(part) => format!("{name} ({part})"),
            None => (*name).to_owned(),
        })
        .collect();
    let rest = names.len().saturating_sub(shown.len());
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    shown.join(", ") + &more
}

/// What an array is known to be a part of.
fn part_of(name: &str) -> Option<&'static str> {
    const PARTS: [(&[&str], &str); 10] = [
        (&["ls1", "ls2", "gamma_1", "gamma_2", "layer_scale"], "LayerScale"),
        (&["reg_token", "register_tokens", "storage_tokens"], "register tokens"),
        (&["dist_token", "head_dist"], "a distillation token"),
        (&["relative_position", "rel_pos", "rope"], "relative positions"),
        (&["q_norm", "k_norm"], "normalised queries and keys"),
        (&["q_bias", "v_bias"], "biases of the queries and values alone"),
        (&["w12", "w3", "fc1_g", "fc1_x"], "a gated perceptron"),
        (&["norm_pre", "fc_norm", "ln_pre", "pre_logits"], "a layer around the transformer"),
        (&["attnpool"], "attention pooling"),
        (&["se", "fc1", "fc2", "filt"], "a layer inside a block of a ResNet"),
    ];
    let is = |word: &&str| match word.len() {
        0..=4 => name.split('.').any(|part| part == *word),
        _ => name.contains(*word),
    };
    PARTS.iter().find(|(words, _)| words.iter().any(is)).map(|(_, part)| *part)
}

/// Does an array of this name belong into the network itself, not beside it?
fn inside(name: &str) -> bool {
    if name.ends_with("num_batches_tracked") {
        return false;
    }
    let (first, _) = name.split_once('.').unwrap_or((name, ""));
    const OWN: [&str; 26] = [
        // The networks known here, and what stands in the same places in others.
        "conv1",
        "bn1",
        "conv2",
        "bn2",
        "conv3",
        "bn3",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "layer5",
        "attnpool",
        "patch_embed",
        "blocks",
        "norm",
        "cls_token",
        "norm_pre",
        "fc_norm",
        "ln_pre",
        "pre_logits",
        "reg_token",
        "register_tokens",
        "storage_tokens",
        "dist_token",
        "rel_pos_bias",
        "rope_embed",
    ];
    OWN.contains(&first) || first.starts_with("pos_embed") || first.starts_with("relative_position")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Positions, Stem, StemShape};
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
            assert_eq!(arrays(&config), held, "{config:?}");
        }
    }
}
