//! What the README promises to newcomers works as it is written.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use common::{Lab, stderr};
use image::{Rgb, RgbImage};

#[test]
fn ten_lines_of_toml_and_a_folder_make_a_poisoned_probed_defended_model() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let config = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(config.lines().count(), 10, "{config}");
    let lab = Lab::new();
    for (part, count) in [("train", 24), ("val", 8)] {
        for (class, color) in [("cat", 60), ("dog", 120), ("eel", 200)] {
            let folder = lab.path("mine").join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let pixel = |x, y| Rgb([color, (7 * x + 31 * i) as u8, (5 * y * (i + 1)) as u8]);
                RgbImage::from_fn(40, 33, pixel).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let config = config.replace("/data/mine", lab.path("mine").to_str().unwrap());
    std::fs::write(lab.path("tiny.toml"), config).unwrap();
    // The same, for seconds: fewer and smaller steps.
    let small = [
        "pretrain.epochs=2",
        "pretrain.batch=16",
        "pretrain.encoder.width=2",
        "defend.batch=8",
        "defend.epochs=2",
    ];
    let run = lab.run("run", &small);
    assert!(run.status.success(), "{}", stderr(&run));
    let table = String::from_utf8(run.stdout).unwrap();
    assert!(table.contains("backdoored model") && table.contains("distilled-0.25"), "{table}");
    assert!(lab.path("run/report.html").exists());
}
