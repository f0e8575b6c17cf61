//! The report of a run: one self-contained `report.html`, and `report.md` for where HTML is not
//! read.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use askama::Template;
use serde_json::Value;
use ssl_backdoor_data::{Eval, SampleSet};
use ssl_backdoor_defend::{ModelId, Removal};
use ssl_backdoor_probe::Scores;
use ssl_backdoor_trigger::PoisonPlan;

use super::charts::{self, Chart};
use super::{destinations, pictures, sightings};
use crate::record::{
    BACKDOORED, CLEAN, FeatureMap, Images, NO_STEP, ProbeHow, ProbeId, ProbePart, ProbeResult,
    RunScores, UNTRAINED, percent, takes_no_step,
};

/// What a report is made from.
pub(crate) struct Sources<'a> {
    pub scores: &'a RunScores,
    /// The resolved config as TOML.
    pub config: &'a str,
    /// Class names.
    pub classes: &'a [String],
    /// Lines of `metrics.jsonl` of the clean twin and of the backdoored model.
    pub metrics: [Vec<Value>; 2],
    /// Feature maps by model.
    pub maps: BTreeMap<String, FeatureMap>,
    /// The poisoned training set with its plan and labels, and the evaluation images without and with
    /// trigger.
    pub poisoned: (SampleSet, &'a PoisonPlan, &'a [(u64, u32)]),
    pub evaluation: [SampleSet; 2],
    /// Versions and device, one line.
    pub made_with: String,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    title: &'a str,
    lead: String,
    warning: Option<String>,
    rows: Vec<Row>,
    net: String,
    charts: Vec<Chart>,
    sightings: Option<String>,
    readings_head: [&'static str; 8],
    readings: Vec<Vec<String>>,
    maps: Vec<Chart>,
    gathered: Option<String>,
    removed: Option<String>,
    strips: Vec<(String, String)>,
    config: &'a str,
    made_with: &'a str,
}

#[derive(Template)]
#[template(path = "report.md", escape = "none")]
struct Markdown<'a> {
    title: &'a str,
    lead: String,
    warning: Option<String>,
    table: String,
    readings: Option<String>,
    net: String,
    curve: Option<String>,
    gathered: Option<String>,
    removed: Option<String>,
    sightings: Option<String>,
    config: &'a str,
    made_with: &'a str,
}

/// The HTML and the Markdown.
pub(crate) fn write(sources: &Sources<'_>) -> Result<(String, String)> {
    let Sources { scores, config, metrics, made_with, .. } = sources;
    let title = scores.name.as_str();
    let lead = lead(sources);
    let html = Html {
        title,
        lead: lead.clone(),
        warning: warnings(sources),
        rows: rows(scores),
        net: net(scores),
        charts: std::iter::once(charts::asr_bars(scores))
            .chain(charts::asr_curve(metrics))
            .chain([charts::loss(metrics)])
            .chain(charts::defence(&scores.models))
            .collect(),
        sightings: sightings::summary(&metrics[1]),
        readings_head: READINGS_HEAD,
        readings: readings(scores),
        maps: maps(sources),
        gathered: target_neighbours(scores),
        removed: removed(scores),
        strips: pictures::strips(sources)?,
        config,
        made_with,
    };
    let markdown = Markdown {
        title,
        lead,
        warning: warnings(sources),
        table: table(scores),
        readings: readings_table(scores),
        net: net(scores),
        curve: curve_table(metrics),
        gathered: target_neighbours(scores),
        removed: removed(scores),
        sightings: sightings::summary(&metrics[1]),
        config,
        made_with,
    };
    let html = html.render().context("cannot render report.html")?;
    Ok((html, markdown.render().context("cannot render report.md")?))
}

