//! Probes: how many neighbours may vote, the name of a reading, the published figures it is compared with, and the
//! reference's file of both confusion matrices.

use std::path::Path;

use ssl_backdoor::Experiment;
use ssl_backdoor_probe::{ProbeKind, Protocol};

use super::sets::Site;

const CLASSES: [&str; 3] = ["ant", "bee", "cat"];

/// A folder of `train` images of each class, and the config `t.toml` for it.
fn site(train: u64) -> Site {
    let site = Site::new();
    site.folder("d", &CLASSES, [train, 4]);
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
    site
}

#[test]
fn field_f04_neighbours_are_counted_before_training() {
    let site = site(40);
    let words = ["probe.k = 20", "there are 12", "--set probe.k=["];
    for kind in ["knn", "linear"] {
        let sets =
            format!("--set probe.labels=[0.5,0.1] --set probe.k=[1,20] --set probe.kind={kind}");
        site.run(&format!("run t.toml --out r {sets}")).bad(2, &words);
        assert!(!site.path("r/clean").exists() && !site.path("r/poison.csv").exists());
    }
    // One label too few, and just enough.
    site.run("run t.toml --out r --until poison --set probe.labels=[0.1] --set probe.k=[12]")
        .bad(2, &["probe.k = 12", "there are 12"]);
    site.run("run t.toml --out r --until twin --set probe.labels=[0.1] --set probe.k=[11]").good();
    // `probe --encoder` refuses the same k before it reads an image, and accepts smaller ones.
    let probe =
        "probe --encoder r/clean/encoder.safetensors t.toml --out p --set probe.labels=[0.1]";
    site.run(&format!("{probe} --set probe.k=[20]")).bad(2, &words);
    site.run(&format!("{probe} --set probe.kind=knn --set probe.k=[2,11]")).good();
    let scores = site.json("p/foreign.json");
    let json = site.run(&format!("{probe} --set probe.kind=knn --set probe.k=[2,11] --json"));
    assert_eq!(json.good().stdout, site.read("p/foreign.json"));
    let names: Vec<&str> =
        scores["probes"].as_array().unwrap().iter().map(|p| p["probe"].as_str().unwrap()).collect();
    assert_eq!(names, ["knn-2", "knn-11"]);
}

#[test]
fn a_file_beside_the_encoder_leads_to_it() {
    let site = site(8);
    site.run("run t.toml --out r").good();
    site.run("probe --encoder r/clean/probe.safetensors t.toml --out p").bad(
        2,
        &[
            "clean/probe.safetensors is not an encoder file, did you mean ",
            "clean/encoder.safetensors?",
        ],
    );
}

