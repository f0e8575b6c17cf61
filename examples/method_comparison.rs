//! What each method learns: clean pretraining under one config per method, with linear probes during
//! training, next to the untrained encoder and a probe on raw pixels with the same labels.
//!
//! ```sh
//! cargo run --release --example method_comparison -- configs/shapes/{moco-v2,byol}.toml --seeds 1,2,3
//! ```
//!
//! Prints a line of JSON per probe and a table at the end. Accuracies are on the part that `data.eval`
//! names, at the last epoch; for a ResNet also at its best stage, because Jigsaw and RotNet have their
//! general features in the middle stages (the untrained encoder has its own best stage).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use clap::Parser;
use serde_json::{Value, json};
use ssl_backdoor::Experiment;
use ssl_backdoor_data::{SampleSet, Splits, Subset, labelled_ids};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_probe::{Features, Labels, LinearProbe, ProbeError, Scores, extract_by};
use ssl_backdoor_ssl::{Training, after_each_epoch, initial_encoder, pretrain};

#[derive(Parser)]
#[command(about = "Probe accuracy of each method, against steps, beside untrained and raw pixels")]
struct Args {
    /// Configs, one per method; `poison` and `defend` are not used.
    #[arg(required = true)]
    configs: Vec<PathBuf>,
    /// Seeds of initial weights, order and views.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Overrides, as in `ssl-backdoor run`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Probes along a training, at equal distances; the last is at its end.
    #[arg(long, default_value_t = 4)]
    points: usize,
}

/// The images of the probe.
struct Probe<'a> {
    experiment: &'a Experiment,
    labelled: SampleSet,
    eval: SampleSet,
    classes: usize,
    device: Device,
}

impl<'a> Probe<'a> {
    fn new(experiment: &'a Experiment, splits: &Splits) -> anyhow::Result<Self> {
        let Labels::Shares(shares) = &experiment.probe.labels else {
            anyhow::bail!("probe.labels must be a share of each class");
        };
        let (labels, classes) = (&splits.labelled.labels, splits.classes.len());
        let share = shares.first().copied().unwrap_or(0.1);
        let ids = labelled_ids(labels, classes as u32, share, experiment.data.seed());
        Ok(Self {
            experiment,
            labelled: Arc::new(Subset::of_ids(splits.labelled_prepared.clone(), labels, &ids)),
            eval: splits.prepared(&splits.eval),
            classes,
            device: Device::flex(),
        })
    }

    /// Accuracy in percent for each kind of feature.
    fn accuracy(&self, of: impl Fn(Tensor<4>) -> Vec<Tensor<2>>) -> Result<Vec<f64>, ProbeError> {
        let labelled = extract_by(&self.labelled, &self.device, &of)?;
        let eval = extract_by(&self.eval, &self.device, &of)?;
        let (config, seed) = (&self.experiment.probe, self.experiment.seed);
        let one = |(labelled, eval): (&Features, &Features)| -> Result<f64, ProbeError> {
            let probe = LinearProbe::fit(config, labelled, self.classes, seed, &self.device)?;
            Ok(Scores::of(&eval.labels, &probe.predict(eval)?, None)?.acc)
        };
        labelled.iter().zip(&eval).map(one).collect()
    }

    fn stages(&self, encoder: &Encoder) -> Result<Vec<f64>, ProbeError> {
        self.accuracy(|images| encoder.stages(images))
    }

    fn pixels(&self) -> Result<f64, ProbeError> {
        let flat = |images: Tensor<4>| {
            let [batch, channels, height, width] = images.dims();
            vec![images.reshape([batch, channels * height * width])]
        };
        Ok(last(&self.accuracy(flat)?))
    }
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or(f64::NAN)
}

fn best(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ssl_backdoor_kernels::keep_freed_memory();
    // A wrong config is named before anything is trained.
    let mut experiments = Vec::new();
    for config in &args.configs {
        for seed in &args.seeds {
            let mut sets = args.sets.clone();
            sets.push(format!("seed={seed}"));
            experiments.push(Experiment::read(config, &sets)?);
        }
    }
    let mut rows = Vec::new();
    for experiment in &experiments {
        rows.push(one(experiment, args.points)?);
    }
    println!(
        "\n| method | seed | steps | images/s | raw pixels | untrained (best stage) | trained (best stage) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// Trains and probes one experiment's clean model; returns its row of the table.
fn one(experiment: &Experiment, points: usize) -> anyhow::Result<String> {
    let splits = experiment.data.load(&|_, _, _| {})?;
    let probe = Probe::new(experiment, &splits)?;
    let set = splits.pretrain_set().clone();
    let (config, seed, size) = (&experiment.pretrain, experiment.seed, experiment.data.size());
    config.check(Some(set.len()), size)?;
    let plan = config.train.plan(seed, set.len());
    let (name, steps_per_epoch) = (config.method.settings().name(), plan.steps_per_epoch());
    let pixels = probe.pixels()?;
    let untrained = probe.stages(&initial_encoder(config, seed, &probe.device))?;
    println!("{}", json!({ "method": name, "seed": seed, "step": 0, "acc": untrained }));
    let training = Training::new(set, seed, &probe.device);
    let training = Training { workers: experiment.workers, ..training };
    let epochs = config.train.epochs;
    let every = (epochs / points.max(1)).max(1);
    let (mut trained, mut figures) = (Vec::new(), Value::Null);
    let (start, mut probing) = (Instant::now(), 0.0);
    let mut points = after_each_epoch(|epoch, encoder| {
        let done = epoch.epoch + 1;
        figures = epoch.figures().into();
        if done == epochs || done.is_multiple_of(every) {
            let now = Instant::now();
            trained = probe.stages(encoder)?;
            probing += now.elapsed().as_secs_f64();
            let step = done * steps_per_epoch;
            println!("{}", json!({ "method": name, "seed": seed, "step": step, "acc": trained }));
        }
        Ok(())
    });
    pretrain(config, None, size, &training, &mut points)?;
    drop(points);
    let steps = epochs * steps_per_epoch;
    let rate =
        (epochs * plan.images_per_epoch()) as f64 / (start.elapsed().as_secs_f64() - probing);
    println!("{figures}");
    Ok(format!(
        "| {name} | {seed} | {steps} | {rate:.0} | {pixels:.1} | {:.1} ({:.1}) | {:.1} ({:.1}) |",
        last(&untrained),
        best(&untrained),
        last(&trained),
        best(&trained)
    ))
}
