//! Bad input gives one clear message and leaves existing files as they are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::fs;
use std::process::Output;

use common::{Lab, assert_same, stderr};

/// Checks the exit status and the words that the message must contain.
fn assert_fails(output: &Output, status: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "no “{word}” in: {text}");
    }
    assert_eq!(text.matches("error:").count(), 1, "{text}");
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
}

#[test]
fn wrong_configs_name_key_value_and_what_is_allowed_and_touch_nothing() {
    let lab = Lab::new();
    assert!(lab.run("run", &[]).status.success());
    let before = lab.bytes("run");
    let cases: [(&str, &[&str]); 23] = [
        ("pretrain.epoch=2", &["--set pretrain.epoch=2: pretrain.epoch: unknown key", "epochs"]),
        ("pretrain.kind=\"x\"", &["pretrain.kind: unknown key; allowed are"]),
        ("poison.rate=1.5", &["error: --set poison.rate=1.5: poison.rate = 1.5", "0 < rate <= 1"]),
        ("poison.rate=0.001", &["poison.rate = 0.001", "poisons none"]),
        ("poison.target=10", &["poison.target = 10", "0 to 9"]),
        ("poison.trigger.width=17", &["poison.trigger.width = 17", "1 to 16"]),
        ("poison.trigger.id=20", &["poison.trigger.id = 20", "10 to 19"]),
        ("poison.place={kind=\"random\", min=0.9, max=0.2}", &["poison.place", "min < max"]),
        (
            "poison.place={kind=\"center\", min=0.1}",
            &["poison.place.min: unknown key for kind = \"center\"; no other key is allowed"],
        ),
        (
            "pretrain.schedule={kind=\"cosine-per-epoch\", warmup_epochs=1}",
            &["pretrain.schedule.warmup_epochs: unknown key"],
        ),
        ("pretrain.batch=321", &["pretrain.batch = 321", "at most the 320"]),
        ("pretrain.method.queue=65", &["pretrain.method.queue = 65", "multiple"]),
        ("pretrain.method={kind=\"msf\", queue=256, top_k=300}", &["top_k = 300", "1 to"]),
        ("pretrain.method={kind=\"jigsaw\", resize=16, tile=6}", &["method.tile = 6", "1 to 5"]),
        ("pretrain.method={kind=\"mae\"}", &["pretrain.encoder.kind", "vit"]),
        (
            "pretrain.encoder={kind=\"vit\", dim=32, depth=1, heads=2, patch=5}",
            &["pretrain.encoder.patch = 5", "divisors"],
        ),
        ("pretrain.optimizer={kind=\"sgd\", momentum=1.0}", &["optimizer.momentum = 1", "below 1"]),
        ("pretrain.canaries=\"loud\"", &["loud", "stop", "warn", "off"]),
        ("pretrain.crop=[0.0, 1.0]", &["pretrain.crop", "low"]),
        ("data.kind=\"imagenet\"", &["imagenet", "shapes"]),
        ("device=\"tpu\"", &["tpu", "flex"]),
        ("probe.labels=[1.5]", &["probe.labels", "at most 1"]),
        (
            "probe.labels=[0.01]",
            &["probe.labels = 0.01", "class arrow has 32 training images", "0.0313 to 1"],
        ),
    ];
    for (set, words) in cases {
        let mut sets = vec![set];
        if set.contains("batch") {
            sets.push("pretrain.method.queue=642");
            sets.push("pretrain.method.bn_groups=1");
        }
        assert_fails(&lab.run("run", &sets), 2, words);
        assert_same(&before, &lab.bytes("run"));
        assert_fails(&lab.run("new", &sets), 2, words);
        assert!(!lab.path("new").exists(), "{set} made a run folder");
    }
    let absent = lab.command("run", &[]).args(["--set", "nonsense"]).output().unwrap();
    assert_fails(&absent, 2, &["invalid --set nonsense: expected KEY=VALUE"]);
}

#[test]
fn a_config_that_is_absent_or_no_toml_is_named() {
    let lab = Lab::new();
    fs::rename(lab.path("tiny.toml"), lab.path("moved.toml")).unwrap();
    assert_fails(&lab.run("run", &[]), 2, &["tiny.toml", "No such file"]);
    fs::write(lab.path("tiny.toml"), "name = \n").unwrap();
    assert_fails(&lab.run("run", &[]), 2, &["tiny.toml", "line 1, column 8"]);
    for second in ["[defend]", "[[defend]]"] {
        let one = "[defend]\nkind = \"luma\"\n";
        fs::write(lab.path("tiny.toml"), format!("{one}{}", one.replace("[defend]", second)))
            .unwrap();
        assert_fails(&lab.run("run", &[]), 2, &["line 3, column", "each as [[defend]]"]);
    }
    fs::write(lab.path("tiny.toml"), [0xff, 0xfe, 0x00]).unwrap();
    assert_fails(&lab.run("run", &[]), 2, &["tiny.toml:1: not UTF-8 text"]);
}

