//! The command `report`: tables over many runs, as an HTML page, Markdown and CSV.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use askama::Template;
use ssl_backdoor_defend::ModelId;

use super::chart::Chart;
use super::charts;
use super::claims::{Claim, claims};
use super::comparison::{self, Comparison};
use super::destinations::{TAKEN_OVER, TARGETED};
use super::figures::Figures;
use super::group::Group;
use super::matrix::{Matrix, matrix};
use super::mean::{ROBUST_BELOW, Verdict, shown};
use super::setting::common;
use super::sources::{Source, compute, makers, sources};
use super::table::{Row, Table};
use super::table_csv::csv;
use crate::config::Experiment;
use crate::record::{
    Artefact, BACKDOORED, CLEAN, Images, Manifest, Published, RunScores, json_text, percent,
    write_whole,
};

/// Options of a report.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// Run folders, or folders of run folders.
    pub runs: Vec<PathBuf>,
    /// Folder for `table.html`, `table.md` and `table.csv`; by default the first of `runs`.
    pub out: Option<PathBuf>,
    /// Print JSON instead of the tables.
    pub json: bool,
}

/// Writes the report over all runs it finds and prints its tables.
///
/// # Errors
/// There is no run, a `scores.json` is broken, or the report cannot be written.
pub fn report(options: &ReportOptions) -> Result<()> {
    let mut paths = Vec::new();
    for folder in &options.runs {
        find(folder, &mut paths)?;
    }
    let Some(first) = options.runs.first().filter(|_| !paths.is_empty()) else {
        let shown: Vec<String> = options.runs.iter().map(|p| p.display().to_string()).collect();
        bail!("no finished run (scores.json) in {}", shown.join(", "));
    };
    let mut runs = Vec::new();
    let mut superseded = Superseded::default();
    for path in &paths {
        let mut run = RunScores::read(&path.join("scores.json"))?;
        superseded.take_out(&mut run);
        runs.push(run);
    }
    let out = options.out.as_ref().unwrap_or(first);
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let config = |path: &PathBuf| Experiment::read(&path.join("config.toml"), &[]).ok().map(common);
    let configs: Vec<Option<Experiment>> = paths.iter().map(config).collect();
    let manifest = |path: &PathBuf| Manifest::read(&path.join(Artefact::Manifest.to_string()));
    let manifests: Vec<Manifest> = paths.iter().map(manifest).collect::<Result<_>>()?;
    let groups = Group::all(&runs, &configs, false);
    let mut page = Page::new(&groups, &runs, &configs, &manifests)?;
    page.sources = sources(&groups, &paths, out);
    page.superseded = superseded.note();
    let markdown = Markdown { page: &page }.render().context("cannot render table.md")?;
    let html = Html { page: &page }.render().context("cannot render table.html")?;
    write_whole(&out.join("table.html"), html.as_bytes())?;
    write_whole(&out.join("table.md"), markdown.as_bytes())?;
    write_whole(&out.join("table.csv"), &csv(&runs)?)?;
    match options.json {
        true => print!("{}", json_text(&Figures::of(&groups, &page.claims))?),
        false => println!("{markdown}\nReport: {}", out.join("table.html").display()),
    }
    Ok(())
}

/// Probe results that later turned out to be wrong.
#[derive(Default)]
struct Superseded {
    readings: usize,
    reasons: std::collections::BTreeSet<String>,
}

impl Superseded {
    fn take_out(&mut self, run: &mut RunScores) {
        let before = run.probes.len();
        let reasons = run.probes.iter().filter_map(|reading| reading.superseded.as_deref());
        self.reasons.extend(reasons.flat_map(|all| all.split("; ")).map(str::to_owned));
        run.probes.retain(|reading| reading.superseded.is_none());
        self.readings += before - run.probes.len();
    }

    /// Note for readers of the tables.
    fn note(self) -> Option<String> {
        let reasons: Vec<String> = self.reasons.into_iter().collect();
        let note = format!(
            "{} superseded probe results are left out: {}.",
            self.readings,
            reasons.join("; ")
        );
        (self.readings > 0).then_some(note)
    }
}

/// Finds the folders with a `scores.json`, sorted; `folder` itself may be one.
fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let shown = folder.display();
    if folder.join("scores.json").is_file() {
        found.push(folder.into());
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut inner: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.is_dir()).collect();
    inner.sort();
    inner.iter().try_for_each(|folder| find(folder, found))
}

#[derive(Template)]
#[template(path = "table.html")]
struct Html<'a> {
    page: &'a Page,
}

#[derive(Template)]
#[template(path = "table.md", escape = "none")]
struct Markdown<'a> {
    page: &'a Page,
}

struct Page {
    lead: String,
    /// The rule of the main table's verdicts; none if there are claims, which have their own rules.
    rule: Option<String>,
    warning: Option<String>,
    claims: Vec<Claim>,
    main: Table,
    /// The values that all rows of the main table share.
    common: Option<String>,
    charts: Vec<Chart>,
    comparisons: Vec<Comparison>,
    defence: Option<Table>,
    matrix: Option<Matrix>,
    readings: Option<Table>,
    superseded: Option<String>,
    sources: Vec<Source>,
    compute: String,
    made_with: String,
}

