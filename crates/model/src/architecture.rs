//! Which network a set of named arrays is, as far as they show it.

use crate::layout::{Shapes, listed};
use crate::resnet::Blocks;
use crate::{EncoderConfig, Positions, Stem};

/// What the arrays of an encoder show.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    /// A ResNet, but for what its first layers do.
    ResNet { kernel: usize, width: usize, blocks: Blocks, counts: [usize; 4] },
    /// A transformer, but for its heads.
    Vit { dim: usize, depth: usize, patch: usize, positions: Positions },
}

/// The network whose arrays these are, as far as they show it.
///
/// # Errors
/// A message that names what is missing or unknown.
pub(crate) fn shown(shapes: &Shapes<'_>) -> Result<Shown, String> {
    match shapes.contains_key("patch_embed.proj.weight") {
        true => vit(shapes),
        false => resnet(shapes),
    }
}

/// The ResNet of these sizes.
///
/// # Errors
/// A message if it is none of the known ones.
pub(crate) fn resnet_of(
    blocks: Blocks,
    counts: [usize; 4],
    width: usize,
    stem: Stem,
) -> Result<EncoderConfig, String> {
    let mut known = EncoderConfig::resnets(width, stem);
    let found = known.find(|(_, layout)| (layout.blocks, layout.counts) == (blocks, counts));
    found.map(|(config, _)| config).ok_or(format!(
        "is a ResNet of {counts:?} blocks: known are ResNet-18, 34, 50, 101 and 152"
    ))
}

fn shape<'a, const D: usize>(shapes: &Shapes<'a>, name: &str) -> Result<[usize; D], String> {
    let shape = shapes.get(name).ok_or(format!("has no array {name}"))?;
    <[usize; D]>::try_from(*shape)
        .map_err(|_| format!("{name} has the shape {shape:?}, expected are {D} numbers"))
}

/// How many `PREFIX0.`, `PREFIX1.`, … there are.
fn count(shapes: &Shapes<'_>, prefix: &str) -> usize {
    let number = |name: &&str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    shapes.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
}

fn resnet(shapes: &Shapes<'_>) -> Result<Shown, String> {
    let [width, channels, kernel, across] = shape(shapes, "conv1.weight")?;
    if channels != 3 || kernel != across || kernel % 2 == 0 {
        return Err(format!(
            "conv1.weight has kernels of {channels} x {kernel} x {across}: known are odd squares of 3 channels"
        ));
    }
    let counts = [1, 2, 3, 4].map(|stage| count(shapes, &format!("layer{stage}.")));
    let blocks = match shapes.contains_key("layer1.0.conv3.weight") {
        true => Blocks::Bottleneck,
        false => Blocks::Basic,
    };
    Ok(Shown::ResNet { kernel, width, blocks, counts })
}

fn vit(shapes: &Shapes<'_>) -> Result<Shown, String> {
    let [dim, channels, patch, across] = shape(shapes, "patch_embed.proj.weight")?;
    if channels != 3 || patch != across || patch == 0 {
        return Err(format!(
            "has patches of {channels} x {patch} x {across}: known are squares of 3 channels"
        ));
    }
    let tokens = ["reg_token", "register_tokens", "dist_token", "storage_tokens"];
    let extra: Vec<&str> = tokens.into_iter().filter(|name| shapes.contains_key(name)).collect();
    if !extra.is_empty() {
        let extra = listed(&extra);
        return Err(format!("has arrays that the networks known here have no place for: {extra}"));
    }
    let _: [usize; 3] = shape(shapes, "cls_token").map_err(
        |_| "has no class token (cls_token): known are transformers that are read out there",
    )?;
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
    Ok(Shown::Vit { dim, depth: count(shapes, "blocks."), patch, positions })
}