/// Writes the four files of Fashion-MNIST to a folder, with `count` images in each half.
fn write_fashion(folder: &std::path::Path, count: u32) {
    fs::create_dir_all(folder).unwrap();
    for half in ["train", "t10k"] {
        let mut images = vec![0, 0, 8, 3];
        [count, 28, 28].iter().for_each(|d| images.extend(d.to_be_bytes()));
        images.extend((0..count * 784).map(|i| (i % 251) as u8));
        fs::write(folder.join(format!("{half}-images-idx3-ubyte")), images).unwrap();
        let mut labels = vec![0, 0, 8, 1];
        labels.extend(count.to_be_bytes());
        labels.extend((0..count).map(|i| (i % 10) as u8));
        fs::write(folder.join(format!("{half}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn missing_truncated_and_wrong_idx_files_are_named() {
    let lab = Lab::new();
    let folder = lab.path("fashion");
    let data = format!("data={{kind=\"fashion-mnist\", size=16, path=\"{}\"}}", folder.display());
    let sets = [data.as_str(), "--until=poison"];
    let run = || lab.command("run", &sets[..1]).args(["--until", "poison"]).output().unwrap();

    assert_fails(&run(), 1, &["train-images-idx3-ubyte", "looked for", "Set `path` to"]);
    write_fashion(&folder, 40);
    assert!(run().status.success(), "{}", stderr(&run()));
    let ledger = fs::read(lab.path("run/poison.csv")).unwrap();

    let labels = folder.join("t10k-labels-idx1-ubyte");
    let good = fs::read(&labels).unwrap();
    fs::write(&labels, &good[..20]).unwrap();
    assert_fails(&run(), 1, &["t10k-labels-idx1-ubyte", "truncated", "40 bytes", "it has 12"]);
    let mut bad = good.clone();
    bad[11] = 10;
    fs::write(&labels, &bad).unwrap();
    assert_fails(&run(), 1, &["t10k-labels-idx1-ubyte", "label 10 of image 3", "0 to 9"]);
    fs::write(&labels, &good).unwrap();
    fs::copy(&labels, folder.join("train-images-idx3-ubyte")).unwrap();
    assert_fails(&run(), 1, &["train-images-idx3-ubyte", "not the IDX file"]);
    assert_eq!(fs::read(lab.path("run/poison.csv")).unwrap(), ledger);
}

#[test]
fn a_run_folder_that_cannot_be_used_is_named() {
    let lab = Lab::new();
    fs::write(lab.path("file"), "mine").unwrap();
    assert_fails(&lab.run("file", &[]), 1, &["cannot create the run folder", "file"]);
    assert_eq!(fs::read(lab.path("file")).unwrap(), b"mine");

    fs::create_dir_all(lab.path("run")).unwrap();
    fs::write(lab.path("run/clean"), "in the way").unwrap();
    assert_fails(&lab.run("run", &[]), 1, &["pretrain clean", "cannot create", "run/clean"]);
    assert!(lab.path("run/poison.csv").exists(), "the ledger of the finished stage is gone");

    // Two models train at once; the one that can be trained is kept.
    let two_threads = || lab.command("run", &[]).env("RAYON_NUM_THREADS", "2").output().unwrap();
    assert_fails(&two_threads(), 1, &["pretrain clean", "cannot create", "run/clean"]);
    fs::remove_file(lab.path("run/clean")).unwrap();
    let mended = two_threads();
    assert!(mended.status.success(), "{}", stderr(&mended));
    assert!(stderr(&mended).contains("pretrain backdoored: done already"), "{}", stderr(&mended));

    fs::create_dir_all(lab.path("dir/scores.json")).unwrap();
    assert_fails(&lab.run("dir", &[]), 1, &["cannot write", "scores.json"]);
    assert!(lab.path("dir/clean/encoder.safetensors").exists());
}

#[test]
fn a_second_process_in_the_same_folder_is_refused() {
    let lab = Lab::new();
    let sets = ["pretrain.epochs=200"];
    let mut first = lab.spawn("run", &sets);
    while !lab.path("run/poison.csv").exists() {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = first.id().to_string();
    assert_fails(&lab.run("run", &sets), 1, &["another process", &pid, "--out"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint() {
    let lab = Lab::new();
    let wild = lab.run("wild", &["pretrain.lr=1e30"]);
    assert_fails(
        &wild,
        1,
        &["pretrain clean", "the loss is", "step", "finite", "Lower the learning rate"],
    );
    assert!(lab.path("wild/poison.csv").exists());
    assert!(!lab.path("wild/clean/encoder.safetensors").exists());

    // A diverging run in the folder of a good run takes its scores away, which would pass for those of the new config. It
    // leaves the encoders and the ledger, and the good config gives its scores again.
    assert!(lab.run("run", &[]).status.success());
    let before = lab.bytes("run");
    assert_fails(&lab.run("run", &["pretrain.lr=1e30"]), 1, &["the loss is"]);
    assert!(!lab.path("run/scores.json").exists());
    // The folder keeps the reason, until a start succeeds.
    for (command, words) in [
        (
            "show",
            &["run: failed", "Failed: stage ", "the loss is", "\nResume: ssl-backdoor run "][..],
        ),
        ("list", &["| failed |"]),
    ] {
        let mut told = std::process::Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        let told = told.arg(command).arg(lab.path("run")).output().unwrap();
        let text = String::from_utf8_lossy(&told.stdout);
        assert!(words.iter().all(|words| text.contains(words)), "{command}: {text}");
    }
    for (name, bytes) in &before {
        if name.ends_with("encoder.safetensors") || *name == "poison.csv" {
            assert!(*bytes == fs::read(lab.path("run").join(name)).unwrap(), "{name} was harmed");
        }
    }
    let again = lab.run("run", &[]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_same(&before, &lab.bytes("run"));
    assert!(!lab.path("run/error.txt").exists());
}

/// As in `ssl-backdoor completions bash | head`: the reader closes the pipe early.
#[test]
fn a_closed_pipe_ends_a_command_without_a_word() {
    for arguments in [&["completions", "bash"][..], &["doctor"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        let output = command.args(arguments).stdout(writer).output().unwrap();
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}
