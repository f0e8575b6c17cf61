//! Charts as inline SVG. Text and axes use the page's colour, so they are legible in light and dark mode.

use std::collections::BTreeMap;

use kuva::plot::BarPlot;
use kuva::plot::LinePlot;
use kuva::plot::ScatterPlot;
use kuva::plot::scatter::MarkerShape;
use kuva::prelude::{Layout, Plot, Theme, render_to_svg};
use serde_json::Value;
use ssl_backdoor_defend::ModelId;
use ssl_backdoor_probe::Scores;

use super::chart::{Chart, ChartTable};
use super::mean::Mean;
use crate::record::{
    BACKDOORED, BySet, CLEAN, FeatureMap, Images, Point, RunScores, UNTRAINED, percent,
};

/// The keys of a curve's point in `metrics.jsonl`: accuracy, ASR on clean and on patched images.
pub(super) const CURVE: [&str; 3] = ["dev_acc", "dev_asr_clean", "dev_asr_patched"];

/// Colours of the clean twin and of the backdoored model: mid tones that stand out on light and dark backgrounds.
const COLORS: [&str; 2] = ["#3b82c4", "#d9534f"];
const NAMES: [&str; 2] = ["clean twin", "backdoored"];

fn theme() -> Theme {
    let ink = || "currentColor".to_owned();
    Theme {
        background: "none".into(),
        axis_color: ink(),
        grid_color: "#8884".into(),
        tick_color: ink(),
        text_color: ink(),
        legend_bg: "none".into(),
        legend_border: "none".into(),
        ..Theme::light()
    }
}

/// Size of a chart in SVG units; the page scales it.
const SIZE: (f64, f64) = (620.0, 420.0);

/// A chart whose y axis starts at 0.
fn render(plots: Vec<Plot>, (title, x, y): (&str, &str, &str), alt: &str) -> Chart {
    let layout = layout(&plots, title, x, y).with_y_axis_min(0.0);
    draw(plots, layout, title, alt)
}

/// `alt` describes the chart in words.
pub(super) fn draw(plots: Vec<Plot>, layout: Layout, title: &str, alt: &str) -> Chart {
    Chart::new(&render_to_svg(plots, layout), title, alt)
}

pub(super) fn layout(plots: &[Plot], title: &str, x: &str, y: &str) -> Layout {
    Layout::auto_from_plots(plots)
        .with_theme(theme())
        .with_title(title)
        .with_x_label(x)
        .with_y_label(y)
        .with_width(SIZE.0)
        .with_height(SIZE.1)
}

/// ASR of both models on clean and on patched images, or without a target their accuracy, with Wilson intervals.
pub(super) fn attack_bars(scores: &RunScores) -> Chart {
    let (title, short) = match scores.target {
        Some(_) => ("Attack success rate", "ASR %"),
        None => ("Accuracy", "Acc %"),
    };
    let figure = |found: &Scores| match scores.target {
        Some(_) => found.asr.zip(found.asr_ci),
        None => Some((found.acc, found.acc_ci)),
    };
    let sides = [(Images::Clean, "clean images"), (Images::Patched, "patched images")];
    let mut bars = BarPlot::new();
    let (mut errors, mut words) = (Vec::new(), Vec::new());
    let mut table = ChartTable::new(["images", "model", short, "95 % interval"]);
    for (images, label) in sides {
        let found = [(CLEAN, NAMES[0]), (BACKDOORED, NAMES[1])].map(|(model, name)| {
            let found = scores.get(model, images).and_then(figure);
            let (value, [low, high]) = found.unwrap_or_default();
            errors.push((value - low, high - value));
            words.push(format!("{name}, {label}: {value:.1} %"));
            let interval = format!("{low:.1} to {high:.1}");
            table.row([label.into(), name.into(), format!("{value:.1}"), interval]);
            value
        });
        bars = bars.with_group(label, found.into_iter().zip(COLORS));
    }
    let bars = bars
        .with_asymmetric_error(errors)
        .with_error_color("currentColor")
        .with_legend(NAMES.to_vec());
    let alt = format!("{title}. {}.", words.join("; "));
    render(vec![bars.into()], (title, "", short), &alt).with_table(table)
}

