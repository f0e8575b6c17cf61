//! `scan data` and `scan encoder` through the real binary, on tiny sets and encoders, and the defence `patch-search`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use burn::module::Module;
use burn::tensor::Device;
use common::{Lab, stderr};
use image::{Rgb, RgbImage};
use serde_json::Value;
use ssl_backdoor_model::{EncoderConfig, Stem, save_encoder};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::encoder_header;

const NET: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };

fn binary(lab: &Lab, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_ssl-backdoor");
    Command::new(program).args(args).current_dir(lab.path(".")).output().unwrap()
}

/// Standard output of a call that must succeed.
fn ok(lab: &Lab, args: &[&str]) -> String {
    let output = binary(lab, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Status and standard error of a call.
fn refused(lab: &Lab, args: &[&str]) -> (i32, String) {
    let output = binary(lab, args);
    assert!(!output.status.success(), "{args:?}");
    let told = stderr(&output);
    assert!(!told.contains("panicked") && !told.contains("NaN"), "{told}");
    (output.status.code().unwrap(), told)
}

/// Writes an encoder file for 16 px: untrained, or with the same features for every image.
fn encoder(lab: &Lab, name: &str, seed: u64, constant: bool) {
    let mut rng = keyed(seed, ssl_backdoor_model::purpose::INIT, 0, 0, 0);
    let mut net = NET.init(&mut rng, &Device::flex()).valid();
    if constant {
        net = common::constant(net);
    }
    save_encoder(&net, &encoder_header(NET, 16), &lab.path(name)).unwrap();
}

/// A folder of `count` images of 20 × 16 pixels in a few colours.
fn folder(lab: &Lab, name: &str, count: u32) {
    let path = lab.path(name);
    std::fs::create_dir_all(path.join("inner")).unwrap();
    for i in 0..count {
        let picture = RgbImage::from_fn(20, 16, |x, y| {
            let hue = (i % 5) * 50;
            Rgb([hue as u8, (x * 12 + i * 3) as u8, (y * (i % 7) * 2) as u8])
        });
        let file = if i % 2 == 0 { format!("{i}.png") } else { format!("inner/{i}.png") };
        picture.save(path.join(file)).unwrap();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A quick classifier.
const QUICK: [&str; 4] = ["--networks", "1", "--steps", "40"];

#[test]
fn a_poisoned_export_is_ranked_and_the_ledger_says_how_well() {
    let lab = Lab::new();
    ok(&lab, &["poison", "tiny.toml", "--out", "export"]);
    encoder(&lab, "net.safetensors", 3, false);
    let args = ["scan", "data", "export", "--encoder", "net.safetensors", "--out", "found"];
    let said = ok(&lab, &[&args[..], &QUICK].concat());
    assert!(said.contains("of 320 images") && said.contains("16 in total"), "{said}");
    for k in ["first 5 ", "first 100 "] {
        assert!(said.contains(k) && said.contains("precision"), "{said}");
    }
    assert!(!said.contains("first 500"), "{said}");
    assert!(said.contains("patch 20") && said.contains("cannot detect"), "{said}");

    // Every image has a ranked line, and is in one of the two lists.
    let mut csv = csv::Reader::from_path(lab.path("found/images.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 320);
    let scores: Vec<f64> = rows.iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    assert!(scores.is_sorted_by(|a, b| a >= b));
    assert_eq!(rows.iter().filter(|row| &row[11] == "true").count(), 16);
    let tried: Vec<_> = rows.iter().filter(|row| !row[5].is_empty()).collect();
    // Five clusters: 2 · (5 + 4 + 3 + 2 + 1) images at most.
    assert!((10..=30).contains(&tried.len()), "{}", tried.len());
    for row in tried {
        let [x, y, width, height] = [7, 8, 9, 10].map(|at| row[at].parse::<u32>().unwrap());
        assert!(x + width <= 16 && y + height <= 16 && (width, height) == (4, 4));
    }
    let lines = |name: &str| -> BTreeSet<String> {
        read(&lab.path("found").join(name)).lines().map(str::to_owned).collect()
    };
    let (suspected, cleaned) = (lines("suspected.txt"), lines("cleaned.txt"));
    assert_eq!(suspected.len() + cleaned.len(), 320);
    assert!(suspected.is_disjoint(&cleaned));
    let page = read(&lab.path("found/index.html"));
    for words in [
        "cannot detect",
        "data:image/png;base64,",
        "Precision",
        "takes",
        "Images pulled into the cluster by the patch",
        "Images of the cluster",
    ] {
        assert!(page.contains(words), "{words}");
    }
    let figures: Value = serde_json::from_str(&read(&lab.path("found/scan.json"))).unwrap();
    assert_eq!((&figures["images"], &figures["truth"]["poisoned"]), (&320.into(), &16.into()));
    assert_eq!(figures["suspected"], suspected.len());
    assert!(figures["truth"]["patches"][2]["precision"].is_number(), "{figures}");

    // The cleaned list can be scanned itself.
    let args = ["scan", "data", "found/cleaned.txt", "--encoder", "net.safetensors", "--out", "b"];
    ok(&lab, &[&args[..], &QUICK].concat());
    // The same again, to the byte.
    let args = ["scan", "data", "export", "--encoder", "net.safetensors", "--out", "again"];
    let json = ok(&lab, &[&args[..], &QUICK, &["--json"]].concat());
    assert_eq!(json, read(&lab.path("again/scan.json")));
    assert_eq!(read(&lab.path("found/images.csv")), read(&lab.path("again/images.csv")));
}

#[test]
fn a_config_is_scanned_with_its_poison_and_a_gate_can_close() {
    let lab = Lab::new();
    encoder(&lab, "net.safetensors", 3, false);
    let args = ["scan", "data", "tiny.toml", "--encoder", "net.safetensors", "--set", "seed=5"];
    let said = ok(&lab, &[&args[..], &QUICK].concat());
    assert!(said.contains("16 in total") && said.contains("scans/tiny/index.html"), "{said}");
    // Ids, in the form that the filter reads.
    let left = read(&lab.path("scans/tiny/cleaned.txt"));
    assert!(left.lines().all(|line| line.parse::<u64>().unwrap() < 320));
    let found = 320 - left.lines().count();
    let gate = |allowed: usize| {
        let gate = ["--fail-above", &allowed.to_string()].map(str::to_owned);
        let gate: Vec<&str> = gate.iter().map(String::as_str).collect();
        binary(&lab, &[&args[..], &QUICK, &gate].concat())
    };
    assert!(gate(found).status.success());
    assert!(found > 0);
    let closed = gate(found - 1);
    assert_eq!(closed.status.code(), Some(3));
    let told = stderr(&closed);
    assert!(told.contains(&format!("{found} images are suspected")), "{told}");
    // The findings are written all the same.
    assert_eq!(read(&lab.path("scans/tiny/cleaned.txt")), left);

    // Without the poison, every suspected image is a false alarm.
    let said = ok(&lab, &[&args[..], &QUICK, &["--without-poison", "--out", "clean"]].concat());
    assert!(
        said.contains("0 of the suspected images, 0 in total") && said.contains("recall -"),
        "{said}"
    );
    folder(&lab, "photos", 64);
    let args = ["scan", "data", "photos", "--without-poison"];
    assert!(refused(&lab, &args).1.contains("photos is not a config"));
}

#[test]
fn what_a_list_names_and_is_not_there_is_left_out() {
    let lab = Lab::new();
    encoder(&lab, "net.safetensors", 3, false);
    folder(&lab, "photos", 80);
    let mut list: String = (0..80).step_by(2).map(|i| format!("photos/{i}.png\n")).collect();
    list.extend((1..80).step_by(2).map(|i| format!("photos/inner/{i}.png\n")));
    std::fs::write(lab.path("list.txt"), format!("{list}photos/absent.png\nphotos/gone.png\n"))
        .unwrap();
    let args = ["scan", "data", "list.txt", "--encoder", "net.safetensors", "--out", "found"];
    let output = binary(&lab, &[&args[..], &QUICK].concat());
    let told = stderr(&output);
    assert!(output.status.success() && told.contains("absent.png"), "{told}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("of 80 images"), "{said}");
    for (text, words) in [
        ("photos/absent.png\n", "no readable image"),
        ("", "list.txt: it lists no images"),
        ("photos/0.png\nphotos/absent.png\n", "1 images are too few"),
    ] {
        std::fs::write(lab.path("list.txt"), text).unwrap();
        let (status, told) = refused(&lab, &args);
        assert!(told.contains(words) && status == 1, "{text}: {status} {told}");
    }
}

#[test]
fn without_an_encoder_one_is_trained() {
    let lab = Lab::new();
    folder(&lab, "photos", 64);
    std::fs::write(lab.path("photos/broken.png"), "no image").unwrap();
    let args = ["scan", "data", "photos", "--size", "8", "--epochs", "2", "--out", "found"];
    let output = binary(&lab, &[&args[..], &QUICK].concat());
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    for words in
        ["training a ResNet-18 of width 16", "64 images at 8 px for 2 epochs", "took", "broken.png"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(lab.path("found/encoder.safetensors").is_file());
    // No ledger says which images are poisoned.
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("precision") && said.contains("of 64 images"), "{said}");
}

#[test]
fn what_cannot_be_scanned_is_said_in_a_line() {
    let lab = Lab::new();
    encoder(&lab, "net.safetensors", 3, false);
    encoder(&lab, "constant.safetensors", 3, true);
    folder(&lab, "ten", 10);
    folder(&lab, "many", 70);
    std::fs::create_dir(lab.path("one")).unwrap();
    for i in 0..70 {
        RgbImage::from_pixel(16, 16, Rgb([9, 9, 9]))
            .save(lab.path(&format!("one/{i}.png")))
            .unwrap();
    }
    std::fs::write(lab.path("other.safetensors"), "no encoder").unwrap();
    // A kind that this program does not know.
    let bytes = std::fs::read(lab.path("net.safetensors")).unwrap();
    let at = bytes.windows(8).position(|some| some == b"resnet18").unwrap();
    let unknown = [&bytes[..at], b"resnet99", &bytes[at + 8..]].concat();
    std::fs::write(lab.path("unknown.safetensors"), unknown).unwrap();
    let of = |images: &str, net: &str, more: &[&str]| {
        refused(&lab, &[&["scan", "data", images, "--encoder", net][..], more].concat())
    };
    for (images, net, words) in [
        ("ten", "net.safetensors", "10 images are too few"),
        ("one", "net.safetensors", "are almost the same"),
        ("many", "constant.safetensors", "are almost the same"),
        ("many", "other.safetensors", "other.safetensors"),
        ("many", "unknown.safetensors", "resnet99"),
    ] {
        let (status, told) = of(images, net, &[]);
        assert!(told.contains(words) && status == 1, "{images} {net}: {status} {told}");
    }
    let (status, told) = of("absent", "net.safetensors", &[]);
    assert!(told.contains("'absent'") && status == 2, "{status} {told}");
    for (more, words) in [
        (["--window", "17"], "--window = 17"),
        (["--clusters", "71"], "--clusters = 71"),
        (["--set", "seed=1"], "many is not a config"),
    ] {
        let (status, told) = of("many", "net.safetensors", &more);
        assert!(told.contains(words) && status == 2, "{status} {told}");
    }
    let (status, told) = refused(&lab, &["scan", "data", "many", "--epochs", "0"]);
    assert!(told.contains("--epochs = 0 is out of range") && status == 2, "{status} {told}");
    // Without an encoder nothing is trained on ten images.
    let (_, told) = refused(&lab, &["scan", "data", "ten"]);
    assert!(told.contains("10 images are too few") && !told.contains("training"), "{told}");

    let of = |images: &str, net: &str, more: &[&str]| {
        refused(&lab, &[&["scan", "encoder", net, "--images", images][..], more].concat())
    };
    for (images, net, words) in [
        ("ten", "net.safetensors", "10 images are too few"),
        ("many", "constant.safetensors", "are almost the same"),
        ("one", "net.safetensors", "are almost the same"),
        ("many", "other.safetensors", "other.safetensors"),
        ("many", "unknown.safetensors", "resnet99"),
    ] {
        let (status, told) = of(images, net, &["--rounds", "1"]);
        assert!(told.contains(words) && status == 1, "{images} {net}: {status} {told}");
    }
    let (status, told) = of("many", "net.safetensors", &["--rounds", "0"]);
    assert!(told.contains("--rounds = 0") && status == 2, "{told}");
}

/// Images of one class, and a set without any trigger, are no error: every figure is a number.
#[test]
fn one_class_and_no_trigger_give_numbers() {
    let lab = Lab::new();
    encoder(&lab, "net.safetensors", 3, false);
    folder(&lab, "solo/cat", 70);
    let scan = ["scan", "data", "solo", "--encoder", "net.safetensors", "--out", "found", "--json"];
    let said = ok(&lab, &[&scan[..], &QUICK].concat());
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["images"], &found["truth"]), (&70.into(), &Value::Null));
    assert!(found["figures"].as_object().unwrap().values().all(Value::is_number), "{said}");
    let images = read(&lab.path("found/images.csv"));
    let mut rows = images.lines();
    let column = rows.next().unwrap().split(',').position(|name| name == "score").unwrap();
    let scores: Vec<f64> =
        rows.map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
    assert!(scores.len() == 70 && scores.iter().all(|score| score.is_finite()), "{images}");
    let scan = ["scan", "encoder", "net.safetensors", "--images", "solo", "--out", "encoder"];
    let said = ok(&lab, &[&scan[..], &["--rounds", "2", "--clusters", "4", "--json"]].concat());
    let found: Value = serde_json::from_str(&said).unwrap();
    let scans = found["scans"].as_object().unwrap();
    assert!(!scans.is_empty() && scans.values().all(|scan| scan["score"].is_number()), "{said}");
}

#[test]
fn an_encoder_gets_a_score_and_by_clean_encoders_a_p_value() {
    let lab = Lab::new();
    let quick = ["--rounds", "2", "--clusters", "4"];
    let scan = |net: &str, more: &[&str]| {
        let args =
            ["scan", "encoder", net, "--images", "tiny.toml", "--set", "data.eval_per_class=20"];
        [&args[..], &quick, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let call = |args: Vec<String>| ok(&lab, &args.iter().map(String::as_str).collect::<Vec<_>>());
    for seed in 0..3 {
        let net = format!("clean-{seed}.safetensors");
        encoder(&lab, &net, seed, false);
        let said = call(scan(&net, &["--write-null", "nulls", "--out", &format!("scans/{seed}")]));
        assert!(said.contains("null score   nulls/") && said.contains("no p-value"), "{said}");
    }
    encoder(&lab, "suspect.safetensors", 9, false);
    let said = call(scan("suspect.safetensors", &["--null", "nulls"]));
    for words in ["among 3 clean encoders", "no p below 0.250", "do not detect"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let found: Value = serde_json::from_str(&read(&lab.path("scans/suspect/scan.json"))).unwrap();
    for scan in found["scans"].as_object().unwrap().values() {
        assert!(scan["score"].is_number() && scan["p_value"]["nulls"] == 3, "{scan}");
        let p = scan["p_value"]["p"].as_f64().unwrap();
        assert!([0.25, 0.5, 0.75, 1.0].contains(&p), "{p}");
    }
    assert!(found["scans"]["ssl-cleanse"].is_object() && found["p_value"]["nulls"] == 3);
    let json = call(scan("suspect.safetensors", &["--null", "nulls", "--json"]));
    assert_eq!(json, read(&lab.path("scans/suspect/scan.json")));

    // Scores with other settings are not nulls, and neither is the encoder itself.
    let mut other = scan("suspect.safetensors", &["--null", "nulls"]);
    let rounds = other.iter().position(|arg| arg == "2").unwrap();
    other[rounds] = "1".into();
    let output = binary(&lab, &other.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("other scan settings") && said.contains("no p-value"), "{said}");
    // Nor are scores on other images.
    let other = scan("suspect.safetensors", &["--null", "nulls", "--set", "data.seed=9"]);
    let said = call(other);
    assert!(said.contains("other images") && said.contains("no p-value"), "{said}");
    let own = scan("clean-0.safetensors", &["--null", "nulls"]);
    let output = binary(&lab, &own.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the scanned encoder itself"), "{said}");
    assert!(said.contains("among 2 clean encoders"), "{said}");
    // The config's own settings of the scans are those of its nulls and of a scan on its images.
    let sets =
        ["scan.seed=7", "scan.decree.rounds=1", "scan.cleanse.rounds=1", "data.eval_per_class=20"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let nulls = ["scan", "nulls", "tiny.toml", "--out", "own", "--count", "1"];
    let said = ok(&lab, &[&nulls[..], &["--set", "pretrain.epochs=1"], &sets].concat());
    assert!(said.contains("1 null scores"), "{said}");
    let null: Value = serde_json::from_str(&read(&lab.path("own/seed-1001.json"))).unwrap();
    assert_eq!((&null["seed"], &null["settings"]["decree"]["rounds"]), (&7.into(), &1.into()));
    let suspect =
        ["scan", "encoder", "suspect.safetensors", "--images", "tiny.toml", "--null", "own"];
    let said = ok(&lab, &[&suspect[..], &sets].concat());
    assert!(said.contains("among 1 clean encoders"), "{said}");
    let broken = lab.path("nulls/broken.json");
    std::fs::write(&broken, "{}").unwrap();
    let args = scan("suspect.safetensors", &["--null", "nulls"]);
    let (_, told) = refused(&lab, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(told.contains("broken.json: it is not a null score"), "{told}");
}

/// Quick scans in a run, with nulls.
const SCAN: &str = "scan={ null=\"nulls\", data={ networks=1, steps=40 }, decree={ rounds=2 }, \
    cleanse={ rounds=2, clusters=4 } }";

/// Enough images for the scans, and a short training.
const SETS: [&str; 4] = ["--set", "data.eval_per_class=20", "--set", "pretrain.epochs=1"];

/// The tiny run with its scans; the path `nulls` is relative to the working directory.
fn scanned_run(lab: &Lab, out: &str, more: &[&str]) -> Output {
    let args = ["run", "tiny.toml", "--out", out, "--set", SCAN];
    binary(lab, &[&args[..], &SETS, more].concat())
}

#[test]
fn nulls_are_trained_and_a_run_has_its_scans_beside_the_truth() {
    let lab = Lab::new();
    let nulls = |more: &[&str]| {
        let args =
            ["scan", "nulls", "tiny.toml", "--out", "nulls", "--rounds", "2", "--clusters", "4"];
        let args = [&args[..], &SETS, more].concat();
        binary(&lab, &args)
    };
    let made = nulls(&["--count", "2"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.contains("2 null scores") && said.contains("no p-value below 0.333"), "{said}");
    assert!(!lab.path("nulls/seed-1001.safetensors").exists());
    let first = read(&lab.path("nulls/seed-1001.json"));
    // It resumes, keeps the encoders on request, and does not mix trainings.
    let made = nulls(&["--count", "3", "--keep-encoders"]);
    let told = stderr(&made);
    assert!(told.matches("exists already").count() == 2 && told.contains("3 of 3"), "{told}");
    assert_eq!(read(&lab.path("nulls/seed-1001.json")), first);
    assert!(lab.path("nulls/seed-1003.safetensors").is_file());
    let mixed = nulls(&["--count", "3", "--set", "pretrain.lr=0.03"]);
    let told = stderr(&mixed);
    assert!(!mixed.status.success() && told.contains("choose another folder"), "{told}");
    let (status, told) =
        refused(&lab, &["scan", "nulls", "tiny.toml", "--out", "n", "--count", "0"]);
    assert!(status == 2 && told.contains("--count = 0"), "{told}");

    let done = scanned_run(&lab, "run", &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let scans: Value = serde_json::from_str(&read(&lab.path("run/scan.json"))).unwrap();
    for model in ["clean", "backdoored"] {
        let found = &scans["encoders"][model];
        assert!(found["p_value"]["nulls"] == 3, "{found}");
        assert!(found["scans"]["ssl-cleanse"]["score"].is_number(), "{found}");
    }
    assert_eq!(scans["data"]["truth"]["poisoned"], 16);
    for report in ["run/report.md", "run/report.html"] {
        let text = read(&lab.path(report));
        for words in [
            "Scans without knowledge",
            "backdoored, net ASR",
            "ssl-cleanse",
            "PatchSearch",
            "0.250",
        ] {
            assert!(text.contains(words), "{report}: {words}");
        }
    }
    // The stage runs once, and again if the nulls change.
    assert!(stderr(&scanned_run(&lab, "run", &[])).contains("scan: done already"));
    std::fs::remove_file(lab.path("nulls/seed-1002.json")).unwrap();
    assert!(
        stderr(&scanned_run(&lab, "run", &["--until", "scan"]))
            .contains("scan: repeated, because inputs changed")
    );
}

#[test]
fn what_a_run_cannot_scan_is_said_before_anything_is_trained() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("nulls")).unwrap();
    for (set, words) in [
        ("data.eval_per_class=5", "scan: 50 images are too few for ssl-cleanse"),
        ("scan.data.window=17", "scan.data.window = 17"),
        ("scan.decree.rounds=0", "scan.decree.rounds = 0"),
        ("scan.what=1", "scan.what"),
        ("scan.null=absent", "scan: absent: "),
    ] {
        let output = scanned_run(&lab, "other", &["--set", set]);
        let told = stderr(&output);
        assert!(output.status.code() == Some(2) && told.contains(words), "{set}: {told}");
        assert!(!lab.path("other/clean").exists());
    }
}

#[test]
fn the_defence_searches_removes_and_trains_again() {
    let lab = Lab::new();
    let defend = "defend={kind=\"patch-search\", networks=1, steps=40}";
    let run = lab.run("run", &[defend]);
    assert!(run.status.success(), "{}", stderr(&run));
    let removed: Value =
        serde_json::from_str(&read(&lab.path("run/patch-searched/removed.json"))).unwrap();
    let ids = removed["ids"].as_array().unwrap().len();
    let scores: Value = serde_json::from_str(&read(&lab.path("run/scores.json"))).unwrap();
    let found = &scores["removed"]["patch-searched"];
    assert_eq!(found["removed"], ids);
    assert_eq!(found["poisoned"].as_u64().unwrap() + found["left"].as_u64().unwrap(), 16);
    assert!(scores["models"]["patch-searched"]["patched"]["asr"].is_number());
    let again = lab.run("run", &[defend]);
    assert!(stderr(&again).contains("defend patch-searched: done already"), "{}", stderr(&again));
    // If the retrained encoder is missing, the search is not repeated.
    std::fs::remove_file(lab.path("run/patch-searched/encoder.safetensors")).unwrap();
    let encoder = |lab: &Lab| std::fs::read(lab.path("run/patch-searched/encoder.safetensors"));
    let resumed = lab.run("run", &[defend]);
    assert!(resumed.status.success() && encoder(&lab).is_ok(), "{}", stderr(&resumed));
    // Other settings of the search make another training.
    let changed = lab.run("run", &["defend={kind=\"patch-search\", networks=1, steps=20}"]);
    assert!(stderr(&changed).contains("defend patch-searched: repeated"), "{}", stderr(&changed));
}
