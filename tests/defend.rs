//! Several defences in one run, and a defence that filters the training set.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::sync::Arc;

use burn::tensor::Device;
use common::{Lab, stderr};
use serde_json::Value;
use ssl_backdoor::Experiment;
use ssl_backdoor_data::{Dataset, Subset};
use ssl_backdoor_model::save_encoder;
use ssl_backdoor_ssl::{Training, encoder_header, pretrain};

fn scores(lab: &Lab, out: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lab.path(out).join("scores.json")).unwrap()).unwrap()
}

fn encoder(lab: &Lab, out: &str, model: &str) -> Vec<u8> {
    std::fs::read(lab.path(&format!("{out}/{model}/encoder.safetensors"))).unwrap()
}

#[test]
fn a_list_of_defences_trains_what_one_table_with_controls_trains() {
    let lab = Lab::new();
    let part = "clean=[0.5], steps=20, batch=16";
    let table = format!(
        "{{kind=\"compress\", {part}, controls=[\"fine-tune\", \"scratch\", \"distil-clean\"]}}"
    );
    let one = lab.run("one", &[&format!("defend={table}")]);
    assert!(one.status.success(), "{}", stderr(&one));
    let before = std::fs::read(lab.path("one/scores.json")).unwrap();

    // A list of this one defence is the same experiment.
    let again = lab.run("one", &[&format!("defend=[{table}]")]);
    let told = stderr(&again);
    assert!(again.status.success() && !told.contains("repeated, because"), "{told}");
    assert_eq!(told.matches("done already").count(), 11 + 2 * 4, "{told}");
    assert_eq!(std::fs::read(lab.path("one/scores.json")).unwrap(), before);

    let kinds = ["compress", "fine-tune", "scratch", "distil-clean"];
    let list = kinds.map(|kind| format!("{{kind=\"{kind}\", {part}}}")).join(", ");
    let several = lab.run("several", &[&format!("defend=[{list}]")]);
    assert!(several.status.success(), "{}", stderr(&several));
    for model in ["distilled-0.5", "fine-tuned-0.5", "scratch-0.5", "clean-teacher-0.5"] {
        assert!(encoder(&lab, "one", model) == encoder(&lab, "several", model), "{model}");
    }
    assert_eq!(scores(&lab, "one")["models"], scores(&lab, "several")["models"]);
}

/// Ids of the images in a run's ledger.
fn ledger(lab: &Lab, out: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(lab.path(out).join("poison.csv")).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.map(|row| row.split(',').next().unwrap().parse().unwrap()).collect()
}

fn list(lab: &Lab, name: &str, ids: &[u64]) -> String {
    let lines: Vec<String> = ids.iter().map(u64::to_string).collect();
    std::fs::write(lab.path(name), lines.join("\n")).unwrap();
    lab.path(name).display().to_string()
}

/// The encoder of a training on the clean images except for those of `removed`, as the file that a run would write.
fn clean_training(lab: &Lab, removed: &[u64]) -> Vec<u8> {
    let experiment = Experiment::read(&lab.path("tiny.toml"), &[]).unwrap();
    let splits = experiment.data.load(&|_, _, _| {}).unwrap();
    let labels = &splits.train.labels;
    let kept: Vec<u64> =
        labels.iter().map(|(id, _)| *id).filter(|id| !removed.contains(id)).collect();
    let set = Subset::of_ids(splits.pretrain_set().clone(), labels, &kept);
    assert_eq!(set.len(), labels.len() - removed.len());
    let training = Training::new(Arc::new(set), experiment.seed, &Device::flex());
    let size = experiment.data.size();
    let config = &experiment.pretrain;
    let encoder = pretrain(config, None, size, &training, &mut ()).unwrap();
    let file = lab.path("reference.safetensors");
    save_encoder(&encoder, &encoder_header(config.encoder, size), &file).unwrap();
    std::fs::read(file).unwrap()
}

#[test]
fn a_filter_retrains_on_what_its_list_leaves() {
    let lab = Lab::new();
    let poison = lab.command("run", &[]).args(["--until", "poison"]).output().unwrap();
    assert!(poison.status.success(), "{}", stderr(&poison));
    let poisoned = ledger(&lab, "run");
    assert_eq!(poisoned.len(), 16);

    // One filter knows the ledger; the other finds twelve of the poisoned images and blames three clean ones.
    let all = list(&lab, "all.txt", &poisoned);
    let clean = (0..320).filter(|id| !poisoned.contains(id)).take(3);
    let some: Vec<u64> = poisoned.iter().take(12).copied().chain(clean).collect();
    let some = list(&lab, "some.txt", &some);
    let filters = format!(
        "defend=[{{kind=\"filter\", remove={all:?}}}, {{kind=\"filter\", remove={some:?}, model=\"half\"}}]"
    );
    let run = lab.run("run", &[&filters]);
    assert!(run.status.success(), "{}", stderr(&run));

    let found = scores(&lab, "run");
    let removed = &found["removed"]["filtered"];
    assert_eq!([&removed["removed"], &removed["poisoned"], &removed["left"]], [16, 16, 0]);
    assert_eq!([&removed["recall"], &removed["precision"]], [100.0, 100.0]);
    let removed = &found["removed"]["half"];
    assert_eq!([&removed["removed"], &removed["poisoned"], &removed["left"]], [15, 12, 4]);
    assert_eq!([&removed["recall"], &removed["precision"]], [75.0, 80.0]);
    for model in ["filtered", "half"] {
        assert!(found["models"][model]["patched"]["asr"].is_number(), "{model}");
    }
    let report = std::fs::read_to_string(lab.path("run/report.md")).unwrap();
    let words = "trained without 15 images that a filter removed. Of these, 12 are poisoned (precision 80.0 %); 4 of 16";
    assert!(report.contains("| filtered |") && report.contains(words), "{report}");

    // Without the poisoned images, the set is the clean set without those images.
    assert!(encoder(&lab, "run", "filtered") == clean_training(&lab, &poisoned));
    assert!(encoder(&lab, "run", "filtered") != encoder(&lab, "run", "half"));

    // The list's contents count, not its name: other images make another training, and a wrong list is refused.
    let again = lab.run("run", &[&filters]);
    assert!(stderr(&again).contains("defend filtered: done already"), "{}", stderr(&again));
    list(&lab, "all.txt", &poisoned[1..]);
    let changed = lab.command("run", &[&filters]).args(["--until", "defend"]).output().unwrap();
    let told = stderr(&changed);
    assert!(
        told.contains("defend filtered: repeated, because inputs changed: kept images"),
        "{told}"
    );
    assert!(told.contains("defend half: done already"), "{told}");
    list(&lab, "all.txt", &[7, 999]);
    let wrong = lab.run("run", &[&filters]);
    assert_eq!(wrong.status.code(), Some(2));
    let told = stderr(&wrong);
    assert!(
        told.contains("defend[0].remove = ") && told.contains("999 is no training image"),
        "{told}"
    );
}

