//! RegNetYs in the checkpoints of other tools: torchvision's names, and those of ClassyVision, which vissl uses to
//! train SEER.

use std::borrow::Cow;

use burn::tensor::Device;
use rand::Rng;

use super::sizes::{STAGES, STEM};
use super::{RegNet, RegNetConfig, RegNetShape, RegNetStem};
use crate::family::{Arrays, Detected, Family};
use crate::found::{Found, Naming, Place};
use crate::{Basis, Finding, ModelError};

/// The first convolution after the stem, as vissl names it and as a path of fields.
const OTHERS: [&str; 2] = ["res2.block1-0.f.a.0.weight", "trunk_output.block1.0.f.a.0.weight"];

impl Family for RegNetConfig {
    type Network = RegNet;

    const NOUN: &'static str = "a RegNet";
    const ANCHOR: &'static str = "trunk_output.block1.block1-0.f.a.0.weight";
    const OPTIONS: &'static [&'static str] = &["stem_stride"];

    fn init(&self, rng: &mut impl Rng, device: &Device) -> RegNet {
        RegNet::new(self, rng, device)
    }

    fn find(name: &str, _all: &Arrays) -> Option<Place> {
        let mut anchors = [Self::ANCHOR].into_iter().chain(OTHERS);
        anchors.find_map(|anchor| Place::before(name, anchor))
    }

    fn common(_naming: Naming, inner: &str) -> Cow<'_, str> {
        if let Some(rest) =
            inner.strip_prefix("conv1.stem.").or_else(|| inner.strip_prefix("stem.stem."))
        {
            return format!("stem.{rest}").into();
        }
        match block(inner) {
            Some((stage, block, rest)) => {
                format!("trunk_output.block{stage}.block{stage}-{block}.{}", layer(rest)).into()
            }
            None => Cow::Borrowed(inner),
        }
    }

    fn read(found: &Found<'_>) -> Result<Detected<Self>, ModelError> {
        let [width, channels, kernel, across] = found.axes("stem.0.weight")?;
        if [width, channels, kernel, across] != [STEM, 3, 3, 3] {
            return Err(found.wrong(format!(
                "stem.0.weight has the shape [{width}, {channels}, {kernel}, {across}]: supported is [{STEM}, 3, 3, 3]"
            )));
        }
        if found.shape("trunk_output.block1.block1-0.f.se.fc1.weight").is_none() {
            return Err(found.wrong(
                "has no squeeze-excitation, so it is a RegNetX; only RegNetYs are supported",
            ));
        }
        let mut shape = RegNetShape { depths: [0; STAGES], widths: [0; STAGES], group: 0 };
        for stage in 1..=STAGES {
            let name = format!("trunk_output.block{stage}.block{stage}-");
            let [width, group, ..] = found.axes::<4>(&format!("{name}0.f.b.0.weight"))?;
            shape.depths[stage - 1] = found.count(&name);
            shape.widths[stage - 1] = width;
            shape.group = shape.group.max(group);
        }
        let (stem, finding) = stem(found)?;
        // The standard stem usually takes ImageNet's size.
        let images = (stem == RegNetStem::Imagenet).then_some(224);
        Ok(Detected { sizes: Self { size: shape.into(), stem }, images, findings: vec![finding] })
    }
}

/// Splits the name of an array of a block into stage, block number and rest: `trunk_output.block2.block2-0.REST`
/// (torchvision), `res3.block2-0.REST` (vissl) or `trunk_output.block2.0.REST` (path of fields).
fn block(inner: &str) -> Option<(&str, &str, &str)> {
    let within = match inner.strip_prefix("trunk_output.block") {
        Some(within) => within,
        None => inner.strip_prefix("res")?,
    };
    let (stage, rest) = within.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    let (stage, block) = match block.strip_prefix("block") {
        Some(both) => both.split_once('-')?,
        None => (stage, block),
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(stage) && number(block)).then_some((stage, block, rest))
}

/// torchvision's name for a layer of a block, which may have ClassyVision's name.
fn layer(name: &str) -> Cow<'_, str> {
    for (theirs, ours) in [
        ("bn.", "proj.1."),
        ("f.final_bn.", "f.c.1."),
        ("f.se.excitation.0.", "f.se.fc1."),
        ("f.se.excitation.2.", "f.se.fc2."),
    ] {
        if let Some(rest) = name.strip_prefix(theirs) {
            return format!("{ours}{rest}").into();
        }
    }
    match name {
        "proj.weight" => "proj.0.weight".into(),
        "f.c.weight" => "f.c.0.weight".into(),
        name => name.into(),
    }
}

/// The stem, and the basis for its stride, which the arrays do not show.
fn stem(found: &Found<'_>) -> Result<(RegNetStem, Finding), ModelError> {
    let given = found.options.stem_stride;
    let stem = match given {
        Some(1) => RegNetStem::Small,
        Some(2) | None => RegNetStem::Imagenet,
        Some(other) => {
            return Err(ModelError::option(
                "stem_stride",
                other,
                "allowed are 1 and 2 of a RegNet",
            ));
        }
    };
    let (basis, reason) = match given {
        Some(_) => (Basis::Given, ""),
        None => (Basis::Assumed, "as torchvision's and SEER's"),
    };
    let value = format!("3x3, stride {}, padding 1, without max-pool", stem.stride());
    Ok((stem, Finding::new("stem", value, basis, reason)))
}