impl Page {
    /// `groups` are the groups of the headline results of `runs`.
    fn new(
        groups: &[Group<'_>],
        runs: &[RunScores],
        configs: &[Option<Experiment>],
        manifests: &[Manifest],
    ) -> Result<Self> {
        let published = Published::read()?;
        let others = Group::all(runs, configs, true);
        let under = runs.iter().filter(|run| run.under_trained()).count();
        let nets = groups.iter().filter_map(|g| Some((short(g, groups), g.net()?)));
        let nets: Vec<_> = nets.collect();
        let claims = claims(groups);
        let verdicts = claims.is_empty();
        let (main, common) = main_table(groups, verdicts).without_common(&["Poisoned", "Probe"]);
        Ok(Self {
            lead: format!(
                "Runs: {}, settings: {}. Figures are means over the runs of a setting ± half of Student's 95 % interval; \
                 FP counts images of other classes that are assigned to the target. ASR is FP as a share of all images of other \
                 classes. Net ASR is the backdoored model's ASR minus its clean twin's on the same patched images. Patched drop \
                 is the twin's accuracy on patched images minus the backdoored model's. Effect: a model is targeted if its \
                 largest net flow is to the target and net ASR is {TARGETED:.0} points or more; it is taken over if its largest \
                 net flow is to another class and the patched drop is {TAKEN_OVER:.0} points or more. {}",
                runs.len(),
                groups.len(),
                makers(runs),
            ),
            rule: verdicts.then(rule),
            warning: (under > 0).then(|| {
                let floor = runs.iter().find(|run| run.under_trained());
                let expected = floor.and_then(|run| run.expected.as_ref());
                format!(
                    "UNDER-TRAINED VICTIM: in {under} of {} runs the clean twin is less accurate than expected \
                     ({}). Their figures say little about a method at full strength.",
                    runs.len(),
                    expected.map_or(String::new(), |e| format!("{:.1} %, {}", e.low, e.source))
                )
            }),
            claims,
            main,
            common,
            charts: (!nets.is_empty())
                .then(|| charts::net_asr(&nets))
                .into_iter()
                .chain(scatter(groups))
                .collect(),
            comparisons: [
                comparison::main(groups, &published),
                comparison::defence(groups, &published),
                comparison::others(groups, &published),
            ]
            .into_iter()
            .flatten()
            .collect(),
            defence: defence_table(groups),
            matrix: matrix(runs, configs, manifests),
            readings: (!others.is_empty()).then(|| main_table(&others, verdicts)),
            superseded: None,
            sources: Vec::new(),
            compute: compute(manifests),
            made_with: format!("Made by ssl-backdoor {}.", env!("CARGO_PKG_VERSION")),
        })
    }
}

/// The rule of the verdicts of the main table.
fn rule() -> String {
    format!(
        "vulnerable if the lower end of the interval of the net ASR is above 0; robust if its upper end is below \
         {ROBUST_BELOW:.0} points; otherwise undecided."
    )
}

/// The name of a group among `all`: its method, and what distinguishes it from the others of this method.
fn short(group: &Group<'_>, all: &[Group<'_>]) -> String {
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

/// A row for each group, with its verdict by the rule if `verdicts`.
fn main_table(groups: &[Group<'_>], verdicts: bool) -> Table {
    let mut head: Vec<String> = MAIN_HEAD.map(String::from).to_vec();
    let verdict = if verdicts { &["verdict"][..] } else { &[] };
    let last = [&["net ASR"], verdict, &["patched drop", "effect"]].concat();
    head.extend(last.into_iter().map(String::from));
    let row = |group: &Group<'_>| {
        let setting = &group.setting;
        let under = match group.under_trained() {
            0 => String::new(),
            n => format!(" (under-trained: {n})"),
        };
        let mut cells = vec![
            format!("{}, {}, {} steps", setting.method, setting.data, setting.steps),
            setting.poison(),
            format!("{}, {} % labels", setting.probe, percent(setting.labels)),
            format!("{}{under}", group.victims()),
        ];
        for model in [CLEAN, BACKDOORED] {
            for images in Images::ALL {
                let [acc, fp, _] = group.cell(model, images);
                cells.extend([shown(acc), shown(fp)]);
            }
        }
        cells.push(shown(group.cell(BACKDOORED, Images::Patched)[2]));
        let net = group.net();
        cells.push(match net.and_then(|net| net.interval) {
            Some([low, high]) => format!("{} [{low:.1}, {high:.1}]", shown(net)),
            None => shown(net),
        });
        if verdicts {
            cells.push(group.verdict().map_or("-", Verdict::word).into());
        }
        cells.push(shown(group.drop()));
        cells.push(group.effects());
        Row { cells, anchor: group.anchor() }
    };
    Table { head, rows: groups.iter().map(row).collect() }
}

fn defence_table(groups: &[Group<'_>]) -> Option<Table> {
    let head =
        ["Model", "Runs", "clean: Acc", "FP", "ASR", "patched: Acc", "FP", "ASR"].map(String::from);
    let mut rows = Vec::new();
    for group in groups.iter().filter(|group| !group.defended().is_empty()) {
        for model in group.models() {
            let cells = Images::ALL.map(|images| group.cell(model, images).map(shown));
            let name = format!("{}, {model}", short(group, groups));
            let mut row = vec![name, group.measured(model).to_string()];
            row.extend(cells.concat());
            rows.push(Row { cells: row, anchor: group.anchor() });
        }
    }
    (!rows.is_empty()).then(|| Table { head: head.to_vec(), rows })
}

/// Accuracy against ASR of the defended models of all groups.
fn scatter(groups: &[Group<'_>]) -> Option<Chart> {
    let mut points = Vec::new();
    for group in groups {
        let defended = group.defended();
        if !defended.is_empty() {
            let defended = defended.into_iter().map(ModelId::as_str);
            for model in [CLEAN, BACKDOORED].into_iter().chain(defended) {
                let point = group.acc_against_asr(model);
                points.extend(point.map(|(asr, acc)| (model, asr, acc)));
            }
        }
    }
    (!points.is_empty()).then(|| charts::acc_against_asr(points))
}
