//! The numerics are versioned: a change of a trained byte or a score must raise `NUMERICS` in
//! `crates/lab/record/made_by.rs`, so that old and new figures are never mixed.
//!
//! `tests/fixtures/numerics.json` holds the figures of a tiny training of each method. After raising the version, write
//! it again with `SSL_BACKDOOR_BLESS=1 cargo test --test numerics`.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::path::{Path, PathBuf};

use common::{Lab, stderr};
use serde_json::{Map, Value, json};

const METHODS: [(&str, &[&str]); 16] = [
    ("moco-v2", &[]),
    ("moco-v2 in bf16", &["pretrain.precision=bf16"]),
    (
        "byol",
        &["pretrain.method={kind=\"byol\", hidden=16, dim=8, bn_groups=2}", "pretrain.lr=0.002"],
    ),
    ("msf", &["pretrain.method={kind=\"msf\", queue=256, top_k=3, bn_groups=1}"]),
    ("simclr", &["pretrain.method={kind=\"simclr\", dim=16}"]),
    ("simclr-v2", &["pretrain.method={kind=\"simclr-v2\", dim=16}", LARS]),
    ("simsiam", &["pretrain.method={kind=\"simsiam\", dim=32, hidden=8}"]),
    ("barlow-twins", &["pretrain.method={kind=\"barlow-twins\", hidden=32, dim=32}"]),
    ("vicreg", &["pretrain.method={kind=\"vicreg\", hidden=32, dim=32}"]),
    ("moco-v3", &["pretrain.method={kind=\"moco-v3\", hidden=32, dim=16}", LARS]),
    (
        "swav",
        &[
            "pretrain.method={kind=\"swav\", prototypes=12, frozen_steps=10, queue=64, queue_from=1, hidden=32, dim=16, small=2}",
        ],
    ),
    (
        "dino",
        &[
            "pretrain.method={kind=\"dino\", outputs=32, hidden=32, bottleneck=16, teacher_warmup=2, small=2}",
            "pretrain.lr=0.001",
        ],
    ),
    (
        "deepcluster-v2",
        &[
            "pretrain.method={kind=\"deepcluster-v2\", prototypes=[16, 24], hidden=32, dim=16, small=2}",
        ],
    ),
    ("jigsaw", &["pretrain.method={kind=\"jigsaw\", permutations=10, resize=16, tile=4}"]),
    ("rotnet", &["pretrain.method={kind=\"rotnet\"}"]),
    (
        "mae",
        &[
            "pretrain.method={kind=\"mae\", decoder_dim=16, decoder_depth=1, decoder_heads=2}",
            "pretrain.encoder={kind=\"vit\", dim=32, depth=2, heads=2, patch=4}",
        ],
    ),
];
/// LARS by the formula of its paper; the defaults of these methods use a variant.
const LARS: &str = "pretrain.optimizer={kind=\"lars\", momentum=0.9, trust=0.001, clip=false}";
const DEFENCE: &str = "defend={kind=\"compress\", clean=[0.5], steps=20, batch=16}";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/numerics.json")
}

/// This machine's CPU and its instruction paths: the order of additions in a matrix product depends on them.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown");
    let [f32, bf16] =
        [ssl_backdoor_kernels::instruction_path(), ssl_backdoor_kernels::bf16_instruction_path()];
    format!("{name}, {f32}, {bf16}")
}

/// The mean loss of the first two steps of a training.
fn first_loss(sets: &[&str]) -> f64 {
    let lab = Lab::new();
    let short = ["pretrain.batch=128", "pretrain.epochs=6", "probe.curve_every=0"];
    let mut short = lab.command("run", &[&short[..], sets].concat());
    let run = short.args(["--until", "pretrain"]).output().unwrap();
    assert!(run.status.success(), "{sets:?}: {}", stderr(&run));
    let text = std::fs::read_to_string(lab.path("run/clean/metrics.jsonl")).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    line["loss"].as_f64().unwrap()
}

/// A run of `method`: numerics, and a hash of its encoders and scores.
fn measure(method: &str, sets: &[&str]) -> (u64, String) {
    let lab = Lab::new();
    let mut all = vec!["probe.k=[3]", "probe.curve_every=0"];
    all.extend(sets);
    if method == "moco-v2" {
        all.push(DEFENCE);
    }
    let run = lab.run("run", &all);
    assert!(run.status.success(), "{method}: {}", stderr(&run));
    let read = |name: &str| std::fs::read(lab.path("run").join(name)).unwrap();
    let mut hasher = blake3::Hasher::new();
    for model in ["clean", "backdoored", "distilled-0.5"] {
        let encoder = lab.path("run").join(model).join("encoder.safetensors");
        if encoder.exists() {
            hasher.update(&std::fs::read(encoder).unwrap());
        }
    }
    let scores: Value = serde_json::from_slice(&read("scores.json")).unwrap();
    hasher.update(scores["probes"].to_string().as_bytes());
    let numerics = scores["made_by"][0]["numerics"].as_u64().unwrap();
    (numerics, hasher.finalize().to_hex()[..16].to_owned())
}

#[test]
fn a_change_of_a_trained_byte_or_a_score_raises_the_version() {
    let bless = std::env::var_os("SSL_BACKDOOR_BLESS").is_some();
    let known: Value = serde_json::from_slice(&std::fs::read(fixture()).unwrap()).unwrap();
    let (mut losses, mut bytes, mut version) = (Map::new(), Map::new(), 0);
    for (method, sets) in METHODS {
        let (numerics, hash) = measure(method, sets);
        let loss = first_loss(sets);
        version = numerics;
        if !bless {
            let advice = format!(
                "the figures of {method} moved: raise NUMERICS in crates/lab/record/made_by.rs and write {} again with \
                 SSL_BACKDOOR_BLESS=1",
                fixture().display()
            );
            // On every machine: equal within what the order of additions changes in two steps. After ten, the small batches
            // of these trainings have made other digits of it.
            let expected = known["losses"][method].as_f64().unwrap();
            assert!(
                (loss - expected).abs() <= 1e-4 * expected.abs(),
                "{loss}, not {expected}: {advice}"
            );
            // On a machine of the same kind: equal to the last bit.
            if let Some(all) = known["bytes"][cpu()].as_object() {
                assert_eq!(all[method], hash, "{advice}");
            }
        }
        losses.insert(method.into(), json!(loss));
        bytes.insert(method.into(), hash.into());
    }
    if bless {
        let mut all = known["bytes"].as_object().cloned().unwrap_or_default();
        if known["numerics"] != version {
            all.clear();
        }
        all.insert(cpu(), bytes.into());
        let new = json!({ "numerics": version, "losses": losses, "bytes": all });
        let text = serde_json::to_string_pretty(&new).unwrap() + "\n";
        std::fs::write(fixture(), text).unwrap();
    } else {
        assert_eq!(known["numerics"], version, "write the fixture again with SSL_BACKDOOR_BLESS=1");
    }
}
