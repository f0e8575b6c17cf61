//! Charts of curves with intervals.

use kuva::plot::{LinePlot, ScatterPlot};
use kuva::prelude::Plot;

use super::chart::{Chart, ChartTable};
use super::charts::{FAMILY_COLORS, draw, layout};
use super::dose::{Curve, Dose};
use super::mean::Mean;

/// A curve with an interval at each point.
pub(super) struct Series {
    pub name: String,
    pub points: Vec<(f64, Mean)>,
}

/// Curves with the intervals of their points. `head` names curve, x and value in the table; `unit` follows an x in words.
pub(super) fn with_intervals(
    series: &[Series],
    title: &str,
    (x_label, y_label): (&str, &str),
    head: [&str; 3],
    unit: &str,
) -> Chart {
    let mut plots: Vec<Plot> = Vec::new();
    let mut words = Vec::new();
    let [name, x, value] = head;
    let mut table = ChartTable::new([name, x, value, "95 % interval"]);
    for (curve, color) in series.iter().zip(FAMILY_COLORS.iter().cycle()) {
        let points: Vec<(f64, f64)> =
            curve.points.iter().map(|(x, mean)| (*x, mean.value)).collect();
        let mut dots = ScatterPlot::new().with_data(points.clone());
        if curve.points.iter().any(|(_, mean)| mean.interval.is_some()) {
            let error = |(_, mean): &(f64, Mean)| {
                let [low, high] = mean.interval.unwrap_or([mean.value; 2]);
                (mean.value - low, high - mean.value)
            };
            dots = dots.with_y_err_asymmetric(curve.points.iter().map(error).collect::<Vec<_>>());
        }
        for (x, mean) in &curve.points {
            words.push(format!("{} at {x:.0}{unit}: {:.1}", curve.name, mean.value));
            let interval = mean.interval.map_or("-".into(), |[a, b]| format!("{a:.1} to {b:.1}"));
            table.row([curve.name.clone(), written(*x), format!("{:.1}", mean.value), interval]);
        }
        let line = LinePlot::new().with_data(points).with_color(*color);
        plots.push(line.with_stroke_width(2.0).into());
        plots.push(dots.with_color(*color).with_size(5.0).with_legend(&curve.name).into());
    }
    let layout = layout(&plots, title, x_label, y_label);
    let alt = format!("{title}, in points. {}.", words.join("; "));
    draw(plots, layout, title, &alt).with_table(table)
}

/// A number without decimals if it is whole, else with one.
fn written(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

/// Mean net ASR of each method at every dose, with its intervals over pairs.
pub(super) fn dose(dose: Dose, curves: &[Curve<'_>]) -> Chart {
    let series = |curve: &Curve<'_>| {
        let column = |i: usize| curve.pairs.iter().map(|row| row[i]).collect::<Vec<f64>>();
        let points = curve.doses.iter().enumerate();
        Series {
            name: curve.method.to_owned(),
            points: points.filter_map(|(i, x)| Some((*x, Mean::of(&column(i))?))).collect(),
        }
    };
    let series: Vec<Series> = curves.iter().map(series).collect();
    let head = ["method", dose.axis(), "net ASR"];
    with_intervals(&series, "Net ASR by dose", (dose.axis(), "points"), head, " %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dose_has_a_line_and_its_intervals_over_pairs() {
        let curve = Curve {
            method: "byol",
            doses: vec![10.0, 20.0, 40.0],
            pairs: vec![vec![1.0, 2.0, 8.0], vec![3.0, 4.0, 12.0]],
            anchor: "run-0".into(),
        };
        let chart = dose(Dose::SingleView, &[curve]);
        assert!(chart.svg.contains("byol at 10 %: 2.0; byol at 20 %: 3.0; byol at 40 %: 10.0"));
        assert!(!chart.svg.contains("NaN") && chart.svg.matches("<circle").count() >= 3);
        let rows = chart.table.unwrap().rows;
        // Student's t for two pairs is 12.71: 10 ± 12.71 · 2.83 / √2.
        assert_eq!(rows[2], ["byol", "40", "10.0", "-15.4 to 35.4"]);
    }
}
