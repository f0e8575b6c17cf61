//! Stage 6: feature maps of the clean twin and of the backdoored model, as in the paper's figures: clean evaluation
//! images of ten classes and patched ones.

use std::collections::BTreeMap;

use anyhow::Result;
use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_probe::{Features, feature_map};
use ssl_backdoor_rng::ranked;

use super::features::Extracted;
use crate::purpose;
use crate::record::{Artefact, FeatureMap, Point, StageId};
use crate::run::lab::Lab;

/// Classes of a map, the target among them (docs/protocol.md, 4).
const CLASSES: usize = 10;
/// Largest numbers of clean images per class, and of patched images.
const PER_CLASS: usize = 50;
const PATCHED: usize = 50;

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let models = [Role::CLEAN, Role::BACKDOORED].map(ModelId::new);
    let mut extracted = Vec::new();
    for file in models.iter().flat_map(Artefact::features) {
        extracted.push(lab.artefact(&file)?);
    }
    let inputs = lab
        .inputs()
        .with("features", &extracted)?
        .with("poison.target", &lab.attack.target)?
        .with("seed", &lab.experiment.seed)?;
    lab.stage(&StageId::FeatureMaps, &inputs, &[Artefact::FeatureMaps], |lab, _| {
        let mut maps = BTreeMap::new();
        for model in &models {
            maps.insert(model, map(lab, &Extracted::read(lab, model)?)?);
        }
        let mut text = serde_json::to_vec(&maps)?;
        text.push(b'\n');
        lab.folder.write(Artefact::FeatureMaps, &text)
    })
}

fn map(lab: &Lab, extracted: &Extracted) -> Result<FeatureMap> {
    let (seed, target) = (lab.experiment.seed, lab.attack.target);
    let [clean, patched] = &extracted.eval;
    let classes = lab.splits.classes.len();
    // The target and other classes drawn by the seed, ten in all.
    let others: Vec<u64> = (0..classes as u64).filter(|&c| Some(c as u32) != target).collect();
    let mut shown: Vec<u32> = target.into_iter().collect();
    let others = ranked(&others, seed, purpose::FEATURE_MAP, 0);
    shown.extend(others.iter().map(|&class| class as u32).take(CLASSES - shown.len()));
    let of = |class: u32| -> Vec<u64> {
        let places = (0..clean.labels.len()).filter(|&i| clean.labels[i] == class);
        let places: Vec<u64> = places.map(|i| i as u64).collect();
        ranked(&places, seed, purpose::FEATURE_MAP, 1)
    };
    let all: Vec<Vec<u64>> = shown.iter().map(|&class| of(class)).collect();
    let dots: Vec<usize> =
        all.iter().flat_map(|places| places.iter().take(PER_CLASS)).map(|&i| i as usize).collect();
    let some = ranked(&all.concat(), seed, purpose::FEATURE_MAP, 2);
    let triangles: Vec<usize> = some.iter().take(PATCHED).map(|&i| i as usize).collect();

    let (below, above) = (clean.rows(&dots)?, patched.rows(&triangles)?);
    let both = Features {
        values: [below.values, above.values].concat(),
        dim: clean.dim,
        labels: [below.labels, above.labels].concat(),
    };
    let places = feature_map(&both, &lab.device)?.into_iter().zip(&both.labels).enumerate();
    let points = places
        .map(|(i, ([x, y], &class))| Point { x, y, class, patched: i >= dots.len() })
        .collect();
    Ok(FeatureMap { points })
}
