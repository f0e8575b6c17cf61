//! Names of arrays in torchvision's and timm's models, and the parts that they belong to.

/// Whether an array of this name belongs to a backbone, not to a head beside it.
pub(crate) fn of_backbones(name: &str) -> bool {
    if name.ends_with("num_batches_tracked") {
        return false;
    }
    let (first, _) = name.split_once('.').unwrap_or((name, ""));
    const OWN: [&str; 26] = [
        // Parts of the supported networks, and their counterparts in other networks.
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
    // A file may hold computed positions for other tools.
    let positions = first.starts_with("pos_embed") && name != "pos_embed";
    OWN.contains(&first) || positions || first.starts_with("relative_position")
}

/// The first three names with the parts they belong to, and the number of the rest.
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

/// The known part that an array belongs to.
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
