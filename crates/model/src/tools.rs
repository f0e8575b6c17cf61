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

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::checkpoint::{Fact, Facts};
use crate::{Basis, StemShape};

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

/// Which encoder is taken, and why; the places of the others.
#[derive(Debug)]
pub(crate) struct Choice {
    pub taken: Candidate,
    pub left: Vec<String>,
    pub reason: &'static str,
}

/// Words in a name that tell a copy of the encoder that follows it: a key encoder, a target, a teacher.
const COPIES: [&str; 9] =
    ["k", "t", "key", "target", "teacher", "momentum", "ema", "averaged", "slow"];

fn words(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.split(['.', '_'])
}

fn has(prefix: &str, word: &str) -> bool {
    words(prefix).any(|of| of == word)
}

/// The encoder that its tool evaluates.
///
/// # Errors
/// A message if there is none, or several and no convention decides.
pub(crate) fn choose(mut all: Vec<Candidate>) -> Result<Choice, String> {
    let first =
        |candidate: &Candidate, part: &str| candidate.prefix.split('.').next() == Some(part);
    let copy = |candidate: &Candidate| words(&candidate.prefix).any(|word| COPIES.contains(&word));
    let having = |word: &str| all.iter().filter(|one| has(&one.prefix, word)).count();
    let (is, reason): (Box<dyn Fn(&Candidate) -> bool>, _) = if all.len() == 1 {
        (Box::new(|_| true), "")
    } else if having("student") > 0 && having("teacher") > 0 {
        (
            Box::new(|one: &Candidate| has(&one.prefix, "teacher")),
            "the teacher, which DINO and iBOT evaluate",
        )
    } else if all.iter().any(|one| first(one, "encoder"))
        && all.iter().any(|one| first(one, "target_encoder"))
    {
        (
            Box::new(move |one: &Candidate| first(one, "target_encoder")),
            "the target encoder, which MSN and I-JEPA evaluate",
        )
    } else if all.iter().any(|one| has(&one.prefix, "ema")) {
        (
            Box::new(move |one: &Candidate| !copy(one)),
            "the trained network, not its moving average (EMA)",
        )
    } else {
        (Box::new(move |one: &Candidate| !copy(one)), "the trained network, not its momentum copy")
    };
    let places: Vec<usize> = (0..all.len()).filter(|&at| is(&all[at])).collect();
    drop(is);
    let [at] = places[..] else {
        let all: Vec<&str> = all.iter().map(|one| one.prefix.as_str()).collect();
        return Err(match all.is_empty() {
            true => format!(
                "holds no known encoder: no array's name ends in {RESNET} (a ResNet) or {VIT} (a vision transformer)"
            ),
            false => {
                format!("holds several encoders: choose one by its prefix, of {}", quoted(&all))
            }
        });
    };
    let taken = all.remove(at);
    Ok(Choice { taken, left: all.into_iter().map(|one| one.prefix).collect(), reason })
}

/// The encoder that a user names by `prefix`: what its names begin with, the last dot, `module.` and outer tables such
/// as `state_dict.` being optional.
///
/// # Errors
/// A message that lists the encoders if there is none of this name, or several.
pub(crate) fn named(mut all: Vec<Candidate>, prefix: &str) -> Result<Choice, String> {
    let parts = |text: &str| -> Vec<String> {
        text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let bare = |parts: &[String]| -> Vec<String> {
        parts.iter().filter(|part| *part != "module").cloned().collect()
    };
    let wanted = parts(prefix);
    let bare_wanted = bare(&wanted);
    let tests: [&dyn Fn(&[String]) -> bool; 6] = [
        &|found| found == wanted,
        &|found| bare(found) == bare_wanted,
        &|found| found.ends_with(&wanted),
        &|found| bare(found).ends_with(&bare_wanted),
        &|found| bare(found).starts_with(&bare_wanted),
        &|found| {
            let found = bare(found);
            found.windows(bare_wanted.len()).any(|part| part == bare_wanted)
        },
    ];
    for test in tests {
        let places: Vec<usize> =
            (0..all.len()).filter(|&at| test(&parts(&all[at].prefix))).collect();
        match places[..] {
            [] => {}
            [at] => {
                let taken = all.remove(at);
                let left = all.into_iter().map(|one| one.prefix).collect();
                return Ok(Choice { taken, left, reason: "" });
            }
            // An empty prefix is the end and the beginning of every other.
            _ if wanted.is_empty() => break,
            _ => {
                let several: Vec<&str> = places.iter().map(|&at| all[at].prefix.as_str()).collect();
                return Err(format!("has several encoders under {prefix:?}: {}", quoted(&several)));
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    let all: Vec<&str> = all.iter().map(|one| one.prefix.as_str()).collect();
    Err(match all[..] {
        [] => format!("has no encoder under {prefix:?}, and none elsewhere"),
        _ => format!("has no encoder under {prefix:?}; it has one under {}", quoted(&all)),
    })
}

fn quoted(prefixes: &[&str]) -> String {
    let quoted: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix:?}")).collect();
    quoted.join(", ")
}

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
