//! `scan encoder`: scores, and p-values by clean encoders.

use serde_json::Value;

use crate::common::Lab;
use crate::{binary, encoder, ok, read, refused};

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
    let broken = lab.path("nulls/broken.json");
    std::fs::write(&broken, "{}").unwrap();
    let args = scan("suspect.safetensors", &["--null", "nulls"]);
    let (_, told) = refused(&lab, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(told.contains("broken.json: it is not a null score"), "{told}");
}

/// The config's own settings of the scans are those of its nulls and of a scan on its images.
#[test]
fn nulls_and_a_scan_have_the_settings_of_the_config() {
    let lab = Lab::new();
    encoder(&lab, "suspect.safetensors", 9, false);
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
    // So are its null scores, whatever other tables it has.
    let own = ["--set", "scan.null=own", "--set", "tensorboard=true"];
    let said = ok(&lab, &[&suspect[..5], &sets, &own].concat());
    assert!(said.contains("among 1 clean encoders"), "{said}");
}
