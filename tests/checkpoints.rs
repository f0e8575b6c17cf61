//! Checkpoints: the last few are kept, and a failed write loses no earlier one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Lab, assert_same, line_count, stderr};

/// Steps of the checkpoints of a model.
fn steps(lab: &Lab, run: &str, model: &str) -> Vec<usize> {
    let folder = lab.path(run).join(model).join("checkpoint");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let step = |name: std::ffi::OsString| {
        name.to_str().unwrap().strip_prefix("step-").and_then(|step| step.parse().ok())
    };
    // Any other name would be a leftover.
    let mut found: Vec<usize> = names.map(|name| step(name).unwrap()).collect();
    found.sort_unstable();
    found
}

#[test]
fn the_last_few_are_kept() {
    let lab = Lab::new();
    let run = |out, set| {
        let run = lab.run(out, &["pretrain.epochs=5", "pretrain.checkpoint_every=2", set]);
        assert!(run.status.success(), "{}", stderr(&run));
        steps(&lab, out, "clean")
    };
    // 20 steps in an epoch; the end of the training always has a checkpoint.
    assert_eq!(run("one", "pretrain.keep=1"), [100]);
    assert_eq!(run("two", "pretrain.keep=2"), [80, 100]);
    assert_eq!(run("all", "pretrain.keep=9"), [40, 80, 100]);
}

/// A limit on the size of a file stands in for a full disk: writing a checkpoint fails halfway, and the one before it
/// still exists.
#[test]
fn a_full_disk_loses_nothing_that_was_written() {
    let lab = Lab::new();
    let sets = ["data.per_class=128"];
    let whole = lab.run("whole", &sets);
    assert!(whole.status.success(), "{}", stderr(&whole));

    let mut killed = lab.spawn("full", &sets);
    let since = Instant::now();
    while line_count(&lab.path("full/clean/metrics.jsonl")) < 1 {
        assert!(killed.try_wait().unwrap().is_none() && since.elapsed().as_secs() < 300);
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // A checkpoint that the kill interrupted has no `step-` name yet; the resumed run removes it.
    let folder = lab.path("full/clean/checkpoint");
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let before: Vec<_> =
        names.filter(|name| name.as_encoded_bytes().starts_with(b"step-")).collect();

    let limited = lab.command("full", &sets);
    let mut shell = Command::new("sh");
    // 64 blocks of 512 or 1,024 bytes; without the trap the signal would kill the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]);
    shell.arg(limited.get_program()).args(limited.get_args());
    let failed = shell.output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    for word in ["pretrain clean", "checkpoint", "bpk", "too large"] {
        assert!(stderr(&failed).contains(word), "{}", stderr(&failed));
    }
    assert!(before.iter().all(|name| folder.join(name).exists()), "{before:?}");

    let resumed = lab.run("full", &sets);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert_eq!(steps(&lab, "full", "clean"), steps(&lab, "whole", "clean"));
    assert_same(&lab.bytes("whole"), &lab.bytes("full"));
}

/// Scores of an earlier config are gone as soon as a training is repeated, so that no command shows them as the run's.
#[test]
fn scores_do_not_outlive_the_models_they_are_of() {
    let lab = Lab::new();
    let sets = ["pretrain.epochs=1", "probe.curve_every=0"];
    let run = |more: &[&str], until: &str| {
        let mut command = lab.command("run", &[&sets, more].concat());
        let output = command.args(["--until", until]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let there =
        || ["scores.json", "report.html", "report.md"].map(|n| lab.path("run").join(n).exists());
    run(&[], "report");
    assert_eq!(there(), [true; 3]);
    // Nothing is repeated.
    run(&[], "probe");
    assert_eq!(there(), [true; 3]);
    run(&["pretrain.lr=0.03"], "twin");
    assert_eq!(there(), [false; 3]);
    run(&["pretrain.lr=0.03"], "report");
    assert_eq!(there(), [true; 3]);
}
