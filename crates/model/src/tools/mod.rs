//! How other tools name the networks of a checkpoint, which of them they evaluate, and what they build otherwise than
//! torchvision and timm do. Facts from their sources:
//!
//! | tool | names | evaluated | particulars |
//! | --- | --- | --- | --- |
//! | MoCo v1, v2 | `module.encoder_q.`, `module.encoder_k.` | query | |
//! | MoCo v3 | `module.base_encoder.`, `module.momentum_encoder.` | base | transformers of 12 heads, ViT-S too |
//! | solo-learn | `backbone.`, `momentum_backbone.` | backbone | 3×3 stem padded by 2; ViT-tiny and -S of 12 heads |
//! | lightly | `backbone.N.` of a `Sequential`, `backbone_momentum.` | backbone | |
//! | lightning-bolts | `online_network.encoder.`, `target_network.encoder.` | online | `maxpool1`, `first_conv` |
//! | DINO, iBOT | `student` (`module.backbone.`), `teacher` (`backbone.`) | teacher | |
//! | MSN, I-JEPA | `encoder`, `target_encoder` | target | |
//! | timm | `state_dict`, `state_dict_ema` | either; the first here | |
//! | vissl | `classy_state_dict.base_model.model.trunk._feature_blocks.` | it | |
//! | kuangliu's CIFAR ResNets | `net.module.`, `shortcut` for `downsample` | it | 3×3 stem, padding 1, no max-pool |

mod choice;
mod particulars;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub(crate) use self::choice::{Choice, choose, named};
pub(crate) use self::particulars::Seen;

/// Names that only an encoder of one of the two families has.
const RESNET: &str = "layer1.0.conv1.weight";
const VIT: &str = "patch_embed.proj.weight";
/// The first array of a transformer whose patches are made by several convolutions.
const CONVOLUTIONAL: &str = "patch_embed.proj.0.weight";
/// Begins the names of the optimiser's state, which belongs to no network.
pub(crate) const OPTIMIZER: &str = "optimizer";

/// Names and shapes of all arrays of a checkpoint.
pub(crate) type All = BTreeMap<String, Vec<usize>>;

/// An encoder in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What the names of its arrays begin with.
    pub prefix: String,
    pub naming: Naming,
}

/// How the parts of a network are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As torchvision or timm calls them.
    Plain,
    /// Numbers in a `Sequential` of a ResNet's children; `layer1` is number `first`.
    Sequential { first: usize },
}

impl Naming {
    /// What torchvision calls the array that is called `inner` here.
    pub fn common(self, inner: &str) -> Cow<'_, str> {
        let inner = match self {
            Self::Plain => Cow::Borrowed(inner),
            Self::Sequential { first } => {
                let (number, rest) = inner.split_once('.').unwrap_or((inner, ""));
                match number.parse::<usize>() {
                    Ok(0) => format!("conv1.{rest}").into(),
                    Ok(1) => format!("bn1.{rest}").into(),
                    Ok(n) if (first..first + 4).contains(&n) => {
                        format!("layer{}.{rest}", n - first + 1).into()
                    }
                    _ => Cow::Borrowed(inner),
                }
            }
        };
        match inner.starts_with("layer") && inner.contains(".shortcut.") {
            true => inner.replacen(".shortcut.", ".downsample.", 1).into(),
            false => inner,
        }
    }
}

/// The encoders of a checkpoint.
pub(crate) fn candidates(all: &All) -> Vec<Candidate> {
    let mut found = Vec::new();
    for name in all.keys().filter(|name| !name.starts_with(OPTIMIZER)) {
        let at_part = |prefix: &&str| prefix.is_empty() || prefix.ends_with('.');
        let plain = [RESNET, VIT].iter().find_map(|anchor| name.strip_suffix(*anchor));
        if let Some(prefix) = plain.filter(at_part) {
            found.push(Candidate { prefix: prefix.into(), naming: Naming::Plain });
        }
        let Some(before) = name.strip_suffix(".0.conv1.weight") else { continue };
        let (prefix, number) = match before.rfind('.') {
            Some(dot) => before.split_at(dot + 1),
            None => ("", before),
        };
        let Ok(first @ 2..=4) = number.parse::<usize>() else { continue };
        let rank = |name: String| all.get(&name).map(Vec::len);
        let stages =
            (first..first + 4).all(|n| all.contains_key(&format!("{prefix}{n}.0.conv1.weight")));
        if rank(format!("{prefix}0.weight")) == Some(4)
            && rank(format!("{prefix}1.weight")) == Some(1)
            && stages
        {
            let naming = Naming::Sequential { first };
            found.push(Candidate { prefix: prefix.into(), naming });
        }
    }
    found
}

/// Does a transformer's first layer consist of several convolutions?
pub(crate) fn convolutional(all: &All) -> Option<&str> {
    all.keys().map(String::as_str).find(|name| name.ends_with(CONVOLUTIONAL))
}

/// The words of a prefix.
fn words(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.split(['.', '_'])
}

fn has(prefix: &str, word: &str) -> bool {
    words(prefix).any(|of| of == word)
}
