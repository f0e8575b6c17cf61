//! Errors are found before training, and training depends only on its own inputs.

use std::fs;

use super::sets::Site;

/// Number of models that a run trained: each ends with a line `pretrain MODEL: SECONDS s`.
fn trained(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("pretrain") && line.ends_with(" s")).count()
}

#[test]
fn field_f14_a_broken_scored_image_is_found_before_training() {
    let site = Site::new();
    let root = site.folder("d", &["ant", "bee", "cat"], [12, 6]);
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
    let bad = root.join("val/bee/002.png");
    let whole = fs::read(&bad).unwrap();
    fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
    let said = site.run("run t.toml --out r").bad(1, &["1 of 18 scored images", "val/bee/002.png"]);
    assert_eq!(trained(&said.stderr), 0, "{}", said.stderr);
    assert!(!site.path("r/clean").exists());
}

#[test]
fn field_f08_what_is_left_out_is_in_the_scores_and_the_report() {
    let site = Site::new();
    let root = site.folder("d", &["ant", "bee", "cat"], [12, 6]);
    fs::write(root.join("train/ant/readme.txt"), "no image").unwrap();
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
    let said = site.run("run t.toml --out r").good();
    let line = "left out: 1 file that is not an image";
    assert!(said.stderr.contains(line), "{}", said.stderr);
    let left_out = &site.json("r/scores.json")["left_out"];
    assert_eq!((&left_out[0]["kind"], &left_out[0]["count"]), (&"other".into(), &1.into()));
    assert!(site.read("r/report.md").contains(line));
}

#[test]
fn field_f14_training_hangs_on_its_own_inputs_and_says_what_changed() {
    let site = Site::new();
    let root = site.folder("d", &["ant", "bee", "cat"], [12, 6]);
    let data = |path: &str, part: &str| {
        site.config(
            "t.toml",
            &format!(
                r#"data = {{ kind = "folder", path = "{path}", size = 32, eval = "{part}" }}"#
            ),
        );
        site.run("run t.toml --out r").good().stderr
    };
    assert_eq!(trained(&data("d", "all")), 2);
    let weights = fs::read(site.path("r/backdoored/encoder.safetensors")).unwrap();
    assert_eq!(trained(&data("d", "all")), 0);
    // Another part is scored.
    assert_eq!(trained(&data("d", "test")), 0);
    // Another evaluation image, with another modification time.
    super::sets::picture(7, 7, 32).save(root.join("val/ant/000.png")).unwrap();
    let text = data("d", "all");
    assert_eq!(trained(&text), 0, "{text}");
    assert!(
        text.contains("features clean: repeated, because inputs changed: scored images"),
        "{text}"
    );
    // The same files elsewhere.
    fs::rename(&root, site.path("moved")).unwrap();
    let text = data("moved", "all");
    assert_eq!(trained(&text), 0, "{text}");
    assert_eq!(weights, fs::read(site.path("r/backdoored/encoder.safetensors")).unwrap());
    // A training image changes, and a message says so.
    super::sets::picture(7, 8, 32).save(site.path("moved/train/ant/000.png")).unwrap();
    let text = data("moved", "all");
    assert_eq!(trained(&text), 2, "{text}");
    assert!(
        text.contains("pretrain clean: repeated, because inputs changed: training images"),
        "{text}"
    );
    let text = site.run("run t.toml --out r --set pretrain.epochs=2").good().stderr;
    assert!(
        text.contains(
            "pretrain backdoored: repeated, because inputs changed: pretrain.epochs 1 -> 2"
        ),
        "{text}"
    );
}
