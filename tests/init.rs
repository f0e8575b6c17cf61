//! `init`: a config for a folder of images that runs as it is.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Lab, stderr};
use image::{Rgb, RgbImage};

fn init(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    command.current_dir(lab.path("")).arg("init").args(arguments).output().unwrap()
}

/// Writes `count` images of 24 × 20 pixels for each class; classes differ in colour.
fn write_images(folder: &Path, classes: &[(&str, u8)], count: u32) {
    for (class, color) in classes {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let pixel = |x, y| Rgb([*color, (7 * x + 31 * i) as u8, (5 * y * (i + 1)) as u8]);
            RgbImage::from_fn(24, 20, pixel).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

const CLASSES: [(&str, u8); 3] = [("cat", 60), ("dog", 120), ("eel", 200)];

/// Checks that the config runs through to the report, with fewer steps and a smaller network.
fn assert_runs(lab: &Lab, config: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    command.current_dir(lab.path("")).args(["run", config, "--out", "run"]);
    command.args(["--set", "pretrain.epochs=2", "--set", "pretrain.encoder.width=2"]);
    let run = command.output().unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(lab.path("run/report.html").exists());
}

#[test]
fn class_folders_become_two_lists_and_a_config_that_runs() {
    let lab = Lab::new();
    write_images(&lab.path("my photos"), &CLASSES, 40);
    let made = init(&lab, &["--data", "my photos", "--out", "pets.toml"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = String::from_utf8(made.stdout).unwrap();
    for words in ["3 classes", "32 training images", "24 × 20", "pets.toml", "minute"] {
        assert!(said.contains(words), "{said}");
    }
    let text = std::fs::read_to_string(lab.path("pets.toml")).unwrap();
    assert!((25..45).contains(&text.lines().count()), "{text}");
    assert!(text.contains("size = 20\n") && text.contains("name = \"pets\"\n"), "{text}");
    let lines = |name: &str| common::line_count(&lab.path(name));
    assert_eq!([lines("pets-train.txt"), lines("pets-val.txt")], [96, 24]);
    assert_runs(&lab, "pets.toml");
    // A folder in place of the config: the command that is proposed quotes its name for a shell.
    let mut folder = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    let folder = folder.current_dir(lab.path("")).args(["run", "my photos"]).output().unwrap();
    assert!(
        stderr(&folder).contains("`ssl-backdoor init --data 'my photos'`"),
        "{}",
        stderr(&folder)
    );
    // Nothing is overwritten, and if a list exists already, no config is written.
    let again = init(&lab, &["--data", "my photos", "--out", "pets.toml", "--no-timing"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("pets.toml already exists"), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(lab.path("pets.toml")).unwrap(), text);
    std::fs::remove_file(lab.path("pets.toml")).unwrap();
    let again = init(&lab, &["--data", "my photos", "--out", "pets.toml", "--no-timing"]);
    assert!(stderr(&again).contains("pets-train.txt already exists"), "{}", stderr(&again));
    assert!(!lab.path("pets.toml").exists());
}

#[test]
fn a_folder_that_is_split_is_read_as_it_is() {
    let lab = Lab::new();
    write_images(&lab.path("set/train"), &CLASSES, 30);
    write_images(&lab.path("set/train"), &[("dog", 120)], 36);
    write_images(&lab.path("set/val"), &CLASSES, 8);
    let made = init(&lab, &["--data", "set", "--out", "set.toml", "--no-timing"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let text = std::fs::read_to_string(lab.path("set.toml")).unwrap();
    assert!(text.contains("kind = \"folder\"") && text.contains("target = \"dog\""), "{text}");
    assert!(!lab.path("set-train.txt").exists());
    assert_runs(&lab, "set.toml");
}

#[test]
fn without_images_it_is_for_the_drawn_set() {
    let lab = Lab::new();
    let made = init(&lab, &["--no-timing"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let run = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"))
        .current_dir(lab.path(""))
        .args(["run", "experiment.toml", "--until", "poison"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    // Half of the 500 images of the target class.
    let ledger = std::fs::read_to_string(lab.path("runs/experiment/poison.csv")).unwrap();
    assert_eq!(ledger.lines().filter(|line| line.contains("htba-12")).count(), 250);
}

#[test]
fn folders_that_cannot_be_attacked_are_refused_with_a_reason() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("empty/notes")).unwrap();
    std::fs::write(lab.path("empty/notes/a.txt"), "no image").unwrap();
    write_images(&lab.path("one"), &CLASSES[..1], 80);
    write_images(&lab.path("few"), &CLASSES, 20);
    write_images(&lab.path("odd"), &CLASSES, 80);
    write_images(&lab.path("odd"), &[("rare", 9)], 3);
    for (folder, words) in [
        ("missing", "missing"),
        ("empty", "none of its folders holds an image"),
        ("one", "one class only, cat"),
        ("few", "48 training images, too few: needed are 64"),
        ("odd", "class rare has 3, too few"),
    ] {
        let made = init(&lab, &["--data", folder, "--out", "x.toml"]);
        assert_eq!(made.status.code(), Some(2), "{folder}");
        assert!(stderr(&made).contains(words), "{folder}: {}", stderr(&made));
        assert!(!lab.path("x.toml").exists() && !lab.path("x-train.txt").exists(), "{folder}");
    }
}
