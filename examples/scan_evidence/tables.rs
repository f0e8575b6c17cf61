//! The tables: `encoders`, `refused`, `roc`, `alarms`, `sets` and `sets_summary` as `.csv`, and the short ones in
//! `evidence.md`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use ssl_backdoor_probe::{roc_area, student, wilson};

use crate::encoders::{Judged, Refused};
use crate::sets::Scanned;

/// Below this net ASR, in points, an attack has hardly taken hold.
const HELD: f64 = 5.0;
/// A p-value below this is an alarm.
const ALARM: f64 = 0.05;
/// The name of all scans combined.
const TOGETHER: &str = "together";
/// All methods.
const ALL: &str = "all methods";

/// A table: its name, title, header and rows.
struct Table {
    name: &'static str,
    title: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(name: &'static str, title: &'static str, head: &[&str]) -> Self {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Self { name, title, head, rows: Vec::new() }
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = self.head.iter().map(|_| "---".to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("## {}\n\n{}{}{rows}\n", self.title, line(&self.head), line(&rule))
    }

    fn csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.head)?;
        self.rows.iter().try_for_each(|row| writer.write_record(row))?;
        Ok(writer.into_inner()?)
    }
}

fn cell(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:.4}"))
}

/// Writes all tables into `out`; returns the Markdown of the short ones.
pub fn write(
    judged: &[Judged],
    refused: &[Refused],
    sets: &[Scanned],
    out: &Path,
) -> Result<String> {
    let scans: BTreeSet<&str> =
        judged.iter().flat_map(|one| one.encoder.score.scores.keys()).map(String::as_str).collect();
    let mut scans: Vec<&str> = scans.into_iter().collect();
    let encoders = encoders(judged, &scans);
    scans.push(TOGETHER);
    let methods: BTreeSet<&str> = judged.iter().map(|one| one.encoder.method.as_str()).collect();
    let mut methods: Vec<&str> = methods.into_iter().collect();
    methods.push(ALL);
    let mut short =
        vec![roc(judged, &methods, &scans), alarms(judged, &methods, &scans), summary(sets)];
    if !refused.is_empty() {
        short.push(without_result(refused));
    }
    let text: String = short.iter().map(Table::markdown).collect();
    for table in short.iter().chain([&encoders, &of_sets(sets)]) {
        std::fs::write(out.join(format!("{}.csv", table.name)), table.csv()?)?;
    }
    std::fs::write(out.join("evidence.md"), format!("# How good the scans are\n\n{text}"))?;
    Ok(text)
}

/// The suspicion of an encoder by `scan`: the score among encoders of one method; 1 − p among those of all methods
/// and for all scans together.
fn suspicion(one: &Judged, scan: &str, method: &str) -> Option<f64> {
    match scan {
        TOGETHER => Some(1.0 - one.together?.p),
        _ if method == ALL => Some(1.0 - one.p.get(scan)?.p),
        _ => one.encoder.score.scores.get(scan).copied(),
    }
}

fn p_of(one: &Judged, scan: &str) -> Option<f64> {
    let p_value = if scan == TOGETHER { one.together } else { one.p.get(scan).copied() };
    p_value.map(|p_value| p_value.p)
}

fn encoders(judged: &[Judged], scans: &[&str]) -> Table {
    let head = ["encoder", "method", "backdoored", "net_asr", "nulls", "p_together"];
    let mut table = Table::new("encoders", "Encoders", &head);
    for scan in scans {
        table.head.extend([(*scan).to_owned(), format!("p_{scan}")]);
    }
    for one in judged {
        let encoder = &one.encoder;
        let nulls = one.together.map_or(0, |p_value| p_value.nulls);
        let mut row = vec![
            encoder.name.clone(),
            encoder.method.clone(),
            encoder.backdoored.to_string(),
            cell(encoder.net_asr),
            nulls.to_string(),
            cell(p_of(one, TOGETHER)),
        ];
        for scan in scans {
            row.extend([cell(encoder.score.scores.get(*scan).copied()), cell(p_of(one, scan))]);
        }
        table.rows.push(row);
    }
    table
}

fn without_result(refused: &[Refused]) -> Table {
    let title = "Encoders on which no scan had a result; the other tables do not count them";
    let mut table = Table::new("refused", title, &["encoder", "reason"]);
    table.rows = refused.iter().map(|one| vec![one.name.clone(), one.reason.clone()]).collect();
    table
}

