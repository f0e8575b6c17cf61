//! Same seed, same bytes: for any number of workers and threads, and across kill and resume.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Lab, assert_same, line_count, stderr};
use ssl_backdoor_probe::Features;

#[test]
fn workers_and_threads_do_not_change_a_byte() {
    let lab = Lab::new();
    for precision in ["bf16", "f32"] {
        let precision = format!("pretrain.precision={precision}");
        for (out, count) in [("one", "1"), ("four", "4")] {
            let workers = format!("workers={count}");
            let mut command = lab.command(out, &[&workers, &precision]);
            let run = command.env("RAYON_NUM_THREADS", count).output().unwrap();
            assert!(run.status.success(), "{}", stderr(&run));
        }
        assert_same(&lab.bytes("one"), &lab.bytes("four"));
    }

    let other = lab.run("other", &["seed=2"]);
    assert!(other.status.success(), "{}", stderr(&other));
    for ((name, a), (_, b)) in lab.bytes("one").iter().zip(&lab.bytes("other")) {
        assert!(a != b, "{name} does not depend on the seed");
    }
}

#[test]
fn running_again_changes_nothing_and_a_changed_key_runs_what_depends_on_it() {
    let lab = Lab::new();
    assert!(lab.run("run", &[]).status.success());
    let before = lab.bytes("run");
    let again = lab.run("run", &[]);
    assert!(again.status.success());
    assert_eq!(stderr(&again).matches("done already").count(), 11, "{}", stderr(&again));
    assert_same(&before, &lab.bytes("run"));

    // The number of workers changes no score: only the report, which shows the config, is made again.
    let wider = lab.run("run", &["workers=3"]);
    assert!(wider.status.success(), "{}", stderr(&wider));
    assert_eq!(stderr(&wider).matches("done already").count(), 10, "{}", stderr(&wider));
    assert_same(&before, &lab.bytes("run"));

    // A damaged artefact is made again, and with the scores the report on them.
    std::fs::write(lab.path("run/scores.json"), "{}").unwrap();
    let mended = lab.run("run", &[]);
    assert!(mended.status.success(), "{}", stderr(&mended));
    assert_eq!(stderr(&mended).matches("done already").count(), 9, "{}", stderr(&mended));
    assert_same(&before, &lab.bytes("run"));

    let changed = lab.run("run", &["poison.rate=0.25"]);
    // The untrained encoder does not depend on the rate, and the clean twin does not change.
    for model in ["untrained", "clean"] {
        let line = format!("features {model}: done already");
        assert!(stderr(&changed).contains(&line), "{}", stderr(&changed));
    }
    assert_eq!(stderr(&changed).matches("done already").count(), 3, "{}", stderr(&changed));
}

#[test]
fn a_trained_encoder_is_the_same_network_without_our_kernels() {
    let lab = Lab::new();
    assert!(lab.run("with", &[]).status.success());
    let copy = Command::new("cp").arg("-r").args([lab.path("with"), lab.path("without")]).status();
    assert!(copy.unwrap().success());
    // Plain Burn computes the features again from the same encoder file.
    let features = "clean/features";
    std::fs::remove_dir_all(lab.path("without").join(features)).unwrap();
    let off = lab.command("without", &[]).env("SSL_BACKDOOR_KERNELS", "off").output().unwrap();
    assert!(off.status.success(), "{}", stderr(&off));
    for set in ["labelled", "clean", "patched"] {
        let read = |run: &str| {
            let file = lab.path(run).join(features).join(format!("{set}.safetensors"));
            Features::read(&file).unwrap()
        };
        let (with, without) = (read("with"), read("without"));
        assert_eq!((with.dim, &with.labels), (without.dim, &without.labels));
        let scale = without.values.iter().fold(0f32, |most, v| most.max(v.abs()));
        for (a, b) in with.values.iter().zip(&without.values) {
            assert!((a - b).abs() <= 1e-4 * scale, "{set}: {a} and {b} at a scale of {scale}");
        }
    }
}

