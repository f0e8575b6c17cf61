//! Our figures compared with published ones, each with its setting.

use super::distinct::{distinctions, with};
use super::group::Group;
use super::mean::{Mean, shown};
use super::setting::Setting;
use crate::record::{AccFp, BACKDOORED, CLEAN, Images, Published, percent};

/// A row: a name, and for each column our figure and the published one.
pub(super) struct Beside {
    pub name: String,
    /// The setting of our figures. The setting of the published ones belongs to the table.
    pub setting: String,
    /// Anchor of the first of our runs in the list of runs.
    pub anchor: String,
    /// Our figure and the published one, as shown.
    pub cells: Vec<(String, String)>,
}

impl Beside {
    fn new(
        name: String,
        (group, setting): &(&Group<'_>, String),
        ours: &[Option<Mean>],
        theirs: impl IntoIterator<Item = String>,
    ) -> Self {
        let ours = ours.iter().map(|&mean| shown(mean));
        let cells = ours.zip(theirs).collect();
        Self { name, setting: setting.clone(), anchor: group.anchor(), cells }
    }
}

/// A table of such rows.
pub(super) struct Comparison {
    pub title: &'static str,
    pub head: Vec<&'static str>,
    pub rows: Vec<Beside>,
    /// Source and setting of the published figures.
    pub source: String,
    pub setting: String,
}

const HEAD: [&str; 6] = [
    "twin, clean: Acc",
    "twin, patched: ASR",
    "backdoored, clean: Acc",
    "backdoored, patched: Acc",
    "backdoored, patched: ASR",
    "net ASR",
];

/// The main table: one row for each group whose method is in it.
pub(super) fn main(groups: &[Group<'_>], published: &Published) -> Option<Comparison> {
    let main = &published.main;
    let asr = |cell: AccFp| format!("{:.1}", 100.0 * cell[1] / main.non_target);
    let acc = |cell: AccFp| format!("{:.1}", cell[0]);
    let mut rows = Vec::new();
    for own @ (group, _) in &of_paper(groups, |group| group.setting.targeted) {
        let Some(theirs) = main.rows.get(&group.setting.method) else { continue };
        let ours = [
            group.cell(CLEAN, Images::Clean)[0],
            group.cell(CLEAN, Images::Patched)[2],
            group.cell(BACKDOORED, Images::Clean)[0],
            group.cell(BACKDOORED, Images::Patched)[0],
            group.cell(BACKDOORED, Images::Patched)[2],
            group.net(),
        ];
        let net = theirs.backdoored[1][1] - theirs.clean[1][1];
        let theirs = [
            acc(theirs.clean[0]),
            asr(theirs.clean[1]),
            acc(theirs.backdoored[0]),
            acc(theirs.backdoored[1]),
            asr(theirs.backdoored[1]),
            format!("{:.1}", 100.0 * net / main.non_target),
        ];
        rows.push(Beside::new(group.setting.method.clone(), own, &ours, theirs));
    }
    (!rows.is_empty()).then(|| Comparison {
        title: "Comparison with the paper's main table",
        head: HEAD.to_vec(),
        rows,
        source: main.source.clone(),
        setting: main.setting.clone(),
    })
}

/// The defence: one row for each model of the groups that the paper also has.
pub(super) fn defence(groups: &[Group<'_>], published: &Published) -> Option<Comparison> {
    let defence = &published.defence;
    let mut rows = Vec::new();
    for own @ (group, _) in &of_paper(groups, |group| !group.defended().is_empty()) {
        for (model, theirs) in &defence.rows {
            let ours = Images::ALL.map(|images| group.cell(model, images));
            if ours[0][0].is_none() {
                continue;
            }
            let ours = [ours[0][0], ours[0][2], ours[1][0], ours[1][2]];
            let cell = |cell: AccFp| {
                [format!("{:.1}", cell[0]), format!("{:.1}", 100.0 * cell[1] / defence.non_target)]
            };
            let theirs = theirs.map(cell).concat();
            let name = format!("{}, {model}", group.setting.method);
            rows.push(Beside::new(name, own, &ours, theirs));
        }
    }
    (!rows.is_empty()).then(|| Comparison {
        title: "Comparison with the paper's defence table",
        head: vec!["clean: Acc", "clean: ASR", "patched: Acc", "patched: ASR"],
        rows,
        source: defence.source.clone(),
        setting: defence.setting.clone(),
    })
}

/// Single runs published by others, for the methods of the groups.
pub(super) fn others(groups: &[Group<'_>], published: &Published) -> Option<Comparison> {
    let others = &published.others;
    let mut rows = Vec::new();
    for own @ (group, _) in &of_paper(groups, |group| group.setting.targeted) {
        let Some(theirs) = others.rows.get(&group.setting.method) else { continue };
        let [patched_acc, _, patched_asr] = group.cell(BACKDOORED, Images::Patched);
        let ours = [group.cell(BACKDOORED, Images::Clean)[0], patched_acc, patched_asr];
        let theirs = theirs.map(|v| format!("{v:.1}"));
        rows.push(Beside::new(group.setting.method.clone(), own, &ours, theirs));
    }
    (!rows.is_empty()).then(|| Comparison {
        title: "Comparison with single runs of others",
        head: vec!["backdoored, clean: Acc", "patched: Acc", "patched: ASR"],
        rows,
        source: others.source.clone(),
        setting: others.setting.clone(),
    })
}

/// The groups with the paper's attack that are `wanted`, each with its setting in words and the keys that tell it from
/// groups that would otherwise look alike.
fn of_paper<'a>(
    groups: &'a [Group<'a>],
    wanted: impl Fn(&Group<'_>) -> bool,
) -> Vec<(&'a Group<'a>, String)> {
    let groups = groups.iter().filter(|group| group.setting.is_of_paper() && wanted(group));
    let groups: Vec<&Group<'_>> = groups.collect();
    let row = |group: &&'a Group<'a>| {
        (with(&group.setting.method, &shown_setting(&group.setting)), &group.setting)
    };
    let told = distinctions(&groups.iter().map(row).collect::<Vec<_>>());
    let own = groups.into_iter().zip(told).map(|(group, told)| {
        let (words, runs) = (shown_setting(&group.setting), group.runs.len());
        let words = format!("{words}, runs: {runs}, backdoored models: {}", group.victims());
        (group, with(&words, &told))
    });
    own.collect()
}

/// The setting of our figures, in words.
fn shown_setting(setting: &Setting) -> String {
    format!(
        "{}, {} images, {} steps, poisoned {}, {} % labels, probe {}, {} images evaluated",
        setting.data,
        setting.train_images,
        setting.steps,
        setting.poison(),
        percent(setting.labels),
        setting.probe,
        setting.eval
    )
}
