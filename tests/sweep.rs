//! A sweep with the real binary: shared twins, resume, failures, kept figures.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Lab, ask_to_end, stderr, until};
use serde_json::Value;

fn sweep(lab: &Lab, file: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    command.arg("sweep").arg(lab.path(file)).args(more).output().unwrap()
}

fn report(lab: &Lab, runs: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    command.arg("report").args(runs.iter().map(|run| lab.path(run))).output().unwrap()
}

/// Runs of the tiny experiment, one for each of `targets`.
fn write(lab: &Lab, name: &str, targets: &str) {
    let text = format!(
        r#"name = "s"
base = "tiny.toml"
out = "{out}"
results = "{results}"
set = {{ "probe.curve_every" = 0, "pretrain.epochs" = 1 }}
[[axis]]
name = "target"
key = "poison.target"
values = {targets}
"#,
        out = lab.path("runs").display(),
        results = lab.path("results").display(),
    );
    std::fs::write(lab.path(name), text).unwrap();
}

fn scores(lab: &Lab, run: &str) -> Value {
    let path = lab.path("results").join(run).join("scores.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn runs_share_a_twin_and_a_second_sweep_only_does_what_is_new() {
    let lab = Lab::new();
    write(&lab, "s.toml", "[3, 5]");
    let dry = sweep(&lab, "s.toml", &["--dry-run"]);
    let text = String::from_utf8(dry.stdout.clone()).unwrap();
    assert!(dry.status.success(), "{}", stderr(&dry));
    assert!(text.contains("2 runs, 1 clean twin.") && text.contains("| moco-v2 | 3 |"), "{text}");
    // Trainings of a defence count too: two students and a control on half of 320 images, 40 steps each.
    let defend = "defend={kind=\"compress\", clean=[0.5], steps=40, batch=16, controls=[\"scratch\"], poisoned=[0.1]}";
    let dry = sweep(&lab, "s.toml", &["--dry-run", "--set", defend]);
    let text = String::from_utf8(dry.stdout).unwrap();
    for row in ["| moco-v2: student | 4 | 40 |", "| moco-v2: control | 2 | 40 |"] {
        assert!(text.contains(row), "{row}: {text}");
    }
    let dry = sweep(&lab, "s.toml", &["--dry-run", "--json", "--set", defend]);
    let plan: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&plan["runs"], &plan["twins"]), (&2.into(), &1.into()));
    let rows = plan["trainings"].as_array().unwrap();
    let of = |name: &str| &rows.iter().find(|row| row["name"] == name).unwrap()["trainings"];
    assert_eq!((of("moco-v2"), of("moco-v2: student")), (&3.into(), &4.into()));
    let seconds = |row: &Value| {
        let [all, images, rate] = ["trainings", "images", "images_per_second"].map(|key| &row[key]);
        all.as_f64().unwrap() * images.as_f64().unwrap() / rate.as_f64().unwrap()
    };
    let hours: f64 = rows.iter().map(seconds).sum::<f64>() / 3600.0;
    assert!((plan["hours"].as_f64().unwrap() / hours - 1.0).abs() < 1e-9);
    assert!(!lab.path("runs").exists(), "a dry run writes nothing");

    // Two devices, a process on each.
    let run = sweep(&lab, "s.toml", &["--devices", "flex,flex"]);
    assert!(run.status.success(), "{}", stderr(&run));
    let absent = sweep(&lab, "s.toml", &["--devices", "flex,tpu"]);
    assert_eq!(absent.status.code(), Some(2), "{}", stderr(&absent));
    let twins: Vec<_> = std::fs::read_dir(lab.path("runs/twins")).unwrap().collect();
    assert_eq!(twins.len(), 1);
    assert!(!lab.path("runs/target-3/clean/encoder.safetensors").exists());
    let [three, five] = [scores(&lab, "target-3"), scores(&lab, "target-5")];
    assert_eq!((&three["target"], &five["target"]), (&3.into(), &5.into()));
    // The shared twin is scored with each run's own trigger spots and target.
    let acc = |s: &Value| s["models"]["clean"]["clean"]["acc"].clone();
    assert_eq!(acc(&three), acc(&five));

    assert_report(&lab, &three);

    assert_refused(&lab);

    // The figures alone are enough: the run folders may be deleted.
    std::fs::remove_dir_all(lab.path("runs")).unwrap();
    write(&lab, "s.toml", "[3, 5, 7]");
    let dry = String::from_utf8(sweep(&lab, "s.toml", &["--dry-run"]).stdout).unwrap();
    assert!(dry.contains("Left to do: 1 run, 1 clean twin.") && dry.contains("| moco-v2 | 2 |"));
    let run = sweep(&lab, "s.toml", &[]);
    let said = stderr(&run);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("target-3: done already") && said.contains("1 of 3 runs"), "{said}");
    assert!(!lab.path("runs/target-3").exists());
    assert_eq!(acc(&scores(&lab, "target-7")), acc(&three));
    let dry = String::from_utf8(sweep(&lab, "s.toml", &["--dry-run"]).stdout).unwrap();
    assert!(dry.contains("Nothing is left to train.") && !dry.contains("| training |"), "{dry}");
}