/// A selection of backdoored encoders for a ROC curve.
type Held = (&'static str, fn(f64) -> bool);
const HELDS: [Held; 3] = [
    ("all", |_| true),
    ("net ASR 5 or more", |net| net >= HELD),
    ("net ASR below 5", |net| net < HELD),
];

fn roc(judged: &[Judged], methods: &[&str], scans: &[&str]) -> Table {
    let head = ["method", "scan", "backdoored", "cases", "controls", "area", "low", "high"];
    let title = "Area under the ROC curve of `scan encoder` (95 % interval: DeLong; without overlap Newcombe)";
    let mut table = Table::new("roc", title, &head);
    for (method, scan, (name, held)) in methods.iter().flat_map(|method| {
        scans.iter().flat_map(move |scan| HELDS.map(|held| (*method, *scan, held)))
    }) {
        let of = |backdoored: bool| -> Vec<f64> {
            let some = judged.iter().filter(|one| {
                let encoder = &one.encoder;
                // Without a net ASR, it is unknown whether the attack took hold.
                let held = name == "all" || encoder.net_asr.is_some_and(held);
                encoder.backdoored == backdoored
                    && (method == ALL || encoder.method == method)
                    && (!backdoored || held)
            });
            some.filter_map(|one| suspicion(one, scan, method)).collect()
        };
        let (cases, controls) = (of(true), of(false));
        let area = roc_area(&cases, &controls);
        let [low, high] = area.map_or([None; 2], |area| area.interval.map(Some));
        let mut row = [method, scan, name].map(str::to_owned).to_vec();
        row.extend([cases.len(), controls.len()].map(|count| count.to_string()));
        row.extend([area.map(|area| area.area), low, high].map(cell));
        table.rows.push(row);
    }
    table
}

fn alarms(judged: &[Judged], methods: &[&str], scans: &[&str]) -> Table {
    let head = ["method", "scan", "encoders", "alarms", "of", "rate", "low", "high"];
    let title =
        "Encoders with p < 0.05 (95 % interval: Wilson); of clean ones these are false alarms";
    let mut table = Table::new("alarms", title, &head);
    for (method, scan, backdoored) in methods.iter().flat_map(|method| {
        scans.iter().flat_map(move |scan| [(*method, *scan, false), (*method, *scan, true)])
    }) {
        let some = judged.iter().map(|one| (one, &one.encoder));
        let some = some.filter(|(_, encoder)| method == ALL || encoder.method == method);
        let some = some.filter(|(_, encoder)| encoder.backdoored == backdoored);
        let p: Vec<f64> = some.filter_map(|(one, _)| p_of(one, scan)).collect();
        let found = p.iter().filter(|p| **p < ALARM).count();
        let rate = (!p.is_empty()).then(|| found as f64 / p.len() as f64);
        let (low, high) = wilson(found, p.len());
        let truth = if backdoored { "backdoored" } else { "clean" };
        let mut row = [method, scan, truth].map(str::to_owned).to_vec();
        row.extend([found, p.len()].map(|count| count.to_string()));
        row.extend([cell(rate), cell(rate.map(|_| low)), cell(rate.map(|_| high))]);
        table.rows.push(row);
    }
    table
}

/// A figure of a set, with its name.
type Figure = (&'static str, fn(&Scanned) -> Option<f64>);
const FIGURES: [Figure; 7] = [
    ("poisoned", |one| one.figure("/truth/poisoned")),
    ("suspected", |one| one.figure("/suspected")),
    ("precision_at_20", |one| one.at_20("ranking", "precision")),
    ("recall_at_20", |one| one.at_20("ranking", "recall")),
    ("patches_precision_at_20", |one| one.at_20("patches", "precision")),
    ("precision_of_suspected", |one| one.share_found("/suspected")),
    ("recall_of_suspected", |one| one.share_found("/truth/poisoned")),
];

fn of_sets(sets: &[Scanned]) -> Table {
    let mut table = Table::new("sets", "Sets", &["set", "method", "poison", "net_asr", "images"]);
    table.head.extend(FIGURES.map(|(name, _)| name.to_owned()));
    for one in sets {
        let poison = one.poisoned.to_string();
        let mut row = vec![one.name.clone(), one.method.clone(), poison, cell(one.net_asr)];
        row.push(one.figure("/images").map_or(String::new(), |images| images.to_string()));
        row.extend(FIGURES.map(|(_, figure)| cell(figure(one))));
        table.rows.push(row);
    }
    table
}

fn summary(sets: &[Scanned]) -> Table {
    let head = ["sets", "figure", "count", "mean", "low", "high", "least", "most"];
    let title = "`scan data`: means over scans (95 % interval: Student)";
    let mut table = Table::new("sets_summary", title, &head);
    for (poisoned, (name, figure)) in
        [true, false].into_iter().flat_map(|p| FIGURES.map(|f| (p, f)))
    {
        let some = sets.iter().filter(|one| one.poisoned == poisoned);
        let values: Vec<f64> = some.filter_map(figure).collect();
        if values.is_empty() {
            continue;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let interval = student(&values);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let truth = if poisoned { "poisoned" } else { "clean" };
        let mut row = vec![truth.to_owned(), name.to_owned(), values.len().to_string()];
        let (low, high) = (interval.map(|(_, low, _)| low), interval.map(|(_, _, high)| high));
        row.extend([Some(mean), low, high, Some(least), Some(most)].map(cell));
        table.rows.push(row);
    }
    table
}
