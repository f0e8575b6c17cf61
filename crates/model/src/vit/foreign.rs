//! Transformers in the checkpoints of other tools: timm's names, and properties that the arrays do not show.

use burn::tensor::Device;
use rand::Rng;

use super::positions::{fixed_positions, fixed_positions_by_rows};
use super::{Positions, Vit, VitSizes};
use crate::checkpoint::{Array, Fact};
use crate::family::{Arrays, Detected, Family};
use crate::found::Found;
use crate::parts::listed;
use crate::tools::{Tool, tool};
use crate::{Basis, Finding, ModelError};

impl Family for VitSizes {
    type Network = Vit;

    const NOUN: &'static str = "a transformer";
    const ANCHOR: &'static str = "patch_embed.proj.weight";
    const OPTIONS: &'static [&'static str] = &["heads"];

    fn init(&self, rng: &mut impl Rng, device: &Device) -> Vit {
        Vit::new(self, rng, device)
    }

    fn read(found: &Found<'_>) -> Result<Detected<Self>, ModelError> {
        let [dim, channels, patch, across] = found.axes("patch_embed.proj.weight")?;
        if channels != 3 || patch != across || patch == 0 {
            return Err(found.wrong(format!(
                "has patches of {channels} x {patch} x {across}: supported are squares of 3 channels"
            )));
        }
        let tokens = ["reg_token", "register_tokens", "dist_token", "storage_tokens"];
        let extra: Vec<&str> =
            tokens.into_iter().filter(|name| found.shape(name).is_some()).collect();
        if !extra.is_empty() {
            return Err(found.wrong(format!(
                "has arrays that do not belong to any supported network: {}",
                listed(&extra)
            )));
        }
        let _: [usize; 3] = found.axes("cls_token").map_err(|_| {
            found.wrong(
                "has no class token (cls_token): only transformers whose feature is the class token are supported",
            )
        })?;
        let Placed { positions, side, by_rows } = placed(found, dim)?;
        let (heads, finding) = heads(found, dim, by_rows)?;
        let depth = found.count("blocks.");
        let images = side.and_then(|side| u32::try_from(side.saturating_mul(patch)).ok());
        let sizes = Self { dim, depth, heads, patch, positions };
        let findings = [Some(finding), resized(found, &sizes)].into_iter().flatten().collect();
        Ok(Detected { sizes, images, findings })
    }

    fn near_miss(all: &Arrays) -> Option<String> {
        let name = all.keys().find(|name| name.ends_with("patch_embed.proj.0.weight"))?;
        Some(format!(
            "has {name}, a patch embedding of several convolutions: only one convolution is supported"
        ))
    }
}

/// The positions, as far as a checkpoint shows them.
struct Placed {
    positions: Positions,
    /// Patches per side, if the positions are stored.
    side: Option<usize>,
    /// Whether they are MoCo v3's, with the row before the column.
    by_rows: bool,
}

/// The positions of tokens of `dim` numbers. Stored positions that equal the fixed ones count as fixed.
fn placed(found: &Found<'_>, dim: usize) -> Result<Placed, ModelError> {
    let side = match found.shape("pos_embed") {
        None => {
            return Ok(Placed { positions: Positions::Fixed, side: None, by_rows: false });
        }
        Some([1, tokens, of]) if *of == dim && *tokens > 1 => {
            let side = (tokens - 1).isqrt();
            if side * side != tokens - 1 {
                return Err(found.wrong(format!(
                    "has positions for {tokens} tokens: supported are a class token and a square"
                )));
            }
            side
        }
        Some(shape) => {
            return Err(found
                .wrong(format!("pos_embed has the shape {shape:?}, expected [1, tokens, {dim}]")));
        }
    };
    let array = found.array("pos_embed")?;
    let is = |of: fn([usize; 2], usize) -> Vec<f32>| {
        array.as_ref().is_some_and(|array| is_like(array, side, dim, &of([side, side], dim)))
    };
    let fixed = is(fixed_positions);
    let positions = if fixed { Positions::Fixed } else { Positions::Learned(side) };
    let by_rows = !fixed && is(fixed_positions_by_rows);
    Ok(Placed { positions, side: Some(side), by_rows })
}

