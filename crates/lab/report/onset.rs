//! The onset of the attack: net flow to the target and to the first other class during the training, on dev images.

use super::chart::Chart;
use super::curves::{Series, with_intervals};
use super::group::Group;
use super::mean::Mean;
use crate::record::RunScores;

const TITLE: &str = "Net flow of patched dev images during training";

/// The classes of a run's curves: the target, and the class with the largest net flow among the others at the end.
fn classes(run: &RunScores) -> Option<[usize; 2]> {
    let (target, last) = (run.target? as usize, run.onset.last()?);
    let others = (0..last.net.len()).filter(|class| *class != target);
    let other = others.max_by(|a, b| last.net[*a].total_cmp(&last.net[*b]))?;
    (target < last.net.len()).then_some([target, other])
}

/// The steps of a run's points.
fn steps(run: &RunScores) -> impl Iterator<Item = u64> {
    run.onset.iter().map(|point| point.step)
}

/// The curves of one run.
pub(super) fn of_run(run: &RunScores) -> Option<Chart> {
    let classes = classes(run)?;
    let target = run.target_name.clone().unwrap_or_else(|| "the target".into());
    let names = [format!("to {target} (target)"), format!("to {}", run.class_name(classes[1]))];
    let series = names.into_iter().zip(classes).map(|(name, class)| {
        let mean = |value| Mean { value, interval: None };
        let points = run.onset.iter();
        let points = points
            .filter_map(|point| Some((point.step as f64, mean(*point.net.get(class)?))))
            .collect();
        Series { name, points }
    });
    Some(chart(&series.collect::<Vec<_>>()))
}

/// The mean curves of the groups with these names, over the pairs of target and trigger; none without a group whose runs
/// were all measured at the same steps.
pub(super) fn of_groups(groups: &[Group<'_>], names: &[String]) -> Option<Chart> {
    let all = groups.iter().zip(names);
    let series: Vec<Series> =
        all.filter_map(|(group, name)| mean_curves(group, name)).flatten().collect();
    (!series.is_empty()).then(|| chart(&series))
}

fn mean_curves(group: &Group<'_>, name: &str) -> Option<[Series; 2]> {
    let (_, first, _) = group.runs.first()?;
    let same = |run: &RunScores| classes(run).is_some() && steps(run).eq(steps(first));
    if !group.runs.iter().all(|(_, run, _)| same(run)) {
        return None;
    }
    let series = |(i, to): (usize, &str)| -> Option<Series> {
        let mean = |at: usize| {
            group.over_pairs(|run, _| run.onset.get(at)?.net.get(classes(run)?[i]).copied())
        };
        let points: Option<Vec<_>> =
            steps(first).enumerate().map(|(at, step)| Some((step as f64, mean(at)?))).collect();
        Some(Series { name: format!("{name}: {to}"), points: points? })
    };
    Some([series((0, "to the target"))?, series((1, "to the first other class"))?])
}

fn chart(series: &[Series]) -> Chart {
    with_intervals(series, TITLE, ("step", "points"), ["curve", "step", "net flow"], "")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::OnsetPoint;

    /// A run with this target among three classes.
    fn run(target: u32, to_target: [f64; 2]) -> RunScores {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let kept = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
        let point = |(step, flow): (u64, f64)| {
            let mut net = vec![-1.0, -1.0, 0.5];
            net[target as usize] = flow;
            OnsetPoint { step, net }
        };
        RunScores {
            target: Some(target),
            target_name: Some("flag".into()),
            class_names: ["arrow", "flag", "heart"].map(str::to_owned).into(),
            onset: [10, 20].into_iter().zip(to_target).map(point).collect(),
            ..kept
        }
    }

    #[test]
    fn a_run_shows_the_target_and_the_first_other_class() {
        let chart = of_run(&run(1, [2.0, 30.0])).unwrap();
        let rows = chart.table.unwrap().rows;
        assert_eq!(rows[1], ["to flag (target)", "20", "30.0", "-"]);
        assert_eq!(rows[3], ["to heart", "20", "0.5", "-"]);
        assert!(chart.svg.contains("to flag (target) at 20: 30.0") && !chart.svg.contains("NaN"));
        let without = RunScores { onset: Vec::new(), ..run(1, [0.0; 2]) };
        assert!(of_run(&without).is_none());
    }

    #[test]
    fn groups_show_means_over_pairs_at_the_same_steps() {
        let runs = [run(1, [2.0, 30.0]), run(0, [4.0, 10.0])];
        let groups = Group::all(&runs, &[None, None], false);
        let rows = of_groups(&groups, &["byol".into()]).unwrap().table.unwrap().rows;
        // Student's t for two pairs is 12.71: 3 ± 12.71 · 1.41 / √2.
        assert_eq!(rows[0], ["byol: to the target", "10", "3.0", "-9.7 to 15.7"]);
        assert_eq!(rows[1][2], "20.0");
        let mut short = runs.clone();
        short[1].onset.pop();
        assert!(of_groups(&Group::all(&short, &[None, None], false), &["byol".into()]).is_none());
    }
}