/// Points (step, value of `key`) of one training.
fn points(lines: &[Value], key: &str) -> Vec<(f64, f64)> {
    let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.get(key)?.as_f64()?));
    lines.iter().filter_map(point).collect()
}

/// The points of both models as lines, or as dots.
fn lines(both: [Vec<(f64, f64)>; 2]) -> Vec<Plot> {
    let line = |(data, (color, name)): (Vec<(f64, f64)>, (&str, &str))| -> Plot {
        if data.len() == 1 {
            // A line of one point is not visible.
            let dot = ScatterPlot::new().with_data(data).with_color(color).with_size(4.0);
            return dot.with_legend(name).into();
        }
        let line = LinePlot::new().with_data(data).with_color(color).with_stroke_width(2.0);
        line.with_legend(name).into()
    };
    both.into_iter().zip(COLORS.into_iter().zip(NAMES)).map(line).collect()
}

/// The curves of `key` of both models by step.
fn curves(metrics: &[Vec<Value>; 2], key: &str, (title, y): (&str, &str)) -> Chart {
    let of = |lines: &Vec<Value>| points(lines, key);
    let both = [of(&metrics[0]), of(&metrics[1])];
    let range = |(points, name): (&Vec<(f64, f64)>, &str)| {
        let (first, last) = (points.first()?, points.last()?);
        Some(format!("{name} from {:.2} to {:.2}", first.1, last.1))
    };
    let words: Vec<String> = both.iter().zip(NAMES).filter_map(range).collect();
    let last = both.iter().flatten().map(|point| point.0).fold(0.0, f64::max);
    let alt = format!("{title} over {last:.0} steps: {}.", words.join("; "));
    let mut table = ChartTable::new(["step", NAMES[0], NAMES[1]]);
    let mut steps: Vec<f64> = both.iter().flatten().map(|point| point.0).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    for step in steps {
        let value = |points: &Vec<(f64, f64)>| {
            let point = points.iter().find(|point| point.0 == step);
            point.map_or("-".into(), |point| format!("{:.3}", point.1))
        };
        table.row([format!("{step:.0}"), value(&both[0]), value(&both[1])]);
    }
    let highest = both.iter().flatten().map(|point| point.1).fold(0.0, f64::max);
    let dots = both.iter().all(|points| points.len() < 2);
    let plots = lines(both);
    let mut layout = layout(&plots, title, "step", y).with_y_axis_min(0.0);
    if dots && highest > 0.0 {
        // Room for dots, which would lie on the upper edge.
        layout = layout.with_y_axis_max(1.2 * highest);
    }
    draw(plots, layout, title, &alt).with_table(table)
}

/// The training loss of both models.
pub(super) fn loss(metrics: &[Vec<Value>; 2]) -> Chart {
    curves(metrics, "loss", ("Training loss", "loss"))
}

/// ASR on patched dev images during training, if it was measured.
pub(super) fn asr_curve(metrics: &[Vec<Value>; 2]) -> Option<Chart> {
    let measured = metrics.iter().all(|lines| !points(lines, CURVE[2]).is_empty());
    let names = ("Attack success rate on patched dev images", "ASR %");
    measured.then(|| curves(metrics, CURVE[2], names))
}

/// Width of a letter of a bar's name, in pixels.
const NAME_STEP: f64 = 6.0;

