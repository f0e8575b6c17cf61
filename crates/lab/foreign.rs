//! The command `probe --encoder`: is a trigger of ours a backdoor of an encoder that came from elsewhere? Nothing is
//! trained but the classifier; the scores stand beside those of an untrained network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{DataConfig, Eval, Patched, SampleSet, Subset};
use ssl_backdoor_model::{EncoderHeader, load_encoder};
use ssl_backdoor_probe::{Features, LinearProbe, ProbeConfig, ProbeKind, Protocol, Scores, knn};
use ssl_backdoor_ssl::encoder_header;
use ssl_backdoor_trigger::PoisonConfig;
use toml::Value;

use crate::config::{self, ConfigError};
use crate::run_folder::RunFolder;
use crate::scores::{BySet, CLEAN, PATCHED, UNTRAINED};
use crate::stages::{labelled, read_out};
use crate::{device, manifest, progress, report};

/// Key of the encoder in the scores.
const FOREIGN: &str = "encoder";
const SCORES: &str = "scores.json";

/// What the command line says of a probe.
#[derive(Debug, Clone)]
pub struct ForeignOptions {
    /// The encoder file.
    pub encoder: PathBuf,
    /// The config whose `[data]`, `[poison]` and `[probe]` are used.
    pub config: PathBuf,
    /// Where the scores go; none = `runs/NAME-ENCODER`.
    pub out: Option<PathBuf>,
    /// Overrides, `KEY=VALUE`.
    pub sets: Vec<String>,
}

/// The tables of a config that count here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    seed: u64,
    #[serde(default = "config::default_device")]
    device: String,
    data: DataConfig,
    poison: PoisonConfig,
    probe: ProbeConfig,
}

/// All figures of the encoder.
#[derive(Debug, Serialize)]
struct ForeignScores<'a> {
    name: &'a str,
    /// The file, its BLAKE3, and what it says of itself.
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
    /// The headline is the first.
    probes: Vec<ForeignReading>,
}

#[derive(Debug, Serialize)]
struct ForeignReading {
    probe: String,
    labels: f64,
    seed: Option<u64>,
    models: BTreeMap<&'static str, BySet>,
}

/// Probes the encoder and prints its scores.
///
/// # Errors
/// A [`ConfigError`] if the config is wrong or prepares its images in another way than the encoder's; anything else if
/// a file cannot be read or written.
pub fn probe_foreign(options: &ForeignOptions) -> Result<()> {
    let ForeignOptions { encoder: file, config: path, out, sets } = options;
    let settings = Settings::read(path, sets)?;
    let at = |message: &dyn std::fmt::Display| ConfigError::at(path, message);
    let shown = file.display();
    let header = EncoderHeader::read(file)?.ok_or_else(|| {
        ConfigError(format!(
            "{shown} does not say how its images were prepared: write it down with `ssl-backdoor convert {shown} \
             OUT.safetensors`"
        ))
    })?;
    let run = encoder_header(header.encoder, settings.data.size()).preprocessing;
    let fits = header.preprocessing.check(&run, file);
    fits.map_err(|e| at(&format!("data.size = {}: {e}", run.size)))?;
    let device = device::open(&settings.device).map_err(|e| at(&e))?;
    let splits = settings.data.load(&progress::watch())?;
    let attack = settings.poison.attack(&splits.train.labels, &splits.classes, settings.seed);
    let attack = attack.map_err(|e| at(&e))?;
    let labelled = labelled(&settings.probe.labels, settings.data.seed(), &splits);
    let labelled = labelled.map_err(|e| at(&format!("{e:#}")))?;
    let out = out.clone().unwrap_or_else(|| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        Path::new("runs").join(format!("{}-{stem}", settings.name))
    });
    let folder = RunFolder::open(&out)?;

    let eval = splits.prepared(&splits.eval);
    let patched: SampleSet = Arc::new(Patched::new(eval.clone(), attack.val.clone()));
    let mut rng = chance::rng(settings.seed, Purpose::Init, 0, 0, 0);
    let untrained = header.encoder.init(&mut rng, &device.clone().without_autodiff()).valid();
    let foreign = load_encoder(&header, file, &device)?;
    let mut probes: Vec<ForeignReading> = Vec::new();
    for (name, encoder) in [(UNTRAINED, untrained), (FOREIGN, foreign)] {
        eprintln!("probe: {name}");
        let features = |set: &SampleSet| read_out(&settings.probe, &encoder, set, &device);
        let both = [features(&eval)?, features(&patched)?];
        for labelled in &labelled {
            let plain = splits.plain.clone();
            let images: SampleSet =
                Arc::new(Subset::of_ids(plain, &splits.train.labels, &labelled.ids));
            let own = features(&images)?;
            for (probe, seed, predicted) in
                settings.read_out(&own, &both, splits.classes.len(), &device)
            {
                let of = |i: usize| Scores::of(&both[i].labels, &predicted[i], attack.target);
                let scores = BySet::from([(CLEAN.into(), of(0)), (PATCHED.into(), of(1))]);
                let same = |old: &&mut ForeignReading| {
                    (&old.probe, old.labels, old.seed) == (&probe, labelled.share, seed)
                };
                match probes.iter_mut().find(same) {
                    Some(reading) => {
                        reading.models.insert(name, scores);
                    }
                    None => probes.push(ForeignReading {
                        probe,
                        labels: labelled.share,
                        seed,
                        models: BTreeMap::from([(name, scores)]),
                    }),
                }
            }
        }
    }
    let scores = ForeignScores {
        name: &settings.name,
        file: shown.to_string(),
        file_hash: manifest::hash_file(file)?,
        header: &header,
        target: attack.target,
        target_name: attack.target.and_then(|t| splits.classes.get(t as usize)),
        trigger: settings.poison.trigger.to_string(),
        classes: splits.classes.len(),
        seed: settings.seed,
        eval: settings.data.eval(),
        images: splits.eval.labels.len(),
        probes,
    };
    let mut text = serde_json::to_string_pretty(&scores)?;
    text.push('\n');
    folder.write(SCORES, text.as_bytes())?;
    println!("{}Scores: {}", table(&scores.probes[0]), folder.join(SCORES).display());
    Ok(())
}

