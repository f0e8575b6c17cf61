//! The tables of a report over many runs: the attack, a row for each setting, and the defended models.

use super::distinct;
use super::group::{Group, rows};
use super::mean::{Mean, Verdict, shown, with_interval};
use super::table::{Row, Table};
use crate::record::{BACKDOORED, CLEAN, Images};

/// The name of a group among `all`: its method, and what distinguishes it from the others of this method.
pub(super) fn short(group: &Group<'_>, all: &[Group<'_>]) -> String {
    let own = group.setting.parts();
    let alike = all.iter().filter(|other| other.setting.method == group.setting.method);
    let others: Vec<_> = alike.map(|other| other.setting.parts()).collect();
    let differs = |i: &usize| others.iter().any(|other| other[*i] != own[*i]);
    let parts = (0..own.len()).filter(differs).map(|i| own[i].as_str());
    let parts: Vec<&str> = std::iter::once(group.setting.method.as_str()).chain(parts).collect();
    parts.join(", ")
}

const MAIN_HEAD: [&str; 13] = [
    "Method",
    "Poisoned",
    "Probe",
    "Runs",
    "twin, clean: Acc",
    "FP",
    "twin, patched: Acc",
    "FP",
    "backdoored, clean: Acc",
    "FP",
    "backdoored, patched: Acc",
    "FP",
    "ASR",
];

/// A figure of a group, and its name.
type Figure = (&'static str, fn(&Group<'_>) -> Option<Mean>);
/// Figures that only some runs have; a column without any is left out.
const FIGURES: [Figure; 2] = [
    ("largest net flow elsewhere", |group| group.elsewhere()),
    ("pairs with the trigger in one view, %", |group| group.in_one_view()),
];

/// A row for each group, with its verdict by the rule if `verdicts`.
pub(super) fn main_table(groups: &[Group<'_>], verdicts: bool) -> Table {
    let mut head: Vec<String> = MAIN_HEAD.map(String::from).to_vec();
    let verdict = if verdicts { &["verdict"][..] } else { &[] };
    let figures = FIGURES.into_iter().filter(|(_, of)| groups.iter().any(|g| of(g).is_some()));
    let figures: Vec<Figure> = figures.collect();
    let names: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
    let last = [&["net ASR"], verdict, &["patched drop", "effect"], &names[..]].concat();
    head.extend(last.into_iter().map(String::from));
    let row = |(group, differs): (&Group<'_>, String)| {
        let setting = &group.setting;
        let under = match group.under_trained() {
            0 => String::new(),
            n => format!(" (under-trained: {n})"),
        };
        let mut cells = vec![
            distinct::with(&setting.victim(), &differs),
            setting.poison(),
            setting.reading(),
            format!("{}{under}", group.victims()),
        ];
        for model in [CLEAN, BACKDOORED] {
            for images in Images::ALL {
                let [acc, fp, _] = group.cell(model, images);
                cells.extend([shown(acc), shown(fp)]);
            }
        }
        cells.push(shown(group.cell(BACKDOORED, Images::Patched)[2]));
        cells.push(with_interval(group.net()));
        if verdicts {
            cells.push(group.verdict().map_or("-", Verdict::word).into());
        }
        cells.push(shown(group.drop()));
        cells.push(group.effects());
        cells.extend(figures.iter().map(|(_, of)| with_interval(of(group))));
        Row { cells, anchor: group.anchor() }
    };
    let rows = groups.iter().zip(distinct::distinctions(&rows(groups))).map(row);
    Table { head, rows: rows.collect() }
}

/// A row for each model of each group with a defence; `names` are those of the groups.
pub(super) fn defence_table(groups: &[Group<'_>], names: &[String]) -> Option<Table> {
    let head =
        ["Model", "Runs", "clean: Acc", "FP", "ASR", "patched: Acc", "FP", "ASR"].map(String::from);
    let mut rows = Vec::new();
    for (group, name) in groups.iter().zip(names).filter(|(group, _)| !group.defended().is_empty())
    {
        for model in group.models() {
            let cells = Images::ALL.map(|images| group.cell(model, images).map(shown));
            let name = format!("{name}, {model}");
            let mut row = vec![name, group.measured(model).to_string()];
            row.extend(cells.concat());
            rows.push(Row { cells: row, anchor: group.anchor() });
        }
    }
    (!rows.is_empty()).then(|| Table { head: head.to_vec(), rows })
}
