//! The tables of the report of a run.

use serde_json::Value;
use ssl_backdoor_defend::ModelId;
use ssl_backdoor_probe::Scores;

use super::charts;
use crate::record::{BACKDOORED, CLEAN, Images, ProbeResult, RunScores, UNTRAINED, percent};

pub(super) const READINGS_HEAD: [&str; 8] = [
    "Probe",
    "Labels",
    "Seed",
    "Acc, twin",
    "Acc, backdoored",
    "patched ASR, twin",
    "patched ASR, backdoored",
    "net ASR",
];

/// A row for each probe, if there is more than the headline.
pub(super) fn readings(scores: &RunScores) -> Vec<Vec<String>> {
    if scores.probes.len() < 2 {
        return Vec::new();
    }
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
    let row = |reading: &ProbeResult| {
        let get = |model, images| reading.models.get(model).and_then(|sets| sets.get(&images));
        let asr = |model| number(get(model, Images::Patched).and_then(|s| s.asr));
        let net = reading.net;
        let (value, [low, high]) =
            net.net_asr.zip(net.net_asr_ci).unwrap_or((net.patched_drop, net.patched_drop_ci));
        vec![
            reading.probe.to_string(),
            format!("{} %", percent(reading.labels)),
            reading.seed.map_or("-".into(), |seed| seed.to_string()),
            number(get(CLEAN, Images::Clean).map(|s| s.acc)),
            number(get(BACKDOORED, Images::Clean).map(|s| s.acc)),
            asr(CLEAN),
            asr(BACKDOORED),
            format!("{value:.1} [{low:.1}, {high:.1}]"),
        ]
    };
    scores.probes.iter().map(row).collect()
}

/// The [`readings`] as a Markdown table.
pub(super) fn readings_table(scores: &RunScores) -> Option<String> {
    let mut text =
        line(&READINGS_HEAD.map(String::from)) + &line(&READINGS_HEAD.map(|_| "---".into()));
    let rows = readings(scores);
    rows.iter().for_each(|row| text += &line(row));
    (!rows.is_empty()).then_some(text)
}

/// One model of the table: a name and its figures on clean and on patched images.
pub(super) struct ModelRow {
    pub model: String,
    pub cells: Vec<String>,
}

const HEAD: [&str; 7] = ["Model", "clean: Acc %", "FP", "ASR %", "patched: Acc %", "FP", "ASR %"];

/// A row for each model.
pub(super) fn rows(scores: &RunScores) -> Vec<ModelRow> {
    models(scores).into_iter().map(|(model, sets)| row(model, sets)).collect()
}

/// The models in the order of the table, each with its scores on clean and on patched images.
fn models(scores: &RunScores) -> Vec<(&str, [Option<&Scores>; 2])> {
    let named =
        [(UNTRAINED, "untrained encoder"), (CLEAN, "clean twin"), (BACKDOORED, "backdoored model")];
    let others = scores.models.keys();
    let mut others: Vec<&ModelId> = others.filter(|model| !model.role().is_basic()).collect();
    // Then the defended models, then the controls, each by decreasing share.
    others.sort_by(|a, b| {
        let ((of_a, a_share), (of_b, b_share)) = (a.series(), b.series());
        let place = (a.role().is_control(), of_a).cmp(&(b.role().is_control(), of_b));
        place.then(b_share.total_cmp(&a_share))
    });
    let others = others.into_iter().map(ModelId::as_str);
    let sets = |key| Images::ALL.map(|images| scores.get(key, images));
    let others = others.map(|key| (key, key));
    named.into_iter().chain(others).map(|(key, model)| (model, sets(key))).collect()
}

fn row(model: &str, sets: [Option<&Scores>; 2]) -> ModelRow {
    ModelRow { model: model.to_owned(), cells: sets.map(cells).concat() }
}

/// Accuracy, FP and ASR with their intervals.
fn cells(scores: Option<&Scores>) -> Vec<String> {
    let Some(scores) = scores else { return vec!["-".into(); 3] };
    let interval = |[low, high]: [f64; 2]| format!("[{low:.1}, {high:.1}]");
    let asr = scores.asr.zip(scores.asr_ci);
    vec![
        format!("{:.1} {}", scores.acc, interval(scores.acc_ci)),
        scores.fp.map_or("-".into(), |fp| fp.to_string()),
        asr.map_or("-".into(), |(asr, ci)| format!("{asr:.1} {}", interval(ci))),
    ]
}

/// A row of a table in Markdown.
fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// The table of the paper for this run, as Markdown.
pub(crate) fn table(scores: &RunScores) -> String {
    markdown(models(scores).into_iter())
}

/// A table of models, each with its scores on clean and on patched images, as Markdown.
pub(crate) fn markdown<'a>(
    models: impl Iterator<Item = (&'a str, [Option<&'a Scores>; 2])>,
) -> String {
    let mut text = line(&HEAD.map(String::from)) + &line(&HEAD.map(|_| "---".into()));
    for ModelRow { model, cells } in models.map(|(model, sets)| row(model, sets)) {
        text += &line(&[vec![model], cells].concat());
    }
    text
}

/// The attack during the training as Markdown, if it was measured.
pub(super) fn curve_table(metrics: &[Vec<Value>; 2]) -> Option<String> {
    let mut text = String::from(
        "| Steps | clean twin: Acc % | ASR clean % | ASR patched % | backdoored: Acc % | ASR clean % | ASR patched % |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut points = 0;
    for (clean, backdoored) in metrics[0].iter().zip(&metrics[1]) {
        let figures: Option<Vec<f64>> = [clean, backdoored]
            .iter()
            .flat_map(|line| charts::CURVE.iter().map(|key| line.get(key)?.as_f64()))
            .collect();
        if let Some(figures) = figures {
            points += 1;
            let cells: Vec<String> = figures.iter().map(|v| format!("{v:.1}")).collect();
            text += &format!("| {} | {} |\n", clean["step"], cells.join(" | "));
        }
    }
    (points > 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn review_2_06_students_stand_by_falling_share() {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
        let mut scores = RunScores::read(&path).unwrap();
        let some = scores.models[CLEAN].clone();
        for name in [
            "distilled-0.5",
            "distilled-0.05",
            "distilled-0.1",
            "distilled-0.5-poisoned-0.05",
            "distilled-0.5-poisoned-0.1",
            "fine-tuned-0.1",
            "fine-tuned-0.05",
            "distilled-0.075",
            "clean-teacher-0.5",
        ] {
            scores.models.insert(name.into(), some.clone());
        }
        let names: Vec<&str> = models(&scores).into_iter().map(|(name, _)| name).collect();
        let expected = [
            "untrained encoder",
            "clean twin",
            "backdoored model",
            "distilled-0.5",
            "distilled-0.1",
            "distilled-0.075",
            "distilled-0.05",
            "distilled-0.5-poisoned-0.1",
            "distilled-0.5-poisoned-0.05",
            "clean-teacher-0.5",
            "fine-tuned-0.1",
            "fine-tuned-0.05",
        ];
        assert_eq!(names, expected);
    }
}