/// What is not the figures of a run is not taken for them: scores of other settings, and a run whose config is broken.
fn assert_refused(lab: &Lab) {
    // Scores of other settings do not pass for those of runs that have not begun. The scored images do not change the twin.
    let other = ["--set", "data.eval=test", "--set", "probe.labels=[1e-9]"];
    assert!(!sweep(lab, "s.toml", &other).status.success());
    let status =
        String::from_utf8(sweep(lab, "s.toml", &[&other[..], &["--status"]].concat()).stdout);
    let status = status.unwrap();
    assert!(
        status.contains("2 runs: 2 unfinished") && status.contains("1 clean twin: 1 done"),
        "{status}"
    );
    assert_eq!(std::fs::read_dir(lab.path("runs/twins")).unwrap().count(), 1);

    // A run whose config cannot be read is not taken for one of the paper's attack.
    let config = lab.path("results/target-3/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("rate", "rat")).unwrap();
    let broken = report(lab, &["results"]);
    assert!(
        !broken.status.success() && stderr(&broken).contains("target-3 is unknown"),
        "{}",
        stderr(&broken)
    );
    std::fs::write(&config, text).unwrap();
}

/// Checks the report over both: one setting, two runs, the published row beside it, a link to each manifest. `three`
/// are the scores of the run with target 3.
fn assert_report(lab: &Lab, three: &Value) {
    let report = report(lab, &["results"]);
    let text = String::from_utf8(report.stdout.clone()).unwrap();
    assert!(report.status.success(), "{}", stderr(&report));
    for words in
        ["Runs: 2, settings: 1.", "| moco-v2, shapes, 20 steps |", "/ 9.3", "±", "| Verdict |"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let figures = figures_as_json(lab);
    let setting = &figures["settings"][0];
    assert_eq!((&setting["method"], &setting["victims"]), (&"moco-v2".into(), &2.into()));
    assert_eq!(
        setting["models"]["clean"]["clean"]["acc"]["value"],
        three["models"]["clean"]["clean"]["acc"]
    );
    let net = &setting["net_asr"];
    let [low, high] = [0, 1].map(|end| net["interval"][end].as_f64().unwrap());
    assert!((net["value"].as_f64().unwrap() - (low + high) / 2.0).abs() < 1e-9);
    for claim in figures["claims"].as_array().unwrap() {
        let width = claim["columns"].as_array().unwrap().len();
        let rows = claim["rows"].as_array().unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.as_array().unwrap().len() == width));
    }
    let hash = three["manifest_hash"].as_str().unwrap();
    assert!(text.contains(&format!("[{}](target-3/manifest.json)", &hash[..12])), "{text}");
    let csv = std::fs::read_to_string(lab.path("results/table.csv")).unwrap();
    // Two runs, three models, clean and patched.
    assert_eq!(csv.lines().count(), 1 + 2 * 3 * 2);
    let width = csv.lines().next().unwrap().split(',').count();
    assert!(
        csv.lines()
            .skip(1)
            .all(|line| line.replace("HTBA 12, 5 px", "t").split(',').count() == width)
    );
    let html = std::fs::read_to_string(lab.path("results/table.html")).unwrap();
    assert!(html.contains("<svg") && !html.contains("NaN") && !html.contains("<script"));
    // A figure links to its runs, and they to their manifests; the twin counts once.
    for words in [
        "href=\"#run-0\"",
        "<tr id=\"run-0\"",
        "href=\"target-5/manifest.json\"",
        "(3 models, 1 of them clean twins, each counted once)",
        "<td title=\"Ours: shapes, 320 images, 20 steps, poisoned ",
        " Published: ImageNet-100 ",
    ] {
        assert!(html.contains(words), "{words}");
    }
}