/// Net ASR of each group with its interval, in the order given.
pub(super) fn net_asr(rows: &[(String, Mean)]) -> Chart {
    let mut bars = BarPlot::new();
    let (mut errors, mut words) = (Vec::new(), Vec::new());
    let mut table = ChartTable::new(["setting", "net ASR", "95 % interval"]);
    for (name, mean) in rows {
        let [low, high] = mean.interval.unwrap_or([mean.value; 2]);
        errors.push((mean.value - low, high - mean.value));
        words.push(format!("{name}: {:.1}", mean.value));
        let interval = mean.interval.map_or("-".into(), |[a, b]| format!("{a:.1} to {b:.1}"));
        table.row([name.clone(), format!("{:.1}", mean.value), interval]);
        bars = bars.with_bar(name.clone(), mean.value);
    }
    let bars =
        bars.with_color(COLORS[1]).with_asymmetric_error(errors).with_error_color("currentColor");
    let (plots, title) = (vec![bars.into()], "Net ASR");
    let layout = layout(&plots, title, "", "points");
    // Names that would overlap are rotated, and the chart grows so that the plot keeps its height.
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let layout = if (rows.len() * longest) as f64 * NAME_STEP > SIZE.0 {
        layout.with_x_tick_rotate(90.0).with_height(SIZE.1 + longest as f64 * NAME_STEP)
    } else {
        layout
    };
    let alt = format!("{title} in points. {}.", words.join("; "));
    draw(plots, layout, title, &alt).with_table(table)
}

/// Start of the ASR axis, in points.
const LABEL_ROOM: f64 = -8.0;

/// Accuracy on clean images against ASR on patched ones: points (model, ASR, accuracy), one colour for each family of
/// models, labelled with their clean share.
pub(super) fn acc_against_asr(points: Vec<(&str, f64, f64)>) -> Chart {
    type Labelled = (f64, f64, String);
    let mut families: Vec<(String, Vec<Labelled>)> = Vec::new();
    let mut words = Vec::new();
    let mut table =
        ChartTable::new(["model", "ASR on patched images, %", "Acc on clean images, %"]);
    for (model, asr, acc) in points {
        words.push(format!("{model}: accuracy {acc:.1} %, ASR {asr:.1} %"));
        table.row([model.to_owned(), format!("{asr:.1}"), format!("{acc:.1}")]);
        let model = ModelId::from(model);
        let (name, share) = model.series();
        let name = if name == CLEAN { NAMES[0] } else { name };
        let label = if share > 0.0 { format!("{} %", percent(share)) } else { String::new() };
        match families.iter_mut().find(|(other, _)| other == name) {
            Some((_, points)) => points.push((asr, acc, label)),
            None => families.push((name.into(), vec![(asr, acc, label)])),
        }
    }
    let plots = families.into_iter().zip(FAMILY_COLORS.iter().cycle());
    let plots = plots.map(|((name, points), color)| {
        let places: Vec<(f64, f64)> = points.iter().map(|p| (p.0, p.1)).collect();
        let plot = ScatterPlot::new().with_data(places).with_color(*color).with_size(5.0);
        plot.with_labels(points.into_iter().map(|p| p.2)).with_legend(name).into()
    });
    let (plots, title): (Vec<Plot>, _) = (plots.collect(), "Accuracy against ASR, by clean share");
    // Most points lie near 0: room for their labels.
    let layout = layout(&plots, title, "ASR on patched images, %", "Acc on clean images, %")
        .with_x_axis_min(LABEL_ROOM);
    draw(plots, layout, title, &format!("{title}. {}.", words.join("; "))).with_table(table)
}

/// Like [`acc_against_asr`] for one run, if it has defended models.
pub(super) fn defence(models: &BTreeMap<ModelId, BySet>) -> Option<Chart> {
    let mut points = Vec::new();
    for (model, sets) in models.iter().filter(|(model, _)| model.as_str() != UNTRAINED) {
        if let (Some(patched), Some(clean)) = (sets.get(&Images::Patched), sets.get(&Images::Clean))
        {
            points.extend(patched.asr.map(|asr| (model.as_str(), asr, clean.acc)));
        }
    }
    (points.len() > 2).then(|| acc_against_asr(points))
}

