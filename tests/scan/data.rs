//! `scan data` on exports, configs, lists and folders.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::{Lab, stderr};
use crate::{QUICK, binary, encoder, folder, ok, read, refused};

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
    let said = ok(
        &lab,
        &[&args[..], &QUICK, &["--without-poison", "--out", "clean", "--set", "tensorboard=true"]]
            .concat(),
    );
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
