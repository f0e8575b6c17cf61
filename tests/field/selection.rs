//! Poisoned images chosen by an encoder's features: a run, an export, `verify`, and what cannot be chosen.

use ssl_backdoor_trigger::{Ledger, Rule};

use super::sets::Site;

const SHAPES: &str =
    r#"data = { kind = "shapes", size = 32, per_class = 10, eval_per_class = 4, seed = 7 }"#;

/// A site with a trained encoder, `first/clean/encoder.safetensors`, and the config `t.toml` without a target.
fn site() -> Site {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    site.run("run t.toml --out first --until twin --set poison.target=flag").good();
    let config = site.read("t.toml").replace("target = \"cat\"\nrate = 0.5", "rate = 0.4");
    site.write("t.toml", config);
    site
}

fn select(kind: &str) -> String {
    format!("--set poison.select={{kind=\"{kind}\",encoder=\"first/clean/encoder.safetensors\"}}")
}

fn ledger(site: &Site, path: &str) -> Ledger {
    Ledger::parse(&site.read(path), &site.path(path)).unwrap()
}

#[test]
fn a_run_chooses_by_features_and_scores_the_class_that_most_images_have() {
    let site = site();
    let run = format!("run t.toml --out r {}", select("con"));
    let said = site.run(&run).good();
    let line = said.stderr.lines().find(|line| line.starts_with("selection: ")).unwrap();
    assert!(line.starts_with("selection: con chose 4 images, "), "{line}");
    let scores = site.json("r/scores.json");
    let selected = &scores["selected"];
    assert_eq!((&selected["kind"], &scores["target"]), (&"con".into(), &selected["class"]));
    let share = selected["class_share"].as_f64().unwrap();
    assert!([0.25, 0.5, 0.75, 1.0].contains(&share), "{selected}");
    assert!(line.ends_with(&format!("of class {}", scores["target_name"].as_str().unwrap())));
    assert!(
        site.read("r/report.md").contains("The rule con chose the images by an encoder's features")
    );

    let found = ledger(&site, "r/poison.csv");
    let head = found.head.selected.as_ref().unwrap();
    assert_eq!((head.kind, head.class_share), (Rule::Con, share));
    let hash = site.json("first/manifest.json");
    let hash = &hash["stages"]["pretrain clean"]["artefacts"]["clean/encoder.safetensors"];
    assert_eq!(head.encoder_hash.as_deref(), hash.as_str());
    let of_class = found.rows.iter().filter(|row| row.image_id % 10 == selected["class"]).count();
    assert_eq!(of_class as f64 / 4.0, share);

    // The choice is kept in the run's folder, and made again for another rule or encoder.
    let kept = site.read("r/selection.json");
    let again = site.run(&run).good();
    assert!(again.stderr.contains("poison: done already"), "{}", again.stderr);
    assert_eq!(site.read("r/selection.json"), kept);
    site.run(&format!("run t.toml --out r --until poison {}", select("conp"))).good();
    assert_ne!(site.read("r/selection.json"), kept);
}

#[test]
fn an_export_of_chosen_images_verifies_without_the_encoder() {
    let site = site();
    for (i, kind) in ["con", "conp", "conn", "kmean"].into_iter().enumerate() {
        let said = site.run(&format!("poison t.toml --out p{i} {}", select(kind))).good();
        assert!(said.stderr.contains(&format!("selection: {kind} chose 4 images")), "{said:?}");
    }
    let random = "--set poison.select={kind=\"random\"}";
    site.run(&format!("poison t.toml --out p4 {random}")).good();
    std::fs::remove_file(site.path("first/clean/encoder.safetensors")).unwrap();
    for i in 0..5 {
        site.run(&format!("verify p{i}")).good();
        let found = ledger(&site, &format!("p{i}/poison.csv"));
        assert_eq!(found.rows.len(), 4);
        assert_eq!(found.head.selected.unwrap().encoder_hash.is_some(), i < 4);
        // The ledger has a target; its rate, if any, is that of the config.
        assert!(found.head.target.is_some() && found.head.rate.is_none_or(|rate| rate == 0.4));
    }
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    let site = site();
    let run = |sets: &str| site.run(&format!("run t.toml --out r {sets}"));
    let none = "--set poison.select={kind=\"con\",encoder=\"none.safetensors\"}";
    run(none).bad(2, &["poison.select.encoder: none.safetensors", "No such file"]);
    run("--set poison.select={kind=\"con\"}").bad(2, &["poison.select.kind = \"con\"", "encoder"]);
    run("--set poison.select={kind=\"best\"}").bad(2, &["poison.select.kind = \"best\"", "kmean"]);
    run(&format!("{} --set poison.rate=6.0", select("con"))).bad(2, &["poison.rate = 6"]);
    let many = format!("{} --set poison.count=60", select("con"));
    let text = site.read("t.toml").replace("rate = 0.4\n", "");
    site.write("t.toml", text);
    run(&many)
        .bad(2, &["poison.select.kind = \"con\"", "needs 120 images, but there are only 100"]);
    // A file that is not an encoder.
    site.write("none.safetensors", "no encoder");
    run(&format!("{none} --set poison.count=3")).bad(1, &["none.safetensors"]);
}
