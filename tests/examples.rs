//! Every example runs, on a tiny experiment.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::path::Path;
use std::process::Command;

use common::Lab;
use ssl_backdoor_model::{EncoderConfig, EncoderHeader, Stem, load_encoder, save_encoder};

/// Runs an example in the lab's folder and returns its output.
fn example(lab: &Lab, name: &str, arguments: &[&str]) -> String {
    // When cargo builds tests, it puts examples beside the folder of this test's own program.
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples").join(name);
    let run = Command::new(program).args(arguments).current_dir(lab.path(".")).output().unwrap();
    assert!(run.status.success(), "{name}: {}", common::stderr(&run));
    String::from_utf8(run.stdout).unwrap()
}

const SHORT: [&str; 2] = ["--set", "pretrain.epochs=2"];

#[test]
fn stamp_trigger() {
    let lab = Lab::new();
    let said = example(&lab, "stamp_trigger", &[]);
    assert!(said.contains("Grid { copies: 9 }, alpha 0: 9 copies"), "{said}");
    assert_eq!(image::image_dimensions(lab.path("stamped.png")).unwrap(), (5 * 224, 224));
}

#[test]
fn targeted_attack() {
    let said = example(&Lab::new(), "targeted_attack", &[&["tiny.toml"][..], &SHORT].concat());
    assert!(said.contains("With the trigger,"), "{said}");
}

#[test]
fn untargeted_attack() {
    let said = example(&Lab::new(), "untargeted_attack", &[&["tiny.toml"][..], &SHORT].concat());
    assert!(said.contains("Lost on patched images:"), "{said}");
}

#[test]
fn defend_with_compress() {
    let defend = "defend={kind=\"compress\", clean=[0.5], steps=10, batch=16}";
    let arguments = ["tiny.toml", "--clean", "0.5,0.25", "--set", defend];
    let said = example(&Lab::new(), "defend_with_compress", &[&arguments[..], &SHORT].concat());
    assert!(said.contains("distilled-0.25: Acc"), "{said}");
}

#[test]
fn feature_map() {
    let said = example(&Lab::new(), "feature_map", &[&["tiny.toml"][..], &SHORT].concat());
    assert!(said.contains("backdoored:") && said.contains("lie among the target's"), "{said}");
}

#[test]
fn rate_ablation() {
    let lab = Lab::new();
    let said =
        example(&lab, "rate_ablation", &[&["tiny.toml", "--rates", "0.5,1"][..], &SHORT].concat());
    assert!(said.contains("   0.5      16") && said.contains("     1      32"), "{said}");
    assert!(!lab.path("runs/rate-ablation/rate-1/clean/encoder.safetensors").exists());
}

#[test]
fn method_comparison() {
    let arguments = ["tiny.toml", "--points", "1", "--set", "pretrain.epochs=2"];
    let said = example(&Lab::new(), "method_comparison", &arguments);
    assert!(said.contains("| moco-v2 | 1 | 40 |"), "{said}");
}

#[test]
fn main_table() {
    let lab = Lab::new();
    let sweep = "name = \"table\"\nbase = \"tiny.toml\"\nset = { \"probe.curve_every\" = 0 }\n[[axis]]\nname = \"target\"\nkey = \"poison.target\"\n\
                 values = [3, 4]\n";
    std::fs::write(lab.path("table.toml"), sweep).unwrap();
    example(&lab, "main_table", &["table.toml", "--epochs", "1"]);
    let table = std::fs::read_to_string(lab.path("runs/main-table/table.md")).unwrap();
    assert!(table.contains("moco-v2"), "{table}");
}

#[test]
fn attack_matrix() {
    let defend = "[{kind=\"luma\"}, {kind=\"compress\", clean=[0.5], steps=10, batch=16}]";
    let arguments = ["tiny.toml", "--defend", defend];
    let said = example(&Lab::new(), "attack_matrix", &[&arguments[..], &SHORT].concat());
    assert!(said.contains("| Attack | Victim | none | distilled-0.5 | luma |"), "{said}");
    for attack in ["| patch |", "| blend |", "| Noisy Alignment |"] {
        // Once among the net ASRs, three times in full.
        assert_eq!(said.matches(&format!("\n{attack}")).count(), 4, "{said}");
    }
}

