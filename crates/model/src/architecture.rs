//! Which network a set of named arrays is.

use std::collections::BTreeMap;

use crate::resnet::Blocks;
use crate::{EncoderConfig, Positions, Stem};

/// Names of a network's arrays without their prefix, and their shapes.
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// Is this the name of an array of the encoder, not of a head?
type Own = fn(&str) -> bool;

/// The network whose arrays these are, and which of them are its own. `heads` of a transformer cannot be seen.
///
/// # Errors
/// A message that names what is missing or unknown.
pub(crate) fn architecture(
    shapes: &Shapes<'_>,
    heads: Option<usize>,
) -> Result<(EncoderConfig, Own), String> {
    if shapes.contains_key("patch_embed.proj.weight") {
        return Ok((vit(shapes, heads)?, |name| {
            ["patch_embed.", "blocks.", "norm."].iter().any(|part| name.starts_with(part))
                || ["cls_token", "pos_embed"].contains(&name)
        }));
    }
    Ok((resnet(shapes)?, |name| {
        ["conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."]
            .iter()
            .any(|part| name.starts_with(part))
            && !name.ends_with("num_batches_tracked")
    }))
}

fn shape<'a, const D: usize>(shapes: &Shapes<'a>, name: &str) -> Result<[usize; D], String> {
    let shape = shapes.get(name).ok_or(format!("has no array {name}"))?;
    <[usize; D]>::try_from(*shape)
        .map_err(|_| format!("{name} has the shape {shape:?}, expected are {D} numbers"))
}

/// How many `PREFIX0.`, `PREFIX1.`, … there are.
fn count(shapes: &Shapes<'_>, prefix: &str) -> usize {
    let number = |name: &&str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    shapes.keys().filter_map(number).max().map_or(0, |last| last + 1)
}

fn resnet(shapes: &Shapes<'_>) -> Result<EncoderConfig, String> {
    let [width, channels, kernel, _] = shape(shapes, "conv1.weight")?;
    let stem = match (channels, kernel) {
        (3, 3) => Stem::Small,
        (3, 7) => Stem::Imagenet,
        _ => {
            return Err(format!(
                "conv1.weight takes {channels} channels with a kernel of {kernel}: known are 3 channels and \
                 kernels of 3 (small stem) and 7"
            ));
        }
    };
    let counts = [1, 2, 3, 4].map(|stage| count(shapes, &format!("layer{stage}.")));
    let blocks = match shapes.contains_key("layer1.0.conv3.weight") {
        true => Blocks::Bottleneck,
        false => Blocks::Basic,
    };
    let known = EncoderConfig::resnets(width, stem);
    let found =
        known.into_iter().find(|(_, layout)| (layout.blocks, layout.counts) == (blocks, counts));
    let (config, _) = found.ok_or(format!(
        "is a ResNet of {counts:?} blocks: known are ResNet-18, 34, 50, 101 and 152"
    ))?;
    Ok(config)
}

fn vit(shapes: &Shapes<'_>, heads: Option<usize>) -> Result<EncoderConfig, String> {
    let unknown = ["norm_pre.", "reg_token", "dist_token", "fc_norm."];
    if let Some(name) = shapes.keys().find(|name| unknown.iter().any(|part| name.starts_with(part)))
    {
        return Err(format!(
            "has {name}: known are transformers with a class token, read out behind the last norm"
        ));
    }
    let [dim, channels, patch, across] = shape(shapes, "patch_embed.proj.weight")?;
    if channels != 3 || patch != across || patch == 0 {
        return Err(format!(
            "has patches of {channels} x {patch} x {across}: known are squares of 3 channels"
        ));
    }
    let _: [usize; 3] = shape(shapes, "cls_token")?;
    let heads = match (heads, dim) {
        (Some(heads), _) => heads,
        (None, 1280) => 16,
        (None, dim) if dim.is_multiple_of(64) => dim / 64,
        _ => {
            return Err(format!(
                "has tokens of {dim} numbers, and how many attention heads share them cannot be seen: say it (--heads)"
            ));
        }
    };
    let positions = match shapes.get("pos_embed") {
        None => Positions::Fixed,
        Some([1, tokens, of]) if *of == dim && *tokens > 1 => {
            let side = (tokens - 1).isqrt();
            if side * side != tokens - 1 {
                return Err(format!(
                    "has positions for {tokens} tokens: known are a class token and a square"
                ));
            }
            Positions::Learned(side)
        }
        Some(shape) => {
            return Err(format!(
                "pos_embed has the shape {shape:?}, expected is [1, tokens, {dim}]"
            ));
        }
    };
    let depth = count(shapes, "blocks.");
    let config = EncoderConfig::Vit { dim, depth, heads, patch, positions };
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}
