//! A whole run, and every config in the repository.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::path::{Path, PathBuf};

use common::{Lab, assert_same, stderr};
use serde_json::Value;
use ssl_backdoor::{Experiment, read_sweep};
use ssl_backdoor_ssl::{
    ByolConfig, MethodConfig, MocoConfig, MsfConfig, PretrainConfig, TrainConfig,
};

fn read(lab: &Lab, file: &str) -> String {
    std::fs::read_to_string(lab.path("run").join(file)).unwrap()
}

fn json(lab: &Lab, file: &str) -> Value {
    serde_json::from_str(&read(lab, file)).unwrap()
}

#[test]
fn a_run_writes_everything_that_the_design_promises() {
    let lab = Lab::new();
    let run = lab.run("run", &[]);
    assert!(run.status.success(), "{}", stderr(&run));
    let table = String::from_utf8(run.stdout).unwrap();
    for word in ["untrained encoder", "clean twin", "backdoored model", "Net ASR", "report.html"] {
        assert!(table.contains(word), "{table}");
    }
    assert_scores(&json(&lab, "scores.json"));
    // With `--json`, the same command prints only the scores.
    let again = lab.command("run", &[]).arg("--json").output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), read(&lab, "scores.json"));
    assert_files(&lab);
    assert_report(&read(&lab, "report.html"));
    // 50 clean images and as many patched ones; 45 of them are of other classes.
    assert_eq!(json(&lab, "maps.json")["clean"]["points"].as_array().unwrap().len(), 100);
}