#[test]
fn methods_table() {
    let lab = Lab::new();
    let swav = "extends = \"tiny.toml\"\nname = \"swav\"\n[pretrain]\nmethod = { kind = \"swav\", hidden = 8, dim = 4, \
                prototypes = 6, frozen_steps = 1, queue = 0, small = 2, small_size = 8 }\n";
    std::fs::write(lab.path("swav.toml"), swav).unwrap();
    let said = example(&lab, "methods_table", &[&["tiny.toml", "swav.toml"][..], &SHORT].concat());
    for row in ["| moco-v2 | ", "| swav | "] {
        let line = said.lines().find(|line| line.starts_with(row));
        let line = line.unwrap_or_else(|| panic!("{row}: {said}"));
        assert!(line.ends_with(" % |") && !line.contains("NaN"), "{line}");
    }
}

#[test]
fn probe_external_encoder() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/model/tests/fixtures/moco.pth.tar");
    let arguments = [fixture.to_str().unwrap(), "tiny.toml", "--size", "16"];
    let said = example(&Lab::new(), "probe_external_encoder", &arguments);
    assert!(said.contains("taken from") && said.contains("| encoder |"), "{said}");
}

#[test]
fn scan_a_folder() {
    let lab = Lab::new();
    export(&lab);
    let arguments = ["images", "--size", "16", "--epochs", "1", "--networks", "1", "--steps", "40"];
    let said = example(&lab, "scan_a_folder", &arguments);
    assert!(
        said.contains("of 320 images are suspected") && said.contains("cannot detect"),
        "{said}"
    );
    assert_eq!(image::image_dimensions(lab.path("strongest-patch.png")).unwrap(), (4, 4));
}

#[test]
fn scan_an_encoder() {
    let lab = Lab::new();
    export(&lab);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/scan/tests/fixtures");
    let device = burn::tensor::Device::flex();
    let config = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
    let header = ssl_backdoor_ssl::encoder_header(config, 16);
    let encoder = load_encoder(&header, &fixture.join("cam-resnet.safetensors"), &device).unwrap();
    save_encoder(&encoder, &header, &lab.path("encoder.safetensors")).unwrap();
    let arguments = ["encoder.safetensors", "--images", "images", "--rounds", "1"];
    let said = example(&lab, "scan_an_encoder", &arguments);
    assert!(said.contains("score") && said.contains("there is no p-value"), "{said}");
}

/// Writes the training images of the tiny experiment as files to `images`.
fn export(lab: &Lab) {
    let program = env!("CARGO_BIN_EXE_ssl-backdoor");
    let arguments = ["poison", "tiny.toml", "--out", "export", "--lossless"];
    let run = Command::new(program).args(arguments).current_dir(lab.path(".")).output().unwrap();
    assert!(run.status.success(), "{}", common::stderr(&run));
    let list = std::fs::read_dir(lab.path("export/data")).unwrap().next().unwrap().unwrap().path();
    let list = std::fs::read_dir(list.join("train")).unwrap().map(|entry| entry.unwrap().path());
    let list = list.into_iter().find(|path| path.to_string_lossy().ends_with("_filelist.txt"));
    let text = std::fs::read_to_string(list.unwrap()).unwrap();
    std::fs::create_dir(lab.path("images")).unwrap();
    for (i, line) in text.lines().enumerate() {
        let path = Path::new(line.rsplit_once(' ').unwrap().0);
        let path = if path.is_absolute() { path.to_owned() } else { lab.path("export").join(path) };
        let kind = path.extension().unwrap().to_string_lossy().into_owned();
        std::fs::copy(&path, lab.path(&format!("images/{i:03}.{kind}"))).unwrap();
    }
}