/// Finding that learned positions are interpolated, if the user gives an image size that is not theirs.
fn resized(found: &Found<'_>, sizes: &VitSizes) -> Option<Finding> {
    let Positions::Learned(side) = sizes.positions else { return None };
    let to = found.options.size? as usize / sizes.patch;
    let value = format!("of {side}x{side} patches, interpolated to {to}x{to}");
    let reason = "bicubic, as DINO does";
    (to != side).then(|| Finding::new("positions", value, Basis::Given, reason))
}

/// Whether these are the positions `fixed`, after a zero position for the class token.
fn is_like(array: &Array, side: usize, dim: usize, fixed: &[f32]) -> bool {
    let fixed = std::iter::repeat_n(&0.0, dim).chain(fixed);
    array.shape == [1, 1 + side * side, dim]
        && dim.is_multiple_of(4)
        && array.values.iter().zip(fixed).all(|(a, b)| (a - b).abs() < 1e-4)
}

/// The number of attention heads, and its basis.
fn heads(found: &Found<'_>, dim: usize, by_rows: bool) -> Result<(usize, Finding), ModelError> {
    let (heads, basis, reason) = match found.options.heads {
        Some(heads) => (heads, Basis::Given, String::new()),
        None => {
            let tool = if by_rows { Some(Tool::MocoV3) } else { tool(found) };
            usual(found, dim, tool)
                .ok_or_else(|| found.unstated("the number of attention heads", "heads"))?
        }
    };
    if heads == 0 || !dim.is_multiple_of(heads) {
        let allowed = "allowed are divisors of the length of a token";
        return Err(ModelError::option("heads", heads, allowed));
    }
    Ok((heads, Finding::new("heads", heads, basis, &reason)))
}

/// The number of attention heads that `tool`, which wrote the checkpoint, gives a transformer with tokens of `dim`
/// numbers; `None` if there is no evidence for any number.
fn usual(found: &Found<'_>, dim: usize, tool: Option<Tool>) -> Option<(usize, Basis, String)> {
    let stated = found.file.facts.all("num_heads").find_map(|fact| match fact {
        Fact::Int(heads) => usize::try_from(*heads).ok(),
        _ => None,
    });
    if let Some(heads) = stated.filter(|&heads| heads > 0 && dim.is_multiple_of(heads)) {
        return Some((heads, Basis::Stated, "num_heads in its config".into()));
    }
    let twelve = match dim {
        192 | 384 | 768 => Some(12),
        1024 => Some(16),
        _ => None,
    };
    let usual = match dim {
        1280 | 1408 | 1664 => Some(16),
        dim if dim.is_multiple_of(64) => Some(dim / 64),
        _ => None,
    };
    let standard = [192, 384, 768, 1024, 1280].contains(&dim);
    let known = |heads: usize, who: &str| {
        Some((heads, Basis::Known, format!("{who} of {dim} numbers a token")))
    };
    match (tool, twelve, usual) {
        (Some(Tool::MocoV3), Some(heads), _) => known(heads, "MoCo v3's transformers"),
        (Some(Tool::Solo(true)), Some(heads), _) => known(heads, "solo-learn's transformers"),
        (Some(Tool::Solo(false)), Some(heads), _) => Some((
            heads,
            Basis::Guess,
            "as solo-learn's transformers, whose names these are".into(),
        )),
        (Some(Tool::Dino), _, Some(heads)) if standard => known(heads, "DINO's transformers"),
        (Some(Tool::Mae), _, Some(heads)) if standard => known(heads, "MAE's transformers"),
        (Some(Tool::Timm), _, Some(heads)) if standard => known(heads, "timm's transformers"),
        // All usual networks of this width have this number.
        (_, Some(12), Some(12)) => known(12, "the usual transformers"),
        (_, _, Some(heads)) if dim == 1280 => known(heads, "the usual transformers"),
        (_, _, Some(heads)) => {
            Some((heads, Basis::Guess, "one for each 64 numbers of a token".into()))
        }
        _ => None,
    }
}
