//! The command `probe --encoder`: does a trigger act as a backdoor in an external encoder? Only the classifier is
//! trained. The scores are compared with those of an untrained network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use clap::Args;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_data::{
    DataConfig, Eval, Normalization, Patched, SampleSet, Split, Splits, Subset,
};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderHeader, Preprocessing, load_encoder};
use ssl_backdoor_probe::{ProbeConfig, Protocol, Scores, evaluation_filter};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::encoder_header;
use ssl_backdoor_trigger::{Attack, PoisonConfig};

use super::shared::{computing, encoder_file, existing, path};
use crate::config::{
    self, ConfigError, Document, Source, Wrong, check_poison, expand_tables, keep_only,
};

use crate::record::{
    BySet, COVERED, Images, ProbeId, SCHEMA, UNTRAINED, hash_file, json_text, percent,
};
use crate::run::{Choice, RunFolder, Task, UnifiedProbe, labelled, progress, read_out};
use crate::{device, report};

/// Key of the encoder in the scores.
pub(super) const EXTERNAL: &str = "encoder";
/// Not `scores.json`, because `report` reads every file of that name as a run.
pub(super) const EXTERNAL_SCORES: &str = "foreign.json";

/// Score an external encoder on clean and patched images, without pretraining.
///
/// Trains only the classifier of [probe] on the frozen features, and compares the encoder with an untrained network of
/// the same kind. Uses [data], [poison] and [probe] of the config. Images are prepared as the encoder file records (size,
/// interpolation, mean, std). Convert checkpoints of other tools with `convert` first.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ssl-backdoor probe --encoder encoder.safetensors configs/fashion-mnist/moco-v2.toml"
)]
pub struct ProbeArgs {
    /// The encoder file.
    #[arg(long, value_name = "FILE", value_parser = existing())]
    encoder: PathBuf,
    /// The experiment, a TOML file.
    #[arg(value_parser = path())]
    config: PathBuf,
    /// Folder for foreign.json, the scores [default: runs/NAME-FILE].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Override a key of the config; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print foreign.json instead of a table.
    #[arg(long)]
    json: bool,
}

impl ProbeArgs {
    /// Scores the encoder.
    ///
    /// # Errors
    /// As [`probe_external`].
    pub fn run(self) -> Result<()> {
        let Self { encoder, config, out, sets, json } = self;
        let options = ExternalOptions { encoder, config, out, sets, json };
        computing(|| probe_external(&options))
    }
}

/// Options of a probe.
#[derive(Debug, Clone)]
pub struct ExternalOptions {
    /// The encoder file.
    pub encoder: PathBuf,
    /// The config whose `[data]`, `[poison]` and `[probe]` are used.
    pub config: PathBuf,
    /// Folder for the scores; none = `runs/NAME-ENCODER`.
    pub out: Option<PathBuf>,
    /// Overrides, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Print the scores as JSON.
    pub json: bool,
}

/// The tables of a config that are used here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalConfig {
    name: String,
    seed: u64,
    #[serde(default = "config::default_device")]
    device: String,
    data: DataConfig,
    poison: PoisonConfig,
    probe: ProbeConfig,
    /// Where its values were written.
    #[serde(skip)]
    source: Source,
}

/// All scores of the encoder.
#[derive(Debug, Serialize)]
struct ExternalScores<'a> {
    /// Schema version of the file.
    schema: u32,
    name: &'a str,
    /// The file, its BLAKE3 hash, and its header.
    file: String,
    file_hash: String,
    header: &'a EncoderHeader,
    target: Option<u32>,
    target_name: Option<&'a String>,
    trigger: String,
    classes: usize,
    seed: u64,
    eval: Eval,
    images: usize,
    /// The first is the headline.
    probes: Vec<ExternalResult>,
}

/// The scores of the encoder and of an untrained network with one probe.
#[derive(Debug, Serialize)]
struct ExternalResult {
    probe: ProbeId,
    labels: f64,
    seed: Option<u64>,
    models: BTreeMap<&'static str, BySet>,
}

/// Probes the encoder and prints its scores.
///
/// # Errors
/// A [`ConfigError`] if the config is wrong or the file does not record how images are prepared; another error if a
/// file cannot be read or written.
pub fn probe_external(options: &ExternalOptions) -> Result<()> {
    let settings = ExternalConfig::read(&options.config, &options.sets)?;
    score(options, &settings).map_err(|error| settings.source.locate(error))
}