#[test]
fn scan_evidence() {
    let lab = Lab::new();
    let sets = ["--set", "data.eval_per_class=20", "--set", "pretrain.epochs=1"];
    let binary = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        let run = command.args(arguments).args(sets).current_dir(lab.path(".")).output().unwrap();
        assert!(run.status.success(), "{}", common::stderr(&run));
    };
    for seed in ["1", "2"] {
        let (seed, out) = (format!("seed={seed}"), format!("runs/{seed}"));
        binary(&["run", "tiny.toml", "--out", &out, "--set", &seed, "--until", "probe"]);
    }
    for (folder, seed) in [("nulls", "1001"), ("more", "2001")] {
        let arguments = ["scan", "nulls", "tiny.toml", "--out", folder, "--first-seed", seed];
        binary(&[&arguments[..], &["--count", "2", "--rounds", "1"]].concat());
    }
    let arguments =
        ["runs", "--null", "nulls", "--out", "evidence", "--rounds", "1", "--sets", "1"];
    let arguments = [&arguments[..], &["--least", "2"]].concat();
    let quick = ["--networks", "1", "--steps", "40"];
    let arguments = [&arguments[..], &quick].concat();
    let said = example(&lab, "scan_evidence", &[&arguments[..], &["--clean", "more"]].concat());
    assert!(said.contains("Area under the ROC curve") && said.contains("| moco-v2 |"), "{said}");
    let read = |name: &str| std::fs::read_to_string(lab.path("evidence").join(name)).unwrap();
    // Two runs with both models, and two more clean encoders.
    let encoders = read("encoders.csv");
    assert_eq!(encoders.lines().count(), 1 + 6, "{encoders}");
    let roc = read("roc.csv");
    assert!(roc.contains("moco-v2,ssl-cleanse,all,2,4,"), "{roc}");
    assert!(read("alarms.csv").contains("all methods,together,clean,"));
    assert_eq!(read("sets.csv").lines().count(), 1 + 2);
    // A scan of another encoder does not pass for that of this one: a scan is named by the place of its run.
    let first = std::fs::read(lab.path("runs/1/backdoored/encoder.safetensors")).unwrap();
    let told = lab.path("evidence/encoders/0-1-backdoored/scan.json");
    let before = std::fs::read(&told).unwrap();
    std::fs::copy(
        lab.path("runs/2/backdoored/encoder.safetensors"),
        lab.path("runs/1/backdoored/encoder.safetensors"),
    )
    .unwrap();
    example(&lab, "scan_evidence", &arguments);
    assert!(std::fs::read(&told).unwrap() != before);
    std::fs::write(lab.path("runs/1/backdoored/encoder.safetensors"), first).unwrap();
    // An encoder on which no scan has a result is named and left out.
    let file = lab.path("runs/2/backdoored/encoder.safetensors");
    let header = EncoderHeader::read(&file).unwrap().unwrap();
    let trained = load_encoder(&header, &file, &burn::tensor::Device::flex()).unwrap();
    let kept = std::fs::read(&file).unwrap();
    save_encoder(&common::constant(trained), &header, &file).unwrap();
    let said = example(&lab, "scan_evidence", &arguments);
    assert!(said.contains("| 0-2-backdoored | the features of"), "{said}");
    assert!(read("roc.csv").contains("moco-v2,ssl-cleanse,all,1,2,"), "{}", read("roc.csv"));
    std::fs::write(file, kept).unwrap();
    // A scored encoder cannot be one of the nulls.
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples/scan_evidence");
    let both = [&arguments[..], &["--clean", "nulls"]].concat();
    let run = Command::new(program).args(both).current_dir(lab.path(".")).output().unwrap();
    assert!(common::stderr(&run).contains("is one of the nulls"), "{}", common::stderr(&run));
    // Nor may nulls be missing.
    let program = own.parent().unwrap().parent().unwrap().join("examples/scan_evidence");
    let few: Vec<&str> =
        arguments.iter().map(|word| if *word == "2" { "3" } else { word }).collect();
    let run = Command::new(program).args(few).current_dir(lab.path(".")).output().unwrap();
    assert!(common::stderr(&run).contains("has 2 nulls"), "{}", common::stderr(&run));
}

#[test]
fn pack_cifar10() {
    let lab = Lab::new();
    for (part, count) in [("train", 10), ("val", 4)] {
        for (class, red) in [("cat", 10u8), ("dog", 200)] {
            let folder = lab.path("set").join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([red, i, 3]));
                picture.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let said = example(&lab, "pack_cifar10", &["set", "--out", "packed"]);
    assert!(said.contains("20 training and 8 test images"), "{said}");
    let read = |name: &str| std::fs::read(lab.path("packed").join(name)).unwrap();
    let train: Vec<u8> = (1..=5).flat_map(|i| read(&format!("data_batch_{i}.bin"))).collect();
    let records: Vec<&[u8]> = train.chunks(3073).collect();
    assert_eq!((records.len(), read("test_batch.bin").len()), (20, 8 * 3073));
    for record in &records {
        let red = [10, 200][usize::from(record[0])];
        assert!(record[1..1025].iter().all(|value| *value == red));
        assert!(record[2049..].iter().all(|value| *value == 3));
    }
    // The classes are mixed, and every image is there once.
    assert!(records[..10].iter().any(|r| r[0] == 0) && records[..10].iter().any(|r| r[0] == 1));
    let mut ids: Vec<(u8, u8)> = records.iter().map(|r| (r[0], r[1025])).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}
