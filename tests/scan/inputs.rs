//! What cannot be scanned, and unusual images that can be.

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::common::{Lab, stderr};
use crate::{QUICK, binary, encoder, folder, ok, read, refused};

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

/// DECREE needs fewer images than SSL-Cleanse.
#[test]
fn a_scan_that_has_enough_images_reports_alone() {
    let lab = Lab::new();
    encoder(&lab, "net.safetensors", 3, false);
    folder(&lab, "forty", 40);
    let scan =
        ["scan", "encoder", "net.safetensors", "--images", "forty", "--rounds", "1", "--json"];
    let output = binary(&lab, &scan);
    let told = stderr(&output);
    assert!(
        output.status.success() && told.contains("40 images are too few for ssl-cleanse"),
        "{told}"
    );
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scans: Vec<&String> = found["scans"].as_object().unwrap().keys().collect();
    assert_eq!(scans, ["decree"]);
}

/// Values of a config are named by their keys, values of options by the options.
#[test]
fn a_value_of_the_config_is_not_taken_for_an_option() {
    let lab = Lab::new();
    encoder(&lab, "net.safetensors", 3, false);
    let of_encoder = ["scan", "encoder", "net.safetensors", "--images", "tiny.toml"];
    let of_data = ["scan", "data", "tiny.toml", "--encoder", "net.safetensors"];
    for (scan, more, words) in [
        (
            of_encoder,
            &["--set", "scan.decree.images=10"][..],
            "--set scan.decree.images=10: scan.decree.images = 10",
        ),
        (of_encoder, &["--rounds", "0"], "--rounds = 0"),
        (of_data, &["--set", "scan.data.window=17"], "scan.data.window = 17"),
        (of_data, &["--set", "scan.data.window=17", "--window", "18"], "--window = 18"),
        (of_data, &["--set", "scan.data.clusters=321"], "scan.data.clusters = 321"),
    ] {
        let (status, told) = refused(&lab, &[&scan[..], more].concat());
        assert!(told.contains(words) && status == 2, "{more:?}: {status} {told}");
        assert_eq!(told.contains("--window"), words.contains("--window"), "{told}");
    }
}
