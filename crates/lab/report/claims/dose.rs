//! The claims about the dose: (j) and (k).

use ssl_backdoor_probe::{Alternative, sign_flip, slope_over};

use super::claim::{Claim, LEVEL, SEED, p_value};
use super::pairs::mean_cells;
use crate::report::dose::{Curve, Dose};
use crate::report::group::Group;
use crate::report::table::Row;

/// The methods whose mean is tested.
const METHODS: [&str; 2] = ["byol", "moco-v2"];
/// Smallest number of doses for which a verdict is given, as fixed in `configs/shapes/dose.toml`.
const DOSES: usize = 4;
/// Points of a single-view share over which a slope is stated.
const PER: f64 = 10.0;

pub(super) fn claims<'a>(groups: &[&'a Group<'a>]) -> Vec<Claim> {
    Dose::ALL.into_iter().filter_map(|dose| rises(dose, &dose.curves(groups))).collect()
}

/// Net ASR rises with the dose.
fn rises(dose: Dose, curves: &[Curve<'_>]) -> Option<Claim> {
    let mut methods: Vec<&str> = curves.iter().map(|curve| curve.method).collect();
    methods.sort_unstable();
    if methods != METHODS || curves.iter().any(|of| of.doses.len() != curves[0].doses.len()) {
        return None;
    }
    let slopes: Option<Vec<Vec<f64>>> = curves.iter().map(|curve| slopes(dose, curve)).collect();
    let slopes = slopes?;
    let pairs = slopes[0].len();
    // The unit is the pair, as the mean over the methods.
    let mean = |pair: usize| slopes.iter().map(|of| of[pair]).sum::<f64>() / slopes.len() as f64;
    let together: Vec<f64> = (0..pairs).map(mean).collect();
    let test = sign_flip(&together, Alternative::Greater, SEED)?;
    let mut rows = Vec::new();
    for (curve, slopes) in curves.iter().zip(&slopes) {
        let [slope, drawn] = mean_cells(slopes);
        let net = |i: usize| curve.pairs.iter().map(|row| row[i]).sum::<f64>() / pairs as f64;
        let by_dose =
            curve.doses.iter().enumerate().map(|(i, x)| format!("{x:.0} %: {:.1}", net(i)));
        let by_dose = by_dose.collect::<Vec<_>>().join(", ");
        let untested = ["-".to_owned(), "not tested alone".to_owned()];
        let cells = [curve.method.to_owned(), pairs.to_string(), by_dose, slope, drawn];
        rows.push(Row { cells: [&cells[..], &untested].concat(), anchor: curve.anchor.clone() });
    }
    let [slope, drawn] = mean_cells(&together);
    let (p, verdict) = match curves[0].doses.len() {
        DOSES.. if test.p < LEVEL => (p_value(test.p), "rises".into()),
        DOSES.. => (p_value(test.p), "not shown".into()),
        some => ("-".into(), format!("not tested: {some} of {DOSES} doses")),
    };
    let cells = ["together".into(), pairs.to_string(), "-".into(), slope, drawn, p, verdict];
    rows.push(Row { cells: cells.to_vec(), anchor: curves[0].anchor.clone() });
    let (title, per) = match dose {
        Dose::SingleView => (
            "(j) Net ASR rises with the share of poisoned images that show the trigger in exactly one view",
            format!("{PER:.0} points of this share"),
        ),
        Dose::Rate => ("(k) Net ASR rises with the poison rate", "doubling of the rate".to_owned()),
    };
    Claim::new(
        title,
        format!(
            "Mean net ASR at each dose, in points, and its least-squares slope for each {per}, by pair, with Student's 95 % \
             interval; bootstrap 95 %. Rises: an exact one-sided sign-flip test over the pairs' slopes, each the mean over the \
             methods, has p < {LEVEL}."
        ),
        &["Method", "Pairs", "Net ASR by dose", "Slope", "Bootstrap", "p", "Verdict"],
        rows,
    )
}

/// The slope of each pair; none with fewer than two pairs.
fn slopes(dose: Dose, curve: &Curve<'_>) -> Option<Vec<f64>> {
    let scaled = |x: &f64| match dose {
        Dose::SingleView => x / PER,
        Dose::Rate => x.log2(),
    };
    let x: Vec<f64> = curve.doses.iter().map(scaled).collect();
    let slopes: Option<Vec<f64>> = curve.pairs.iter().map(|y| slope_over(&x, y)).collect();
    slopes.filter(|slopes| slopes.len() >= 2)
}