/// Everything that makes the figures doubtful.
fn warnings(sources: &Sources<'_>) -> Option<String> {
    let trigger = sources.scores.trigger_size.iter().flat_map(|size| &size.warnings);
    let trigger = trigger.map(|warning| format!("TRIGGER: {warning}."));
    let all: Vec<String> = warning(sources.scores).into_iter().chain(trigger).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// Said where the victim is under-trained.
pub(super) fn warning(scores: &RunScores) -> Option<String> {
    let expected = scores.expected.as_ref().filter(|expected| expected.under_trained)?;
    Some(format!(
        "UNDER-TRAINED VICTIM: the clean twin is expected to reach {:.1} % on clean images ({}). Figures of such a \
         victim say little of the method at full strength.",
        expected.low, expected.source
    ))
}

const READINGS_HEAD: [&str; 8] = [
    "Probe",
    "Labels",
    "Seed",
    "Acc, twin",
    "Acc, backdoored",
    "patched ASR, twin",
    "patched ASR, backdoored",
    "net ASR",
];

/// A row for each reading, if there is more than the headline.
fn readings(scores: &RunScores) -> Vec<Vec<String>> {
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

/// The same as Markdown.
fn readings_table(scores: &RunScores) -> Option<String> {
    let mut text =
        line(&READINGS_HEAD.map(String::from)) + &line(&READINGS_HEAD.map(|_| "---".into()));
    let rows = readings(scores);
    rows.iter().for_each(|row| text += &line(row));
    (!rows.is_empty()).then_some(text)
}

/// The maps of the clean twin and of the backdoored model, side by side.
fn maps(sources: &Sources<'_>) -> Vec<Chart> {
    let named = [(CLEAN, "clean twin"), (BACKDOORED, "backdoored model")];
    let drawn = named.iter().filter_map(|(model, name)| {
        let map = sources.maps.get(*model)?;
        Some(charts::feature_map(map, name, sources.classes, sources.scores.target))
    });
    drawn.collect()
}

/// What the eye sees in the maps, as a number.
fn target_neighbours(scores: &RunScores) -> Option<String> {
    let share = |model| scores.target_neighbour_share.get(model);
    Some(format!(
        "Of the patched images of other classes, {:.1} % lie among clean images of the target in the clean twin's \
         features, {:.1} % in the backdoored model's (most of the ten nearest).",
        share(CLEAN)?,
        share(BACKDOORED)?
    ))
}

/// What the filters of the training set removed, a sentence for each.
fn removed(scores: &RunScores) -> Option<String> {
    let sentence = |(model, found): (&ModelId, &Removal)| {
        let Removal { removed, poisoned, left, recall, precision } = *found;
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.1} %"));
        format!(
            "The model “{model}” was trained without {removed} images that a filter removed. Of these {poisoned} are \
             poisoned (precision {}); {left} of {} poisoned images were left (recall {}).",
            share(precision),
            poisoned + left,
            share(recall)
        )
    };
    let all: Vec<String> = scores.removed.iter().map(sentence).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// The probe of the headline, with what a reader must know of it.
fn probe(scores: &RunScores, reading: &ProbeResult) -> String {
    let words = reading.in_words();
    let labelled = (reading.labels * scores.train_images as f64).round() as usize;
    let own = ProbeId { how: ProbeHow::Own, part: ProbePart::Output };
    if reading.probe == own && takes_no_step(&scores.method, labelled) {
        return format!("{words} ({NO_STEP})");
    }
    words
}

/// What was done, in a sentence.
fn lead(sources: &Sources<'_>) -> String {
    let scores = sources.scores;
    let target = scores.target.and_then(|t| sources.classes.get(t as usize));
    let mut text = format!(
        "{} on {} classes, seed {}. The attacker put a trigger on {} images: {}{:.2} % of the \
         training set. {}; {} evaluation images ({}).",
        scores.method,
        scores.classes,
        scores.seed,
        scores.poison.count,
        target.zip(scores.poison.rate).map_or(String::new(), |(name, rate)| {
            format!("{:.1} % of the target class “{name}”, ", 100.0 * rate)
        }),
        100.0 * scores.poison.dataset_rate,
        scores.probes.first().map_or(String::new(), |reading| probe(scores, reading)),
        scores.images,
        match scores.eval {
            Eval::Dev => "dev part",
            Eval::Test => "test part",
            Eval::All => "all of them",
        },
    );
    for left_out in &scores.left_out {
        text += &format!(" {left_out}.");
    }
    text
}

/// One model of the table: a name and its figures on clean and on patched images.
struct Row {
    model: String,
    cells: Vec<String>,
}

const HEAD: [&str; 7] = ["Model", "clean: Acc %", "FP", "ASR %", "patched: Acc %", "FP", "ASR %"];

fn rows(scores: &RunScores) -> Vec<Row> {
    models(scores).into_iter().map(|(model, sets)| row(model, sets)).collect()
}

/// The models in the order of the table, each with its scores on clean and on patched images.
fn models(scores: &RunScores) -> Vec<(&str, [Option<&Scores>; 2])> {
    let named =
        [(UNTRAINED, "untrained encoder"), (CLEAN, "clean twin"), (BACKDOORED, "backdoored model")];
    let others = scores.models.keys();
    let mut others: Vec<&ModelId> = others.filter(|model| !model.role().is_basic()).collect();
    // Then the defended models and after them the controls, each by falling share.
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

fn row(model: &str, sets: [Option<&Scores>; 2]) -> Row {
    Row { model: model.to_owned(), cells: sets.map(cells).concat() }
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
    for Row { model, cells } in models.map(|(model, sets)| row(model, sets)) {
        text += &line(&[vec![model], cells].concat());
    }
    text
}

/// The net ASR, where patched images go, and how large the trigger is.
pub(crate) fn net(scores: &RunScores) -> String {
    let size = scores.trigger_size.as_ref().map(|size| format!("The {}.", size.summary()));
    let parts = std::iter::once(net_asr(scores)).chain(destinations::summary(scores)).chain(size);
    parts.collect::<Vec<_>>().join(" ")
}

/// The net ASR in a sentence.
fn net_asr(scores: &RunScores) -> String {
    let (what, points, [low, high]) = match scores.net_asr.zip(scores.net_asr_ci) {
        Some((net, interval)) => ("Net ASR (backdoored minus clean twin", net, interval),
        None => {
            let RunScores { patched_drop, patched_drop_ci, .. } = *scores;
            ("Drop of the accuracy (clean twin minus backdoored", patched_drop, patched_drop_ci)
        }
    };
    let p = scores.mcnemar_p;
    let p = if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") };
    format!(
        "{what}, same patched images): {points:.1} points, 95 % interval [{low:.1}, {high:.1}] (McNemar: {p})."
    )
}

/// The attack along the training as Markdown, if it was measured.
fn curve_table(metrics: &[Vec<Value>; 2]) -> Option<String> {
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

    #[test]
    fn review_1_11_a_probe_that_the_reference_could_not_run_says_so() {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
        let scores = RunScores::read(&path).unwrap();
        let words = |method: &str, name: &str, labels, train_images| {
            let reading =
                ProbeResult { probe: name.to_owned().into(), labels, ..scores.probes[0].clone() };
            let scores = RunScores { method: method.into(), train_images, ..scores.clone() };
            probe(&scores, &reading)
        };
        assert!(words("mae", "paper", 0.01, 126_689).contains("would take no step"));
        assert!(!words("mae", "paper", 0.5, 126_689).contains("would take no step"));
        assert!(!words("mae", "linear", 0.01, 126_689).contains("would take no step"));
        assert!(words("byol", "paper", 0.01, 6_000).contains("would take no step"));
        assert_eq!(words("byol", "paper", 0.01, 126_689), "The method's own probe on 1 % labels");
    }
}
