//! The trigger `ctrl`, which changes whole images, from the config to the report and to an export.

use ssl_backdoor_data::read_image;
use ssl_backdoor_trigger::{Ledger, pixel_hash};

use super::sets::{Site, picture};

const TRIGGER: &str = "--set poison.trigger={kind=\"ctrl\",magnitude=50,val_magnitude=100}";

#[test]
fn a_run_tells_how_strong_ctrl_is() {
    let site = Site::new();
    site.config(
        "t.toml",
        r#"data = { kind = "shapes", size = 32, per_class = 4, eval_per_class = 4, seed = 7 }"#,
    );
    let run = format!("run t.toml --out r --set poison.target=flag {TRIGGER}");
    let said = site.run(&run).good();
    let line = said.stderr.lines().find(|line| line.starts_with("trigger: PSNR 3")).unwrap();
    assert!(line.contains("it covers 100.00 % of a view"), "{line}");
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    // 38 dB at magnitude 50 and 32 dB at 100, a little more where colours are clipped at black or white.
    let found = site.json("r/trigger.json");
    for (part, expected) in [(0, 38.0), (1, 32.0)] {
        let psnr = found["psnr"][part].as_f64().unwrap();
        assert!((-0.1..1.5).contains(&(psnr - expected)), "{found}");
    }
    // A chroma sample of JPEG is the mean of 2 x 2 pixels: almost nothing of the tile is left.
    let energy = found["jpeg_energy"].as_f64().unwrap();
    assert!((0.0..0.05).contains(&energy), "{found}");
    assert!(line.contains("JPEG keeps ") && line.contains("% of its energy"), "{line}");
    assert!(found.get("train_width").is_none() && found.get("eval_width").is_none());

    let scores = site.json("r/scores.json");
    assert_eq!(scores["trigger"], "CTRL, magnitude 50 (100 on evaluation images)");
    assert_eq!(scores["trigger_size"], found);
    let config = site.read("r/config.toml");
    assert!(!config.contains("place") && !config.contains("alpha"), "{config}");

    // A view shows the same share of the trigger as of the image: crops cover 0.2 to 1 of its area.
    let metrics = site.read("r/backdoored/metrics.jsonl");
    let epoch: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    assert_eq!(epoch["trigger_covered"], 1.0);
    let visible = epoch["trigger_visible"].as_f64().unwrap();
    assert!((0.2..1.0).contains(&visible), "{epoch}");

    let ledger = site.read("r/poison.csv");
    assert!(ledger.contains("source_hash,trigger,magnitude,output_hash"), "{ledger}");
    let ledger = Ledger::parse(&ledger, "poison.csv".as_ref()).unwrap();
    assert_eq!(ledger.rows.len(), 2);
    for row in &ledger.rows {
        assert_eq!((row.trigger.as_str(), row.record.real("magnitude").unwrap()), ("ctrl", 50.0));
    }

    let html = site.read("r/report.html");
    assert!(html.contains("What the patch changes, 16 times as large"));
    assert!(site.read("r/report.md").contains("Trigger: PSNR 3"));
    let table = site.run("report r").good().stdout;
    assert!(table.contains("magnitude 50 (100 on evaluation images)"), "{table}");
    let again = site.run(&run).good();
    assert!(again.stderr.contains("trigger size: done already"), "{}", again.stderr);
}

/// Writes photographs as JPEG: three classes, each with six training and two validation images.
fn photographs(site: &Site, side: u32) {
    for (split, count) in [("train", 6), ("val", 2)] {
        for (class, name) in (0..).zip(["ant", "bee", "cat"]) {
            for i in 0..count {
                let path = site.path(format!("d/{split}/{name}/{i}.jpg"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                picture(class, i, side).save(path).unwrap();
            }
        }
    }
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
}

#[test]
fn an_export_of_ctrl_is_lossless_and_verifies() {
    let site = Site::new();
    photographs(&site, 45);
    let said = site.run(&format!("poison t.toml --out p {TRIGGER}")).good();
    assert!(said.stderr.contains("JPEG would erase this trigger"), "{}", said.stderr);
    assert!(said.stderr.contains("note: JPEG of quality 75 keeps "), "{}", said.stderr);
    assert!(site.read("p/export.toml").contains("lossless = true"));
    site.run("verify p").good();
    for (file, folder, magnitude, count) in [
        ("poison.csv", "train/ctrl_magnitude_50_rate_0.50_targeted_True/cat/", 50.0, 3),
        ("val_poisoned.csv", "val_poisoned/ctrl_magnitude_100/", 100.0, 6),
    ] {
        let path = site.path("p").join(file);
        let ledger = Ledger::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        assert_eq!(ledger.rows.len(), count);
        for row in ledger.rows {
            assert_eq!(row.record.real("magnitude").unwrap(), magnitude);
            assert!(row.file.starts_with(folder) && row.file.ends_with(".jpg.png"), "{}", row.file);
            let file = read_image(&site.path("p").join(&row.file), false).unwrap();
            assert_eq!(pixel_hash(&file), row.output_hash);
        }
    }
    let lists = site.path("p/data/ctrl_targeted_cat/train");
    assert_eq!(std::fs::read_dir(lists).unwrap().count(), 1);

    // The rows alone determine the images: another magnitude gives another image.
    let ledger = site.read("p/poison.csv");
    for (other, words) in [
        (",ctrl,49.0,", "does not reproduce its image"),
        (",ctrl,much,", "column magnitude has much: expected a number"),
    ] {
        site.write("p/poison.csv", ledger.replace(",ctrl,50.0,", other));
        let said = site.run("verify p");
        assert_eq!(said.status, Some(1));
        assert_eq!(said.stdout.matches(words).count(), 3, "{}", said.stdout);
    }
}

#[test]
fn what_ctrl_cannot_do_is_refused() {
    let site = Site::new();
    photographs(&site, 31);
    let run = |sets: &str| site.run(&format!("run t.toml --out r {TRIGGER} {sets}"));
    run("--set data.size=31").bad(2, &["poison.trigger.kind = \"ctrl\"", "32 x 32 pixels"]);
    run("--set poison.recompress=true").bad(2, &["--set poison.recompress=true", "JPEG erases"]);
    run("--set poison.val_alpha=0.5").bad(2, &["poison.val_alpha", "not pasted"]);
    run("--set poison.trigger.magnitude=-1").bad(2, &["poison.trigger.magnitude = -1"]);
    run("--set poison.trigger.width=8").bad(2, &["poison.trigger.width: unknown key"]);
    // Photographs that are too small are detected when they are read, before any training.
    for command in ["run t.toml --out r", "poison t.toml --out p"] {
        site.run(&format!("{command} {TRIGGER}")).bad(1, &["d/train/cat/", "31 x 31 pixels"]);
    }
    assert!(!site.path("p").exists() && !site.path("r/clean").exists());
}
