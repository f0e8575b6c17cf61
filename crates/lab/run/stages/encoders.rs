//! The encoder files of a run.

use anyhow::Result;
use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_model::{Encoder, EncoderHeader, load_encoder, save_encoder};
use ssl_backdoor_ssl::{encoder_header, initial_encoder};

use crate::record::Artefact;
use crate::run::lab::Lab;

/// What the run's encoder files say of themselves.
pub(super) fn header(lab: &Lab) -> EncoderHeader {
    encoder_header(lab.experiment.pretrain.encoder, lab.experiment.data.size())
}

/// Writes the encoder file of `model`.
pub(super) fn save(lab: &Lab, model: &ModelId, encoder: &Encoder) -> Result<()> {
    save_encoder(encoder, &header(lab), &lab.folder.join(Artefact::Encoder(model.clone())))?;
    Ok(())
}

/// The network of `model`, in evaluation mode.
pub(super) fn load(lab: &Lab, model: &ModelId) -> Result<Encoder> {
    let config = &lab.experiment.pretrain;
    if model.role() == Role::UNTRAINED {
        return Ok(initial_encoder(config, lab.experiment.seed, &lab.device));
    }
    Ok(load_encoder(&header(lab), &lab.path(&Artefact::Encoder(model.clone())), &lab.device)?)
}
