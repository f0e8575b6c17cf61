//! The command `report`: tables over many runs, as an HTML page, Markdown and CSV.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use askama::Template;
use ssl_backdoor_defend::ModelId;

use super::chart::Chart;
use super::charts;
use super::claims::{Claim, attacked, claims, several_settings};
use super::comparison::{self, Comparison};
use super::curves;
use super::destinations::{TAKEN_OVER, TARGETED};
use super::distinct;
use super::dose::Dose;
use super::figures::Figures;
use super::group::Group;
use super::learned::weak;
use super::main_table::{defence_table, main_table, short};
use super::matrix::{Matrix, matrix};
use super::mean::ROBUST_BELOW;
use super::onset;
use super::setting::common;
use super::sources::{Source, compute, makers, sources};
use super::table::Table;
use super::table_csv::csv;
use crate::config::Experiment;
use crate::record::{
    Artefact, BACKDOORED, CLEAN, FIRST_NUMERICS, Manifest, Published, RunScores, json_text,
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
    /// Test the claims of the paper.
    pub claims: bool,
    /// Number of runs that there should be, if the caller knows it. A report over fewer says so.
    pub planned: Option<usize>,
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
    let configs: Vec<Option<Experiment>> =
        paths.iter().map(|path| config(path)).collect::<Result<_>>()?;
    let manifest = |path: &PathBuf| Manifest::read(&path.join(Artefact::Manifest.to_string()));
    let manifests: Vec<Manifest> = paths.iter().map(manifest).collect::<Result<_>>()?;
    let groups = Group::all(&runs, &configs, false);
    let mut page = Page::new(&groups, &runs, &configs, &manifests, options.claims)?;
    page.incomplete = options.planned.filter(|planned| *planned > runs.len()).map(|planned| {
        format!(
            "INCOMPLETE: {} of {planned} runs are finished. No verdict below is final.",
            runs.len()
        )
    });
    page.sources = sources(&groups, &paths, out);
    page.superseded = superseded.note();
    let markdown = Markdown { page: &page }.render().context("cannot render table.md")?;
    let html = Html { page: &page }.render().context("cannot render table.html")?;
    write_whole(&out.join("table.html"), html.as_bytes())?;
    write_whole(&out.join("table.md"), markdown.as_bytes())?;
    write_whole(&out.join("table.csv"), &csv(&runs)?)?;
    match options.json {
        true => print!(
            "{}",
            json_text(&Figures::of(&groups, &page.claims, page.incomplete.as_deref()))?
        ),
        false => println!("{markdown}\nReport: {}", out.join("table.html").display()),
    }
    Ok(())
}

