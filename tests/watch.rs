//! Progress of runs: `sweep --status`, `list`, `show` and the lines of a sweep. Also the job scripts for Slurm.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Lab, ask_to_end, stderr, until};
use serde_json::Value;

/// `ssl-backdoor ARGUMENTS`, in the folder of `lab`.
fn command(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    command.args(arguments).current_dir(lab.path(""));
    command
}

fn say(lab: &Lab, arguments: &[&str]) -> Output {
    command(lab, arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// A sweep of two runs that share a twin.
fn write(lab: &Lab) {
    let text = r#"name = "s"
base = "tiny.toml"
set = { "probe.curve_every" = 0, "pretrain.epochs" = 1 }
[[axis]]
name = "target"
key = "poison.target"
values = [3, 5]
"#;
    std::fs::write(lab.path("s.toml"), text).unwrap();
}

const STATUS: [&str; 3] = ["sweep", "s.toml", "--status"];

#[test]
fn a_sweep_tells_its_state_from_not_begun_to_done() {
    let lab = Lab::new();
    write(&lab);
    let status = |more: &[&str]| say(&lab, &[&STATUS[..], more].concat());
    let text = stdout(&status(&[]));
    assert!(text.contains("2 runs: 2 not begun") && text.contains("1 clean twin: 1 not"), "{text}");
    assert!(!lab.path("runs").exists(), "a look writes nothing");

    let long = ["--set", "pretrain.epochs=500"];
    let mut sweep = command(&lab, &[&STATUS[..2], &long].concat());
    let mut sweep = sweep.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let state = || json(&status(&[&["--json"][..], &long].concat()));
    let running = |twin: &Value| twin["state"] == "running" && twin["trainings"][0]["step"] != 0;
    assert!(until(&mut sweep, || state()["twins"][0]["trainings"][0].is_object()
        && running(&state()["twins"][0])));
    let said = stderr(&ask_to_end(sweep, "-TERM"));
    assert!(!said.contains("steps"), "a line for each training where there is no terminal: {said}");
    let state = state();
    let twin = &state["twins"][0];
    assert_eq!(
        (&twin["state"], &twin["trainings"][0]["model"]),
        (&"unfinished".into(), &"clean".into())
    );
    assert_eq!(twin["trainings"][0]["steps"], 500 * 20);
    assert_eq!(state["runs"][0]["state"], "not-begun");
    let step = twin["trainings"][0]["step"].as_u64().unwrap();
    let text = stdout(&status(&long));
    assert!(text.contains(&format!("| unfinished | clean: step {step} of 10000 |")), "{text}");

    let run = say(&lab, &STATUS[..2]);
    assert!(run.status.success(), "{}", stderr(&run));
    let lines: Vec<String> = stderr(&run).lines().map(str::to_owned).collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with('[')).count(), 3, "{lines:?}");
    let done = json(&status(&["--json"]));
    assert_eq!((&done["schema"], &done["twins"][0]["state"]), (&1.into(), &"done".into()));
    for (row, name) in done["runs"].as_array().unwrap().iter().zip(["target-3", "target-5"]) {
        let scores = std::fs::read(lab.path("runs/s").join(name).join("scores.json")).unwrap();
        let scores: Value = serde_json::from_slice(&scores).unwrap();
        assert_eq!((&row["name"], &row["state"]), (&name.into(), &"done".into()));
        assert_eq!(row["net_asr"], scores["net_asr"]);
        assert!(row["trainings"].as_array().unwrap().is_empty());
    }
    list_and_show(&lab, done["twins"][0]["name"].as_str().unwrap());
    collects(&lab);
}

