//! The tables over many runs as JSON: numbers instead of cells.

use std::collections::BTreeMap;

use serde::Serialize;

use super::claims::Claim;
use super::distinct::distinctions;
use super::group::{Group, rows};
use super::mean::Mean;
use crate::record::{Images, SCHEMA};

/// All figures of a report over many runs.
#[derive(Serialize)]
pub(super) struct Figures<'a> {
    schema: u32,
    /// How many runs are missing, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<&'a str>,
    settings: Vec<SettingFigures<'a>>,
    claims: &'a [Claim],
}

/// A row of the main table: the runs of a setting.
#[derive(Serialize)]
struct SettingFigures<'a> {
    method: &'a str,
    data: &'a str,
    /// The scored images: `dev`, `test` or `all`.
    eval: &'a str,
    /// The keys of the config that tell the setting from others that agree in everything else that is named here.
    #[serde(skip_serializing_if = "String::is_empty")]
    differs: String,
    steps: usize,
    /// Attack and poisoned share, in words.
    poison: String,
    probe: String,
    /// Share of the labels that the probe uses.
    labels: f64,
    /// Backdoored models.
    victims: usize,
    /// Those whose clean twin has learned too little.
    under_trained: usize,
    models: BTreeMap<String, BTreeMap<Images, ModelFigures>>,
    /// In points; absent without a target.
    net_asr: Option<Mean>,
    /// In points.
    patched_drop: Option<Mean>,
}

/// Means over the runs: accuracy and ASR in percent, FP in images.
#[derive(Serialize)]
struct ModelFigures {
    acc: Option<Mean>,
    fp: Option<Mean>,
    asr: Option<Mean>,
}

impl<'a> Figures<'a> {
    pub(super) fn of(
        groups: &'a [Group<'a>],
        claims: &'a [Claim],
        incomplete: Option<&'a str>,
    ) -> Self {
        let differs = distinctions(&rows(groups));
        let settings = groups.iter().zip(differs);
        let settings =
            settings.map(|(group, differs)| SettingFigures::of(group, differs)).collect();
        Self { schema: SCHEMA, incomplete, settings, claims }
    }
}

impl<'a> SettingFigures<'a> {
    fn of(group: &'a Group<'a>, differs: String) -> Self {
        let setting = &group.setting;
        let images = |model: &str| {
            let figures = |images| {
                let [acc, fp, asr] = group.cell(model, images);
                (images, ModelFigures { acc, fp, asr })
            };
            (model.to_owned(), Images::ALL.map(figures).into())
        };
        Self {
            method: &setting.method,
            data: &setting.data,
            eval: &setting.eval,
            differs,
            steps: setting.steps,
            poison: setting.poison(),
            probe: setting.probe.to_string(),
            labels: setting.labels,
            victims: group.victims(),
            under_trained: group.under_trained(),
            models: group.models().into_iter().map(images).collect(),
            net_asr: group.net(),
            patched_drop: group.drop(),
        }
    }
}
