//! `scan nulls`, the scans of a run, and the defence `patch-search`.

use std::process::Output;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::common::{Lab, stderr};
use crate::{binary, read, refused};

/// Quick scans in a run, with nulls.
const SCAN: &str = "scan={ null=\"nulls\", data={ networks=1, steps=40 }, decree={ rounds=30 }, \
    cleanse={ rounds=30, clusters=4 } }";

/// Enough images for the scans, and a short training.
const SETS: [&str; 4] = ["--set", "data.eval_per_class=20", "--set", "pretrain.epochs=1"];

/// The tiny run with its scans; the path `nulls` is relative to the working directory.
fn scanned_run(lab: &Lab, out: &str, more: &[&str]) -> Output {
    let args = ["run", "tiny.toml", "--out", out, "--set", SCAN];
    binary(lab, &[&args[..], &SETS, more].concat())
}

/// The strongest triggers, as far as a scan found some, are pictures in the report.
fn has_pictures(lab: &Lab, scans: &Value) {
    let page = read(&lab.path("run/report.html"));
    let mut pictures = 0;
    for (scan, found) in scans["encoders"]["backdoored"]["scans"].as_object().unwrap() {
        let some = !found["evidence"].as_array().unwrap().is_empty();
        assert_eq!(lab.path(&format!("run/backdoored/trigger-{scan}.png")).is_file(), some);
        let words = format!("alt=\"backdoored, strongest trigger of {scan}: ");
        assert_eq!(page.contains(&words), some, "{scan}");
        pictures += usize::from(some);
    }
    assert!(pictures > 0, "{scans}");
}

#[test]
fn nulls_are_trained_and_a_run_has_its_scans_beside_the_truth() {
    let lab = Lab::new();
    let nulls = |more: &[&str]| {
        let args =
            ["scan", "nulls", "tiny.toml", "--out", "nulls", "--rounds", "30", "--clusters", "4"];
        let args = [&args[..], &SETS, more].concat();
        binary(&lab, &args)
    };
    let made = nulls(&["--count", "2"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.contains("2 null scores") && said.contains("no p-value below 0.333"), "{said}");
    assert!(!lab.path("nulls/seed-1001.safetensors").exists());
    let first = read(&lab.path("nulls/seed-1001.json"));
    // It resumes, keeps the encoders on request, and does not mix trainings.
    let made = nulls(&["--count", "3", "--keep-encoders"]);
    let told = stderr(&made);
    assert!(told.matches("exists already").count() == 2 && told.contains("3 of 3"), "{told}");
    assert_eq!(read(&lab.path("nulls/seed-1001.json")), first);
    assert!(lab.path("nulls/seed-1003.safetensors").is_file());
    let mixed = nulls(&["--count", "3", "--set", "pretrain.lr=0.03"]);
    let told = stderr(&mixed);
    assert!(!mixed.status.success() && told.contains("choose another folder"), "{told}");
    let (status, told) =
        refused(&lab, &["scan", "nulls", "tiny.toml", "--out", "n", "--count", "0"]);
    assert!(status == 2 && told.contains("--count = 0"), "{told}");

    let done = scanned_run(&lab, "run", &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let scans: Value = serde_json::from_str(&read(&lab.path("run/scan.json"))).unwrap();
    for model in ["clean", "backdoored"] {
        let found = &scans["encoders"][model];
        assert!(found["p_value"]["nulls"] == 3, "{found}");
        assert!(found["scans"]["ssl-cleanse"]["score"].is_number(), "{found}");
    }
    assert_eq!(scans["data"]["truth"]["poisoned"], 16);
    for report in ["run/report.md", "run/report.html"] {
        let text = read(&lab.path(report));
        for words in [
            "Scans without knowledge",
            "backdoored, net ASR",
            "ssl-cleanse",
            "PatchSearch",
            "0.250",
        ] {
            assert!(text.contains(words), "{report}: {words}");
        }
    }
    has_pictures(&lab, &scans);
    // The stage runs once, and again if the nulls change.
    assert!(stderr(&scanned_run(&lab, "run", &[])).contains("scan: done already"));
    std::fs::remove_file(lab.path("nulls/seed-1002.json")).unwrap();
    assert!(
        stderr(&scanned_run(&lab, "run", &["--until", "scan"]))
            .contains("scan: repeated, because inputs changed")
    );
}

#[test]
fn what_a_run_cannot_scan_is_said_before_anything_is_trained() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("nulls")).unwrap();
    for (set, words) in [
        ("data.eval_per_class=5", "scan: 50 images are too few for ssl-cleanse"),
        ("scan.data.window=17", "scan.data.window = 17"),
        ("scan.decree.rounds=0", "scan.decree.rounds = 0"),
        ("scan.what=1", "scan.what"),
        ("scan.null=absent", "scan: absent: "),
    ] {
        let output = scanned_run(&lab, "other", &["--set", set]);
        let told = stderr(&output);
        assert!(output.status.code() == Some(2) && told.contains(words), "{set}: {told}");
        assert!(!lab.path("other/clean").exists());
    }
}

