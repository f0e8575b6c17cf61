//! The report of a run: a self-contained `report.html`, and `report.md`.

use anyhow::{Context, Result};
use askama::Template;
use ssl_backdoor_defend::ModelId;

use super::chart::Chart;
use super::charts;
use super::material::Material;
use super::run_table::{
    ModelRow, READINGS_HEAD, curve_table, readings, readings_table, rows, table,
};
use super::run_words::{details, lead, net_asr, removed, target_neighbours, warnings};
use super::scans::ScanTable;
use super::{onset, pictures, visibility};
use crate::record::{BACKDOORED, CLEAN};

#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    title: &'a str,
    lead: String,
    warning: Option<String>,
    rows: Vec<ModelRow>,
    net: String,
    details: String,
    charts: Vec<Chart>,
    defence: Option<Chart>,
    visibility: Option<String>,
    readings_head: [&'static str; 8],
    readings: Vec<Vec<String>>,
    maps: Vec<Chart>,
    gathered: Option<String>,
    removed: Option<String>,
    scans: Option<ScanTable>,
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
    details: String,
    curve: Option<String>,
    gathered: Option<String>,
    removed: Option<String>,
    scans: Option<String>,
    visibility: Option<String>,
    config: &'a str,
    made_with: &'a str,
}

/// Renders the HTML and the Markdown.
pub(crate) fn write(material: &Material<'_>) -> Result<(String, String)> {
    let Material { scores, config, metrics, made_with, .. } = material;
    let title = scores.name.as_str();
    let lead = lead(material);
    let trigger = |model: &ModelId, scan: &str| {
        let png = material.triggers.get(&(model.clone(), scan.to_owned()))?;
        Some(pictures::uri_of_png(png))
    };
    let scans = material.scans.as_ref().map(|scans| ScanTable::of(scans, scores, trigger));
    let html = Html {
        title,
        lead: lead.clone(),
        warning: warnings(material),
        rows: rows(scores),
        net: net_asr(scores),
        details: details(scores),
        charts: std::iter::once(charts::attack_bars(scores))
            .chain(charts::asr_curve(metrics))
            .chain(onset::of_run(scores))
            .chain([charts::loss(metrics)])
            .collect(),
        defence: charts::defence(&scores.models),
        visibility: visibility::summary(&metrics[1]),
        readings_head: READINGS_HEAD,
        readings: readings(scores),
        maps: maps(material),
        gathered: target_neighbours(scores),
        removed: removed(scores),
        scans: scans.clone(),
        strips: pictures::strips(material)?,
        config,
        made_with,
    };
    let markdown = Markdown {
        title,
        lead,
        warning: warnings(material),
        table: table(scores),
        readings: readings_table(scores),
        net: net_asr(scores),
        details: details(scores),
        curve: curve_table(metrics),
        gathered: target_neighbours(scores),
        removed: removed(scores),
        scans: scans.map(|scans| scans.markdown()),
        visibility: visibility::summary(&metrics[1]),
        config,
        made_with,
    };
    let html = html.render().context("cannot render report.html")?;
    Ok((html, markdown.render().context("cannot render report.md")?))
}

/// The maps of the clean twin and of the backdoored model, side by side.
fn maps(material: &Material<'_>) -> Vec<Chart> {
    let named = [(CLEAN, "clean twin"), (BACKDOORED, "backdoored model")];
    let drawn = named.iter().filter_map(|(model, name)| {
        let map = material.maps.get(*model)?;
        Some(charts::feature_map(map, name, material.classes, material.scores.target))
    });
    drawn.collect()
}