fn score(options: &ExternalOptions, settings: &ExternalConfig) -> Result<()> {
    let ExternalOptions { encoder: file, out, .. } = options;
    let header = settings.header(file)?;
    let device = device::open(&settings.device).map_err(|e| settings.source.wrong(e))?;
    let images = PreparedFor::encoder(&header, &settings.data);
    let splits = images.data.load(&progress::watch())?;
    progress::say_left_out(&splits.left_out, &splits.skipped);
    let choice =
        Choice { splits: &splits, seed: settings.seed, device: &device, source: &settings.source };
    let poison = choice.of(&settings.poison, None)?;
    let attack = splits.attack(&poison, settings.seed);
    let attack = attack.map_err(|e| settings.source.wrong(e))?;
    let shown = settings.shown(&images, &splits, &attack)?;
    warn_of_small(&attack, header.preprocessing.size);
    let out = out.clone().unwrap_or_else(|| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        Path::new("runs").join(format!("{}-{stem}", settings.name))
    });
    let folder = RunFolder::open(&out)?;

    let mut rng = keyed(settings.seed, purpose::INIT, 0, 0, 0);
    let untrained = header.encoder.init(&mut rng, &device.clone().without_autodiff()).valid();
    let external = load_encoder(&header, file, &device)?;
    let before = settings.probe_all(&untrained, &shown, &images.normalization, &device)?;
    let now = settings.probe_all(&external, &shown, &images.normalization, &device)?;
    let both = |(before, now): (Probed, Probed)| ExternalResult {
        probe: now.probe,
        labels: now.labels,
        seed: now.seed,
        models: BTreeMap::from([(UNTRAINED, before.scores), (EXTERNAL, now.scores)]),
    };
    let scores = ExternalScores {
        schema: SCHEMA,
        name: &settings.name,
        file: file.display().to_string(),
        file_hash: hash_file(file)?,
        header: &header,
        target: attack.target,
        target_name: attack.target.and_then(|t| splits.classes.get(t as usize)),
        trigger: settings.poison.to_string(),
        classes: splits.classes.len(),
        seed: settings.seed,
        eval: settings.data.eval(),
        images: splits.eval.labels.len(),
        probes: before.into_iter().zip(now).map(both).collect(),
    };
    let text = json_text(&scores)?;
    folder.write(EXTERNAL_SCORES, text.as_bytes())?;
    match options.json {
        true => print!("{text}"),
        false => println!(
            "{}Scores: {}",
            table(&scores.probes[0]),
            folder.join(EXTERNAL_SCORES).display()
        ),
    }
    Ok(())
}

/// Warns if the patch is small on the encoder's images, whose side is `size`: a config may size it for other images.
fn warn_of_small(attack: &Attack, size: u32) {
    let Some(width) = attack.val.perturbation.width((size, size)) else { return };
    let covered = (f64::from(width) / f64::from(size)).powi(2);
    if covered < COVERED {
        eprintln!(
            "warning: the trigger is {width} pixels wide and covers only {:.2} % of the encoder's images of {size} x {size} \
             pixels, less than {:.1} %. Set its width relative to the image (poison.trigger.width = {{ share = FRACTION }})",
            100.0 * covered,
            100.0 * COVERED
        );
    }
}

