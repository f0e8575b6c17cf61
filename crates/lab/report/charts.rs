//! Charts as inline SVG. Text and axes take the page's own colour, so they read in light and dark.

use std::collections::BTreeMap;

use base64::Engine;
use kuva::plot::BarPlot;
use kuva::plot::LinePlot;
use kuva::plot::ScatterPlot;
use kuva::plot::scatter::MarkerShape;
use kuva::prelude::{Layout, Plot, Theme, render_to_svg};
use serde_json::Value;
use ssl_backdoor_defend::ModelId;

use super::mean::Mean;
use crate::record::{
    BACKDOORED, BySet, CLEAN, FeatureMap, Images, Point, RunScores, UNTRAINED, percent,
};

/// The keys of a curve's point in `metrics.jsonl`: accuracy, ASR on clean and on patched images.
pub(super) const CURVE: [&str; 3] = ["dev_acc", "dev_asr_clean", "dev_asr_patched"];

/// Colours of the clean twin and of the backdoored model, mid tones that stand out on both grounds.
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

/// A chart whose values start at 0.
fn render(plots: Vec<Plot>, title: &str, x: &str, y: &str) -> Chart {
    let layout = layout(&plots, title, x, y).with_y_axis_min(0.0);
    draw(plots, layout, title)
}

fn draw(plots: Vec<Plot>, layout: Layout, title: &str) -> Chart {
    Chart::new(scalable(&render_to_svg(plots, layout)), title)
}

fn layout(plots: &[Plot], title: &str, x: &str, y: &str) -> Layout {
    Layout::auto_from_plots(plots)
        .with_theme(theme())
        .with_title(title)
        .with_x_label(x)
        .with_y_label(y)
        .with_width(SIZE.0)
        .with_height(SIZE.1)
}

/// A chart, and what a link needs to save it as a file of its own.
pub(super) struct Chart {
    pub svg: String,
    pub title: String,
    pub uri: String,
}

impl Chart {
    fn new(svg: String, title: &str) -> Self {
        let text = base64::engine::general_purpose::STANDARD.encode(&svg);
        Self { svg, title: title.into(), uri: format!("data:image/svg+xml;base64,{text}") }
    }

    /// The name of the file.
    pub(super) fn file(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        format!("{}.svg", self.title.chars().map(plain).collect::<String>())
    }
}

/// Gives the SVG a view box in place of its fixed size, so that the page can scale it.
fn scalable(svg: &str) -> String {
    let Some((tag, rest)) = svg.split_once('>') else { return svg.into() };
    let attribute = |name: &str| tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next();
    match (attribute("width"), attribute("height")) {
        (Some(width), Some(height)) if !tag.contains("viewBox") => {
            format!("{tag} viewBox=\"0 0 {width} {height}\">{rest}")
        }
        _ => svg.into(),
    }
}

/// ASR of both models on clean and on patched images, with Wilson intervals.
pub(super) fn asr_bars(scores: &RunScores) -> Chart {
    let sides = [(Images::Clean, "clean images"), (Images::Patched, "patched images")];
    let mut bars = BarPlot::new();
    let mut errors = Vec::new();
    for (images, label) in sides {
        let found = [CLEAN, BACKDOORED].map(|model| {
            let scores = scores.get(model, images);
            let asr = scores.and_then(|s| s.asr).unwrap_or(0.0);
            let [low, high] = scores.and_then(|s| s.asr_ci).unwrap_or([asr; 2]);
            errors.push((asr - low, high - asr));
            asr
        });
        bars = bars.with_group(label, found.into_iter().zip(COLORS));
    }
    let bars = bars
        .with_asymmetric_error(errors)
        .with_error_color("currentColor")
        .with_legend(NAMES.to_vec());
    render(vec![bars.into()], "Attack success rate", "", "ASR %")
}

/// Points (step, value of `key`) of one training.
fn points(lines: &[Value], key: &str) -> Vec<(f64, f64)> {
    let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.get(key)?.as_f64()?));
    lines.iter().filter_map(point).collect()
}

fn lines(metrics: &[Vec<Value>; 2], key: &str) -> Vec<Plot> {
    let line = |(lines, (color, name)): (&Vec<Value>, (&str, &str))| {
        let data = points(lines, key);
        LinePlot::new().with_data(data).with_color(color).with_stroke_width(2.0).with_legend(name)
    };
    metrics.iter().zip(COLORS.into_iter().zip(NAMES)).map(|l| line(l).into()).collect()
}

/// The training loss of both models.
pub(super) fn loss(metrics: &[Vec<Value>; 2]) -> Chart {
    render(lines(metrics, "loss"), "Training loss", "step", "loss")
}

/// ASR on patched dev images along the training, if it was measured.
pub(super) fn asr_curve(metrics: &[Vec<Value>; 2]) -> Option<Chart> {
    let measured = metrics.iter().all(|lines| !points(lines, CURVE[2]).is_empty());
    let draw = || {
        let title = "Attack success rate on patched dev images";
        render(lines(metrics, CURVE[2]), title, "step", "ASR %")
    };
    measured.then(draw)
}

/// Width of a letter of a bar's name, in pixels.
const NAME_STEP: f64 = 6.0;

/// Net ASR of each group with its interval, in the order given.
pub(super) fn net_asr(rows: &[(String, Mean)]) -> Chart {
    let mut bars = BarPlot::new();
    let mut errors = Vec::new();
    for (name, mean) in rows {
        let [low, high] = mean.interval.unwrap_or([mean.value; 2]);
        errors.push((mean.value - low, high - mean.value));
        bars = bars.with_bar(name.clone(), mean.value);
    }
    let bars =
        bars.with_color(COLORS[1]).with_asymmetric_error(errors).with_error_color("currentColor");
    let (plots, title) = (vec![bars.into()], "Net ASR");
    let layout = layout(&plots, title, "", "points");
    // Names that would meet stand upright, below a plot as high as it was.
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let layout = if (rows.len() * longest) as f64 * NAME_STEP > SIZE.0 {
        layout.with_x_tick_rotate(90.0).with_height(SIZE.1 + longest as f64 * NAME_STEP)
    } else {
        layout
    };
    draw(plots, layout, title)
}

/// Where the axis of the ASR begins, in points.
const LABEL_ROOM: f64 = -8.0;

/// Accuracy on clean images against ASR on patched ones: points (model, ASR, accuracy), one colour for each family of
/// models, labelled with their clean share.
pub(super) fn acc_against_asr(points: Vec<(&str, f64, f64)>) -> Chart {
    type Labelled = (f64, f64, String);
    let mut families: Vec<(String, Vec<Labelled>)> = Vec::new();
    for (model, asr, acc) in points {
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
    draw(plots, layout, title)
}

/// The same of one run, if anything was defended.
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

/// As many as a defence with all its controls has families.
const FAMILY_COLORS: [&str; 7] =
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
    let plot = ScatterPlot::new()
        .with_data(triangles)
        .with_color("currentColor")
        .with_marker(MarkerShape::Triangle)
        .with_size(4.5)
        .with_legend("patched");
    plots.push(plot.into());
    let title = format!("Features of the {model}");
    let layout = layout(&plots, &title, "", "");
    draw(plots, layout, &title)
}

/// Nine colours that stand out on both grounds, none of them the target's red.
const CLASS_COLORS: [&str; 9] = [
    "#3b82c4", "#3a9d6e", "#b07cc6", "#d08c2f", "#7a8794", "#2ba3a8", "#8a6d3b", "#c45fa0",
    "#8c9a2f",
];