/// One colour for each family of models of a defence with all its controls.
pub(super) const FAMILY_COLORS: [&str; 7] =
    ["#d9534f", "#3b82c4", "#3a9d6e", "#b07cc6", "#d08c2f", "#7a8794", "#a3a635"];

/// Dots of clean images by class, the target's in red and larger; triangles of patched images.
pub(super) fn feature_map(
    map: &FeatureMap,
    model: &str,
    classes: &[String],
    target: Option<u32>,
) -> Chart {
    let points = |of: &dyn Fn(&Point) -> bool| -> Vec<(f64, f64)> {
        let chosen = map.points.iter().filter(|point| of(point));
        chosen.map(|point| (f64::from(point.x), f64::from(point.y))).collect()
    };
    let mut shown: Vec<u32> = map.points.iter().map(|point| point.class).collect();
    shown.sort_unstable();
    shown.dedup();
    let mut plots: Vec<Plot> = Vec::new();
    let mut colors = CLASS_COLORS.iter().cycle();
    for class in shown {
        let name = classes.get(class as usize).map_or("", String::as_str);
        let is_target = Some(class) == target;
        let (color, size, name) = if is_target {
            (COLORS[1], 4.0, format!("{name} (target)"))
        } else {
            (*colors.next().unwrap_or(&COLORS[0]), 2.5, name.to_owned())
        };
        let dots = points(&|point| point.class == class && !point.patched);
        let plot = ScatterPlot::new().with_data(dots).with_color(color).with_size(size);
        plots.push(plot.with_legend(name).into());
    }
    let triangles = points(&|point| point.patched);
    let alt = format!(
        "Features of {} clean images by class and of {} patched images in the {model}, in two dimensions. The file \
         maps.json contains the points.",
        map.points.len() - triangles.len(),
        triangles.len()
    );
    let plot = ScatterPlot::new()
        .with_data(triangles)
        .with_color("currentColor")
        .with_marker(MarkerShape::Triangle)
        .with_size(4.5)
        .with_legend("patched");
    plots.push(plot.into());
    let title = format!("Features of the {model}");
    let layout = layout(&plots, &title, "", "");
    draw(plots, layout, &title, &alt)
}

/// Nine colours that stand out on light and dark backgrounds; none is the target's red.
const CLASS_COLORS: [&str; 9] = [
    "#3b82c4", "#3a9d6e", "#b07cc6", "#d08c2f", "#7a8794", "#2ba3a8", "#8a6d3b", "#c45fa0",
    "#8c9a2f",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Circles of a chart and of its legend.
    fn dots(metrics: &[Vec<Value>; 2]) -> usize {
        loss(metrics).svg.matches("<circle").count()
    }

    #[test]
    fn a_run_without_a_target_shows_accuracy() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("results/fashion-mnist");
        let chart = |run: &str| {
            let scores = RunScores::read(&folder.join(run).join("scores.json")).unwrap();
            attack_bars(&scores)
        };
        let untargeted = chart("ablations/byol_untargeted");
        assert_eq!(
            (untargeted.title.as_str(), untargeted.svg.matches("NaN").count()),
            ("Accuracy", 0)
        );
        // 70.1 % of the clean images, for the backdoored model.
        assert!(untargeted.table.unwrap().rows.iter().any(|row| row[2] == "70.1"));
        assert_eq!(chart("runs/sandal-17_byol").title, "Attack success rate");
    }

    #[test]
    fn the_only_epoch_of_a_training_is_a_dot() {
        let epoch = |step: u32| json!({ "step": step, "loss": 2.5 });
        let short = [vec![epoch(12)], vec![epoch(12)]];
        let long = [vec![epoch(12), epoch(24)], vec![epoch(12), epoch(24)]];
        assert!(dots(&short) >= 2);
        assert_eq!(dots(&long), 0);
    }
}
