//! Attacks that compose a training image with one of the target class, from the config to the report and to an export.

use std::collections::BTreeSet;

use ssl_backdoor_data::read_image;
use ssl_backdoor_trigger::{Ledger, pixel_hash};

use super::sets::Site;

const SHAPES: &str =
    r#"data = { kind = "shapes", size = 32, per_class = 8, eval_per_class = 4, seed = 7 }"#;
const TARGET: &str = "--set poison.target=flag";

fn ledger(site: &Site, path: &str) -> Ledger {
    Ledger::parse(&site.read(path), &site.path(path)).unwrap()
}

/// Exports `sets` to `p`, and checks that it verifies and that its files match its ledger. Returns the ledger.
fn exported(site: &Site, sets: &str) -> Ledger {
    site.run(&format!("poison t.toml --out p {sets}")).good();
    site.run("verify p").good();
    let found = ledger(site, "p/poison.csv");
    for row in &found.rows {
        let file = read_image(&site.path("p").join(&row.file), false).unwrap();
        assert_eq!(pixel_hash(&file), row.output_hash);
    }
    // Evaluation images have the plain patch and keep their size.
    let patched = ledger(site, "p/val_poisoned.csv");
    assert!(patched.head.recipe.compose.is_none() && patched.rows[0].record.whole("x").is_ok());
    found
}

/// Replaces the first `from` in `p/poison.csv`; `verify` must report `words` once.
fn changed(site: &Site, from: &str, to: &str, words: &str) {
    let text = site.read("p/poison.csv");
    assert!(text.contains(from), "{text}");
    site.write("p/poison.csv", text.replacen(from, to, 1));
    let said = site.run("verify p");
    assert_eq!(said.status, Some(1));
    assert_eq!(said.stdout.matches(words).count(), 1, "{}", said.stdout);
    site.write("p/poison.csv", text);
}

#[test]
fn noisy_alignment_runs_exports_and_verifies() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    let sets = format!("{TARGET} --set poison.compose={{kind=\"noisy-alignment\",references=3}}");
    let said = site.run(&format!("run t.toml --out r {sets}")).good();
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    let scores = site.json("r/scores.json");
    assert_eq!(scores["trigger"], "Noisy Alignment of HTBA 10, 8 px");
    // Half as many as the class has, but of all classes: there is no rate of the class.
    assert_eq!(scores["poison"]["count"], 4);
    assert!(scores["poison"]["rate"].is_null(), "{}", scores["poison"]);
    // Views show the patch where it lies on the composed image.
    let metrics = site.read("r/backdoored/metrics.jsonl");
    let epoch: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    let visible = epoch["trigger_visible"].as_f64().unwrap();
    assert!((0.02..0.98).contains(&visible), "{epoch}");

    let found = exported(&site, &sets);
    let run = ledger(&site, "r/poison.csv");
    let hashes = |ledger: &Ledger| -> Vec<String> {
        ledger.rows.iter().map(|row| row.output_hash.clone()).collect()
    };
    assert_eq!(hashes(&run), hashes(&found));
    let of = |column: &'static str| -> BTreeSet<u64> {
        found.rows.iter().map(|row| row.record.id(column).unwrap()).collect()
    };
    // The target is class 5 of ten; ids cycle through the classes.
    assert!(of("reference").iter().all(|id| id % 10 == 5) && of("reference").len() <= 3);
    for row in &found.rows {
        assert!(row.file.contains("/noisy-alignment_loc_random_"), "{}", row.file);
        let size = image::image_dimensions(site.path("p").join(&row.file)).unwrap();
        let side = row.record.text("side").unwrap();
        let wide = matches!(side, "left" | "right");
        assert_eq!(size, if wide { (64, 32) } else { (32, 64) });
    }
    // The rows alone determine the images.
    let side = found.rows[0].record.text("side").unwrap();
    let other = if side == "left" { "right" } else { "left" };
    let (from, to) = (format!(",{side},"), format!(",{other},"));
    changed(&site, &from, &to, "does not reproduce its image");
    changed(
        &site,
        &from,
        ",beside,",
        "column side has beside: expected top, right, bottom or left",
    );
    let reference = found.rows[0].record.id("reference").unwrap();
    let from = format!(",{reference},{side},");
    changed(&site, &from, &format!(",0,{side},"), "reference 0: no image of the target class");
}

#[test]
fn corrupt_encoder_runs_exports_and_verifies() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    let compose = "--set poison.compose={kind=\"corrupt-encoder\",support=0.4}";
    let sets = format!("{TARGET} --set poison.rate=1.0 --set poison.trigger.width=5 {compose}");
    site.run(&format!("run t.toml --out r {sets}")).good();
    let scores = site.json("r/scores.json");
    assert_eq!(scores["trigger"], "CorruptEncoder+ of HTBA 10, 5 px");
    assert_eq!(scores["poison"]["count"], 8);
    let config = site.read("r/config.toml");
    assert!(
        !config.contains("[poison.place]") && config.contains("[poison.val_place]"),
        "{config}"
    );

    let found = exported(&site, &sets);
    assert_eq!(found.rows.len(), 8);
    let (mut plain, mut support) = (0, 0);
    for row in &found.rows {
        // Images of other classes are replaced.
        assert_ne!(row.image_id % 10, 5);
        let size = image::image_dimensions(site.path("p").join(&row.file)).unwrap();
        if row.record.text("layout").unwrap().starts_with("support") {
            support += 1;
            assert_eq!(size, (64, 32));
            assert!(row.record.whole("x").is_err());
        } else {
            plain += 1;
            assert!(size.0.is_multiple_of(2) && size.0 < 64 && size.1 < 32, "{size:?}");
            let x = row.record.whole("x").unwrap();
            assert!(x + 5 <= size.0, "{x} {size:?}");
        }
    }
    assert!(plain > 0 && support > 0, "{plain} {support}");
}

#[test]
fn what_a_composition_cannot_do_is_refused() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    site.folder("d", &["ant", "cat"], [6, 2]);
    site.config("d.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
    let run = |config: &str, sets: &str| site.run(&format!("run {config} --out r {sets}"));
    let compose = |text: &str| format!("--set poison.compose={{kind={text}}}");
    let corrupt = compose("\"corrupt-encoder\"");
    run("d.toml", &corrupt).bad(2, &["poison.compose.kind = \"corrupt-encoder\"", "outlines"]);
    run("t.toml", &format!("{TARGET} --set poison.place={{kind=\"center\"}} {corrupt}"))
        .bad(2, &["poison.compose.kind", "remove place"]);
    run("t.toml", &format!("{TARGET} {}", compose("\"noisy-alignment\",references=0")))
        .bad(2, &["poison.compose.references = 0"]);
    run("t.toml", &format!("{TARGET} {}", compose("\"noisy-alignment\",size=3")))
        .bad(2, &["poison.compose.size: unknown key"]);
    // Without a target there is nothing to show.
    let text = site.read("d.toml").replace("target = \"cat\"\nrate = 0.5", "count = 2");
    site.write("u.toml", text);
    run("u.toml", &compose("\"noisy-alignment\""))
        .bad(2, &["poison.compose.kind = \"noisy-alignment\"", "set target"]);
    // Folders of photographs have references, but no outlines.
    site.run(&format!("poison d.toml --out p {}", compose("\"noisy-alignment\""))).good();
    site.run("verify p").good();
}
