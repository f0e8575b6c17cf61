//! ResNets in the checkpoints of other tools: torchvision's and other names, and how the tools build the first
//! layers.

use std::borrow::Cow;

use burn::tensor::Device;
use rand::Rng;

use super::block::Blocks;
use super::sizes::{Depth, ResNetSizes};
use super::{ResNet, Stem, StemShape};
use crate::checkpoint::Fact;
use crate::family::{Arrays, Detected, Family};
use crate::found::{Found, Naming, Place};
use crate::tools::{Tool, tool};
use crate::{Basis, Finding, ImportOptions, ModelError};

impl Family for ResNetSizes {
    type Network = ResNet;

    const NOUN: &'static str = "a ResNet";
    const ANCHOR: &'static str = "layer1.0.conv1.weight";
    const OPTIONS: &'static [&'static str] = &["stem_padding", "stem_stride", "max_pool"];

    fn init(&self, rng: &mut impl Rng, device: &Device) -> ResNet {
        ResNet::new(self, rng, device)
    }

    fn find(name: &str, all: &Arrays) -> Option<Place> {
        Place::before(name, Self::ANCHOR).or_else(|| sequential(name, all))
    }

    fn common(naming: Naming, inner: &str) -> Cow<'_, str> {
        let inner = match naming {
            Naming::Plain => Cow::Borrowed(inner),
            Naming::Sequential { first } => {
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

    fn read(found: &Found<'_>) -> Result<Detected<Self>, ModelError> {
        let [width, channels, kernel, across] = found.axes("conv1.weight")?;
        if channels != 3 || kernel != across || kernel % 2 == 0 {
            return Err(found.wrong(format!(
                "conv1.weight has kernels of {channels} x {kernel} x {across}: supported are odd squares of 3 channels"
            )));
        }
        let counts = [1, 2, 3, 4].map(|stage| found.count(&format!("layer{stage}.")));
        let blocks = match found.shape("layer1.0.conv3.weight") {
            Some(_) => Blocks::Bottleneck,
            None => Blocks::Basic,
        };
        let (stem, finding) = stem(found, kernel)?;
        let mut known = Depth::ALL.into_iter();
        let depth = known.find(|depth| (depth.blocks(), depth.counts()) == (blocks, counts));
        let depth = depth.ok_or_else(|| {
            found.wrong(format!(
                "is a ResNet of {counts:?} blocks: supported are ResNet-18, 34, 50, 101 and 152"
            ))
        })?;
        // The standard stem usually takes ImageNet's size.
        let images = (kernel == 7).then_some(224);
        Ok(Detected { sizes: Self { depth, width, stem }, images, findings: vec![finding] })
    }
}

/// A ResNet whose children are numbered in a `Sequential`, found by the first array of its `layer1`.
fn sequential(name: &str, all: &Arrays) -> Option<Place> {
    let before = name.strip_suffix(".0.conv1.weight")?;
    let (prefix, number) = match before.rfind('.') {
        Some(dot) => before.split_at(dot + 1),
        None => ("", before),
    };
    let Ok(first @ 2..=4) = number.parse::<usize>() else { return None };
    let rank = |name: String| all.get(&name).map(Vec::len);
    let stages =
        (first..first + 4).all(|n| all.contains_key(&format!("{prefix}{n}.0.conv1.weight")));
    let whole = rank(format!("{prefix}0.weight")) == Some(4)
        && rank(format!("{prefix}1.weight")) == Some(1)
        && stages;
    whole.then(|| Place { prefix: prefix.into(), naming: Naming::Sequential { first } })
}

/// The stem, and its basis.
fn stem(found: &Found<'_>, kernel: usize) -> Result<(Stem, Finding), ModelError> {
    let ImportOptions { stem_padding, stem_stride, max_pool, .. } = *found.options;
    let (usual, basis, reason) = match usual(found, kernel) {
        Some(usual) => usual,
        None => {
            let lacking = |option| found.unstated("what the first convolution does", option);
            let stride = stem_stride.ok_or_else(|| lacking("stem_stride"))?;
            let maxpool = max_pool.ok_or_else(|| lacking("max_pool"))?;
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
        let option = match part {
            "stride" => "stem_stride",
            "padding" => "stem_padding",
            _ => {
                let reason = format!("conv1.weight has kernels of {value} pixels: {allowed}");
                return Err(found.wrong(reason));
            }
        };
        return Err(ModelError::option(option, value, allowed));
    }
    let given = [stem_padding.is_some(), stem_stride.is_some(), max_pool.is_some()];
    let (basis, reason) = match given {
        [true, true, true] => (Basis::Given, String::new()),
        [false, false, false] => (basis, reason),
        _ => (Basis::Given, format!("the rest: {reason}")),
    };
    Ok((shape.into(), Finding::new("stem", shape, basis, &reason)))
}

/// The stem that the tool builds with a first convolution of this `kernel`; `None` for kernels other than 3 and 7.
fn usual(found: &Found<'_>, kernel: usize) -> Option<(StemShape, Basis, String)> {
    let shape = match kernel {
        3 => StemShape { kernel, stride: 1, padding: 1, maxpool: false },
        7 => StemShape { kernel, stride: 2, padding: 3, maxpool: true },
        _ => return None,
    };
    let stated = found.file.facts.all("maxpool1").find_map(|fact| match fact {
        Fact::Bool(maxpool) => Some(*maxpool),
        _ => None,
    });
    if let Some(maxpool) = stated {
        let reason = "maxpool1 in its config".to_owned();
        return Some((StemShape { maxpool, ..shape }, Basis::Stated, reason));
    }
    if let Naming::Sequential { first: 2 | 3 } = found.place.naming {
        let reason = "there is no max-pool in its Sequential".to_owned();
        return Some((StemShape { maxpool: false, ..shape }, Basis::Known, reason));
    }
    let padded = StemShape { padding: 2, ..shape };
    Some(match (kernel, tool(found)) {
        (3, Some(Tool::Solo(true))) => {
            (padded, Basis::Known, "solo-learn's ResNets for CIFAR".to_owned())
        }
        (3, Some(Tool::Solo(false))) => {
            (padded, Basis::Guess, "as solo-learn's, whose names these are".to_owned())
        }
        (3, Some(Tool::Kuangliu)) => (shape, Basis::Known, "kuangliu's ResNets for CIFAR".into()),
        (3, _) => (shape, Basis::Assumed, "as most ResNets for small images".into()),
        _ => (shape, Basis::Assumed, "as torchvision's".into()),
    })
}
