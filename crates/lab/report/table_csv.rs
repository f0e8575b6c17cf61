//! `table.csv`: every figure of every run, for further analysis.

use anyhow::{Context, Result};
use serde::Serialize;
use ssl_backdoor_data::Eval;
use ssl_backdoor_defend::Role;

use crate::record::{Images, ProbeId, RunScores};

/// One probe of one model on one kind of images. Backdoored and defended models are compared with the clean twin.
#[derive(Serialize)]
struct Line<'a> {
    run: &'a str,
    method: &'a str,
    data: &'a str,
    eval: Eval,
    steps: usize,
    target: Option<&'a str>,
    trigger: &'a str,
    seed: u64,
    rate: Option<f64>,
    dataset_rate: f64,
    poisoned: usize,
    probe: &'a ProbeId,
    labels: f64,
    probe_seed: Option<u64>,
    model: &'a str,
    images: Images,
    acc: f64,
    acc_low: f64,
    acc_high: f64,
    fp: Option<usize>,
    asr: Option<f64>,
    asr_low: Option<f64>,
    asr_high: Option<f64>,
    asr_all: Option<f64>,
    net_asr: Option<f64>,
    net_low: Option<f64>,
    net_high: Option<f64>,
    mcnemar_p: Option<f64>,
    patched_drop: Option<f64>,
    lost: Option<i64>,
    lift: Option<f64>,
    /// The class that most patched images flow to, and its net flow.
    first: Option<String>,
    first_net: Option<f64>,
    under_trained: bool,
    numerics: Option<u32>,
    manifest: &'a str,
}

/// The whole table with its head.
pub(super) fn csv(runs: &[RunScores]) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for run in runs {
        for reading in &run.probes {
            for (model, sets) in &reading.models {
                let (net, flow) = match reading.defended.get(model) {
                    Some(against) => (Some(against.net), Some(&against.flow)),
                    None if model.role() == Role::BACKDOORED => {
                        (Some(reading.net), reading.flow.as_ref())
                    }
                    // Also the defended models of a version that did not compare them.
                    None => (None, None),
                };
                let interval = net.and_then(|net| net.net_asr_ci);
                let first = flow.and_then(|flow| flow.top(1).first().copied());
                for (images, s) in sets {
                    table.serialize(Line {
                        run: &run.name,
                        method: &run.method,
                        data: &run.data,
                        eval: run.eval,
                        steps: run.steps,
                        target: run.target_name.as_deref(),
                        trigger: &run.trigger,
                        seed: run.seed,
                        rate: run.poison.rate,
                        dataset_rate: run.poison.dataset_rate,
                        poisoned: run.poison.count,
                        probe: &reading.probe,
                        labels: reading.labels,
                        probe_seed: reading.seed,
                        model: model.as_str(),
                        images: *images,
                        acc: s.acc,
                        acc_low: s.acc_ci[0],
                        acc_high: s.acc_ci[1],
                        fp: s.fp,
                        asr: s.asr,
                        asr_low: s.asr_ci.map(|ci| ci[0]),
                        asr_high: s.asr_ci.map(|ci| ci[1]),
                        asr_all: s.asr_all,
                        net_asr: net.and_then(|net| net.net_asr),
                        net_low: interval.map(|ci| ci[0]),
                        net_high: interval.map(|ci| ci[1]),
                        mcnemar_p: net.map(|net| net.mcnemar_p),
                        patched_drop: net.map(|net| net.patched_drop),
                        lost: flow.map(|flow| flow.lost),
                        lift: flow.and_then(|flow| flow.lift),
                        first: first.map(|(class, _)| run.class_name(class)),
                        first_net: first.map(|(_, net)| net),
                        under_trained: run.under_trained(),
                        numerics: run.numerics(),
                        manifest: &run.manifest_hash,
                    })?;
                }
            }
        }
    }
    table.into_inner().context("cannot write table.csv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_with_a_backdoor_are_compared_with_the_twin() {
        // Made by a version that did not compare defended models with the twin.
        let kept = "results/shapes/defence/byol_defender-1/scores.json";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
        let table = csv(&[RunScores::read(&path).unwrap()]).unwrap();
        let mut table = csv::Reader::from_reader(table.as_slice());
        let head = table.headers().unwrap().clone();
        let at = |name: &str| head.iter().position(|column| column == name).unwrap();
        let columns = [at("model"), at("net_asr"), at("patched_drop"), at("first_net")];
        for row in table.records().map(Result::unwrap) {
            let [model, rest @ ..] = columns.map(|column| row.get(column).unwrap());
            let backdoored = model == "backdoored";
            assert!(rest.iter().all(|cell| cell.is_empty() != backdoored), "{model}: {rest:?}");
        }
    }
}
