//! Which network a checkpoint holds: what its arrays show, and what of the rest its tool, the user or habit says.

use std::path::Path;

use super::ImportOptions;
use crate::architecture::{Shown, resnet_of, shown};
use crate::checkpoint::{Array, StateDict};
use crate::layout::Shapes;
use crate::tools::{Candidate, Seen};
use crate::vit::{fixed_positions, fixed_positions_by_rows};
use crate::{Basis, EncoderConfig, EncoderHeader, Finding, ModelError, Positions, Stem, StemShape};

/// A checkpoint, and the encoder that is taken from it.
pub(super) struct Checkpoint<'a> {
    pub path: &'a Path,
    pub file: &'a StateDict,
    pub taken: &'a Candidate,
    /// What the file says itself, if it is one of ours.
    pub stated: Option<&'a EncoderHeader>,
}

/// The network in a checkpoint.
pub(super) struct Network {
    pub encoder: EncoderConfig,
    /// Patches a side for which it has positions.
    pub grid: Option<usize>,
    pub findings: Vec<Finding>,
}

impl Checkpoint<'_> {
    /// The network with the arrays `shapes`, of which `pos_embed` is the full name of the positions.
    pub fn network(
        &self,
        shapes: &Shapes<'_>,
        pos_embed: Option<&str>,
        options: &ImportOptions,
    ) -> Result<Network, ModelError> {
        let wrong = |reason: String| ModelError::file(self.path, reason);
        match shown(shapes).map_err(wrong)? {
            Shown::ResNet { .. } if options.heads.is_some() => {
                Err(wrong("is a ResNet, which has no attention heads: leave out `heads`".into()))
            }
            Shown::Vit { .. } if options.stem().is_some() => {
                let option = options.stem().unwrap_or_default();
                Err(wrong(format!("is a transformer, which has no stem: leave out `{option}`")))
            }
            Shown::ResNet { kernel, width, blocks, counts } => {
                let (stem, findings) = match self.stated {
                    Some(stated) => (stated.encoder.stem().unwrap_or(Stem::Small), Vec::new()),
                    None => {
                        let (stem, finding) = self.stem(kernel, options)?;
                        (stem, vec![finding])
                    }
                };
                let encoder = resnet_of(blocks, counts, width, stem).map_err(wrong)?;
                Ok(Network { encoder, grid: None, findings })
            }
            Shown::Vit { dim, depth, patch, mut positions } => {
                let (mut grid, mut rows_first) = (None, false);
                if let (Positions::Learned(side), Some(name)) = (positions, pos_embed) {
                    grid = Some(side);
                    self.file.check_size(std::iter::once(&name.to_owned()))?;
                    let array = self.file.read(name)?;
                    let is = |of: Vec<f32>| is_like(&array, side, dim, &of);
                    if is(fixed_positions([side, side], dim)) {
                        positions = Positions::Fixed;
                    } else {
                        rows_first = is(fixed_positions_by_rows([side, side], dim));
                    }
                }
                let (heads, findings) = match (self.stated, options.heads) {
                    (Some(stated), None) => (stated.encoder.heads().unwrap_or(1), Vec::new()),
                    _ => {
                        let (heads, finding) = self.heads(dim, rows_first, options)?;
                        (heads, vec![finding])
                    }
                };
                let encoder = EncoderConfig::Vit { dim, depth, heads, patch, positions };
                Ok(Network { encoder, grid, findings })
            }
        }
    }

    fn seen(&self, rows_first: bool) -> Seen<'_> {
        let StateDict { shapes: all, facts, .. } = self.file;
        Seen { all, facts, taken: self.taken, rows_first }
    }

    /// The stem of a ResNet, and on what basis it is held to be so.
    fn stem(&self, kernel: usize, options: &ImportOptions) -> Result<(Stem, Finding), ModelError> {
        let ImportOptions { stem_padding, stem_stride, max_pool, .. } = *options;
        let (usual, basis, reason) = match self.seen(false).stem(kernel) {
            Some(found) => found,
            None => {
                let what = "what the first convolution does";
                let lacking = |option| ModelError::unstated(self.path, what, option);
                let stride = stem_stride.ok_or_else(|| lacking("stem-stride"))?;
                let maxpool = max_pool.ok_or_else(|| lacking("max-pool"))?;
                let shape = StemShape { kernel, stride, padding: kernel / 2, maxpool };
                (shape, Basis::Assumed, "padding of half the kernel".into())
            }
        };
        let shape = StemShape {
            kernel,
            stride: stem_stride.unwrap_or(usual.stride),
            padding: stem_padding.unwrap_or(usual.padding),
            maxpool: max_pool.unwrap_or(usual.maxpool),
        };
        if let Some((part, value, allowed)) = shape.wrong() {
            let key = match part {
                "stride" => "stem-stride",
                "padding" => "stem-padding",
                _ => "conv1.weight",
            };
            return Err(ModelError::Range { key, value: value.to_string(), allowed });
        }
        let all_given = stem_padding.is_some() && stem_stride.is_some() && max_pool.is_some();
        let some_given = stem_padding.is_some() || stem_stride.is_some() || max_pool.is_some();
        let (basis, reason) = match (all_given, some_given) {
            (true, _) => (Basis::Given, String::new()),
            (false, true) => (Basis::Given, format!("the rest: {reason}")),
            (false, false) => (basis, reason),
        };
        Ok((shape.into(), Finding::new("stem", shape, basis, &reason)))
    }

    /// The heads of a transformer, and on what basis they are held to be so.
    fn heads(
        &self,
        dim: usize,
        rows_first: bool,
        options: &ImportOptions,
    ) -> Result<(usize, Finding), ModelError> {
        let (heads, basis, reason) = match options.heads {
            Some(heads) => (heads, Basis::Given, String::new()),
            None => self.seen(rows_first).heads(dim).ok_or_else(|| {
                ModelError::unstated(self.path, "the number of attention heads", "heads")
            })?,
        };
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(ModelError::Range {
                key: "heads",
                value: heads.to_string(),
                allowed: "allowed are divisors of the length of a token",
            });
        }
        Ok((heads, Finding::new("heads", heads, basis, &reason)))
    }
}

/// Are these the positions `fixed`, behind a class token at zero?
fn is_like(array: &Array, side: usize, dim: usize, fixed: &[f32]) -> bool {
    let fixed = std::iter::repeat_n(&0.0, dim).chain(fixed);
    array.shape == [1, 1 + side * side, dim]
        && dim.is_multiple_of(4)
        && array.values.iter().zip(fixed).all(|(a, b)| (a - b).abs() < 1e-4)
}