#[test]
fn the_defence_searches_removes_and_trains_again() {
    let lab = Lab::new();
    let defend = "defend={kind=\"patch-search\", networks=1, steps=40}";
    let run = lab.run("run", &[defend]);
    assert!(run.status.success(), "{}", stderr(&run));
    let removed: Value =
        serde_json::from_str(&read(&lab.path("run/patch-searched/removed.json"))).unwrap();
    let ids = removed["ids"].as_array().unwrap().len();
    let scores: Value = serde_json::from_str(&read(&lab.path("run/scores.json"))).unwrap();
    let found = &scores["removed"]["patch-searched"];
    assert_eq!(found["removed"], ids);
    assert_eq!(found["poisoned"].as_u64().unwrap() + found["left"].as_u64().unwrap(), 16);
    assert!(scores["models"]["patch-searched"]["patched"]["asr"].is_number());
    let again = lab.run("run", &[defend]);
    assert!(stderr(&again).contains("defend patch-searched: done already"), "{}", stderr(&again));
    // If the retrained encoder is missing, the search is not repeated.
    std::fs::remove_file(lab.path("run/patch-searched/encoder.safetensors")).unwrap();
    let encoder = |lab: &Lab| std::fs::read(lab.path("run/patch-searched/encoder.safetensors"));
    let resumed = lab.run("run", &[defend]);
    assert!(resumed.status.success() && encoder(&lab).is_ok(), "{}", stderr(&resumed));
    // Other settings of the search make another training.
    let changed = lab.run("run", &["defend={kind=\"patch-search\", networks=1, steps=20}"]);
    assert!(stderr(&changed).contains("defend patch-searched: repeated"), "{}", stderr(&changed));
}

/// All images of a class are the same: there are fewer different features than clusters.
#[test]
fn a_search_without_a_result_removes_nothing_and_the_run_goes_on() {
    let lab = Lab::new();
    for (part, count) in [("train", 40), ("val", 10)] {
        for (class, colour) in [("a", 40u8), ("b", 200)] {
            let folder = lab.path("set").join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            let picture =
                RgbImage::from_fn(16, 16, |x, y| Rgb([colour, (x * 16) as u8, (y * 16) as u8]));
            (0..count).for_each(|i| picture.save(folder.join(format!("{i}.png"))).unwrap());
        }
    }
    let data = format!("data={{kind=\"folder\", path=\"{}\", size=16}}", lab.path("set").display());
    let defend = "defend={kind=\"patch-search\", networks=1, steps=40, clusters=40}";
    let sets = [&data, defend, "poison.target=0", "pretrain.canaries=off", "pretrain.epochs=1"];
    let run = lab.run("run", &sets);
    let told = stderr(&run);
    assert!(run.status.success(), "{told}");
    assert!(
        told.contains("patch-searched: the search has no result, so no image is removed"),
        "{told}"
    );
    let removed: Value =
        serde_json::from_str(&read(&lab.path("run/patch-searched/removed.json"))).unwrap();
    assert_eq!(removed["ids"], serde_json::json!([]));
    assert!(removed["no_result"].is_string(), "{removed}");
    let scores: Value = serde_json::from_str(&read(&lab.path("run/scores.json"))).unwrap();
    assert_eq!(scores["removed"]["patch-searched"]["removed"], 0);
}