#[test]
fn a_folder_that_is_not_split_is_told_the_layout() {
    let site = site(8);
    site.config("u.toml", r#"data = { kind = "folder", path = "d/train", size = 32 }"#);
    site.run("run u.toml --out r").bad(
        1,
        &["d/train: it has no folder train", "train/CLASS/*.jpg and val/CLASS/*.jpg", "file lists"],
    );
}

#[test]
fn review_2_02_neighbours_alone_have_a_default_and_the_report_says_so() {
    let site = site(8);
    site.run("run t.toml --out r --set probe.kind=knn").good();
    let scores = site.json("r/scores.json");
    assert_eq!(scores["probes"][0]["probe"], "knn-1");
    assert_eq!(scores["expected"]["source"], "the same probe on raw pixels");
    let words = "Vote of the nearest neighbour on 50 % labels";
    for report in ["r/report.md", "r/report.html"] {
        let text = site.read(report);
        assert!(text.contains(words) && !text.contains("Linear probe on"), "{report}");
    }
    assert!(site.read("r/config.toml").contains("k = [1]"), "{}", site.read("r/config.toml"));
}

/// Each model on each share of labels, after the other probes of that share; SimCLR v2 keeps a layer of its head.
#[test]
fn fine_tuning_is_a_probe_of_its_own() {
    let site = site(12);
    let more = "--set probe.labels=[0.5,1.0] --set pretrain.lr=0.01 --set pretrain.optimizer={kind=\"sgd\",momentum=0.9}";
    let tune = "--set probe.fine_tune={epochs=2,batch=8,optimizer=\"sgd\"}";
    let run = |method: &str, out: &str, tune: &str| {
        let method = format!("--set pretrain.method={{kind=\"{method}\",dim=8}}");
        site.run(&format!("run t.toml --out {out} {method} {more} {tune}"))
    };
    for method in ["simclr-v2", "simclr"] {
        run(method, method, tune).good();
        let scores = site.json(format!("{method}/scores.json"));
        let probes = scores["probes"].as_array().unwrap();
        let found =
            probes.iter().map(|p| (p["probe"].as_str().unwrap(), p["labels"].as_f64().unwrap()));
        let wanted = [("linear", 0.5), ("fine-tuned", 0.5), ("linear", 1.0), ("fine-tuned", 1.0)];
        assert_eq!(found.collect::<Vec<_>>(), wanted);
        for model in ["untrained", "clean", "backdoored"] {
            let acc = &probes[1]["models"][model]["clean"]["acc"];
            assert!((0.0..=100.0).contains(&acc.as_f64().unwrap()), "{model}: {acc}");
        }
        assert!(site.read(format!("{method}/report.md")).contains("| fine-tuned | 50 % |"));
        // The head is in the checkpoint: without one, SimCLR v2 cannot be fine-tuned, but SimCLR, which keeps none of
        // its head, can.
        std::fs::remove_dir_all(site.path(format!("{method}/clean/checkpoint"))).unwrap();
        let again = run(method, method, "--set probe.fine_tune={epochs=1,batch=8}");
        if method == "simclr" {
            again.good()
        } else {
            again.bad(1, &["clean/checkpoint"])
        };
    }
    run("simclr", "wrong", "--set probe.fine_tune={batch=1}")
        .bad(2, &["probe.fine_tune.batch = 1"]);
}

/// The expected `conf_matrix.csv` of the two matrices, as `crates/probe/tests/fixtures/conf_matrix.py` writes it.
fn reference_file(site: &Site, model: &str, data: &str) -> String {
    let matrix = |name: &str| -> Vec<Vec<u64>> {
        let text = site.read(format!("r/{model}/{name}"));
        let row = |line: &str| line.split(',').skip(1).map(|n| n.parse().unwrap()).collect();
        text.lines().skip(1).map(row).collect()
    };
    let both = [matrix("confusion_clean.csv"), matrix("confusion_patched.csv")];
    let acc = both.each_ref().map(|m| {
        let right: u64 = (0..3).map(|c| m[c][c]).sum();
        100.0 * right as f64 / m.iter().flatten().sum::<u64>() as f64
    });
    let mut text =
        format!("Model t/{model},,Clean val,,,,Pois. val,,\nData {data},,acc1,,,,acc1,,\n");
    text += &format!(",,{:.2},,,,{:.2},,\nclass name,class id,TP,FP,,TP,FP\n", acc[0], acc[1]);
    for (c, name) in CLASSES.iter().enumerate() {
        let of = |m: &Vec<Vec<u64>>| {
            let column: u64 = m.iter().map(|row| row[c]).sum();
            format!("{:?},{:?}", m[c][c] as f64, (column - m[c][c]) as f64)
        };
        text += &format!("{name},{c},{},,{}\n", of(&both[0]), of(&both[1]));
    }
    text
}

#[test]
fn review_1_10_a_run_writes_the_references_file() {
    let site = site(8);
    site.run("run t.toml --out r --until probe --set probe.protocol=paper").good();
    for model in ["untrained", "clean", "backdoored"] {
        let found = site.read(format!("r/{model}/conf_matrix.csv"));
        let data = found.lines().nth(1).unwrap().strip_prefix("Data ").unwrap();
        let data = data.split(",,acc1").next().unwrap().to_owned();
        assert_eq!(found, reference_file(&site, model, &data));
    }
    // The paper's probe reads only encoders; the unified one reads pixels, which show what a victim should reach.
    let scores = site.json("r/scores.json");
    assert_eq!(scores["probes"][0]["probe"], "paper");
    assert_eq!(scores["expected"]["source"], "the unified linear probe on raw pixels");
}

#[test]
fn review_1_05_the_paper_s_configs_run_the_paper_s_probes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/imagenet100");
    let (mut runs, mut sweeps) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        if table.contains_key("axis") {
            // A sweep takes the probe of its configs, or sets the same.
            let set = table["set"].as_table().unwrap();
            let protocol = set.get("probe.protocol").map(|value| value.as_str().unwrap());
            assert_eq!(protocol.unwrap_or("paper"), "paper", "{}", path.display());
            sweeps += 1;
        } else {
            let probe = Experiment::read(&path, &[]).unwrap().probe;
            let found = (probe.protocol, probe.kind, probe.stage);
            assert_eq!(found, (Protocol::Paper, ProbeKind::Linear, None), "{}", path.display());
            runs += 1;
        }
    }
    assert_eq!((runs, sweeps), (16, 2));
}
