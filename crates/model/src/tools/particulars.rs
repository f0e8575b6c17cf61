//! What the tools build otherwise than torchvision and timm do.

use super::{All, Candidate, Naming, has};
use crate::checkpoint::{Fact, Facts};
use crate::{Basis, StemShape};

/// A tool that is known, by what its checkpoints look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    MocoV3,
    /// With a certain or a doubtful sign of it.
    Solo(bool),
    Dino,
    Mae,
    Timm,
    Kuangliu,
}

/// A checkpoint, and the encoder that is taken from it.
pub(crate) struct Seen<'a> {
    pub all: &'a All,
    pub facts: &'a Facts,
    pub taken: &'a Candidate,
    /// Are the positions of the transformer MoCo v3's, its rows before its columns?
    pub rows_first: bool,
}

impl Seen<'_> {
    fn tool(&self) -> Option<Tool> {
        let prefix = self.taken.prefix.as_str();
        let under = |part: &str| {
            self.all
                .keys()
                .any(|name| name.strip_prefix(prefix).is_some_and(|n| n.starts_with(part)))
        };
        let within = prefix.strip_prefix("state_dict.").unwrap_or(prefix);
        let within = within.strip_prefix("module.").unwrap_or(within);
        let arch = self.facts.text("arch").or_else(|| self.facts.text("model")).unwrap_or_default();
        let part = |word: &str| prefix.split('.').any(|part| part == word);
        if part("base_encoder") || self.rows_first {
            return Some(Tool::MocoV3);
        }
        if ["backbone.", "momentum_backbone."].contains(&within)
            && self.taken.naming == Naming::Plain
            && !self.facts.keys.contains("meta")
        {
            let outer = prefix.strip_suffix(within).unwrap_or_default();
            let beside = |part: &str| {
                self.all.keys().any(|name| name.starts_with(&format!("{outer}{part}.")))
            };
            let momentum = ["momentum_backbone", "momentum_projector", "momentum_classifier"];
            let lightning = self.facts.keys.contains("pytorch-lightning_version");
            let sure = momentum.into_iter().any(beside) || lightning && beside("classifier");
            return Some(Tool::Solo(sure));
        }
        if has(prefix, "teacher") || has(prefix, "student") {
            return Some(Tool::Dino);
        }
        if under("decoder_blocks.") || under("mask_token") || arch.starts_with("mae_") {
            return Some(Tool::Mae);
        }
        if (arch.starts_with("vit_") || arch.starts_with("deit")) && arch.contains("patch") {
            return Some(Tool::Timm);
        }
        let shortcut = |name: &str| name.starts_with("layer") && name.contains(".shortcut.");
        let names = self.all.keys().filter_map(|name| name.strip_prefix(prefix));
        if names.into_iter().any(shortcut) {
            return Some(Tool::Kuangliu);
        }
        None
    }

    /// Attention heads of a transformer with tokens of `dim` numbers; none if nothing speaks for any number.
    pub fn heads(&self, dim: usize) -> Option<(usize, Basis, String)> {
        let stated = self.facts.all("num_heads").find_map(|fact| match fact {
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
        match (self.tool(), twelve, usual) {
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
            // No other network of this width has another number.
            (_, Some(12), Some(12)) => known(12, "the usual transformers"),
            (_, _, Some(heads)) if dim == 1280 => known(heads, "the usual transformers"),
            (_, _, Some(heads)) => {
                Some((heads, Basis::Guess, "one for each 64 numbers of a token".into()))
            }
            _ => None,
        }
    }

    /// The stem of a ResNet whose first convolution has this `kernel`; none if nothing speaks for any.
    pub fn stem(&self, kernel: usize) -> Option<(StemShape, Basis, String)> {
        let shape = match kernel {
            3 => StemShape { kernel, stride: 1, padding: 1, maxpool: false },
            7 => StemShape { kernel, stride: 2, padding: 3, maxpool: true },
            _ => return None,
        };
        let stated = self.facts.all("maxpool1").find_map(|fact| match fact {
            Fact::Bool(maxpool) => Some(*maxpool),
            _ => None,
        });
        if let Some(maxpool) = stated {
            let reason = "maxpool1 in its config".to_owned();
            return Some((StemShape { maxpool, ..shape }, Basis::Stated, reason));
        }
        if let Naming::Sequential { first: 2 | 3 } = self.taken.naming {
            let reason = "there is no max-pool in its Sequential".to_owned();
            return Some((StemShape { maxpool: false, ..shape }, Basis::Known, reason));
        }
        let padded = StemShape { padding: 2, ..shape };
        Some(match (kernel, self.tool()) {
            (3, Some(Tool::Solo(true))) => {
                (padded, Basis::Known, "solo-learn's ResNets for CIFAR".to_owned())
            }
            (3, Some(Tool::Solo(false))) => {
                (padded, Basis::Guess, "as solo-learn's, whose names these are".to_owned())
            }
            (3, Some(Tool::Kuangliu)) => {
                (shape, Basis::Known, "kuangliu's ResNets for CIFAR".into())
            }
            (3, _) => (shape, Basis::Assumed, "as most ResNets for small images".into()),
            _ => (shape, Basis::Assumed, "as torchvision's".into()),
        })
    }
}
