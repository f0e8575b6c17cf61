//! Identifies the tool that wrote a checkpoint: how tools name their networks, which one they evaluate ("it": the
//! only one), and how their networks differ from torchvision's and timm's. Facts from their sources:
//!
//! | tool | names | evaluated | particulars |
//! | --- | --- | --- | --- |
//! | MoCo v1, v2 | `module.encoder_q.`, `module.encoder_k.` | query | |
//! | MoCo v3 | `module.base_encoder.`, `module.momentum_encoder.` | base | transformers of 12 heads, ViT-S too |
//! | solo-learn | `backbone.`, `momentum_backbone.` | backbone | 3×3 stem padded by 2; ViT-tiny and -S of 12 heads |
//! | lightly | `backbone.N.` of a `Sequential`, `backbone_momentum.`; of DINO `student_backbone.`, `teacher_backbone.` | backbone; the teacher | |
//! | SwAV, DeepCluster v2 | `module.`, beside it `projection_head.` and `prototypes.` | it | the padding of 3 is made of two layers |
//! | lightning-bolts | `online_network.encoder.`, `target_network.encoder.` | online | `maxpool1`, `first_conv` |
//! | DINO, iBOT | `student` (`module.backbone.`), `teacher` (`backbone.`) | teacher | |
//! | MSN, I-JEPA | `encoder`, `target_encoder` | target | |
//! | timm | `state_dict`, `state_dict_ema` | either; here the first | |
//! | vissl | `classy_state_dict.base_model.model.trunk._feature_blocks.` | it | of SEER ClassyVision's names: `conv1.stem.0.`, `res2.block1-0.` |
//! | kuangliu's CIFAR ResNets | `net.module.`, `shortcut` for `downsample` | it | 3×3 stem, padding 1, no max-pool |

use crate::found::{Found, Naming};

/// A tool that is recognised by its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    MocoV3,
    /// Whether the evidence is certain.
    Solo(bool),
    Dino,
    Mae,
    Timm,
    Kuangliu,
}

/// The tool that wrote the checkpoint of `found`, if it can be recognised.
pub(crate) fn tool(found: &Found<'_>) -> Option<Tool> {
    let (all, facts) = (&found.file.shapes, &found.file.facts);
    let prefix = found.place.prefix.as_str();
    let under = |part: &str| {
        all.keys().any(|name| name.strip_prefix(prefix).is_some_and(|n| n.starts_with(part)))
    };
    let within = prefix.strip_prefix("state_dict.").unwrap_or(prefix);
    let within = within.strip_prefix("module.").unwrap_or(within);
    let arch = facts.text("arch").or_else(|| facts.text("model")).unwrap_or_default();
    let part = |word: &str| prefix.split('.').any(|part| part == word);
    if part("base_encoder") {
        return Some(Tool::MocoV3);
    }
    if ["backbone.", "momentum_backbone."].contains(&within)
        && found.place.naming == Naming::Plain
        && !facts.keys.contains("meta")
    {
        let outer = prefix.strip_suffix(within).unwrap_or_default();
        let beside =
            |part: &str| all.keys().any(|name| name.starts_with(&format!("{outer}{part}.")));
        let momentum = ["momentum_backbone", "momentum_projector", "momentum_classifier"];
        let lightning = facts.keys.contains("pytorch-lightning_version");
        let sure = momentum.into_iter().any(beside) || lightning && beside("classifier");
        return Some(Tool::Solo(sure));
    }
    if found.place.has("teacher") || found.place.has("student") {
        return Some(Tool::Dino);
    }
    if under("decoder_blocks.") || under("mask_token") || arch.starts_with("mae_") {
        return Some(Tool::Mae);
    }
    if (arch.starts_with("vit_") || arch.starts_with("deit")) && arch.contains("patch") {
        return Some(Tool::Timm);
    }
    let shortcut = |name: &str| name.starts_with("layer") && name.contains(".shortcut.");
    let names = all.keys().filter_map(|name| name.strip_prefix(prefix));
    if names.into_iter().any(shortcut) {
        return Some(Tool::Kuangliu);
    }
    None
}
