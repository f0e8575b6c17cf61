//! Stage 3: CompReSS students of the backdoored model, one for each clean share.

use std::sync::Arc;

use anyhow::Result;
use serde_json::Map;
use ssl_backdoor_compress::{CompressConfig, DefendConfig, distill};
use ssl_backdoor_data::{SampleSet, Subset, clean_part_ids};
use ssl_backdoor_model::load_encoder;
use ssl_backdoor_ssl::Training;

use super::Lab;
use super::pretrain::{encoder_file, save};
use crate::scores::BACKDOORED;

/// The models that the defence adds, as configured.
pub(super) fn models(lab: &Lab) -> Vec<String> {
    students(lab).into_iter().map(|(student, _)| student).collect()
}

/// The clean shares of the config with the names of their students, largest first as configured.
fn students(lab: &Lab) -> Vec<(String, f64)> {
    match &lab.experiment.defend {
        None => Vec::new(),
        Some(DefendConfig::Compress(config)) => {
            config.clean.iter().map(|&share| (format!("distilled-{share}"), share)).collect()
        }
    }
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let Some(DefendConfig::Compress(config)) = lab.experiment.defend.clone() else {
        return Ok(());
    };
    for (student, share) in students(lab) {
        let inputs = lab.inputs(&(
            &student,
            &lab.experiment.data,
            &lab.experiment.pretrain.encoder,
            &config,
            lab.experiment.seed,
            lab.artefact(&encoder_file(BACKDOORED))?,
        ))?;
        let encoder = encoder_file(&student);
        lab.stage(&format!("defend {student}"), inputs, &[&encoder], |lab, identity| {
            train(lab, &config, &student, share, identity)
        })?;
    }
    Ok(())
}

fn train(
    lab: &Lab,
    config: &CompressConfig,
    student: &str,
    share: f64,
    identity: &str,
) -> Result<()> {
    let folder = lab.folder.make(student)?;
    let experiment = &lab.experiment;
    let encoder = &experiment.pretrain.encoder;
    let teacher = load_encoder(encoder, &lab.folder.join(&encoder_file(BACKDOORED)), &lab.device)?;
    let training = Training {
        set: clean_part(lab, share),
        seed: experiment.seed,
        device: &lab.device,
        workers: experiment.workers,
        folder: &folder,
        identity,
        label: student,
    };
    let size = experiment.data.size();
    let nothing = &mut |_: &_, _| Ok(Map::new());
    let trained = distill(config, encoder, teacher, size, &training, nothing)?;
    save(lab, student, &trained)
}

/// A stratified sample of clean originals.
fn clean_part(lab: &Lab, share: f64) -> SampleSet {
    let Lab { experiment, splits, .. } = lab;
    let labels = &splits.train.labels;
    let ids = clean_part_ids(labels, splits.classes.len() as u32, share, experiment.seed);
    Arc::new(Subset::of_ids(splits.pretrain_set().clone(), labels, &ids))
}
