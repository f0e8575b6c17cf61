//! Every way to read the features of a run: shares of labels, seeds, neighbours, stages, the methods' own probes.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use common::{Lab, stderr};
use serde_json::Value;

fn scores(lab: &Lab, out: &str, sets: &[&str]) -> Value {
    let all = [&["pretrain.epochs=1", "probe.curve_every=0"], sets].concat();
    let run = lab.run(out, &all);
    assert!(run.status.success(), "{}", stderr(&run));
    serde_json::from_slice(&std::fs::read(lab.path(out).join("scores.json")).unwrap()).unwrap()
}

/// Probe, labels and seed of each reading.
fn readings(scores: &Value) -> Vec<(String, f64, Option<u64>)> {
    let of = |r: &Value| {
        (r["probe"].as_str().unwrap().to_owned(), r["labels"].as_f64().unwrap(), r["seed"].as_u64())
    };
    scores["probes"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn shares_seeds_and_neighbours_read_the_same_features() {
    let lab = Lab::new();
    let sets = ["probe.labels=[0.5, 0.1]", "probe.seeds=2", "probe.k=[1, 5]"];
    let all = scores(&lab, "run", &sets);
    let expected = [("linear", Some(1)), ("linear", Some(2)), ("knn-1", None), ("knn-5", None)];
    let expected: Vec<_> = [0.5, 0.1]
        .iter()
        .flat_map(|&labels| expected.map(|(probe, seed)| (probe.to_owned(), labels, seed)))
        .collect();
    assert_eq!(readings(&all), expected);
    assert_eq!(all["probes"][0]["models"], all["models"], "the headline is the first");
    assert_ne!(all["probes"][0]["models"], all["probes"][1]["models"], "seeds differ");
    for file in ["confusion_clean.csv", "confusion_patched.csv", "conf_matrix.csv"] {
        let text = std::fs::read_to_string(lab.path("run/backdoored").join(file)).unwrap();
        assert!(text.lines().count() > 10, "{file}");
    }
    // Column sums without the diagonal are the FP of the scores.
    let matrix = std::fs::read_to_string(lab.path("run/backdoored/confusion_patched.csv")).unwrap();
    let column: u64 = matrix
        .lines()
        .skip(1)
        .enumerate()
        .filter(|(class, _)| *class != 3)
        .map(|(_, line)| line.split(',').nth(1 + 3).unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(all["models"]["backdoored"]["patched"]["fp"], column);

    // The same share alone gives the same scores, from the existing features.
    let run = lab.run("run", &["pretrain.epochs=1", "probe.curve_every=0", "probe.labels=[0.5]"]);
    assert!(stderr(&run).contains("features clean: done already"), "{}", stderr(&run));
    let one = std::fs::read(lab.path("run/scores.json")).unwrap();
    let one: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(one["models"], all["models"]);
}

#[test]
fn neighbours_can_be_the_headline_and_stages_can_be_read() {
    let lab = Lab::new();
    let sets = ["probe.kind=knn", "probe.k=[3]", "probe.temperature=0.1", "probe.stage=2"];
    let knn = scores(&lab, "knn", &sets);
    assert_eq!(readings(&knn), [("knn-3-weighted, stage 2".to_owned(), 0.5, None)]);
    let none = lab.run("none", &["probe.stage=9"]);
    assert!(stderr(&none).contains("probe.stage = 9"), "{}", stderr(&none));
    let both = lab.run("none", &["probe.stage=2", "probe.protocol=paper"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn each_method_has_its_own_probe() {
    let lab = Lab::new();
    let moco = scores(&lab, "moco", &["probe.protocol=paper"]);
    assert_eq!(readings(&moco), [("paper".to_owned(), 0.5, Some(1))]);
    let defend = "defend={kind=\"compress\", clean=[0.5], steps=5, batch=16}";
    let labels = "probe.labels=[0.5, 0.2]";
    let sets = ["probe.protocol=paper", "pretrain.method={kind=\"rotnet\"}", defend, labels];
    let rotnet = scores(&lab, "rotnet", &sets);
    let mut maps: Vec<String> = readings(&rotnet).into_iter().map(|(probe, ..)| probe).collect();
    let acc = |i: usize| {
        let r = &rotnet["probes"][i];
        r["models"]["clean"]["clean"]["acc"].as_f64().unwrap()
    };
    assert!((1..5).all(|i| acc(i) <= acc(0)), "the headline is the clean twin's best map");
    maps.truncate(5);
    maps.sort();
    assert_eq!(maps, [1, 2, 3, 4, 5].map(|map| format!("paper, map {map}")));
    // A student has one classifier for each share of labels; its scores are repeated with all five maps.
    let student = |i: usize| rotnet["probes"][i]["models"]["distilled-0.5"].clone();
    assert_eq!(rotnet["probes"].as_array().unwrap().len(), 10);
    assert!((1..5).all(|i| student(i) == student(0) && student(5 + i) == student(5)));
    assert_ne!(student(0), student(5));
}
