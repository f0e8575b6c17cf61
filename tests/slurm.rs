//! A sweep on a real Slurm of one node: submitted, pre-empted, requeued and finished, to the bytes of a local sweep.
//!
//! It needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. `.ci/run` installs them and sets
//! `SSL_BACKDOOR_TEST_SLURM`; without that variable the test only prints that it is left out.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Lab, SEED_DECIDES, stderr};
use serde_json::Value;

/// A Slurm of one node, which is stopped on drop.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        let name = output(Command::new("hostname").arg("-s"));
        // Ports that are free at this moment.
        let ports = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [controller, node] = ports.map(|port| port.local_addr().unwrap().port().to_string());
        let text = include_str!("slurm/slurm.conf")
            .replace("@DIR@", cluster.folder.path().to_str().unwrap())
            .replace("@HOST@", name.trim())
            .replace("@CONTROLLER_PORT@", &controller)
            .replace("@NODE_PORT@", &node);
        std::fs::write(cluster.conf(), text).unwrap();
        for folder in ["controller", "node"] {
            std::fs::create_dir(cluster.path(folder)).unwrap();
        }
        cluster.start_munge();
        output(cluster.command("slurmctld").arg("-i"));
        output(&mut cluster.command("slurmd"));
        wait(Duration::from_secs(30), "the node", || {
            cluster.say("sinfo", &["--noheader", "--format=%T"]).trim() == "idle"
        });
        cluster
    }

    /// Starts the authentication daemon, with its own key and socket.
    fn start_munge(&self) {
        use std::os::unix::fs::PermissionsExt;
        // The folder of the socket must be accessible to all.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), open).unwrap();
        let key = self.path("munge.key");
        std::fs::write(&key, [7; 128]).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
        let at = |option: &str, name: &str| format!("--{option}={}", self.path(name).display());
        output(Command::new("munged").arg("--force").args([
            at("socket", "munge.socket"),
            at("key-file", "munge.key"),
            at("pid-file", "munged.pid"),
            at("log-file", "munged.log"),
            at("seed-file", "munge.seed"),
        ]));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        self.path("slurm.conf")
    }

    /// A command that talks to this cluster.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.conf());
        command
    }

    /// The output of a Slurm command, which must succeed.
    fn say(&self, program: &str, arguments: &[&str]) -> String {
        output(self.command(program).args(arguments))
    }

    /// `ssl-backdoor sweep FILE …`
    fn sweep(&self, lab: &Lab, file: &str, more: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_ssl-backdoor"));
        command.arg("sweep").arg(lab.path(file)).args(more).output().unwrap()
    }

    /// Waits until no job is in the queue.
    fn until_empty(&self, most: Duration) {
        wait(most, "an empty queue", || self.say("squeue", &["--noheader"]).is_empty());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("scancel").arg("--user=root").status();
        for daemon in ["slurmd", "slurmctld", "munged"] {
            let path = self.path(&format!("{daemon}.pid"));
            let Ok(id) = std::fs::read_to_string(&path) else { continue };
            let process = Path::new("/proc").join(id.trim());
            let _ = Command::new("kill").arg(id.trim()).status();
            let since = Instant::now();
            while process.exists() && since.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn wait(most: Duration, what: &str, met: impl Fn() -> bool) {
    let since = Instant::now();
    while !met() {
        assert!(since.elapsed() < most, "{what} did not come in {most:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Two methods, two targets: four runs and two clean twins, with the run folders in `out`.
fn write(lab: &Lab, name: &str, out: &str) {
    let text = format!(
        r#"name = "s"
base = "tiny.toml"
out = "{out}"
results = "{out}-results"
set = {{ "probe.curve_every" = 0, "pretrain.epochs" = 20 }}
[[axis]]
name = "method"
points = [{{ name = "moco-v2" }}, {{ name = "simclr", set = {{ "pretrain.method" = {{ kind = "simclr", dim = 16 }} }} }}]
[[axis]]
name = "target"
key = "poison.target"
values = [3, 5]
"#,
        out = lab.path(out).display(),
    );
    std::fs::write(lab.path(name), text).unwrap();
}

/// The state of a sweep, as JSON.
fn status(cluster: &Cluster, lab: &Lab, file: &str, more: &[&str]) -> Value {
    let output = cluster.sweep(lab, file, &[&["--status", "--json"], more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the run or twin at `index` of `which` trains.
fn until_it_trains(state: impl Fn() -> Value, which: &str, index: usize) {
    wait(Duration::from_secs(120), "a training", || {
        let row = &state()[which][index];
        row["state"] == "running" && row["trainings"][0].is_object()
    });
}

#[test]
fn a_pre_empted_task_is_requeued_and_ends_with_the_bytes_of_a_local_sweep() {
    if std::env::var_os("SSL_BACKDOOR_TEST_SLURM").is_none() {
        println!(
            "left out: SSL_BACKDOOR_TEST_SLURM=1 asks for it (root, and slurmctld, slurmd, slurm-client and munge)"
        );
        return;
    }
    let lab = Lab::new();
    write(&lab, "local.toml", "local");
    write(&lab, "cluster.toml", "cluster");
    let cluster = Cluster::start();

    cancelled_tasks_do_not_come_back(&cluster, &lab);
    the_job_script_of_the_docs_requeues_a_run(&cluster, &lab);

    let submitted = cluster.sweep(&lab, "cluster.toml", &["--slurm", "--time=10", "--grace=20"]);
    assert!(submitted.status.success(), "{}", stderr(&submitted));
    let said = String::from_utf8(submitted.stdout).unwrap();
    assert!(said.contains("Submitted: 2 clean twins") && said.contains("4 runs"), "{said}");
    let again = cluster.sweep(&lab, "cluster.toml", &["--slurm"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("in the queue already"), "{}", stderr(&again));

    // The last run is told to make room in the middle of its training. Its own id is that of the whole array. (While
    // others wait, Slurm 22.05 signals a task, reports that it could not, and repeats the signal for minutes.)
    let state = || status(&cluster, &lab, "cluster.toml", &[]);
    let runs = state()["slurm"]["runs"].as_str().unwrap().to_owned();
    until_it_trains(state, "runs", 3);
    cluster.say("scancel", &["--signal=USR1", &format!("{runs}_3")]);
    cluster.until_empty(Duration::from_secs(240));

    let log = |name: &str| std::fs::read_to_string(lab.path(name)).unwrap();
    let own = log("cluster/simclr_target-5/log.txt");
    assert!(own.contains("interrupted after step") && own.contains("checkpoint is saved"), "{own}");
    let script = log(&format!("cluster/slurm/runs-{runs}_3.log"));
    assert!(script.contains("back into the queue") && script.contains("done"), "{script}");
    let done = state();
    for row in done["runs"].as_array().unwrap().iter().chain(done["twins"].as_array().unwrap()) {
        assert_eq!(row["state"], "done", "{done}");
    }

    assert_the_bytes_of_a_local_sweep(&cluster, &lab);
}

/// A sweep whose jobs are cancelled in the middle of a training leaves the queue, and can be submitted again.
fn cancelled_tasks_do_not_come_back(cluster: &Cluster, lab: &Lab) {
    let long = ["--set", "pretrain.epochs=500"];
    let slurm = ["--slurm", "--max-parallel=1", "--cpus-per-task=2"];
    let submitted = cluster.sweep(lab, "cluster.toml", &[&slurm[..], &long].concat());
    assert!(submitted.status.success(), "{}", stderr(&submitted));
    let state = || status(cluster, lab, "cluster.toml", &long);
    until_it_trains(state, "twins", 0);
    // One task is running; the other waits for its turn.
    assert_eq!(state()["twins"][1]["state"], "not-begun");
    cluster.say("scancel", &["--user=root"]);
    cluster.until_empty(Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(1));
    assert!(cluster.say("squeue", &["--noheader"]).is_empty());
    let left = state();
    assert_eq!(left["twins"][0]["state"], "unfinished", "{left}");
    assert_eq!(left["runs"][0]["state"], "not-begun", "{left}");
    std::fs::remove_dir_all(lab.path("cluster")).unwrap();
}

/// The job script for a single run in docs/gpu-and-clusters.md, with this program, a small config and no GPU.
fn the_job_script_of_the_docs_requeues_a_run(cluster: &Cluster, lab: &Lab) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gpu-and-clusters.md");
    let page = std::fs::read_to_string(page).unwrap();
    let script = page.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let run = format!("{} run tiny.toml --out own", env!("CARGO_BIN_EXE_ssl-backdoor"));
    let long = "--set probe.curve_every=0 --set pretrain.epochs=60";
    let ours = script
        .replace("ssl-backdoor run mine.toml", &format!("{run} {long}"))
        .replace(" --time=8:00:00 --gres=gpu:1", "");
    assert!(ours.contains(&run) && !ours.contains("--gres"), "{script}");
    std::fs::write(lab.path("job.sh"), ours).unwrap();
    let folder = lab.path(".");
    let at = [format!("--chdir={}", folder.display()), "--output=own.log".into()];
    let job = output(cluster.command("sbatch").arg("--parsable").args(at).arg(lab.path("job.sh")));
    let metrics = lab.path("own/backdoored/metrics.jsonl");
    wait(Duration::from_secs(120), "a training", || metrics.exists());
    cluster.say("scancel", &["--signal=USR1", job.trim()]);
    cluster.until_empty(Duration::from_secs(240));
    let log = std::fs::read_to_string(lab.path("own.log")).unwrap();
    assert!(log.contains("interrupted after step") && log.contains("checkpoint is saved"), "{log}");
    assert!(lab.path("own/scores.json").is_file(), "{log}");
}

fn assert_the_bytes_of_a_local_sweep(cluster: &Cluster, lab: &Lab) {
    let local = cluster.sweep(lab, "local.toml", &["--jobs=2"]);
    assert!(local.status.success(), "{}", stderr(&local));
    let collected = cluster.sweep(lab, "local.toml", &["--collect"]);
    assert!(collected.status.success(), "{}", stderr(&collected));
    let same = |path: String| {
        let [a, b] = ["local", "cluster"].map(|out| lab.path(&format!("{out}{path}")));
        match (std::fs::read(&a), std::fs::read(&b)) {
            (Ok(ours), Ok(theirs)) => assert!(ours == theirs, "{} differs", b.display()),
            // The runs of a sweep have no twin of their own.
            (a, b) => assert!(a.is_err() && b.is_err(), "{path}: {a:?} {b:?}"),
        }
    };
    let mut compared = 0;
    for run in std::fs::read_dir(lab.path("local")).unwrap().map(|entry| entry.unwrap()) {
        let run = run.file_name().into_string().unwrap();
        if run.contains("target") {
            SEED_DECIDES.iter().for_each(|name| same(format!("/{run}/{name}")));
            same(format!("-results/{run}/scores.json"));
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
    // The table that the last job wrote.
    same("-results/table.csv".into());
}