impl Settings {
    /// The tables of `path` that count; the others may be absent.
    fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let mut table = config::read_table(path, 0)?;
        for set in sets {
            config::apply_set(&mut table, set)?;
        }
        for unused in ["workers", "pretrain", "defend"] {
            table.remove(unused);
        }
        let read: Result<Self, _> = Value::Table(table).try_into();
        let settings = read.map_err(|e| config::toml_error(path, &e))?;
        let at = |message: &dyn std::fmt::Display| ConfigError::at(path, message);
        config::check_name(&settings.name).map_err(|e| at(&e))?;
        settings.data.check().map_err(|e| at(&e))?;
        config::check_poison(&settings.data, &settings.poison).map_err(|e| at(&e))?;
        settings.probe.check().map_err(|e| at(&e))?;
        if settings.probe.protocol == Protocol::Paper {
            return Err(at(
                &"probe.protocol = \"paper\" is a method's own, and an encoder from elsewhere has none: \
                            allowed is \"unified\"",
            ));
        }
        Ok(settings)
    }

    /// What each reader of the config says of `eval` (clean and patched images), learnt from `labelled`.
    fn read_out(
        &self,
        labelled: &Features,
        eval: &[Features; 2],
        classes: usize,
        device: &Device,
    ) -> Vec<(String, Option<u64>, [Vec<u32>; 2])> {
        let config = &self.probe;
        let mut all = Vec::new();
        if config.kind == ProbeKind::Linear {
            for seed in (0..config.seeds).map(|i| self.seed.wrapping_add(i)) {
                let probe = LinearProbe::fit(config, labelled, classes, seed, device);
                let predicted = eval.each_ref().map(|features| probe.predict(features));
                all.push(("linear".to_owned(), Some(seed), predicted));
            }
        }
        for &k in &config.k {
            let vote = config.vote();
            let nearest = |eval| knn(labelled, eval, classes, &[k], vote, device).concat();
            all.push((format!("knn-{k}"), None, eval.each_ref().map(nearest)));
        }
        all
    }
}

/// The headline as Markdown.
fn table(reading: &ForeignReading) -> String {
    let rows = reading.models.iter().rev();
    let rows = rows.map(|(model, sets)| (*model, [CLEAN, PATCHED].map(|images| sets.get(images))));
    let ForeignReading { probe, labels, .. } = reading;
    format!("{probe} probe, {} % labels\n\n{}", 100.0 * labels, report::markdown(rows))
}
