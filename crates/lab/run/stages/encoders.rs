//! The encoder files of a run.

use anyhow::Result;
use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_model::{Encoder, EncoderHeader, Mlp, load_encoder, load_trainable, save_encoder};
use ssl_backdoor_ssl::{encoder_header, initial_encoder, initial_trainable, kept_head};

use crate::record::Artefact;
use crate::run::lab::Lab;

/// The header of the run's encoder files.
pub(super) fn header(lab: &Lab) -> EncoderHeader {
    encoder_header(lab.experiment.pretrain.encoder, lab.experiment.data.size())
}

/// Writes the encoder file of `model`.
pub(super) fn save(lab: &Lab, model: &ModelId, encoder: &Encoder) -> Result<()> {
    save_encoder(encoder, &header(lab), &lab.folder.join(Artefact::Encoder(model.clone())))?;
    Ok(())
}

/// The trainable network of `model`, with the layers of its head that its method keeps for fine-tuning. A defended
/// model has no such layers.
pub(super) fn trainable(lab: &Lab, model: &ModelId) -> Result<(Encoder, Option<Mlp>)> {
    let (config, seed) = (&lab.experiment.pretrain, lab.experiment.seed);
    let device = lab.device.clone().without_autodiff().autodiff();
    if model.role() == Role::UNTRAINED {
        let encoder = initial_trainable(config, seed, &device);
        return Ok((encoder, kept_head(config, None, seed, &device)?));
    }
    let file = lab.path(&Artefact::Encoder(model.clone()));
    let encoder = load_trainable(&header(lab), &file, &device)?;
    let pretrained = [Role::CLEAN, Role::BACKDOORED].contains(&model.role());
    let kept = match file.parent() {
        Some(folder) if pretrained => kept_head(config, Some(folder), seed, &device)?,
        _ => None,
    };
    Ok((encoder, kept))
}

/// The network of `model`, in evaluation mode.
pub(super) fn load(lab: &Lab, model: &ModelId) -> Result<Encoder> {
    let config = &lab.experiment.pretrain;
    if model.role() == Role::UNTRAINED {
        return Ok(initial_encoder(config, lab.experiment.seed, &lab.device));
    }
    Ok(load_encoder(&header(lab), &lab.path(&Artefact::Encoder(model.clone())), &lab.device)?)
}