fn assert_scores(scores: &Value) {
    for model in ["untrained", "clean", "backdoored"] {
        for images in ["clean", "patched"] {
            let cell = &scores["models"][model][images];
            for key in ["acc", "fp", "asr", "asr_all"] {
                assert!(cell[key].is_number(), "{model} {images} {key}");
            }
            let [low, acc, high] =
                [&cell["acc_ci"][0], &cell["acc"], &cell["acc_ci"][1]].map(|v| v.as_f64().unwrap());
            assert!(low <= acc && acc <= high);
        }
    }
    assert_eq!(scores["poison"]["count"], 16);
    assert_eq!(scores["eval"], "dev");
    // Where patched images go: the net flow to the target is the net ASR.
    assert_eq!(scores["flow"]["net"].as_array().unwrap().len(), 10);
    assert_eq!(scores["flow"]["net"][3], scores["net_asr"]);
    assert_eq!(scores["class_names"][3], "table");
    assert_eq!(scores["made_by"].as_array().unwrap().len(), 1);
    assert!(scores["gathered"]["backdoored"].is_number() && scores["raw_pixels"].is_number());
    let shares = scores["trigger_size"]["by_views"].as_array().unwrap();
    assert!((shares.iter().map(|v| v.as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(scores["net_asr_ci"][1].as_f64().unwrap() >= scores["net_asr"].as_f64().unwrap());
}

/// The ledger, the manifest, the features and the config of the run.
fn assert_files(lab: &Lab) {
    let ledger = read(lab, "poison.csv");
    assert!(
        ledger.starts_with("# rate = 0.5  # share of the target class\n# dataset_rate = 0.05  #")
    );
    assert_eq!(ledger.lines().filter(|line| !line.starts_with('#')).count(), 1 + 16);

    let manifest = json(lab, "manifest.json");
    // poison, trigger size, two pretrainings, floor, features of three models, probe, maps, report
    assert_eq!(manifest["stages"].as_object().unwrap().len(), 11);
    for model in ["untrained", "clean", "backdoored"] {
        for (set, images) in [("labelled", 160), ("clean", 50), ("patched", 50)] {
            let file = lab.path(&format!("run/{model}/features/{set}.safetensors"));
            let features = ssl_backdoor_probe::Features::read(&file).unwrap();
            assert_eq!((features.labels.len(), features.dim), (images, 32), "{model} {set}");
        }
    }
    let resolved = Experiment::read(&lab.path("run/config.toml"), &[]).unwrap();
    assert_eq!(resolved, Experiment::read(&lab.path("tiny.toml"), &[]).unwrap());
}

fn assert_report(html: &str) {
    assert!(html.matches("<svg").count() == 6 && html.matches("data:image/png").count() == 3);
    assert!(
        html.contains("kind = &quot;moco-v2&quot;") || html.contains("kind = &#34;moco-v2&#34;")
    );
    assert!(html.contains("Net flow of patched images") && html.contains("of a view"));
    // Each chart describes what it shows and, except for the two feature maps, comes with its figures.
    for words in [
        "<svg role=\"img\" aria-label=\"Attack success rate. clean twin, clean images: ",
        " steps: clean twin from ",
        "aria-label=\"Net flow of patched dev images during training, in points. to ",
        "aria-label=\"Features of 50 clean images by class and of 50 patched images",
    ] {
        assert!(html.contains(words), "{words}");
    }
    assert_eq!(html.matches("aria-label=").count(), 6);
    assert_eq!(html.matches("<summary>Figures</summary>").count(), 4);
    assert!(html.contains("Most of the ten nearest clean images"));
    for link in ["<script", "<link", "@import", "src=\"http", "href=\"http", "url(http"] {
        assert!(!html.contains(link), "the report wants something from elsewhere: {link}");
    }
    for line in html.lines().filter(|line| !line.contains("base64")) {
        assert!(!line.contains("NaN") && !line.contains(">inf"), "{line}");
    }
}

#[test]
fn a_defence_adds_a_student_to_the_scores_and_the_report() {
    let lab = Lab::new();
    let defend = "defend={kind=\"compress\", clean=[0.5], steps=20, batch=16, \
                  controls=[\"fine-tune\", \"scratch\", \"distil-clean\"], poisoned=[0.05]}";
    let run = lab.run("run", &[defend]);
    assert!(run.status.success(), "{}", stderr(&run));
    let read = |name: &str| std::fs::read_to_string(lab.path("run").join(name)).unwrap();
    let scores: Value = serde_json::from_str(&read("scores.json")).unwrap();
    assert!(scores["models"]["distilled-0.5"]["patched"]["asr"].is_number());
    assert!(read("report.md").contains("| distilled-0.5 |"));
    // Twenty steps of 16 on 160 clean images: two epochs for each model.
    for control in
        ["fine-tuned-0.5", "scratch-0.5", "clean-teacher-0.5", "distilled-0.5-poisoned-0.05"]
    {
        assert!(scores["models"][control]["patched"]["asr"].is_number(), "{control}");
        assert_eq!(read(&format!("{control}/metrics.jsonl")).lines().count(), 2, "{control}");
    }
    let same = |a: &str, b: &str| {
        let bytes =
            |m: &str| std::fs::read(lab.path(&format!("run/{m}/encoder.safetensors"))).unwrap();
        bytes(a) == bytes(b)
    };
    assert!(!same("fine-tuned-0.5", "scratch-0.5"), "fine-tuning starts from the backdoored model");
    assert!(!same("distilled-0.5", "clean-teacher-0.5"));
    assert!(!same("distilled-0.5", "distilled-0.5-poisoned-0.05"));
    assert!(lab.path("run/distilled-0.5/probe.safetensors").exists());
    assert_eq!(read("distilled-0.5/metrics.jsonl").lines().count(), 2);

    let wrong = lab.run("run", &["defend={kind=\"compress\", clean=[0.01], batch=16}"]);
    assert_eq!(wrong.status.code(), Some(2));
    let many =
        lab.run("run", &["defend={kind=\"compress\", clean=[0.5], batch=16, poisoned=[0.5]}"]);
    assert_eq!(many.status.code(), Some(2));
    assert!(stderr(&many).contains("80 poisoned images: the attacker has 16"), "{}", stderr(&many));
    assert!(stderr(&wrong).contains("defend.batch = 16"), "{}", stderr(&wrong));
}

#[test]
fn until_stops_early() {
    let lab = Lab::new();
    let run = lab.command("run", &[]).args(["--until", "poison"]).output().unwrap();
    assert!(run.status.success());
    assert!(lab.path("run/poison.csv").exists() && !lab.path("run/clean").exists());
}

fn configs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            configs(&path, found);
        } else if path.extension().is_some_and(|e| e == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_config_parses_and_says_how_to_run_it() {
    let mut found = Vec::new();
    configs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"), &mut found);
    assert!(found.len() >= 2, "{found:?}");
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let verb = if text.contains("[[axis]]") {
            assert!(read_sweep(&path).unwrap_or_else(|e| panic!("{e}")).len() > 1);
            "sweep"
        } else {
            Experiment::read(&path, &[]).unwrap_or_else(|e| panic!("{e}"));
            "run"
        };
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
        let command = format!("cargo run --release -- {verb} {}", name.display());
        assert!(text.starts_with('#') && text.contains(&command), "{}", path.display());
    }
}

/// The configs at the paper's scale spell out the protocol; a config without these keys gets the same settings.
#[test]
fn what_the_paper_used_is_the_default() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/imagenet100");
    let mut found = Vec::new();
    configs(&folder, &mut found);
    // The configs of other methods state how they differ from their own papers.
    let of_paper = ["moco-v2", "byol", "msf", "jigsaw", "rotnet", "mae"];
    found.retain(|path| of_paper.iter().any(|name| path.ends_with(format!("{name}.toml"))));
    assert_eq!(found.len(), of_paper.len());
    for path in found {
        let spelt = Experiment::read(&path, &[]).unwrap().pretrain;
        let mut table: toml::Table =
            toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let pretrain = table["pretrain"].as_table_mut().unwrap();
        pretrain.retain(|key, _| ["method", "encoder", "epochs"].contains(&key));
        pretrain["method"].as_table_mut().unwrap().retain(|key, _| key == "kind");
        let silent: Experiment = table.try_into().unwrap();
        let silent = silent.pretrain;
        let name = path.display();
        let rest = |config: &PretrainConfig| {
            let groups = config.method.settings().bn_groups(config.train.batch);
            let TrainConfig { batch, lr, weight_decay, decayed, optimizer, schedule, .. } =
                config.train.clone();
            let TrainConfig { crop, drop_last, .. } = config.train;
            (batch, lr, weight_decay, decayed, optimizer, schedule, crop, drop_last, groups)
        };
        assert_eq!(rest(&spelt), rest(&silent), "{name}");
        // If absent, groups follow the batch (compared above), and MSF's widths follow the encoder.
        let method = match (&spelt.method, silent.method) {
            (MethodConfig::MocoV2(spelt), MethodConfig::MocoV2(silent)) => {
                MethodConfig::MocoV2(MocoConfig { bn_groups: spelt.bn_groups, ..silent })
            }
            (MethodConfig::Byol(spelt), MethodConfig::Byol(silent)) => {
                MethodConfig::Byol(ByolConfig { bn_groups: spelt.bn_groups, ..silent })
            }
            (MethodConfig::Msf(spelt), MethodConfig::Msf(silent)) => {
                let (hidden, dim) = (Some(1024), Some(128));
                MethodConfig::Msf(MsfConfig { bn_groups: spelt.bn_groups, hidden, dim, ..silent })
            }
            (_, silent) => silent,
        };
        assert_eq!(spelt.method, method, "{name}");
    }
}

/// Writes 48 photographs for training, 12 for evaluation, a corrupt one, and a list of labelled ones.
fn write_photographs(lab: &Lab) {
    let photo = |seed: u32| {
        image::RgbImage::from_fn(40, 30, |x, y| {
            image::Rgb([0, 1, 2].map(|c| (x * (seed % 7 + 1) + y * (c + 2) + seed * 31) as u8))
        })
    };
    let mut list = String::new();
    for (part, count) in [("train", 24), ("val", 6)] {
        for (label, class) in ["ant", "bee"].iter().enumerate() {
            let folder = lab.path(&format!("set/{part}/{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let path = folder.join(format!("{i}.png"));
                photo(i + 100 * label as u32).save(&path).unwrap();
                if part == "train" && i < 8 {
                    list += &format!("{} {label}\n", path.display());
                }
            }
        }
    }
    std::fs::write(lab.path("set/train/ant/bad.jpg"), "no image").unwrap();
    std::fs::write(lab.path("labels.txt"), list).unwrap();
}

/// Makes the tiny config train on these photographs.
fn use_photographs(lab: &Lab) {
    let text = std::fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let text: String = text
        .replace("target = 3\nrate = 0.5", "dataset_rate = 0.25")
        .replace("kind = \"shapes\"", "kind = \"folder\"\non_corrupt = \"skip\"")
        .replace(
            "per_class = 32\neval_per_class = 5",
            "path = \"SET\"\ncache = \"CACHE\"\neval = \"all\"",
        )
        .replace("SET", lab.path("set").to_str().unwrap())
        .replace("CACHE", lab.path("cache").to_str().unwrap())
        .replace("labels = [0.5]", &format!("labels = \"{}\"", lab.path("labels.txt").display()));
    std::fs::write(lab.path("tiny.toml"), text).unwrap();
}

/// A folder of photographs with a corrupt one, a packed cache, an untargeted attack and listed labels:
/// the scores of an untargeted run, the visibility of the trigger, and the same bytes for 1 worker and 8.
#[test]
fn a_folder_of_photographs_runs_too() {
    let lab = Lab::new();
    write_photographs(&lab);
    use_photographs(&lab);
    for (out, workers) in [("one", "workers=1"), ("eight", "workers=8")] {
        let output = lab.command(out, &[workers]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("left out:") && told.contains("bad.jpg"), "{told}");
    }
    assert_same(&lab.bytes("one"), &lab.bytes("eight"));
    let scores = std::fs::read_to_string(lab.path("one/scores.json")).unwrap();
    let scores: Value = serde_json::from_str(&scores).unwrap();
    assert!(
        scores["target"].is_null()
            && scores["net_asr"].is_null()
            && scores["poison"]["rate"].is_null()
    );
    assert!(scores["models"]["backdoored"]["patched"]["asr"].is_null());
    assert!(scores["patched_drop"].is_number() && scores["patched_drop_ci"][1].is_number());
    assert_eq!((&scores["images"], &scores["poison"]["count"]), (&12.into(), &12.into()));
    let metrics = std::fs::read_to_string(lab.path("one/backdoored/metrics.jsonl")).unwrap();
    for line in metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let counts: Vec<u64> =
            line["trigger_views"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        // Counts for 0, 1 and 2 views; every poisoned image of the epoch's whole batches, 12 of 48.
        assert!(counts.len() == 3 && counts.iter().sum::<u64>() == 12, "{counts:?}");
        assert!(line["trigger_visible"].as_f64().unwrap() > 0.0);
    }
    assert!(
        !std::fs::read_to_string(lab.path("one/clean/metrics.jsonl")).unwrap().contains("trigger")
    );
    let report = std::fs::read_to_string(lab.path("one/report.md")).unwrap();
    assert!(
        report.contains("Patched drop (accuracy")
            && report.contains("% of the poisoned images, in 1 view of"),
        "{report}"
    );
}
