//! The claims about the defence: (e) and (f).

use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_probe::{equivalence, trend};

use super::claim::{Claim, LEVEL, MARGIN, SEED, p_value, with_interval};
use super::pairs::{Pair, mean_cells, number, pairs, values};
use crate::record::{BACKDOORED, CLEAN, Images, ProbeResult, RunScores, percent};
use crate::report::group::Group;
use crate::report::table::Row;

pub(super) fn claims(groups: &[&Group<'_>]) -> Vec<Claim> {
    let tested: Vec<(&Group<'_>, Vec<Pair<'_>>)> = groups
        .iter()
        .map(|group| (*group, pairs(group)))
        .filter(|(_, pairs)| pairs.len() >= 2)
        .collect();
    [cured(&tested), price(&tested)].into_iter().flatten().collect()
}

/// The students of a group by decreasing share of clean images.
fn students<'a>(group: &Group<'a>) -> Vec<&'a ModelId> {
    let student =
        |model: &&ModelId| model.role() == Role::DISTILLED && model.contamination().is_none();
    group.defended().into_iter().filter(student).collect()
}

/// The length of the training of `model`, in words.
fn training(group: &Group<'_>, model: &ModelId) -> &'static str {
    group.setting.training(model).unwrap_or("-")
}

fn figure(
    model: &str,
    images: Images,
    of: impl Fn(&ssl_backdoor_probe::Scores) -> Option<f64>,
) -> impl Fn(&RunScores, &ProbeResult) -> Option<f64> {
    move |_, reading| of(reading.models.get(model)?.get(&images)?)
}

/// (e) CompReSS brings the target's false positives back to the twin's level.
fn cured(groups: &[(&Group<'_>, Vec<Pair<'_>>)]) -> Option<Claim> {
    let mut rows = Vec::new();
    for (group, pairs) in groups {
        for model in students(group) {
            let asr = |model| values(pairs, figure(model, Images::Patched, |scores| scores.asr));
            let (Some(student), Some(twin), Some(backdoored)) =
                (asr(model.as_str()), asr(CLEAN), asr(BACKDOORED))
            else {
                continue;
            };
            let excess: Vec<f64> = student.iter().zip(&twin).map(|(s, t)| s - t).collect();
            let Some(test) = equivalence(&excess, MARGIN) else { continue };
            let [low, high] = test.interval90;
            let verdict = match () {
                () if test.p < LEVEL => "back at the twin's level",
                () if high < MARGIN => "not above the twin's level",
                () if low > MARGIN => "above the twin's level",
                () => "not shown",
            };
            let cells = vec![
                group.setting.method.clone(),
                format!("{model}, {}", training(group, model)),
                number(pairs),
                mean_cells(&backdoored)[0].clone(),
                with_interval(test.mean, test.interval90),
                mean_cells(&excess)[1].clone(),
                p_value(test.p),
                verdict.into(),
            ];
            rows.push(Row { cells, anchor: group.anchor() });
        }
    }
    Claim::new(
        "(e) CompReSS brings the target's false positives back to the twin's level",
        format!(
            "False positives on patched images as ASR, in points: the backdoored model's, and the student's minus the clean \
             twin's with Student's 90 % interval. Back: two one-sided t-tests against {MARGIN:.0} points have p < {LEVEL}. \
             Not above, or above: all of the interval lies below, or above, {MARGIN:.0} points."
        ),
        &[
            "Method",
            "Student",
            "Pairs",
            "Backdoored",
            "Student minus twin",
            "Bootstrap",
            "p",
            "Verdict",
        ],
        rows,
    )
}

/// (f) The student's accuracy falls with the clean share.
fn price(groups: &[(&Group<'_>, Vec<Pair<'_>>)]) -> Option<Claim> {
    let row = |(group, pairs): &(&Group<'_>, Vec<Pair<'_>>)| {
        let students = students(group);
        let columns: Option<Vec<Vec<f64>>> = students
            .iter()
            .map(|model| {
                values(pairs, figure(model.as_str(), Images::Clean, |scores| Some(scores.acc)))
            })
            .collect();
        let columns = columns.filter(|columns| columns.len() >= 2)?;
        let rows: Vec<Vec<f64>> =
            (0..pairs.len()).map(|pair| columns.iter().map(|c| c[pair]).collect()).collect();
        let test = trend(&rows, SEED)?;
        let means = columns.iter().zip(&students).map(|(column, model)| {
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            format!("{}: {mean:.1}", percent(model.share().unwrap_or_default()))
        });
        let verdict = if test.p < LEVEL { "falls" } else { "not shown" };
        let cells = vec![
            group.setting.method.clone(),
            students.first().map_or("-", |model| training(group, model)).into(),
            number(pairs),
            means.collect::<Vec<_>>().join(", "),
            format!("{:.2}", test.mean_slope),
            p_value(test.p),
            verdict.into(),
        ];
        Some(Row { cells, anchor: group.anchor() })
    };
    Claim::new(
        "(f) The student's accuracy falls with the clean share",
        format!(
            "Accuracy on clean images by clean share in percent, and its mean change from one share to the next smaller one, \
             in points. Falls: an exact one-sided sign-flip test over the pairs' slopes has p < {LEVEL}."
        ),
        &["Method", "Training", "Pairs", "Accuracy", "Change", "p", "Verdict"],
        groups.iter().filter_map(row).collect(),
    )
}
