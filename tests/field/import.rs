//! Checkpoints of other tools through `convert` and `probe --encoder`. The checkpoints and PyTorch's features of them are
//! in `crates/model/tests/fixtures`, with the script that made them.

use std::path::Path;

use crate::sets::{Said, Site};

/// Converts a fixture to `out.safetensors`.
fn convert(site: &Site, checkpoint: &str, more: &str) -> Said {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/model/tests/fixtures/foreign");
    site.run(&format!("convert {} out.safetensors {more}", fixtures.join(checkpoint).display()))
}

/// The lines of `convert`'s output that begin with `head`.
fn lines(said: &Said, head: &str) -> Vec<String> {
    said.stdout.lines().filter(|line| line.starts_with(head)).map(str::to_owned).collect()
}

/// The header of the written file.
fn header(site: &Site) -> serde_json::Value {
    let bytes = std::fs::read(site.path("out.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    serde_json::from_str(head["__metadata__"]["ssl_backdoor"].as_str().unwrap()).unwrap()
}

#[test]
fn field_f05_heads_are_known_given_or_called_a_guess() {
    let site = Site::new();
    for (checkpoint, more, line, basis) in [
        ("mocov3.pth.tar", "", "heads          12 (known: MoCo v3's transformers", "known"),
        ("solo_vit.ckpt", "", "heads          12 (known: solo-learn's transformers", "known"),
        ("guess.pth", "", "heads          3 (a guess: one for each 64", "guess"),
        ("guess.pth", "--heads 6", "heads          6 (given)", "given"),
    ] {
        let said = convert(&site, checkpoint, more).good();
        assert!(lines(&said, "heads")[0].starts_with(line), "{}", said.stdout);
        let header = header(&site);
        let finding = &header["findings"][0];
        assert_eq!(
            (finding["of"].as_str(), finding["basis"].as_str()),
            (Some("heads"), Some(basis))
        );
        assert_eq!(finding["value"], header["encoder"]["heads"].to_string());
    }
    convert(&site, "guess.pth", "--heads 5").bad(2, &["--heads 5", "divisors"]);
    // A guess stays a guess when the file is converted again.
    convert(&site, "guess.pth", "").good();
    let again = site.run("convert out.safetensors again.safetensors").good();
    assert!(lines(&again, "heads")[0].contains("a guess"), "{}", again.stdout);
}

#[test]
fn field_f06_convert_says_the_stem_that_it_assumed() {
    let site = Site::new();
    for (checkpoint, more, line) in [
        (
            "solo.ckpt",
            "--size 32",
            "3x3, stride 1, padding 2, without max-pool (known: solo-learn's",
        ),
        (
            "bolts.ckpt",
            "--size 96",
            "7x7, stride 2, padding 3, without max-pool (stated by the checkpoint",
        ),
        ("padded.pth", "--size 32", "3x3, stride 1, padding 1, without max-pool (assumed"),
        (
            "padded.pth",
            "--size 32 --stem-padding 2 --max-pool true",
            "3x3, stride 1, padding 2, with max-pool (given",
        ),
        ("ema.pth", "", "7x7, stride 2, padding 3, with max-pool (assumed: as torchvision's)"),
    ] {
        let said = convert(&site, checkpoint, more).good();
        let found = lines(&said, "stem");
        assert!(found[0].contains(line), "{}", said.stdout);
        assert_eq!(
            found[0].contains("--max-pool override"),
            line.contains("known") || line.contains("assumed")
        );
        assert!(header(&site)["findings"][0]["value"].as_str().unwrap().contains("max-pool"));
    }
    convert(&site, "padded.pth", "--size 32 --stem-padding 5")
        .bad(2, &["--stem-padding 5", "kernel"]);
    convert(&site, "padded.pth", "").bad(1, &["padded.pth", "pass --size"]);
    convert(&site, "padded.pth", "--size 32 --max-pool perhaps").bad(2, &["max-pool"]);
}

#[test]
fn field_f11_convert_says_which_network_it_took_and_names_the_input() {
    let site = Site::new();
    for (checkpoint, more, taken, left) in [
        ("solo.ckpt", "--size 32", "state_dict.backbone.*", "state_dict.momentum_backbone.*"),
        (
            "bolts.ckpt",
            "--size 96",
            "state_dict.online_network.encoder.*",
            "state_dict.target_network.encoder.*",
        ),
        ("lightly.ckpt", "", "state_dict.backbone.*", "state_dict.backbone_momentum.*"),
        (
            "ema.pth",
            "",
            "state_dict.*  (the trained network, not its moving average (EMA))",
            "state_dict_ema.*",
        ),
        ("dino.pth", "", "teacher.backbone.*  (the teacher", "student.module.backbone.*"),
        ("dino.pth", "--prefix student", "student.module.backbone.*", "teacher.backbone.*"),
    ] {
        let said = convert(&site, checkpoint, more).good();
        assert!(lines(&said, "taken from")[0].contains(taken), "{}", said.stdout);
        assert!(lines(&said, "left   ")[0].contains(left), "{}", said.stdout);
        let findings = header(&site)["findings"].clone();
        assert!(findings.as_array().unwrap().iter().any(|finding| finding["of"] == "network"));
    }
    for (checkpoint, more, words) in [
        ("layerscale.pth", "", vec!["layerscale.pth", "blocks.0.ls1.gamma (LayerScale)"]),
        (
            "dino.pth",
            "--prefix nobody",
            vec!["dino.pth", "no encoder under \"nobody\"", "teacher.backbone."],
        ),
        ("arrays.pt", "", vec!["arrays.pt", "no known encoder"]),
    ] {
        let said = convert(&site, checkpoint, more).bad(1, &words);
        assert!(!said.stderr.contains("out.safetensors"), "{}", said.stderr);
        for inner in ["burn", "store", "Suggestions", "candle", "serde"] {
            assert!(!said.stderr.contains(inner), "{}", said.stderr);
        }
    }
}

#[test]
fn field_f10_a_checkpoint_full_of_objects_is_converted() {
    let site = Site::new();
    for checkpoint in ["objects2.pth", "objects4.pth", "module.pt"] {
        convert(&site, checkpoint, "--size 32 --backbone").good();
    }
}

/// Probes a converted encoder: its scores do not change with the size in the config, but with the mean, the filter
/// and the size of the encoder.
#[test]
fn field_f12_what_convert_records_is_what_probe_uses() {
    let site = Site::new();
    let data = site.folder("d", &["ant", "bee", "cat"], [8, 8]);
    let line = format!(
        "data = {{ kind = \"folder\", path = \"{}\", size = 32, eval = \"all\" }}",
        data.display()
    );
    let config = site.config("t.toml", &line);
    let probe = |more: &str| {
        let said = site
            .run(&format!("probe --encoder out.safetensors {} --out r {more}", config.display()))
            .good();
        (site.json("r/foreign.json")["probes"].clone(), said.stderr)
    };
    convert(&site, "pooled.pth", "--size 32").good();
    let (plain, said) = probe("");
    assert!(!said.contains("prepared as the encoder file records"), "{said}");
    let (same, said) = probe("--set data.size=48");
    assert_eq!(plain, same);
    assert!(said.contains("32 px, bilinear") && said.contains("data.size = 48"), "{said}");
    for more in [
        "--size 32 --mean 0.4914,0.4822,0.4465 --std 0.247,0.243,0.261",
        "--size 64 --interpolation bicubic",
        "--size 24",
    ] {
        convert(&site, "pooled.pth", more).good();
        let (other, said) = probe("");
        assert!(said.contains("prepared as the encoder file records"), "{said}");
        assert_ne!(plain, other, "{more}");
        assert_eq!(
            site.json("r/foreign.json")["header"]["preprocessing"],
            header(&site)["preprocessing"]
        );
    }
    for (more, words) in [
        ("--size 0", ["--size 0", "8 to 1024"]),
        ("--size 32 --mean 123.675,116.28,103.53 --std 0.2,0.2,0.2", ["--mean 123.675", "by 255"]),
        ("--size 32 --mean 0.5,0.5,0.5 --std 58.395,57.12,57.375", ["--std 58.395", "by 255"]),
        ("--size 32 --mean 0.5,0.5,0.5 --std 0,1,1", ["--std 0", "above 0"]),
    ] {
        convert(&site, "pooled.pth", more).bad(2, &words);
    }
}
