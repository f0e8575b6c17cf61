//! The report of a run: one self-contained `report.html`, and `report.md` for where HTML is not
//! read.

use anyhow::{Context, Result};
use askama::Template;
use serde_json::Value;
use ssl_backdoor_data::{Eval, SampleSet};
use ssl_backdoor_probe::Scores;
use ssl_backdoor_trigger::PoisonPlan;

use super::{charts, pictures, sightings};
use crate::scores::{BACKDOORED, CLEAN, PATCHED, RunScores, UNTRAINED};

/// What a report is made from.
pub(crate) struct Sources<'a> {
    pub scores: &'a RunScores,
    /// The resolved config as TOML.
    pub config: &'a str,
    /// Class names.
    pub classes: &'a [String],
    /// Lines of `metrics.jsonl` of the clean twin and of the backdoored model.
    pub metrics: [Vec<Value>; 2],
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
    rows: Vec<Row>,
    net: String,
    bars: String,
    loss: String,
    curve: Option<String>,
    sightings: Option<String>,
    strips: Vec<(String, String)>,
    config: &'a str,
    made_with: &'a str,
}

#[derive(Template)]
#[template(path = "report.md", escape = "none")]
struct Markdown<'a> {
    title: &'a str,
    lead: String,
    table: String,
    net: String,
    curve: Option<String>,
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
        rows: rows(scores),
        net: net(scores),
        bars: charts::asr_bars(scores),
        loss: charts::loss(metrics),
        curve: charts::asr_curve(metrics),
        sightings: sightings::summary(&metrics[1]),
        strips: pictures::strips(sources)?,
        config,
        made_with,
    };
    let markdown = Markdown {
        title,
        lead,
        table: table(scores),
        net: net(scores),
        curve: curve_table(metrics),
        sightings: sightings::summary(&metrics[1]),
        config,
        made_with,
    };
    let html = html.render().context("cannot render report.html")?;
    Ok((html, markdown.render().context("cannot render report.md")?))
}

/// What was done, in a sentence.
fn lead(sources: &Sources<'_>) -> String {
    let scores = sources.scores;
    let target = scores.target.and_then(|t| sources.classes.get(t as usize));
    format!(
        "{} on {} classes, seed {}. The attacker put a trigger on {} images: {}{:.2} % of the \
         training set. Linear probe on {} % labels; {} evaluation images ({}).",
        scores.method,
        scores.classes,
        scores.seed,
        scores.poison.count,
        target.zip(scores.poison.rate).map_or(String::new(), |(name, rate)| {
            format!("{:.1} % of the target class “{name}”, ", 100.0 * rate)
        }),
        100.0 * scores.poison.dataset_rate,
        100.0 * scores.labels,
        scores.images,
        match scores.eval {
            Eval::Dev => "dev part",
            Eval::Test => "test part",
            Eval::All => "all of them",
        },
    )
}

/// One model of the table: a name and its figures on clean and on patched images.
struct Row {
    model: String,
    cells: Vec<String>,
}

const HEAD: [&str; 7] = ["Model", "clean: Acc %", "FP", "ASR %", "patched: Acc %", "FP", "ASR %"];

fn rows(scores: &RunScores) -> Vec<Row> {
    let named =
        [(UNTRAINED, "untrained encoder"), (CLEAN, "clean twin"), (BACKDOORED, "backdoored model")];
    // Then the students, by falling share.
    let students = scores.models.keys().filter(|key| named.iter().all(|(name, _)| name != key));
    let students = students.rev().map(|key| (key.as_str(), key.as_str()));
    let row = |(key, model): (&str, &str)| {
        let cells = [CLEAN, PATCHED].map(|images| cells(scores.get(key, images)));
        Row { model: model.to_owned(), cells: cells.concat() }
    };
    named.into_iter().chain(students).map(row).collect()
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

/// The table of the paper for this run, as Markdown.
pub(crate) fn table(scores: &RunScores) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEAD.map(String::from));
    text += &line(&HEAD.map(|_| "---".into()));
    for row in rows(scores) {
        let mut cells = vec![row.model];
        cells.extend(row.cells);
        text += &line(&cells);
    }
    text
}

/// The net ASR in a sentence.
pub(crate) fn net(scores: &RunScores) -> String {
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
