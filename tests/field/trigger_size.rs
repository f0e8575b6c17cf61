//! The trigger's size on photographs.

use ssl_backdoor_trigger::Ledger;

use super::sets::{Site, picture};

/// Photographs of 500 × 375 pixels.
fn photographs(site: &Site) {
    for (split, count) in [("train", 12), ("val", 6)] {
        for (class, name) in (0..).zip(["ant", "bee", "cat"]) {
            for i in 0..count {
                let image = image::imageops::resize(
                    &picture(class, i + if split == "val" { 5000 } else { 0 }, 32),
                    500,
                    375,
                    image::imageops::FilterType::Triangle,
                );
                let path = site.path(format!("d/{split}/{name}/{i:03}.jpg"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                image.save(path).unwrap();
            }
        }
    }
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
}

#[test]
fn field_f07_a_patch_that_is_tiny_on_photographs_is_said_before_training() {
    let site = Site::new();
    photographs(&site);
    let said = site.run("run t.toml --out pixels").good();
    let text = &said.stderr;
    let warned = text.find("warning: the trigger's width is 2.1 % of the shorter side").unwrap();
    assert!(text.contains("a factor of 11.7") && text.contains("it may not be learned"), "{text}");
    assert!(warned < text.find("pretrain clean").unwrap(), "{text}");
    assert!(site.read("pixels/report.md").contains("TRIGGER: the trigger's width is 2.1 %"));
    // The warning is repeated when everything is done.
    let again = site.run("run t.toml --out pixels").good();
    assert!(again.stderr.contains("a factor of 11.7"), "{}", again.stderr);

    // Relative to the image: the same on both, and no warning.
    for (out, width) in [("view", "{view=8}"), ("share", "{share=0.25}")] {
        let said =
            site.run(&format!("run t.toml --out {out} --set poison.trigger.width={width}")).good();
        let text = &said.stderr;
        assert!(!text.contains("warning"), "{text}");
        assert!(
            text.contains("trigger: width 25.1 % of the shorter side on training images, 25.0 %"),
            "{text}"
        );
        let ledger = site.read(format!("{out}/poison.csv"));
        assert!(ledger.lines().filter(|line| line.contains(",94,0.0,")).count() == 6, "{ledger}");
    }
    // Or in pixels of each kind of image.
    let said = site.run(
        "run t.toml --out two --until poison --set poison.trigger.width=94 --set poison.val_width=8",
    );
    assert!(said.good().stderr.contains("poison"));
    site.run("run t.toml --out three --set poison.val_width=33").bad(2, &["poison.val_width = 33"]);
}

#[test]
fn field_f07_an_export_with_a_relative_trigger_verifies() {
    let site = Site::new();
    photographs(&site);
    site.run("poison t.toml --out p --set poison.trigger.width={view=8} --set poison.val_width={share=0.3}")
        .good();
    site.run("verify p").good();
    assert!(site.read("p/poison.csv").contains("view"));
    let val = site.read("p/val_poisoned.csv");
    // 0.3 of 32 pixels.
    assert!(
        val.contains("share") && val.lines().filter(|line| line.contains(",10,0.0,")).count() == 18
    );
}

/// Drawings of 64 pixels, views of 28: 40 training images, of which 4 are poisoned.
const NATIVE: &str = r#"data = { kind = "shapes", size = 28, native = 64, per_class = 4, eval_per_class = 4, seed = 7 }"#;

#[test]
fn a_patch_in_native_pixels_covers_what_its_geometry_says() {
    let site = Site::new();
    site.config("t.toml", NATIVE);
    let sets = "--set poison.target=flag --set poison.rate=1.0 --set poison.val_width=4 --set pretrain.crop=[1.0,1.0]";
    let said = site.run(&format!("run t.toml --out r {sets}")).good();
    // Every view shows the whole drawing: 8 x 8 of 64 x 64 pixels in both views. The patch of evaluation images is 4
    // of 28 pixels wide.
    let found = site.json("r/trigger.json");
    let of = |key: &str| found[key].as_f64().unwrap();
    assert_eq!((of("train_width"), of("eval_width")), (8.0 / 64.0, 4.0 / 28.0));
    assert!((of("covered") - 1.0 / 64.0).abs() < 1e-12, "{found}");
    assert_eq!(found["by_views"], serde_json::json!([0.0, 0.0, 1.0]));
    assert_eq!(found["warnings"], serde_json::json!([]));
    let text = &said.stderr;
    let line = "trigger: width 12.5 % of the shorter side on training images, 14.3 % on evaluation images; it covers 1.56 % of";
    assert!(text.contains(line), "{text}");
    // Pasted on the drawing of 64 pixels, between a quarter and three quarters of it.
    let path = site.path("r/poison.csv");
    let ledger = Ledger::parse(&site.read("r/poison.csv"), &path).unwrap();
    assert_eq!(ledger.rows.len(), 4);
    for row in &ledger.rows {
        assert_eq!(row.source, format!("shapes(size=28,native=64,seed=7)#{}", row.image_id));
        let [x, y, width] = ["x", "y", "width"].map(|column| row.record.whole(column).unwrap());
        assert!((16..=40).contains(&x) && (16..=40).contains(&y), "{row:?}");
        assert_eq!(width, 8);
    }
    // The run is probed: encoders read evaluation images of 28 pixels.
    let scores = site.json("r/scores.json");
    assert_eq!(scores["images"], 40);
    // An encoder file gives the same scores: its images are prepared in the same way.
    let probe =
        "probe --encoder r/backdoored/encoder.safetensors t.toml --out f --set poison.target=flag";
    site.run(&format!("{probe} --set poison.rate=1.0 --set poison.val_width=4")).good();
    let probed = site.json("f/foreign.json");
    assert_eq!(probed["probes"][0]["models"]["encoder"], scores["models"]["backdoored"]);

    // The same patch on evaluation images, 8 of 28 pixels, is more than twice as large there.
    let said =
        site.run(&format!("run t.toml --out r --until twin {sets} --set poison.val_width=8"));
    assert!(said.good().stderr.contains("a factor of 2.3"));
}

#[test]
fn native_drawings_of_the_views_side_train_the_same_bytes() {
    let site = Site::new();
    let files = ["poison.csv", "clean/encoder.safetensors", "backdoored/encoder.safetensors"];
    let run = |name: &str, native: &str| {
        site.config("t.toml", &NATIVE.replace("native = 64,", native));
        let sets = "--until pretrain --set poison.target=flag";
        site.run(&format!("run t.toml --out {name} {sets}")).good();
        files.map(|file| std::fs::read(site.path(name).join(file)).unwrap())
    };
    let [absent, same, other] =
        [("absent", ""), ("same", "native = 28,"), ("other", "native = 29,")]
            .map(|(name, native)| run(name, native));
    assert!(absent == same);
    assert!(absent.iter().zip(&other).all(|(a, b)| a != b));
}

#[test]
fn an_export_of_native_drawings_verifies() {
    let site = Site::new();
    site.config("t.toml", NATIVE);
    site.run("poison t.toml --out p --set poison.target=flag").good();
    site.run("verify p").good();
    let side = |list: &str| {
        let id = std::fs::read_dir(site.path("p/data")).unwrap().next().unwrap().unwrap().path();
        let folder = std::fs::read_dir(id.join(list)).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(folder).unwrap();
        let path = text.lines().next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
        image::image_dimensions(path).unwrap()
    };
    assert_eq!((side("train"), side("val_poisoned")), ((64, 64), (28, 28)));
}

#[test]
fn a_native_side_that_cannot_be_is_refused() {
    let site = Site::new();
    site.config("t.toml", NATIVE);
    let run = |sets: &str| site.run(&format!("run t.toml --out r --set poison.target=flag {sets}"));
    let bad = |sets: &str, words: &[&str]| drop(run(sets).bad(2, words));
    bad("--set data.native=27", &["--set data.native=27", "allowed are 28 (size) to 1024"]);
    bad("--set data.size=65", &["t.toml:4: data.native = 64", "65 (size)"]);
    bad("--set data.native=1.5", &["data.native = 1.5"]);
    let sets = "--set poison.trigger.width=65 --set poison.val_width=8";
    bad(sets, &["poison.trigger.width = 65", "in their native size", "1 to 64 pixels"]);
    bad("--set poison.trigger.width=29", &["poison.trigger.width = 29", "1 to 28 pixels"]);
    site.folder("d", &["ant", "bee"], [8, 2]);
    site.config("f.toml", r#"data = { kind = "folder", path = "d", size = 32, native = 64 }"#);
    site.run("run f.toml --out r").bad(2, &["data.native", "unknown key"]);
}
