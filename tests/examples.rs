//! Every example runs, on a tiny experiment.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::path::Path;
use std::process::Command;

use common::Lab;

/// Runs an example in the lab's folder and gives what it printed.
fn example(lab: &Lab, name: &str, arguments: &[&str]) -> String {
    // Beside the folder of this test's own program, where cargo puts examples when it builds tests.
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples").join(name);
    let run = Command::new(program).args(arguments).current_dir(lab.path(".")).output().unwrap();
    assert!(run.status.success(), "{name}: {}", common::stderr(&run));
    String::from_utf8(run.stdout).unwrap()
}

const SHORT: [&str; 2] = ["--set", "pretrain.epochs=2"];

#[test]
fn stamp_trigger() {
    let lab = Lab::new();
    let said = example(&lab, "stamp_trigger", &[]);
    assert!(said.contains("Grid { copies: 9 }, alpha 0: 9 copies"), "{said}");
    assert_eq!(image::image_dimensions(lab.path("stamped.png")).unwrap(), (5 * 224, 224));
}

#[test]
fn targeted_attack() {
    let said = example(&Lab::new(), "targeted_attack", &[&["tiny.toml"][..], &SHORT].concat());
    assert!(said.contains("With the trigger,"), "{said}");
}

#[test]
fn untargeted_attack() {
    let said = example(&Lab::new(), "untargeted_attack", &[&["tiny.toml"][..], &SHORT].concat());
    assert!(said.contains("Lost on patched images:"), "{said}");
}

#[test]
fn defend_with_compress() {
    let defend = "defend={kind=\"compress\", clean=[0.5], steps=10, batch=16}";
    let arguments = ["tiny.toml", "--clean", "0.5,0.25", "--set", defend];
    let said = example(&Lab::new(), "defend_with_compress", &[&arguments[..], &SHORT].concat());
    assert!(said.contains("distilled-0.25: Acc"), "{said}");
}

#[test]
fn feature_map() {
    let said = example(&Lab::new(), "feature_map", &[&["tiny.toml"][..], &SHORT].concat());
    assert!(said.contains("backdoored:") && said.contains("lie among the target's"), "{said}");
}

#[test]
fn rate_ablation() {
    let lab = Lab::new();
    let said =
        example(&lab, "rate_ablation", &[&["tiny.toml", "--rates", "0.5,1"][..], &SHORT].concat());
    assert!(said.contains("   0.5      16") && said.contains("     1      32"), "{said}");
    assert!(!lab.path("runs/rate-ablation/rate-1/clean/encoder.safetensors").exists());
}

#[test]
fn method_comparison() {
    let arguments = ["tiny.toml", "--points", "1", "--set", "pretrain.epochs=2"];
    let said = example(&Lab::new(), "method_comparison", &arguments);
    assert!(said.contains("| moco-v2 | 1 | 40 |"), "{said}");
}

#[test]
fn main_table() {
    let lab = Lab::new();
    let sweep = "name = \"table\"\nbase = \"tiny.toml\"\nset = { \"probe.curve_every\" = 0 }\n[[axis]]\nname = \"target\"\nkey = \"poison.target\"\n\
                 values = [3, 4]\n";
    std::fs::write(lab.path("table.toml"), sweep).unwrap();
    example(&lab, "main_table", &["table.toml", "--epochs", "1"]);
    let table = std::fs::read_to_string(lab.path("runs/main-table/table.md")).unwrap();
    assert!(table.contains("moco-v2"), "{table}");
}

#[test]
fn probe_external_encoder() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/model/tests/fixtures/moco.pth.tar");
    let arguments = [fixture.to_str().unwrap(), "tiny.toml", "--size", "16"];
    let said = example(&Lab::new(), "probe_external_encoder", &arguments);
    assert!(said.contains("taken from") && said.contains("| encoder |"), "{said}");
}
