//! The trigger's size on photographs.

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
    let warned = text.find("warning: the trigger is 2.1 % of the shorter side").unwrap();
    assert!(
        text.contains("a factor of 11.7") && text.contains("training hardly sees it"),
        "{text}"
    );
    assert!(warned < text.find("pretrain clean").unwrap(), "{text}");
    assert!(site.read("pixels/report.md").contains("TRIGGER: the trigger is 2.1 %"));
    // It is said again when everything is done.
    let again = site.run("run t.toml --out pixels").good();
    assert!(again.stderr.contains("a factor of 11.7"), "{}", again.stderr);

    // Relative to the image: the same on both, and no doubt.
    for (out, width) in [("view", "{view=8}"), ("share", "{share=0.25}")] {
        let said =
            site.run(&format!("run t.toml --out {out} --set poison.trigger.width={width}")).good();
        let text = &said.stderr;
        assert!(!text.contains("warning"), "{text}");
        assert!(
            text.contains("trigger: 25.1 % of the shorter side on training images, 25.0 %"),
            "{text}"
        );
        let ledger = site.read(format!("{out}/poison.csv"));
        assert!(ledger.lines().filter(|line| line.contains(",94,0.0,")).count() == 6, "{ledger}");
    }
    // Or in pixels of each.
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
