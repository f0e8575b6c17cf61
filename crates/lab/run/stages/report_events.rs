//! The figures and pictures of the report as event files for TensorBoard: scores in the folder of each model, pictures in
//! the run folder.

use anyhow::{Context, Result};
use ssl_backdoor_defend::{ModelId, Role};

use crate::record::{Event, EventFile, Summary, UNTRAINED, seconds_now};
use crate::report::{Material, map_image, png, samples};
use crate::run::lab::Lab;

/// Writes the event files.
///
/// # Errors
/// An image cannot be read, or a file cannot be written.
pub(super) fn write(lab: &Lab, material: &Material<'_>) -> Result<()> {
    let scores = material.scores;
    let time = seconds_now();
    for (model, by_set) in &scores.models {
        let mut summaries = Vec::new();
        for (images, scores) in by_set {
            let figures = [("acc", Some(scores.acc)), ("asr", scores.asr)];
            let scalar = |(name, value): (&str, Option<f64>)| {
                Some(Summary::Scalar {
                    tag: format!("scores/{name}_{images}"),
                    value: value? as f32,
                })
            };
            summaries.extend(figures.into_iter().filter_map(scalar));
        }
        let step = if model.as_str() == UNTRAINED { 0 } else { scores.steps as u64 };
        let folder = lab.folder.make(model)?;
        EventFile::start(&folder, "scores", &[Event { time, step, summaries }])
            .with_context(|| format!("cannot write an event file in {}", folder.display()))?;
    }
    let mut summaries = Vec::new();
    let mut picture = |tag: String, image| -> Result<()> {
        let size = image::RgbImage::dimensions(&image);
        summaries.push(Summary::Png { tag, size, bytes: png(&image)? });
        Ok(())
    };
    for (caption, strip) in samples(material)? {
        picture(format!("samples/{caption}"), strip)?;
    }
    for role in [Role::CLEAN, Role::BACKDOORED] {
        if let Some(map) = material.maps.get(&ModelId::new(role)) {
            picture(format!("features/{}", role.as_str()), map_image(map, scores.target))?;
        }
    }
    let folder = lab.folder.join("");
    let event = Event { time, step: scores.steps as u64, summaries };
    EventFile::start(&folder, "report", &[event])
        .with_context(|| format!("cannot write an event file in {}", folder.display()))?;
    Ok(())
}