/// `list` and `show` on the finished sweep with the clean twin `twin`, and on folders that do not exist.
fn list_and_show(lab: &Lab, twin: &str) {
    std::fs::create_dir(lab.path("runs/empty")).unwrap();
    let text = stdout(&say(lab, &["list"]));
    assert_eq!(text.lines().count(), 2 + 2, "{text}");
    assert!(text.contains("| s/target-3 | done  | moco-v2 |") && !text.contains("twins"), "{text}");
    let listed = json(&say(lab, &["list", "runs/s", "--json"]));
    assert_eq!(listed["runs"][1]["folder"], "runs/s/target-5");
    let shown = json(&say(lab, &["show", "s/target-5", "--json"]));
    assert_eq!(shown["run"], listed["runs"][1]);
    assert_eq!(shown["scores"]["target"], 5);
    assert!(shown["stages"].as_array().unwrap().len() > 5);
    // The images of a run may be in a folder of its name.
    std::fs::create_dir_all(lab.path("s/target-5")).unwrap();
    assert_eq!(json(&say(lab, &["show", "s/target-5", "--json"]))["run"], listed["runs"][1]);
    std::fs::remove_dir_all(lab.path("s")).unwrap();

    // The summary is the one that the run printed at its end.
    let text = stdout(&say(lab, &["show", "runs/s/target-3"]));
    let log = std::fs::read_to_string(lab.path("runs/s/target-3/log.txt")).unwrap();
    let table = log.split_once("| Model").unwrap().1.split_once("Report:").unwrap().0;
    assert!(text.contains(table) && text.contains("runs/s/target-3: done"), "{text}\n{table}");
    let text = stdout(&say(lab, &["show", &format!("s/{twin}")]));
    assert!(text.contains(": done\n"), "{text}");
    assert!(text.contains("Stages that are done: ") && text.contains("pretrain clean"), "{text}");
    assert!(!text.contains("Resume: "), "{text}");

    for (arguments, code, words) in [
        (
            &["list", "rums"][..],
            2,
            "rums: there is no such folder, did you mean runs? this folder holds runs",
        ),
        (&["list", "runs/empty"], 1, "no run in runs/empty"),
        (&["show", "runs/s/target-4"], 2, "no such run, did you mean runs/s/target-"),
        (&["show", "empty"], 2, "runs/empty holds no run: `ssl-backdoor list runs/empty` lists"),
        (&["show", "zzz"], 2, "runs/zzz: there is no such run; runs holds empty, s"),
    ] {
        let output = say(lab, arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }

    // A run that shares a clean twin resumes with it.
    let twin = format!("runs/s/{twin}");
    let cut = ["run", "tiny.toml", "--out", "runs/cut", "--twin", &twin, "--until", "poison"];
    assert!(say(lab, &cut).status.success());
    let text = stdout(&say(lab, &["show", "cut"]));
    let resume = "Resume: ssl-backdoor run runs/cut/config.toml --out runs/cut --twin ";
    assert!(text.contains(&format!("{resume}{twin}\n")), "{text}");
    std::fs::remove_dir_all(lab.path("runs/cut")).unwrap();
}

/// Tables over the finished runs; the exit status reports unfinished ones.
fn collects(lab: &Lab) {
    let whole = say(lab, &["sweep", "s.toml", "--collect"]);
    assert!(stdout(&whole).contains("Runs: 2"), "{}", stderr(&whole));
    assert!(lab.path("runs/s/table.html").exists());
    std::fs::remove_file(lab.path("runs/s/target-5/scores.json")).unwrap();
    let part = say(lab, &["sweep", "s.toml", "--collect"]);
    assert_eq!(part.status.code(), Some(1));
    let words = "1 of 2 runs are not finished and not in the report: target-5";
    assert!(stderr(&part).contains(words), "{}", stderr(&part));
    let tables = String::from_utf8_lossy(&part.stdout);
    assert!(tables.contains("INCOMPLETE: 1 of 2 runs are finished"), "{tables}");
}

#[test]
fn a_terminal_shows_a_line_for_each_training_and_one_for_the_whole() {
    let lab = Lab::new();
    write(&lab);
    if Command::new("script").arg("--version").output().is_err() {
        println!("left out: there is no `script` that makes a terminal");
        return;
    }
    let binary = env!("CARGO_BIN_EXE_ssl-backdoor");
    let line = format!("stty cols 120 rows 40; {binary} sweep s.toml --set pretrain.epochs=20");
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(lab.path(""));
    let output = command.env("TERM", "xterm").stdin(Stdio::null()).output().unwrap();
    let text = stdout(&output);
    for words in [" clean", "/400 steps", "/s  ETA ", "/3 done", "target-3 backdoored"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Writes a program `name` that does `what` to the folder `bin` of `lab`.
fn fake(lab: &Lab, name: &str, what: &str) {
    let bin = lab.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = bin.join(name);
    std::fs::write(&path, format!("#!/bin/bash\n{what}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `command` with the programs of [`fake`] before those of the system.
fn with_fakes<'a>(lab: &Lab, command: &'a mut Command) -> &'a mut Command {
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", lab.path("bin").display()))
}

#[test]
fn the_job_scripts_are_shown_and_nothing_is_written() {
    let lab = Lab::new();
    write(&lab);
    let options = "--slurm --print --partition gpu --time 8:00:00 --gres gpu:1 --cpus-per-task 4 --max-parallel 2 \
                   --sbatch=--mail-type=FAIL --set pretrain.epochs=2";
    let arguments: Vec<&str> = ["sweep", "s.toml"].into_iter().chain(options.split(' ')).collect();
    let said = say(&lab, &arguments);
    let warning = "--gres=gpu:1 reserves GPUs, but target-3 has device = \"flex\"";
    assert!(stderr(&said).contains(warning), "{}", stderr(&said));
    let text = stdout(&said);
    for words in [
        "#SBATCH --array=0-0%2",
        "#SBATCH --array=0-1%2",
        "#SBATCH --signal=USR1@120",
        "SSL_BACKDOOR_GRACE=90",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --requeue",
        "option=--until value=twin",
        "s.toml --collect --set pretrain.epochs=2",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // A task may use the time that it is given, but for some seconds.
    let longer: Vec<&str> = ["sweep", "s.toml", "--slurm", "--print", "--grace=600"].to_vec();
    assert!(stdout(&say(&lab, &longer)).contains("SSL_BACKDOOR_GRACE=570"));
    let mut wrong = command(&lab, &["list"]);
    let wrong = wrong.env("SSL_BACKDOOR_GRACE", "2m").output().unwrap();
    let words = "SSL_BACKDOOR_GRACE=2m: expected a whole number of seconds";
    assert!(!wrong.status.success() && stderr(&wrong).contains(words), "{}", stderr(&wrong));
    // The last job needs no GPU, but it needs the cluster's own options.
    assert_eq!(text.matches("--gres").count(), 2);
    assert_eq!(text.matches("#SBATCH --mail-type=FAIL").count(), 3);
    let bash = Command::new("bash").args(["-n", "-c", &text]).output().unwrap();
    assert!(bash.status.success(), "{}", stderr(&bash));
    assert!(!lab.path("runs").exists());

    for (arguments, code, words) in [
        (&["--print"][..], 2, "--slurm"),
        (&["--slurm", "--jobs", "2"], 2, "cannot be used with"),
        (&["--slurm", "--max-parallel", "0"], 2, "allowed are 1 or more"),
        (&["--slurm", "--print", "--partition", "a\nb"], 2, "control characters"),
        (&["--slurm", "--set", "device=\"cuda\""], 2, "not compiled into this binary"),
        (&["--json"], 2, "--dry-run|--status|--collect"),
    ] {
        let output = say(&lab, &[&["sweep", "s.toml"], arguments].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn a_sweep_is_submitted_once_each_job_after_the_one_before() {
    let lab = Lab::new();
    write(&lab);
    let submit = |lab: &Lab| {
        let mut command = command(lab, &["sweep", "s.toml", "--slurm"]);
        with_fakes(lab, &mut command).output().unwrap()
    };
    fake(&lab, "sbatch", "echo \"$*\" >> sbatch.log; wc -l < sbatch.log");
    fake(&lab, "squeue", "exit 1");
    let text = stdout(&submit(&lab));
    assert!(text.contains("1 clean twin as job 1, 2 runs as job 2, the tables as job 3"), "{text}");
    let log = std::fs::read_to_string(lab.path("sbatch.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("--parsable /") && lines[0].ends_with("slurm/twins.sh"), "{log}");
    assert!(lines[1].starts_with("--parsable --dependency=afterany:1 "), "{log}");
    assert!(lines[2].starts_with("--parsable --dependency=afterany:2 "), "{log}");
    assert!(stdout(&say(&lab, &STATUS)).contains("Submitted to Slurm as jobs 1, 2, 3"));
    fake(&lab, "squeue", "echo 2");
    let again = submit(&lab);
    assert!(stderr(&again).contains("in the queue already as jobs 1 2 3"), "{}", stderr(&again));

    // A refusal by Slurm is reported, and the jobs that it accepted before are cancelled.
    fake(&lab, "squeue", "exit 1");
    fake(&lab, "scancel", "echo \"$*\" > scancel.log");
    fake(
        &lab,
        "sbatch",
        "[[ $* == *runs.sh ]] && { echo 'no such partition' >&2; exit 1; }; echo '8;here'",
    );
    let refused = submit(&lab);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no such partition"), "{}", stderr(&refused));
    assert_eq!(std::fs::read_to_string(lab.path("scancel.log")).unwrap(), "8\n");
    let mut alone = command(&lab, &["sweep", "s.toml", "--slurm"]);
    let alone = alone.env("PATH", "").output().unwrap();
    assert!(stderr(&alone).contains("cannot start `sbatch`"), "{}", stderr(&alone));

    the_script_puts_back_what_made_room(&lab);
}

/// Runs the script of the twins with fake programs of Slurm.
fn the_script_puts_back_what_made_room(lab: &Lab) {
    let script = lab.path("runs/s/slurm/twins.sh");
    for (status, state, back) in [
        (0, "RUNNING", false),
        (1, "RUNNING", false),
        (75, "RUNNING", true),
        (138, "RUNNING", true),
        // The job was cancelled.
        (75, "CANCELLED", false),
        (75, "COMPLETING", false),
    ] {
        fake(
            lab,
            "srun",
            &format!("echo \"$*\" > {}/srun.log; exit {status}", lab.path("").display()),
        );
        fake(lab, "scontrol", &format!("echo \"$* JobState={state}\""));
        let mut bash = Command::new("bash");
        bash.arg(&script).env("SLURM_ARRAY_TASK_ID", "0").env("SLURM_ARRAY_JOB_ID", "12");
        let output = with_fakes(lab, &mut bash).env("SLURM_CPUS_PER_TASK", "3").output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("requeue 12_0"), back, "{status} {state}: {said}");
        assert_eq!(said.contains("FAILED with status 1"), status == 1, "{said}");
    }
    let words = std::fs::read_to_string(lab.path("srun.log")).unwrap();
    assert!(words.starts_with("--ntasks=1 --cpus-per-task=3 /"), "{words}");
    assert!(words.contains("--until twin --set workers=3"), "{words}");
    assert!(Path::new(words.split(' ').nth(4).unwrap()).is_file(), "{words}");
}
