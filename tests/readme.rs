//! The commands of README.md and docs/*.md work as written, and their links have targets.
//!
//! Every line of every `sh` block is run, in a folder with the configs, a few photographs and a checkpoint, and with
//! the settings of [`SMALL`] added, so that it takes seconds. [`NOT_RUN`] lists the commands that cannot run here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Lab, stderr};
use image::{Rgb, RgbImage};

/// Commands that are not run here, by their beginning, and the reason or the test that covers them.
const NOT_RUN: [(&str, &str); 12] = [
    ("cargo test --workspace", "this test is a part of it"),
    ("cargo install --path .", "CI builds and packages the same crate"),
    ("cargo bench", "takes an hour"),
    ("SSL_BACKDOOR_KERNELS=off cargo bench", "takes an hour"),
    ("cargo run --release --example step_speed", "CI compiles it"),
    ("cargo run --release --example data_speed", "CI compiles it"),
    ("cargo run --release --example speed_table", "needs PyTorch; CI compiles it"),
    ("apt-get install dataset-fashion-mnist", "CI does this first"),
    ("ssl-backdoor run configs/fashion-mnist/moco-v2.toml", "CI runs it on the real files"),
    ("ssl-backdoor sweep configs/fashion-mnist/table.toml", "13 hours; tests/sweep.rs"),
    ("ssl-backdoor sweep configs/shapes/defence.toml --dry-run", "minutes; tests/sweep.rs"),
    ("ssl-backdoor report results/fashion-mnist/runs", "tests/sweep.rs"),
];

/// Pages whose commands need a GPU, a cluster or Python and have tests of their own.
const OTHER_TESTS: [&str; 2] = ["gpu-and-clusters.md", "python.md"];

/// A drawn set of 320 images, one epoch in small batches, and a narrow network.
const TINY: &str = "--set data.per_class=32 --set data.eval_per_class=8 --set pretrain.epochs=1 --set pretrain.batch=16 \
                    --set pretrain.encoder.width=2";

/// Arguments added to commands that begin like this; `{TINY}` stands for [`TINY`].
const SMALL: [(&str, &str); 15] = [
    (
        "ssl-backdoor run mine.toml",
        "--set pretrain.epochs=2 --set pretrain.batch=8 --set pretrain.encoder.width=2 \
                                    --set defend.batch=4 --set defend.epochs=2",
    ),
    (
        "ssl-backdoor run configs/quickstart.toml",
        "{TINY} --set defend.batch=8 --set defend.epochs=1",
    ),
    ("ssl-backdoor run configs/shapes/byol.toml", "{TINY} --set pretrain.schedule.drops=[]"),
    (
        "ssl-backdoor run configs/shapes/mimic.toml",
        "{TINY} --set 'defend=[{kind=\"mimic\", clean=[0.25], steps=2, batch=8}]'",
    ),
    ("ssl-backdoor run configs/shapes/", "{TINY}"),
    ("ssl-backdoor poison configs/", "--set data.per_class=32 --set data.eval_per_class=8"),
    ("ssl-backdoor sweep grid.toml", "{TINY} --set defend.batch=8 --set defend.epochs=1"),
    ("ssl-backdoor convert checkpoint.pth.tar", "--size 32"),
    ("ssl-backdoor probe --encoder", "--set data.per_class=32 --set data.eval_per_class=8"),
    ("ssl-backdoor scan data configs/quickstart.toml --encoder", "{TINY} --networks 1 --steps 20"),
    ("ssl-backdoor scan data", "--encoder suspect.safetensors --networks 1 --steps 20"),
    ("ssl-backdoor scan encoder suspect.safetensors", "--rounds 2"),
    ("ssl-backdoor scan encoder runs/", "{TINY} --rounds 2"),
    ("ssl-backdoor scan nulls", "{TINY} --count 2 --rounds 2"),
    ("ssl-backdoor", ""),
];

/// The lines of the `language` blocks of a page, one text for each block.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let of = |rest: &str| rest.split("```").next().unwrap().to_owned();
    page.split(&fence).skip(1).map(of).collect()
}

/// The commands of a page, without comments, in the form for an installed program.
fn commands(page: &str) -> Vec<String> {
    let blocks = blocks(page, "sh").concat().replace("\\\n", " ");
    let lines = blocks.lines().map(|line| line.split("  #").next().unwrap().trim());
    let commands = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    commands.map(|line| line.replace("cargo run --release -- ", "ssl-backdoor ")).collect()
}

