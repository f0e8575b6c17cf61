//! The sizes of a transformer and its arrays.

use super::Positions;
use super::positions::fixed_positions;
use crate::checkpoint::Array;
use crate::family::{Architecture, Arrays, Computed};
use crate::{ImportOptions, ModelError, parts};

/// The sizes of a transformer, as in its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VitSizes {
    pub dim: usize,
    pub depth: usize,
    pub heads: usize,
    pub patch: usize,
    pub positions: Positions,
}

impl Architecture for VitSizes {
    fn kind(&self) -> &'static str {
        "vit"
    }

    fn check(&self) -> Result<(), ModelError> {
        let Self { dim, depth, heads, patch, positions } = *self;
        let wrong = |field, value, allowed| Err(ModelError::range(field, value, allowed));
        if !(4..=8192).contains(&dim) || !dim.is_multiple_of(4) {
            return wrong("dim", dim, "allowed are multiples of 4 from 4 to 8,192");
        }
        if !(1..=128).contains(&depth) {
            return wrong("depth", depth, "allowed are 1 to 128 blocks");
        }
        if heads == 0 || !dim.is_multiple_of(heads) {
            return wrong("heads", heads, "allowed are divisors of dim");
        }
        if !(1..=256).contains(&patch) {
            return wrong("patch", patch, "allowed are 1 to 256 pixels");
        }
        match positions {
            Positions::Learned(side) if !(1..=256).contains(&side) => {
                wrong("positions", side, "allowed are 1 to 256 patches a side")
            }
            _ => Ok(()),
        }
    }

    fn check_size(&self, size: u32) -> Result<(), ModelError> {
        if size == 0 || !(size as usize).is_multiple_of(self.patch) {
            let allowed = "allowed are divisors of the side of the views";
            return Err(ModelError::range("patch", self.patch, allowed));
        }
        Ok(())
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn stage_count(&self) -> usize {
        self.depth
    }

    fn patch(&self) -> Option<usize> {
        Some(self.patch)
    }

    fn arrays(&self) -> Arrays {
        let Self { dim, depth, patch, positions, .. } = *self;
        let mut all = Arrays::new();
        let mut add = |name: String, shape: &[usize]| all.insert(name, shape.to_vec());
        add("cls_token".into(), &[1, 1, dim]);
        if let Positions::Learned(side) = positions {
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
        all
    }

    /// Stored positions belong to the network unless it computes its own.
    fn inside(&self, name: &str) -> bool {
        parts::of_backbones(name) || (name == "pos_embed" && !self.positions.is_fixed())
    }

    /// Fixed positions, which other tools store.
    fn computed(&self) -> Option<Computed> {
        let Self { dim, patch, positions, .. } = *self;
        let array = move |size: usize| {
            let side = size / patch;
            let mut values = vec![0.0; dim];
            values.extend(fixed_positions([side, side], dim));
            Array { shape: vec![1, 1 + side * side, dim], values }
        };
        positions.is_fixed().then(|| Computed { name: "pos_embed", array: Box::new(array) })
    }

    fn hidden(&self) -> ImportOptions {
        ImportOptions { heads: Some(self.heads), ..ImportOptions::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// timm's `vit_{tiny,small,base}_patch{16,8,4}_224` with positions and without the classifier of 1,000 classes:
    /// for `vit_small_patch16_224`, 22,050,664 − 385,000.
    #[test]
    fn tiny_small_and_base_have_the_parameters_of_timms() {
        for (dim, heads, patch, parameters) in [
            (192, 3, 16, 5_717_416 - 193_000),
            (384, 6, 16, 22_050_664 - 385_000),
            (768, 12, 16, 86_567_656 - 769_000),
            // With smaller patches: fewer inputs per patch, more positions.
            (384, 6, 8, 22_050_664 - 385_000 - 384 * 3 * (256 - 64) + 384 * (784 - 196)),
            (192, 3, 4, 5_717_416 - 193_000 - 192 * 3 * (256 - 16) + 192 * (3136 - 196)),
        ] {
            let positions = Positions::Learned(224 / patch);
            let vit = VitSizes { dim, depth: 12, heads, patch, positions };
            assert!(
                vit.check().is_ok() && vit.check_size(224).is_ok() && vit.check_size(96).is_ok()
            );
            let values: usize =
                vit.arrays().values().map(|shape| shape.iter().product::<usize>()).sum();
            assert_eq!(values, parameters, "{dim} {patch}");
        }
        let vit =
            VitSizes { dim: 192, depth: 12, heads: 3, patch: 16, positions: Positions::Fixed };
        assert!(vit.check_size(100).is_err() && vit.check_size(0).is_err());
    }
}
