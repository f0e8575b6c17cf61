//! Several defences in one run, and a defence that filters the training set.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use common::{Lab, stderr};
use serde_json::Value;

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
    assert!(again.status.success() && !told.contains("again, because"), "{told}");
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