/// `defend=[…]` with all of these kinds.
fn all(kinds: &[&str]) -> String {
    let tables: Vec<String> = kinds.iter().map(|kind| format!("{{kind={kind}}}")).collect();
    format!("defend=[{}]", tables.join(", "))
}

#[test]
fn defences_that_train_again_or_look_without_colour() {
    let lab = Lab::new();
    let kinds = all(&[
        "\"localized-crop\"",
        "\"blur-luma\", test_luma=false",
        "\"i-cutmix\"",
        "\"luma\"",
        "\"mimic\", clean=[0.5], steps=20, batch=16, information_epochs=2",
        "\"fine-tune\", clean=[0.5], steps=10, batch=16",
        "\"fine-tune\", clean=[0.5], steps=10, batch=16, lr=0.0001",
    ]);
    let run = lab.run("run", &[&kinds, "probe.curve_every=0"]);
    assert!(run.status.success(), "{}", stderr(&run));
    let found = scores(&lab, "run");
    let retrained = ["localized-crop", "blur-luma", "i-cutmix"];
    let others = ["mimic-0.5", "fine-tuned-0.5", "fine-tuned-lr-0.0001-0.5", "luma"];
    let report = std::fs::read_to_string(lab.path("run/report.md")).unwrap();
    for model in retrained.iter().chain(&others) {
        assert!(found["models"][model]["patched"]["asr"].is_number(), "{model}");
        assert!(report.contains(&format!("| {model} |")), "{model}: {report}");
    }

    // Each trained encoder differs from the victim's and from the others; `luma` uses the victim's encoder.
    let victim = encoder(&lab, "run", "backdoored");
    let trained = retrained.iter().chain(&others[..3]).map(|model| encoder(&lab, "run", model));
    let mut all: Vec<Vec<u8>> = trained.chain([victim.clone()]).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 7);
    assert!(encoder(&lab, "run", "luma") == victim);
    let features = |model: &str, of: &str| {
        std::fs::read(lab.path(&format!("run/{model}/features/{of}.safetensors"))).unwrap()
    };
    // The labelled images of the probe are shown without colour too.
    for of in ["labelled", "clean", "patched"] {
        assert!(features("luma", of) != features("backdoored", of), "{of}");
    }
    let again = lab.run("run", &[&kinds, "probe.curve_every=0"]);
    assert!(!stderr(&again).contains("repeated, because"), "{}", stderr(&again));
}

#[test]
fn a_training_with_a_hook_that_is_stopped_goes_on_with_the_same_bytes() {
    let lab = Lab::new();
    let kinds = all(&["\"i-cutmix\"", "\"mimic\", clean=[0.5], epochs=40, batch=16"]);
    let whole = lab.command("whole", &[&kinds]).args(["--until", "defend"]).output().unwrap();
    assert!(whole.status.success(), "{}", stderr(&whole));
    for model in ["i-cutmix", "mimic-0.5"] {
        // The process is killed once the training has a checkpoint.
        let mut child = lab
            .command("parts", &[&kinds])
            .args(["--until", "defend"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let folder = lab.path(&format!("parts/{model}/checkpoint"));
        let begun = common::until(&mut child, || folder.exists());
        let _ = child.kill();
        child.wait().unwrap();
        assert!(begun, "{model} was over before it could be stopped");
    }
    let rest = lab.command("parts", &[&kinds]).args(["--until", "defend"]).output().unwrap();
    assert!(rest.status.success(), "{}", stderr(&rest));
    for model in ["i-cutmix", "mimic-0.5"] {
        assert!(encoder(&lab, "whole", model) == encoder(&lab, "parts", model), "{model}");
    }
}

#[test]
fn a_defence_that_is_nothing_for_the_method_is_refused_before_anything_runs() {
    let lab = Lab::new();
    let rotnet = "pretrain.method={kind=\"rotnet\"}";
    for (kind, needs) in [
        ("localized-crop", "two augmented views of each image"),
        ("blur-luma", "views that are augmented crops"),
        ("i-cutmix", "targets that another network computes from the unmixed images"),
    ] {
        let run = lab.run("run", &[rotnet, &format!("defend={{kind=\"{kind}\"}}")]);
        let told = stderr(&run);
        assert_eq!(run.status.code(), Some(2), "{told}");
        assert!(
            told.contains(&format!("defend.kind = \"{kind}\": it does not apply to rotnet")),
            "{told}"
        );
        assert!(told.contains(needs) && !lab.path("run/poison.csv").exists(), "{told}");
    }
}