/// A folder with everything that the pages use: configs, committed figures, photographs, a checkpoint.
fn folder() -> Lab {
    let (lab, here) = (Lab::new(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let figures = ["table", "defence", "defence-steps"];
    let figures = figures.map(|sweep| (format!("results/shapes/{sweep}"), "results/shapes"));
    for (from, to) in figures.into_iter().chain([("configs".to_owned(), ".")]) {
        std::fs::create_dir_all(lab.path(to)).unwrap();
        let copied = Command::new("cp").arg("-r").arg(here.join(from)).arg(lab.path(to)).status();
        assert!(copied.unwrap().success());
    }
    let checkpoint = here.join("crates/model/tests/fixtures/moco.pth.tar");
    std::fs::copy(checkpoint, lab.path("checkpoint.pth.tar")).unwrap();
    for (part, count) in [("train", 24), ("val", 8)] {
        for (class, color) in [("cat", 60), ("dog", 120), ("eel", 200)] {
            let folder = lab.path("photos").join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let pixel = |x, y| Rgb([color, (7 * x + 31 * i) as u8, (5 * y * (i + 1)) as u8]);
                RgbImage::from_fn(40, 33, pixel).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    lab
}

/// Runs the commands of a page one after the other; returns each with its standard output.
fn follow(lab: &Lab, name: &str, page: &str) -> Vec<(String, String)> {
    for (file, name_line) in [("mine.toml", "name = \"mine\""), ("grid.toml", "name = \"grid\"")] {
        let toml = blocks(page, "toml").into_iter().find(|toml| toml.contains(name_line));
        if let Some(toml) = toml {
            assert!(file != "mine.toml" || toml.lines().count() == 10, "{name}: {toml}");
            std::fs::write(lab.path(file), toml).unwrap();
        }
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_ssl-backdoor"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut told = Vec::new();
    for command in commands(page) {
        if NOT_RUN.iter().any(|(start, _)| command.starts_with(start)) {
            continue;
        }
        let small = SMALL.iter().find(|(start, _)| command.starts_with(start));
        let (_, small) =
            small.unwrap_or_else(|| panic!("{name}: `{command}` is not run by this test"));
        let small = if command.ends_with("--help") { "" } else { small };
        let line = format!("{command} {}", small.replace("{TINY}", TINY));
        let mut shell = Command::new("sh");
        let output =
            shell.args(["-c", &line]).current_dir(lab.path(".")).env("PATH", &path).output();
        let output = output.unwrap();
        // More images may be suspected than `--fail-above` allows, as the page explains.
        let suspected = command.contains("--fail-above") && output.status.code() == Some(3);
        assert!(output.status.success() || suspected, "{name}: {line}: {}", stderr(&output));
        told.push((command, String::from_utf8(output.stdout).unwrap()));
    }
    told
}

/// README.md and the pages of docs, by their paths from the root.
fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let paths: BTreeSet<PathBuf> = docs.chain([PathBuf::from("README.md")]).collect();
    let read =
        |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

#[test]
fn the_readme_leads_to_a_poisoned_probed_defended_model_and_two_scans() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    assert!(readme.len() <= 9000, "{} bytes", readme.len());
    let lab = folder();
    let told = follow(&lab, "README.md", &readme);
    let (_, table) = told.iter().find(|(command, _)| command.ends_with("mine.toml")).unwrap();
    assert!(table.contains("backdoored model") && table.contains("distilled-0.25"), "{table}");
    assert!(lab.path("runs/mine/report.html").exists());
    assert!(lab.path("scans/photos/index.html").exists());
}

#[test]
fn every_command_of_the_docs_runs() {
    for (name, page) in pages() {
        if name != "README.md" && !OTHER_TESTS.iter().any(|other| name.ends_with(other)) {
            follow(&folder(), &name, &page);
        }
    }
}

#[test]
fn what_is_not_run_is_still_there() {
    let all: Vec<String> = pages().iter().flat_map(|(_, page)| commands(page)).collect();
    for (start, why) in NOT_RUN {
        assert!(
            all.iter().any(|command| command.starts_with(start)),
            "{start} ({why}): no page has it"
        );
    }
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let more = ["CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "results/compute.md"];
    let results = ["quickstart", "shapes", "methods", "fashion-mnist", "moco-v2-fashion-mnist"];
    let results = results.map(|folder| format!("results/{folder}/README.md"));
    let more = more.map(String::from).into_iter().chain(results);
    let more = more.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()));
    for (name, page) in pages().into_iter().chain(more) {
        let links = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let of_page = Path::new(&name).parent().unwrap().join(path);
            let target = if path.is_empty() { PathBuf::from(&name) } else { of_page };
            assert!(target.exists(), "{name}: {link} leads nowhere");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(
                    headings.any(|anchor| anchor == heading),
                    "{name}: {link}: no such heading"
                );
            }
        }
    }
}