/// The figures of the report. They are the same without the claims.
fn figures_as_json(lab: &Lab) -> Value {
    let results = lab.path("results");
    let figures = |more: &[&str]| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
        let json = command.arg("report").arg(&results).arg("--json").args(more).output().unwrap();
        serde_json::from_slice(&json.stdout).unwrap()
    };
    let all = figures(&[]);
    assert!(!all["claims"].as_array().unwrap().is_empty());
    let without = figures(&["--no-claims"]);
    assert_eq!(
        (&without["claims"], &without["settings"]),
        (&Value::Array(Vec::new()), &all["settings"])
    );
    let text = std::fs::read_to_string(lab.path("s.toml")).unwrap();
    std::fs::write(lab.path("untested.toml"), format!("claims = false\n{text}")).unwrap();
    let collected = sweep(lab, "untested.toml", &["--collect", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&collected.stdout).unwrap(), without);
    all
}

#[test]
fn a_report_of_nothing_says_so() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("empty")).unwrap();
    let nothing = report(&lab, &["empty"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("no finished run"), "{}", stderr(&nothing));
    std::fs::write(lab.path("empty/scores.json"), "{").unwrap();
    let broken = report(&lab, &["empty"]);
    assert!(stderr(&broken).contains("scores.json is broken"), "{}", stderr(&broken));
}

#[test]
fn a_failed_run_is_told_and_the_others_go_on() {
    let lab = Lab::new();
    write(&lab, "s.toml", "[3, 5]");
    // A file where the folder of one model should be.
    std::fs::create_dir_all(lab.path("runs/target-3")).unwrap();
    std::fs::write(lab.path("runs/target-3/backdoored"), "in the way").unwrap();
    let run = sweep(&lab, "s.toml", &[]);
    let said = stderr(&run);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(
        said.contains("target-3: FAILED") && said.contains("1 of 3 trainings failed"),
        "{said}"
    );
    assert!(scores(&lab, "target-5")["net_asr"].is_number());
    assert!(!lab.path("results/target-3").exists());
    let status = String::from_utf8(sweep(&lab, "s.toml", &["--status"]).stdout).unwrap();
    assert!(status.contains("2 runs: 1 done, 1 failed"), "{status}");
}

#[test]
fn a_twin_of_other_settings_is_refused() {
    let lab = Lab::new();
    let done =
        lab.command("a", &["probe.curve_every=0"]).args(["--until", "twin"]).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let with = |out: &str, set: &str| {
        let twin = lab.path("a");
        lab.command(out, &["probe.curve_every=0", set]).arg("--twin").arg(twin).output().unwrap()
    };
    let other = with("b", "pretrain.lr=0.01");
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("other settings"), "{}", stderr(&other));
    let same = with("c", "poison.target=4");
    assert!(same.status.success(), "{}", stderr(&same));
}