impl ExternalConfig {
    /// The tables of `path` that are used; the others may be absent.
    fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let mut document = Document::open(path, sets)?;
        keep_only(&mut document, &["name", "seed", "device", "data", "poison", "probe"]);
        let mut settings = Self { source: document.clone().into(), ..document.read()? };
        expand_tables(&mut settings.data, &mut settings.poison, Some(&mut settings.probe));
        config::check_name(&settings.name).map_err(|e| document.wrong(e))?;
        settings.data.check().map_err(|e| document.wrong(e))?;
        check_poison(&settings.data, &settings.poison).map_err(|e| document.wrong(e))?;
        settings.probe.check().map_err(|e| document.wrong(e))?;
        if settings.probe.protocol == Protocol::Paper {
            let message = "probe.protocol = \"paper\" depends on the pretraining method, which is unknown for an \
                           external encoder: allowed is \"unified\"";
            return Err(document.wrong(Wrong::about("probe.protocol", message)));
        }
        Ok(settings)
    }

    /// Reads the header of the encoder file, and checks the attack at the size of the encoder's images.
    fn header(&self, file: &Path) -> Result<EncoderHeader> {
        let header = encoder_file(file)?;
        let (own, size) = (&header.preprocessing, self.data.size());
        if *own != encoder_header(header.encoder, size).preprocessing {
            eprintln!(
                "Images are prepared as the encoder file records: {own} (data.size = {size} is ignored)."
            );
        }
        let sized = self.data.clone().with_size(own.size);
        check_poison(&sized, &self.poison).map_err(|e| self.source.wrong(e))?;
        Ok(header)
    }

    /// The images that the encoder is shown.
    fn shown(&self, images: &PreparedFor, splits: &Splits, attack: &Attack) -> Result<Shown> {
        let labelled = labelled(&self.probe, self.data.seed(), splits)
            .map_err(|e| self.source.wrong_about("probe.labels", &e))?;
        let plain = match images.resized {
            None => splits.labelled_prepared.clone(),
            Some(_) => images.of_split(splits, &splits.labelled),
        };
        let subset = |ids: &[u64]| -> SampleSet {
            Arc::new(Subset::of_ids(plain.clone(), &splits.labelled.labels, ids))
        };
        let eval = images.of_split(splits, &splits.eval);
        let patched: SampleSet = Arc::new(Patched::new(eval.clone(), &splits.eval, attack));
        Ok(Shown {
            labelled: labelled.iter().map(|of| (of.share, subset(&of.ids))).collect(),
            eval: [eval, patched],
            classes: splits.classes.len(),
            target: attack.target,
        })
    }

    /// The scores of `encoder` by each probe of the config.
    fn probe_all(
        &self,
        encoder: &Encoder,
        shown: &Shown,
        normalization: &Normalization,
        device: &Device,
    ) -> Result<Vec<Probed>> {
        let config = &self.probe;
        let features = |set: &SampleSet| read_out(config, encoder, set, normalization, device);
        let eval = [features(&shown.eval[0])?, features(&shown.eval[1])?];
        let mut all = Vec::new();
        for (labels, set) in &shown.labelled {
            let task =
                Task { labelled: &features(set)?, eval: &eval, classes: shown.classes, device };
            for probe in UnifiedProbe::all(config, self.seed) {
                let run = probe.run(config, task, None)?;
                let score = |i: usize| Scores::of(&eval[i].labels, &run.predicted[i], shown.target);
                let scores = Images::ALL.into_iter().zip([score(0)?, score(1)?]).collect();
                all.push(Probed { probe: run.probe, labels: *labels, seed: probe.seed(), scores });
            }
        }
        Ok(all)
    }
}

/// How the images of a config are prepared for an encoder, regardless of the config's size.
struct PreparedFor {
    /// The data set as it is read.
    data: DataConfig,
    /// Side of the prepared images and interpolation, if they differ from the run's own.
    resized: Option<(u32, Filter)>,
    normalization: Normalization,
}

impl PreparedFor {
    /// Prepares images as the encoder file records.
    fn encoder(header: &EncoderHeader, data: &DataConfig) -> Self {
        let Preprocessing { size, mean, std, .. } = header.preprocessing;
        // Resized once: from `data.native` if set, otherwise from the stored size.
        let kept = if data.native().is_some() { None } else { data.stored_size() };
        let (read, resized) = match evaluation_filter(&header.preprocessing) {
            Filter::Bilinear => (size, None),
            filter => (kept.unwrap_or(size), Some((size, filter))),
        };
        Self {
            data: data.clone().with_size(read),
            resized,
            normalization: Normalization { mean, std },
        }
    }

    /// The images of `split`, prepared.
    fn of_split(&self, splits: &Splits, split: &Split) -> SampleSet {
        match self.resized {
            None => splits.prepared(split),
            Some((size, filter)) => splits.prepared_by(split, size, filter),
        }
    }
}

/// The images that an encoder is shown.
struct Shown {
    /// Labelled training images, and their share.
    labelled: Vec<(f64, SampleSet)>,
    /// Evaluation images, clean and patched.
    eval: [SampleSet; 2],
    classes: usize,
    target: Option<u32>,
}

/// The result of one probe for one encoder.
struct Probed {
    probe: ProbeId,
    labels: f64,
    seed: Option<u64>,
    scores: BySet,
}

/// The headline as Markdown.
fn table(result: &ExternalResult) -> String {
    let rows = result.models.iter().rev();
    let rows = rows.map(|(model, sets)| (*model, Images::ALL.map(|images| sets.get(&images))));
    let ExternalResult { probe, labels, .. } = result;
    format!("{probe} probe, {} % labels\n\n{}", percent(*labels), report::markdown(rows))
}
