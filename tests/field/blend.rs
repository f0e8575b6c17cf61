//! Whole-image blending and several copies of a patch, from the config to the report and to an export.

use ssl_backdoor_data::read_image;
use ssl_backdoor_trigger::{Ledger, pixel_hash};

use super::sets::{Site, picture};

const SHAPES: &str =
    r#"data = { kind = "shapes", size = 32, per_class = 4, eval_per_class = 4, seed = 7 }"#;
const BLEND: &str = "--set poison.trigger={kind=\"blend\",seed=3,ratio=0.1,val_ratio=0.2}";

#[test]
fn a_run_blends_with_a_strength_of_its_own_in_each_phase() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    let said = site.run(&format!("run t.toml --out r --set poison.target=flag {BLEND}")).good();
    let line = said.stderr.lines().find(|line| line.starts_with("trigger: PSNR ")).unwrap();
    assert!(line.contains("it covers 100.00 % of a view"), "{line}");
    // At twice the ratio the change is twice as large: 6 dB.
    let found = site.json("r/trigger.json");
    let psnr = |part: usize| found["psnr"][part].as_f64().unwrap();
    assert!((psnr(0) - psnr(1) - 6.0).abs() < 1.0, "{found}");
    // A pattern of single pixels loses most of its colour, but keeps its luma.
    assert!((0.05..0.99).contains(&found["jpeg_energy"].as_f64().unwrap()), "{found}");
    let scores = site.json("r/scores.json");
    assert_eq!(scores["trigger"], "blend of seed 3, ratio 0.1 (0.2 on evaluation images)");
    let ledger = site.read("r/poison.csv");
    assert!(ledger.contains("source_hash,trigger,ratio,output_hash"), "{ledger}");
    assert!(ledger.contains(",blend-seed-3,0.1,"), "{ledger}");
}

#[test]
fn an_untargeted_blend_of_a_file_exports_and_verifies() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    picture(2, 9, 40).save(site.path("over.png")).unwrap();
    let config = site.read("t.toml").replace("target = \"cat\"\nrate = 0.5", "dataset_rate = 0.1");
    site.write("t.toml", config);
    let trigger = "--set poison.trigger={kind=\"blend\",path=\"over.png\",ratio=0.3}";
    site.run(&format!("poison t.toml --out p {trigger}")).good();
    site.run("verify p").good();
    let path = site.path("p/poison.csv");
    let ledger = Ledger::parse(&site.read("p/poison.csv"), &path).unwrap();
    assert_eq!((ledger.rows.len(), ledger.head.target), (4, None));
    for row in &ledger.rows {
        assert!(row.file.starts_with("train/blend_ratio_0.3_rate_0.10_targeted_False/"));
        let file = read_image(&site.path("p").join(&row.file), false).unwrap();
        assert_eq!(pixel_hash(&file), row.output_hash);
    }
    // The picture is part of the attack: a changed one is detected.
    picture(1, 9, 40).save(site.path("over.png")).unwrap();
    let said = site.run("verify p");
    assert_eq!(said.status, Some(1));
    assert!(
        said.stdout.contains("the trigger blend-over has changed since the export"),
        "{said:?}"
    );
}

#[test]
fn patches_are_copied_on_a_grid_and_followed_into_views() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    let mut covered = Vec::new();
    for copies in [1, 4, 9] {
        let out = format!("r{copies}");
        let place = format!("--set poison.place={{kind=\"grid\",copies={copies}}}");
        let width = "--set poison.trigger.width=6 --set poison.target=flag";
        let run = format!("run t.toml --out {out} --until twin {width} {place}");
        site.run(&run).good();
        covered.push(site.json(format!("{out}/trigger.json"))["covered"].as_f64().unwrap());
        site.run(&format!("poison t.toml --out p{copies} {width} {place}")).good();
        site.run(&format!("verify p{copies}")).good();
    }
    // 36 to 324 of 1,024 pixels; crops differ in what they show.
    let per_copy = [covered[0], covered[1] / 4.0, covered[2] / 9.0];
    assert!(per_copy.iter().all(|share| (0.02..0.07).contains(share)), "{covered:?}");
    let run = "run t.toml --out r --set poison.target=flag";
    site.run(&format!("{run} --set poison.place={{kind=\"grid\",copies=3}}"))
        .bad(2, &["poison.place.copies = 3", "1, 4, 9, 16 and 25"]);
}

#[test]
fn what_a_blend_cannot_do_is_refused() {
    let site = Site::new();
    site.config("t.toml", SHAPES);
    let run = |trigger: &str| {
        let set = format!("--set poison.trigger={{kind=\"blend\",{trigger}}}");
        site.run(&format!("run t.toml --out r --set poison.target=flag {set}"))
    };
    run("seed=3,ratio=0.0").bad(2, &["poison.trigger.ratio = 0"]);
    run("seed=3,ratio=0.5,val_ratio=2.0").bad(2, &["poison.trigger.val_ratio = 2"]);
    run("ratio=0.5").bad(2, &["poison.trigger = neither", "exactly one of path and seed"]);
    run("path=\"none.png\",ratio=0.5").bad(2, &["poison.trigger.path: none.png"]);
    run("seed=3,ratio=0.5,width=8").bad(2, &["poison.trigger.width: unknown key"]);
    assert!(!site.path("r").exists());
}