/// Each attack has a clean twin of its own, measured with the same trigger.
#[test]
fn the_attack_is_measured_during_the_trainings_of_a_sweep() {
    let lab = Lab::new();
    write(&lab, "s.toml", "[3, 5]");
    let curve = ["--set", "probe.curve_every=1", "--set", "pretrain.epochs=2"];
    let run = sweep(&lab, "s.toml", &curve);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(std::fs::read_dir(lab.path("runs/twins")).unwrap().count(), 2);
    for name in ["target-3", "target-5"] {
        let scores = scores(&lab, name);
        let onset = scores["onset"].as_array().unwrap();
        let steps: Vec<&Value> = onset.iter().map(|point| &point["step"]).collect();
        assert_eq!(steps, [20, 40], "{name}");
        assert!(onset.iter().all(|point| point["net"].as_array().unwrap().len() == 10), "{name}");
    }
    let collected = sweep(&lab, "s.toml", &[&curve[..], &["--collect"]].concat());
    assert!(collected.status.success(), "{}", stderr(&collected));
    let page = std::fs::read_to_string(lab.path("results/table.html")).unwrap();
    assert!(page.contains("Net flow of patched dev images during training"));
}

/// The instruction path of a run depends on its precision.
#[test]
fn a_sweep_over_precisions_goes_on() {
    let lab = Lab::new();
    write(&lab, "s.toml", "[3]");
    let text = std::fs::read_to_string(lab.path("s.toml")).unwrap();
    let text = text.replace("poison.target", "pretrain.precision");
    std::fs::write(lab.path("s.toml"), text.replace("[3]", r#"["f32", "bf16"]"#)).unwrap();
    let run = sweep(&lab, "s.toml", &[]);
    assert!(run.status.success(), "{}", stderr(&run));
    for folder in ["results/target-bf16", "runs/target-bf16"] {
        std::fs::remove_dir_all(lab.path(folder)).unwrap();
    }
    let run = sweep(&lab, "s.toml", &[]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(scores(&lab, "target-bf16")["net_asr"].is_number());
}

/// Number of processes whose command line names the folder of `lab`.
#[cfg(target_os = "linux")]
fn at_work_in(lab: &Lab) -> usize {
    let folder = lab.path("runs").display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&folder)).count()
}

/// A sweep in the middle of its twin's training, which would take minutes.
#[cfg(target_os = "linux")]
fn at_its_twin(lab: &Lab) -> Child {
    write(lab, "s.toml", "[3, 5]");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    command.arg("sweep").arg(lab.path("s.toml")).args(["--set", "pretrain.epochs=500"]);
    let mut sweep = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The twin trains once its folder in `twins` contains a log of the steps.
    let trains = || {
        let twins = std::fs::read_dir(lab.path("runs/twins")).into_iter().flatten().flatten();
        twins.into_iter().any(|twin| twin.path().join("clean/timing.jsonl").exists())
    };
    assert!(until(&mut sweep, trains));
    assert_eq!(at_work_in(lab), 1);
    sweep
}

/// Checks that the sweep ended its process, which saved a checkpoint, and that no other process started.
#[cfg(target_os = "linux")]
fn assert_ended(lab: &Lab) {
    let twin = std::fs::read_dir(lab.path("runs/twins")).unwrap().next().unwrap().unwrap().path();
    let log = std::fs::read_to_string(twin.join("log.txt")).unwrap();
    assert!(log.contains("a checkpoint is saved"), "{log}");
    let begun = std::fs::read_dir(lab.path("runs")).unwrap().count();
    assert_eq!(at_work_in(lab), 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((at_work_in(lab), std::fs::read_dir(lab.path("runs")).unwrap().count()), (0, begun));
}

#[test]
#[cfg(target_os = "linux")]
fn a_sweep_that_is_asked_to_end_ends_its_processes_and_begins_no_more() {
    let lab = Lab::new();
    // Only the sweep gets the signal, as from a service manager.
    ask_to_end(at_its_twin(&lab), "-TERM");
    assert_ended(&lab);
}

#[test]
#[cfg(target_os = "linux")]
fn a_sweep_makes_room_for_a_scheduler_and_says_so_by_its_status() {
    let lab = Lab::new();
    let sweep = at_its_twin(&lab);
    let id = sweep.id().to_string();
    assert!(Command::new("kill").args(["-USR1", &id]).status().unwrap().success());
    let output = sweep.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_ended(&lab);
}

#[test]
fn figures_of_other_numerics_or_another_path_are_not_mixed() {
    let lab = Lab::new();
    write(&lab, "s.toml", "[3]");
    assert!(sweep(&lab, "s.toml", &[]).status.success());
    let path = lab.path("results/target-3/scores.json");
    let ours = std::fs::read_to_string(&path).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&ours).unwrap();
        change(&mut value["made_by"]);
        std::fs::write(&path, value.to_string()).unwrap();
    };
    let one = Value::from(1);
    for (change, words) in [
        (&(|by: &mut Value| by[0]["numerics"] = one.clone()) as &dyn Fn(&mut Value), "numerics 1"),
        // A record of version 0.1 does not state the numerics.
        (&|by| *by = Value::Array(Vec::new()), "numerics 1"),
        (&|by| by[0]["path"] = "abacus".into(), "abacus"),
        (
            &|by| by[0]["commit"] = "0123456789abcdef-dirty".into(),
            "commit 0123456789ab with local changes",
        ),
    ] {
        with(change);
        // With nothing left to do, nothing is mixed.
        write(&lab, "s.toml", "[3]");
        let run = sweep(&lab, "s.toml", &[]);
        assert!(run.status.success(), "{}", stderr(&run));
        write(&lab, "s.toml", "[3, 5]");
        let run = sweep(&lab, "s.toml", &[]);
        assert_eq!(run.status.code(), Some(1));
        let said = stderr(&run);
        assert!(
            said.contains("target-3 was made by another program") && said.contains(words),
            "{said}"
        );
        assert!(!lab.path("runs/target-5").exists());
    }

    // A report puts them into separate rows.
    let forged = lab.path("results/forged");
    std::fs::create_dir_all(&forged).unwrap();
    with(&|by| by[0]["numerics"] = one.clone());
    for name in ["scores.json", "manifest.json", "config.toml"] {
        std::fs::copy(lab.path("results/target-3").join(name), forged.join(name)).unwrap();
    }
    std::fs::write(&path, &ours).unwrap();
    let text = String::from_utf8(report(&lab, &["results"]).stdout).unwrap();
    assert!(text.contains("Runs: 2, settings: 2.") && text.contains("numerics 1, "), "{text}");

    // An unfinished run is refused, too.
    std::fs::remove_dir_all(lab.path("results")).unwrap();
    std::fs::remove_file(lab.path("runs/target-3/scores.json")).unwrap();
    let manifest = lab.path("runs/target-3/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let ours: Value = serde_json::from_str(&ours).unwrap();
    let ours = format!("\"numerics\": {}", ours["made_by"][0]["numerics"]);
    std::fs::write(&manifest, text.replace(&ours, "\"numerics\": 1")).unwrap();
    let refused = "target-3 was made by another program";
    assert!(stderr(&sweep(&lab, "s.toml", &[])).contains(refused));
    let dry = sweep(&lab, "s.toml", &["--dry-run"]);
    assert!(dry.status.success());
    assert!(stderr(&dry).contains(&format!("the sweep would stop here: {refused}")));

    // Other folders on the command line begin a new sweep and leave the old one as it is.
    let [out, results] = ["other", "kept"].map(|name| lab.path(name).display().to_string());
    let run = sweep(&lab, "s.toml", &["--out", &out, "--results", &results]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(lab.path("other/target-3/scores.json").exists());
    assert!(lab.path("kept/target-5/scores.json").exists() && !lab.path("results").exists());
}