/// Runs `sets` without a break, and again with a `kill -9` some steps after each of `kills`: the model in training
/// and its number of finished epochs. Every byte that the seed determines must be the same.
fn assert_survives(sets: &[&str], kills: &[(&str, usize)]) {
    let lab = Lab::new();
    let whole = lab.run("whole", sets);
    assert!(whole.status.success(), "{sets:?}: {}", stderr(&whole));
    for (model, epochs) in kills {
        let mut child = lab.spawn("killed", sets);
        let metrics = lab.path("killed").join(model).join("metrics.jsonl");
        let since = Instant::now();
        while line_count(&metrics) < *epochs {
            assert!(child.try_wait().unwrap().is_none(), "ended before it was killed");
            assert!(since.elapsed() < Duration::from_secs(300), "no progress");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Into the next epoch.
        std::thread::sleep(Duration::from_millis(20));
        child.kill().unwrap();
        assert!(child.wait().unwrap().code().is_none(), "ended before it was killed");
        assert!(!lab.path("killed/scores.json").exists());
    }
    let resumed = lab.run("killed", sets);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert_same(&lab.bytes("whole"), &lab.bytes("killed"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let kills = [("clean", 1), ("backdoored", 2), ("clean", 3)];
    // Epochs of 80 steps.
    assert_survives(&["data.per_class=128", "pretrain.epochs=4"], &kills);
}

/// One kill in the middle of the second of two epochs of 40 steps.
fn assert_method_survives(method: &str, others: &[&str]) {
    let method = format!("pretrain.method={method}");
    let mut sets = vec!["data.per_class=64", "pretrain.epochs=2", "pretrain.lr=0.005", &method];
    sets.extend(others);
    assert_survives(&sets, &[("backdoored", 1)]);
}

#[test]
fn a_training_in_bf16_resumes_to_the_same_bytes() {
    assert_survives(
        &["data.per_class=64", "pretrain.epochs=2", "pretrain.precision=bf16"],
        &[("backdoored", 1)],
    );
}

#[test]
fn byol_resumes_to_the_same_bytes() {
    assert_method_survives(
        "{kind=\"byol\", hidden=16, dim=8, bn_groups=2}",
        &["pretrain.lr=0.002"],
    );
}

#[test]
fn msf_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"msf\", queue=256, top_k=3}", &[]);
}

#[test]
fn jigsaw_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"jigsaw\", permutations=10, resize=16, tile=4}", &[]);
}

#[test]
fn simclr_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"simclr\", dim=16}", &[]);
}

#[test]
fn rotnet_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"rotnet\"}", &[]);
}

#[test]
fn mae_resumes_to_the_same_bytes() {
    let vit = "pretrain.encoder={kind=\"vit\", dim=32, depth=2, heads=2, patch=4}";
    let method = "{kind=\"mae\", decoder_dim=16, decoder_depth=1, decoder_heads=2}";
    assert_method_survives(method, &[vit]);
}

#[test]
fn simclr_v2_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"simclr-v2\", dim=16}", &[]);
}

#[test]
fn simsiam_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"simsiam\", dim=32, hidden=8}", &[]);
}

#[test]
fn barlow_twins_resumes_to_the_same_bytes_with_lars() {
    assert_method_survives("{kind=\"barlow-twins\", hidden=32, dim=32}", &[]);
}

#[test]
fn vicreg_resumes_to_the_same_bytes() {
    assert_method_survives(
        "{kind=\"vicreg\", hidden=32, dim=32}",
        &["pretrain.optimizer={kind=\"adam\", betas=[0.9, 0.999]}"],
    );
}

#[test]
fn moco_v3_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"moco-v3\", hidden=32, dim=16}", &[]);
}

/// The patch embedding is fixed in the resumed training too.
#[test]
fn moco_v3_of_a_transformer_resumes_to_the_same_bytes() {
    let vit = "pretrain.encoder={kind=\"vit\", dim=32, depth=2, heads=2, patch=4}";
    let adam = "pretrain.optimizer={kind=\"adamw\", betas=[0.9, 0.999]}";
    let method = "{kind=\"moco-v3\", hidden=32, dim=16, temperature=0.2}";
    assert_method_survives(method, &[vit, adam]);
}

#[test]
fn a_training_in_parts_resumes_to_the_same_bytes() {
    assert_method_survives("{kind=\"simsiam\", dim=32, hidden=8}", &["pretrain.accumulate=2"]);
}

/// The queue fills in the first epoch and is used in the second, in which the run is killed.
#[test]
fn swav_resumes_to_the_same_bytes() {
    let method = "{kind=\"swav\", prototypes=16, frozen_steps=40, queue=64, queue_from=0, hidden=32, dim=16, small=2}";
    assert_method_survives(method, &["pretrain.optimizer={kind=\"sgd\", momentum=0.9}"]);
}

#[test]
fn dino_resumes_to_the_same_bytes_with_a_growing_weight_decay() {
    let method = "{kind=\"dino\", outputs=32, hidden=32, bottleneck=16, teacher_warmup=2, small=2}";
    assert_method_survives(method, &["pretrain.lr=0.001"]);
}

/// Clusterings are those of the epoch in which the run is killed.
#[test]
fn deepcluster_resumes_to_the_same_bytes() {
    let method = "{kind=\"deepcluster-v2\", prototypes=[16, 24], hidden=32, dim=16, small=2}";
    assert_method_survives(method, &["pretrain.optimizer={kind=\"sgd\", momentum=0.9}"]);
}
