//! The table of the medians from `cargo bench`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// What computed a bench: the CPU with our kernels, with plain Burn, and GPUs.
const BY: [&str; 4] = ["kernels", "plain", "wgpu:0", "cuda:0"];
/// The index of our kernels, also used for benches without a network (views, poisoning).
const OURS: usize = 0;

/// Columns of the table.
pub const COLUMNS: [&str; 5] = ["milliseconds (criterion)", "ours", "plain Burn", "ratio", "GPU"];

/// The rows of criterion's medians, plain Burn and GPUs beside ours.
pub fn benches(folder: &Path) -> Result<Vec<[String; COLUMNS.len()]>> {
    let mut rows = Vec::new();
    let mut times: BTreeMap<String, [Option<f64>; BY.len()]> = BTreeMap::new();
    collect(folder, &mut times)?;
    for (name, [ours, plain, gpus @ ..]) in times {
        let Some(ours) = ours else { continue };
        let ratio = plain.map_or("-".into(), |plain| format!("{:.1}", plain / ours));
        let plain = plain.map_or("-".into(), shown);
        let on = |(gpu, by): (Option<f64>, &&str)| Some(format!("{} ({by})", shown(gpu?)));
        let gpus: Vec<String> = gpus.into_iter().zip(&BY[2..]).filter_map(on).collect();
        let gpus = if gpus.is_empty() { "-".into() } else { gpus.join(", ") };
        rows.push([name, shown(ours), plain, ratio, gpus]);
    }
    Ok(rows)
}

/// Milliseconds, with more digits below 1 ms, as for a view.
fn shown(ms: f64) -> String {
    if ms < 1.0 { format!("{ms:.4}") } else { format!("{ms:.2}") }
}

/// Medians in milliseconds of every bench below `folder`, by its name without the part in [`BY`].
fn collect(folder: &Path, times: &mut BTreeMap<String, [Option<f64>; BY.len()]>) -> Result<()> {
    let read = |path: PathBuf| -> Result<Value> {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.ends_with("new") {
            let id = read(path.join("benchmark.json"))?;
            let median = read(path.join("estimates.json"))?["median"]["point_estimate"].as_f64();
            let name = id["full_id"].as_str().unwrap_or_default();
            let by = BY.iter().position(|by| name.contains(&format!("/{by}/")));
            let name = by.map_or(name.into(), |i| name.replacen(&format!("/{}/", BY[i]), ", ", 1));
            let row = times.entry(name.replace('/', ", ")).or_default();
            row[by.unwrap_or(OURS)] = median.map(|ns| ns / 1e6);
        } else if path.is_dir() {
            collect(&path, times)?;
        }
    }
    Ok(())
}
