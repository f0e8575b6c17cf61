//! Encoders through the binary: `convert` and `probe --encoder`. Also help, completions and manual pages.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{Lab, stderr};
use serde_json::Value;

fn binary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssl-backdoor")).args(arguments).output().unwrap()
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_encoder_of_a_run_probed_as_a_foreign_one_has_the_figures_of_the_run() {
    let lab = Lab::new();
    let run = lab.run("run", &[]);
    assert!(run.status.success(), "{}", stderr(&run));
    let (own, out) =
        (text(lab.path("run/backdoored/encoder.safetensors")), text(lab.path("out.safetensors")));
    let convert = binary(&["convert", &own, &out]);
    assert!(convert.status.success(), "{}", stderr(&convert));
    let config = text(lab.path("tiny.toml"));
    let foreign = |more: &[&str]| {
        let scores = text(lab.path("foreign"));
        binary(&[&["probe", "--encoder", &out, &config, "--out", &scores], more].concat())
    };
    let probe = foreign(&["--set", "probe.curve_every=0", "--set", "tensorboard=true"]);
    assert!(probe.status.success(), "{}", stderr(&probe));
    let table = String::from_utf8(probe.stdout).unwrap();
    assert!(table.contains("| untrained |") && table.contains("| encoder |"), "{table}");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(lab.path(name)).unwrap()).unwrap()
    };
    let (of_run, of_probe) = (read("run/scores.json"), read("foreign/foreign.json"));
    let models = &of_probe["probes"][0]["models"];
    assert_eq!(models["encoder"], of_run["models"]["backdoored"]);
    assert_eq!(models["untrained"], of_run["models"]["untrained"]);
    assert!(of_probe["file_hash"].is_string() && of_probe["header"]["preprocessing"]["size"] == 16);

    // `list` shows it beside the runs, with the accuracy of the encoder.
    let listed = binary(&["list", &text(lab.path("")), "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let rows = listed["runs"].as_array().unwrap();
    let row = rows.iter().find(|row| row["method"] == "probe").unwrap();
    assert_eq!(row["folder"], text(lab.path("foreign")));
    assert_eq!(row["clean_acc"], models["encoder"]["clean"]["acc"]);
    assert_eq!((rows.len(), &row["state"]), (2, &"done".into()));

    // Images are prepared as the encoder file records, whatever the config says.
    let other = foreign(&["--set", "data.size=24", "--set", "probe.curve_every=0"]);
    let said = stderr(&other);
    assert!(other.status.success() && said.contains("data.size = 24"), "{said}");
    assert!(said.contains("16 px, bilinear"), "{said}");
    assert_eq!(read("foreign/foreign.json")["probes"], of_probe["probes"]);
    let paper = foreign(&["--set", "probe.protocol=paper"]);
    assert_eq!(paper.status.code(), Some(2), "{}", stderr(&paper));
}

#[test]
fn all_networks_of_a_training_go_into_one_file() {
    let lab = Lab::new();
    for (method, encoder, head, prefix) in [
        ("moco-v2", None, "query.head", "query.encoder."),
        ("byol", None, "predictor", "online.encoder."),
        ("mae", Some("{kind=\"vit\", dim=8, depth=1, heads=2, patch=4}"), "decoder", "encoder."),
        ("deepcluster-v2", None, "banks.1", "network.encoder."),
    ] {
        let own = match method {
            "moco-v2" => ", queue=256",
            "deepcluster-v2" => ", prototypes=[5, 4], hidden=8, dim=4, small=1",
            _ => "",
        };
        let mut sets = vec![format!("pretrain.method={{kind=\"{method}\"{own}}}")];
        sets.extend(encoder.map(|encoder| format!("pretrain.encoder={encoder}")));
        sets.extend(
            ["pretrain.epochs=1", "data.per_class=4", "probe.curve_every=0"].map(String::from),
        );
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let run = lab.command(method, &sets).args(["--until", "twin"]).output().unwrap();
        assert!(run.status.success(), "{}", stderr(&run));
        let (model, out) =
            (text(lab.path(method).join("clean")), text(lab.path("whole.safetensors")));
        let convert = binary(&["convert", &model, &out]);
        assert!(convert.status.success(), "{method}: {}", stderr(&convert));
        let said = String::from_utf8(convert.stdout).unwrap();
        assert!(said.contains(&format!("taken from     {prefix}*")), "{method}: {said}");
        // The file contains the run's encoder, and the heads as well.
        let bytes = std::fs::read(&out).unwrap();
        let names = String::from_utf8_lossy(&bytes[8..bytes.len().min(60_000)]).into_owned();
        assert!(names.contains(head), "{method}: {names}");
        let own = text(lab.path(method).join("clean/encoder.safetensors"));
        let plain = |input: &str, to: &str| {
            let to = text(lab.path(to));
            let convert = binary(&["convert", input, &to, "--backbone"]);
            assert!(convert.status.success(), "{}", stderr(&convert));
            std::fs::read(to).unwrap()
        };
        assert!(plain(&model, "a.safetensors") == plain(&own, "b.safetensors"), "{method}");
    }
}

#[test]
fn a_checkpoint_that_says_nothing_of_its_images_is_converted_first() {
    let lab = Lab::new();
    let fixture = format!("{}/crates/model/tests/fixtures/", env!("CARGO_MANIFEST_DIR"));
    let (timm, out) = (fixture.clone() + "timm.safetensors", text(lab.path("timm.safetensors")));
    let config = text(lab.path("tiny.toml"));
    let refused = binary(&["probe", "--encoder", &timm, &config]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("ssl-backdoor convert"), "{}", stderr(&refused));
    let convert = binary(&[
        "convert",
        &timm,
        &out,
        "--heads",
        "2",
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "1,1,1",
    ]);
    assert!(convert.status.success(), "{}", stderr(&convert));
    let said = String::from_utf8(convert.stdout).unwrap();
    assert!(
        said.contains("mean [0.5, 0.5, 0.5]") && said.contains("not in the checkpoint"),
        "{said}"
    );

    let moco = fixture + "moco.pth.tar";
    for (arguments, status, word) in [
        (vec!["convert", &moco, "out.pth"], 2, ".safetensors"),
        (vec!["convert", &timm, &timm, "--heads", "2"], 2, "same file"),
        (vec!["convert", &moco, &out], 1, "--size"),
        (
            vec!["convert", &moco, &out, "--size", "32", "--prefix", "other."],
            1,
            "state_dict.module.encoder_q.",
        ),
        (vec!["convert", "absent.pth", &out], 2, "absent.pth"),
        (vec!["convert", &moco, &out, "--mean", "0.5,0.5"], 2, "three numbers"),
    ] {
        let run = binary(&arguments);
        assert_eq!(run.status.code(), Some(status), "{arguments:?}: {}", stderr(&run));
        assert!(stderr(&run).contains(word), "{arguments:?}: {}", stderr(&run));
    }
}

#[test]
fn every_command_teaches_by_an_example_and_shells_are_told() {
    let help = String::from_utf8(binary(&["--help"]).stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|c| *c != "help")
        .collect();
    assert_eq!(commands.len(), 15, "{commands:?}");
    for command in &commands {
        let help = String::from_utf8(binary(&[command, "--help"]).stdout).unwrap();
        assert!(help.contains(&format!("  ssl-backdoor {command}")), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(binary(&["completions", shell]).stdout).unwrap();
        assert!(
            script.contains("sweep") && script.contains("--encoder") || script.contains("encoder"),
            "{shell}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(binary(&["man", folder.path().to_str().unwrap()]).status.success());
    assert!(
        folder.path().join("ssl-backdoor.1").exists()
            && folder.path().join("ssl-backdoor-run.1").exists()
    );
}

#[test]
fn a_regnet_is_trained_probed_at_a_stage_and_converted() {
    let lab = Lab::new();
    let encoder =
        |size: &str| format!("pretrain.encoder={{kind=\"regnet-y\", stem=\"small\", size={size}}}");
    let custom = encoder("{custom={depths=[1,1,1,1], widths=[8,8,16,24], group=8}}");
    let small = [custom.as_str(), "pretrain.epochs=1", "data.per_class=4"];
    let sets = [&small[..], &["probe.stage=3", "probe.curve_every=0", "probe.labels=[1.0]"]];
    let run = lab.run("run", &sets.concat());
    assert!(run.status.success(), "{}", stderr(&run));
    let config = std::fs::read_to_string(lab.path("run/config.toml")).unwrap();
    assert!(config.contains("kind = \"regnet-y\"\nstem = \"small\""), "{config}");
    let scores = std::fs::read_to_string(lab.path("run/scores.json")).unwrap();
    assert!(scores.contains("stage 3"), "{scores}");
    // The training's networks are named by their fields; the encoder file has torchvision's names.
    for input in ["run/clean/encoder.safetensors", "run/clean"] {
        let (input, out) = (text(lab.path(input)), text(lab.path("out.safetensors")));
        let convert = binary(&["convert", &input, &out, "--backbone"]);
        assert!(convert.status.success(), "{}", stderr(&convert));
        let own = std::fs::read(lab.path("run/clean/encoder.safetensors")).unwrap();
        assert_eq!(std::fs::read(out).unwrap(), own);
        let name = "trunk_output.block1.block1-0.f.se.fc1.weight";
        assert!(String::from_utf8_lossy(&own).contains(name));
    }
    let wide = encoder("{custom={depths=[1,1,1,1], widths=[8,8,20,24], group=8}}");
    for (set, words) in [
        (wide.as_str(), "pretrain.encoder.size.custom.group = 8 is out of range"),
        (encoder("\"500mf\"").as_str(), "allowed are \"400mf\", \"800mf\""),
        ("probe.stage=6", "allowed are 1 to 5"),
        ("pretrain.method={kind=\"mae\"}", "MAE masks patches"),
    ] {
        let refused = lab.run("refused", &[&small[..], &[set]].concat());
        let said = stderr(&refused);
        assert!(refused.status.code() == Some(2) && said.contains(words), "{set}: {said}");
    }
}

#[test]
fn a_checkpoint_of_swav_is_converted_without_its_head_and_prototypes() {
    let lab = Lab::new();
    let fixture = |name: &str| {
        format!("{}/crates/model/tests/fixtures/encoders/{name}", env!("CARGO_MANIFEST_DIR"))
    };
    let out = text(lab.path("out.safetensors"));
    let convert = |name: &str, more: &[&str]| {
        let input = fixture(name);
        let run =
            binary(&[&["convert", &input, &out, "--backbone", "--size", "48"], more].concat());
        assert!(run.status.success(), "{}", stderr(&run));
        String::from_utf8(run.stdout).unwrap()
    };
    let said = convert("swav.pth.tar", &[]);
    assert!(said.contains("taken from     state_dict.module.*"), "{said}");
    assert!(said.contains("left out       ") && said.contains("projection_head.0.bias"), "{said}");
    let said = convert("seer.torch", &[]);
    assert!(
        said.contains("(assumed: as torchvision's and SEER's); --stem-stride overrides"),
        "{said}"
    );
    let said = convert("dino_positions.pth", &["--heads", "2"]);
    assert!(said.contains("positions      of 4x4 patches, interpolated to 6x6 (given"), "{said}");
}

#[test]
fn a_conv4_is_trained_probed_at_a_stage_and_converted() {
    let lab = Lab::new();
    let small =
        ["pretrain.encoder={kind=\"conv4\", width=8}", "pretrain.epochs=1", "data.per_class=4"];
    let sets = [&small[..], &["probe.stage=3", "probe.curve_every=0", "probe.labels=[1.0]"]];
    let run = lab.run("run", &sets.concat());
    assert!(run.status.success(), "{}", stderr(&run));
    let config = std::fs::read_to_string(lab.path("run/config.toml")).unwrap();
    assert!(config.contains("kind = \"conv4\"\nwidth = 8"), "{config}");
    let scores = std::fs::read_to_string(lab.path("run/scores.json")).unwrap();
    assert!(scores.contains("stage 3"), "{scores}");
    for input in ["run/clean/encoder.safetensors", "run/clean"] {
        let (input, out) = (text(lab.path(input)), text(lab.path("out.safetensors")));
        let convert = binary(&["convert", &input, &out, "--backbone"]);
        assert!(convert.status.success(), "{}", stderr(&convert));
        let said = String::from_utf8(convert.stdout).unwrap();
        assert!(said.contains("{\"kind\":\"conv4\",\"width\":8}"), "{said}");
        assert_eq!(
            std::fs::read(out).unwrap(),
            std::fs::read(lab.path("run/clean/encoder.safetensors")).unwrap()
        );
    }
    for (set, words) in [
        ("pretrain.encoder.width=0", "pretrain.encoder.width = 0 is out of range: allowed are 1"),
        ("pretrain.encoder.widht=8", "unknown key, did you mean width?"),
        ("data.size=12", "pretrain.encoder.kind = conv4 is out of range"),
        ("probe.stage=5", "allowed are 1 to 4"),
        ("pretrain.method={kind=\"mae\"}", "MAE masks patches"),
    ] {
        let refused = lab.run("refused", &[&small[..], &[set]].concat());
        let said = stderr(&refused);
        assert!(refused.status.code() == Some(2) && said.contains(words), "{set}: {said}");
    }
}
