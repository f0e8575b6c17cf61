//! Labels of the probe: every share reads its own images, every class has one.

use serde_json::Value;

use super::sets::Site;

const SHAPES: &str =
    r#"data = { kind = "shapes", size = 16, per_class = 20, eval_per_class = 10, eval = "all" }"#;
const SMALL: &str = "--set poison.target=2 --set poison.trigger.width=4 --set probe.k=[1,3]";

/// The readings on `share` of the labels.
fn readings(site: &Site, out: &str, share: f64) -> Vec<Value> {
    let scores = site.json(format!("{out}/scores.json"));
    let of = |reading: &&Value| reading["labels"].as_f64() == Some(share);
    let found: Vec<Value> =
        scores["probes"].as_array().unwrap().iter().filter(of).cloned().collect();
    assert_eq!(found.len(), 3, "linear and two of neighbours");
    found
}

#[test]
fn field_f01_a_share_beside_others_reads_as_it_does_alone() {
    let site = Site::new();
    site.config("shapes.toml", SHAPES);
    let root = site.folder("d", &["ant", "bee", "cat"], [20, 6]).display().to_string();
    let list = |split: &str| {
        let line =
            |(class, name): (usize, &str), i: usize| format!("{split}/{name}/{i:03}.png {class}\n");
        // Not in the order of classes or names.
        let count = if split == "train" { 20 } else { 6 };
        let lines =
            (0..count).rev().flat_map(|i| [(2, "cat"), (0, "ant"), (1, "bee")].map(|c| line(c, i)));
        lines.collect::<String>()
    };
    site.write("d/train.txt", list("train"));
    site.write("d/val.txt", list("val"));
    let folder =
        format!(r#"data = {{ kind = "folder", path = "{root}", size = 16, eval = "all" }}"#);
    let listed = r#"data = { kind = "file-list", train = "d/train.txt", val = "d/val.txt", size = 16, eval = "all" }"#;
    site.config("folder.toml", &folder);
    site.config("list.toml", listed);
    for set in ["shapes", "folder", "list"] {
        let run = |out: &str, labels: &str| {
            site.run(&format!(
                "run {set}.toml --out {set}-{out} {SMALL} --set probe.labels={labels}"
            ))
            .good();
        };
        run("alone", "[0.1]");
        run("half", "[0.5]");
        run("falling", "[0.5,0.1]");
        run("rising", "[0.1,0.5]");
        for (share, alone) in [(0.1, "alone"), (0.5, "half")] {
            let expected = readings(&site, &format!("{set}-{alone}"), share);
            for out in ["falling", "rising"] {
                assert_eq!(
                    readings(&site, &format!("{set}-{out}"), share),
                    expected,
                    "{set} {out} {share}"
                );
            }
        }
    }
}

#[test]
fn field_f03_a_class_without_a_label_ends_the_run_before_training() {
    let site = Site::new();
    let root = site.folder("d", &["ant", "bee", "cat"], [20, 4]);
    (9..20).for_each(|i| std::fs::remove_file(root.join(format!("train/cat/{i:03}.png"))).unwrap());
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
    let words =
        ["t.toml:16", "probe.labels = 0.1", "class cat has 9 training images", "0.112 to 1"];
    site.run("run t.toml --out r --set probe.labels=[0.5,0.1]").bad(2, &words[1..]);
    site.write("t.toml", site.read("t.toml").replace("[0.5]", "[0.1]"));
    site.run("run t.toml --out r").bad(2, &words);
    assert!(!site.path("r/clean").exists() && !site.path("r").exists());
    // The share that the message names is enough.
    site.run("run t.toml --out r --set probe.labels=[0.112]").good();
}

#[test]
fn field_f09_a_label_list_names_each_image_once_and_every_class() {
    let site = Site::new();
    site.folder("d", &["ant", "bee", "cat"], [12, 4]);
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#);
    let root = site.path("d/train").display().to_string();
    let line = |name: &str, class: u32| format!("{root}/{name}/000.png {class}\n");
    let all = [line("ant", 0), line("bee", 1), line("cat", 2)].concat();
    let run = |text: &str| {
        site.write("labels.txt", text);
        site.run("run t.toml --out r --set probe.labels=labels.txt")
    };
    run(&[&*all, &line("ant", 0)].concat()).bad(2, &["labels.txt", "ant/000.png is listed twice"]);
    run(&[line("ant", 0), line("bee", 1)].concat())
        .bad(2, &["class cat has 12 training images", "list an image"]);
    assert!(!site.path("r").exists());
    run(&all).good();
    // Paths relative to the list, and a path with a detour.
    run("d/train/ant/000.png 0\nd/../d/train/bee/000.png 1\n./d/train/cat/000.png 2\n").good();
}