/// The [`common`] part of the config of the run in `folder`; none if there is no config beside the scores.
///
/// # Errors
/// It cannot be read. The run is then not taken for one of the paper's attack.
fn config(folder: &Path) -> Result<Option<Experiment>> {
    let path = folder.join(Artefact::Config.to_string());
    let config = path.is_file().then(|| Experiment::read(&path, &[])).transpose();
    let context = || format!("the setting of the run in {} is unknown", folder.display());
    Ok(config.with_context(context)?.map(common))
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
    /// The rule of the main table's verdicts, in reports on version 0.1. Claims have their own rules.
    rule: Option<String>,
    /// How many runs are missing.
    incomplete: Option<String>,
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
    /// `groups` are the groups of the headline results of `runs`; `test` tests the claims.
    fn new(
        groups: &[Group<'_>],
        runs: &[RunScores],
        configs: &[Option<Experiment>],
        manifests: &[Manifest],
        test: bool,
    ) -> Result<Self> {
        let published = Published::read()?;
        let others = Group::all(runs, configs, true);
        let under = runs.iter().filter(|run| weak(run)).count();
        let names: Vec<_> = groups.iter().map(|g| (short(g, groups), &g.setting)).collect();
        let names = distinct::distinct_labels(&names);
        let claims = if test { claims(groups) } else { Vec::new() };
        // The results of version 0.1 were judged by the verdicts of the main table.
        let first = |group: &Group<'_>| group.setting.numerics == Some(FIRST_NUMERICS);
        let verdicts = test && claims.is_empty() && groups.iter().all(first);
        let (main, common) = main_table(groups, verdicts).without_common(&["Poisoned", "Probe"]);
        Ok(Self {
            lead: format!(
                "Runs: {}, settings: {}. Figures are means over the runs of a setting ± half of Student's 95 % interval; \
                 FP counts images of other classes that are assigned to the target. ASR is FP as a share of all images of other \
                 classes. Net ASR is the backdoored model's ASR minus its clean twin's on the same patched images; its interval is \
                 over the pairs of target and trigger, each the mean of its training seeds, or over the seeds of a single pair. Patched drop \
                 is the twin's accuracy on patched images minus the backdoored model's. The largest net flow elsewhere is that to another \
                 class than the target. Effect: a model is targeted if its \
                 largest net flow is to the target and net ASR is {TARGETED:.0} points or more; it is taken over if its largest \
                 net flow is to another class and the patched drop is {TAKEN_OVER:.0} points or more; otherwise neither. {}{}",
                runs.len(),
                groups.len(),
                if test { about_claims(groups, &claims) } else { UNTESTED.into() },
                makers(runs),
            ),
            rule: verdicts.then(rule),
            incomplete: None,
            warning: (under > 0).then(|| {
                format!(
                    "UNDER-TRAINED VICTIM: in {under} of {} runs the clean twin has learned too little: it is below the gate of \
                     docs/claims.md or less accurate than expected. Their figures say little about a method at full strength.",
                    runs.len(),
                )
            }),
            claims,
            main,
            common,
            charts: charts_of(groups, &names),
            comparisons: [
                comparison::main(groups, &published),
                comparison::defence(groups, &published),
                comparison::others(groups, &published),
            ]
            .into_iter()
            .flatten()
            .collect(),
            defence: defence_table(groups, &names),
            matrix: matrix(runs, configs, manifests),
            readings: (!others.is_empty()).then(|| main_table(&others, verdicts)),
            superseded: None,
            sources: Vec::new(),
            compute: compute(manifests),
            made_with: format!("Made by ssl-backdoor {}.", env!("CARGO_PKG_VERSION")),
        })
    }
}

const UNTESTED: &str = "The claims of docs/claims.md are not tested here, because the runs were not planned as a test. ";

/// How the figures of the claims differ from those of the main table, or why there are none.
fn about_claims(groups: &[Group<'_>], claims: &[Claim]) -> String {
    let mut text = String::new();
    if !claims.is_empty() {
        text += "All intervals of the claims are over such pairs. ";
        let evals: BTreeSet<&str> = groups.iter().map(|g| g.setting.eval.as_str()).collect();
        if evals.contains("dev") {
            text += "They are tested on dev images, on which settings may be chosen, so they are not final results. ";
        }
    }
    if let Some(method) = several_settings(groups) {
        text += &format!(
            "Claims (a) to (d) and (g) are not tested, because {method} has several settings here: report the runs of one \
             setting by themselves. "
        );
    }
    text
}

/// The rule of the verdicts of the main table.
fn rule() -> String {
    format!(
        "vulnerable if the lower end of the interval of the net ASR is above 0; robust if its upper end is below \
         {ROBUST_BELOW:.0} points; otherwise undecided."
    )
}

/// The charts of the `groups` with these names: the net ASR of each, a curve for each dose that varies, and the defended
/// models.
fn charts_of(groups: &[Group<'_>], names: &[String]) -> Vec<Chart> {
    let nets = groups.iter().zip(names).filter_map(|(g, name)| Some((name.clone(), g.net()?)));
    let nets: Vec<_> = nets.collect();
    let mut all: Vec<Chart> =
        (!nets.is_empty()).then(|| charts::net_asr(&nets)).into_iter().collect();
    all.extend(onset::of_groups(groups, names));
    let attacked = attacked(groups);
    for dose in Dose::ALL {
        let found = dose.curves(&attacked);
        all.extend((!found.is_empty()).then(|| curves::dose(dose, &found)));
    }
    all.extend(scatter(groups));
    all
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
