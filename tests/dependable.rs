//! Interrupted runs resume and end with the same bytes; memory stays flat; Ctrl-C ends a run quickly and cleanly.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Lab, ask_to_end, assert_same, line_count, stderr, until};
use rand::{RngExt, SeedableRng};

/// A whole pipeline, with a defence.
const PIPELINE: [&str; 3] = [
    "data.per_class=64",
    "pretrain.epochs=8",
    "defend={kind=\"compress\", clean=[0.5], epochs=4, batch=16}",
];

/// Whether a file under `folder` is being written.
fn writing(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.contains("tmp") || (entry.path().is_dir() && writing(&entry.path()))
    })
}

#[test]
fn a_hundred_kills_at_random_moments_change_no_byte() {
    let lab = Lab::new();
    let whole = lab.run("whole", &PIPELINE);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2022);
    let (mut kills, mut in_a_write, mut runs) = (0, 0, 0);
    while kills < 100 {
        // A pipeline that ends before the hundredth kill starts again in another folder.
        let out = format!("killed-{runs}");
        loop {
            let mut child = lab.spawn(&out, &PIPELINE);
            // Every third kill waits for a half-written file, the others for a random moment.
            let moment = Duration::from_millis(rng.random_range(5..400));
            let since = Instant::now();
            let wait_for_a_write = kills % 3 == 0;
            let folder = lab.path(&out);
            let caught = until(&mut child, || {
                (since.elapsed() > moment && !wait_for_a_write)
                    || (wait_for_a_write && writing(&folder))
                    || since.elapsed() > Duration::from_secs(2)
            });
            if !caught {
                break;
            }
            child.kill().unwrap();
            if child.wait().unwrap().code().is_some() {
                break;
            }
            kills += 1;
            in_a_write += usize::from(writing(&folder));
            if kills >= 100 {
                break;
            }
        }
        let rest = lab.run(&out, &PIPELINE);
        assert!(rest.status.success(), "{}", stderr(&rest));
        assert_same(&lab.bytes("whole"), &lab.bytes(&out));
        let student = "distilled-0.5/encoder.safetensors";
        let read = |out: &str| std::fs::read(lab.path(out).join(student)).unwrap();
        assert!(read("whole") == read(&out), "{student} differs");
        runs += 1;
    }
    println!("{kills} kills in {runs} pipelines, {in_a_write} of them left a file half-written");
    assert!(in_a_write >= 10, "{in_a_write}");
}

#[test]
fn a_kill_at_each_boundary_of_two_stages_changes_no_byte() {
    let lab = Lab::new();
    let whole = lab.run("whole", &PIPELINE);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let mut boundaries = 0;
    loop {
        let mut command = lab.command("killed", &PIPELINE);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // A stage that ends prints its time: `poison: 0.1 s`. One that was done before prints `done already`.
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ended = lines.map_while(Result::ok).any(|line| line.ends_with(" s"));
        child.kill().unwrap();
        let code = child.wait().unwrap().code();
        if !ended {
            assert_eq!(code, Some(0));
            break;
        }
        boundaries += 1;
    }
    // Poison, two trainings, a defence, the floor, features of four models, probe, maps, report.
    assert!(boundaries >= 11, "{boundaries}");
    assert_same(&lab.bytes("whole"), &lab.bytes("killed"));
}

#[test]
fn ctrl_c_saves_a_checkpoint_and_ends_within_two_seconds() {
    let lab = Lab::new();
    // One long epoch: without a checkpoint in the middle, everything would be lost.
    let sets = ["data.per_class=512", "pretrain.epochs=1", "probe.curve_every=0"];
    let whole = lab.run("whole", &sets);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let mut command = lab.command("cut", &sets);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let timing = lab.path("cut/clean/timing.jsonl");
    assert!(until(&mut child, || timing.exists()));
    std::thread::sleep(Duration::from_millis(300));
    let output = ask_to_end(child, "-INT");
    assert!(stderr(&output).contains("interrupted after step"), "{}", stderr(&output));
    let checkpoints = std::fs::read_dir(lab.path("cut/clean/checkpoint")).unwrap();
    let names: Vec<String> =
        checkpoints.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(
        names.len() == 1 && names[0].starts_with("step-") && names[0] != "step-320",
        "{names:?}"
    );
    let resumed = lab.run("cut", &sets);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert_same(&lab.bytes("whole"), &lab.bytes("cut"));
}

#[test]
fn a_scheduler_that_wants_the_machine_gets_it_after_a_checkpoint() {
    let lab = Lab::new();
    let sets = ["data.per_class=512", "pretrain.epochs=1", "probe.curve_every=0"];
    let whole = lab.run("whole", &sets);
    assert!(whole.status.success(), "{}", stderr(&whole));
    // Without Slurm, SIGTERM comes from a person; within a Slurm job, from the scheduler.
    for (out, signal, job) in [("usr1", "-USR1", None), ("term", "-TERM", Some("7"))] {
        let mut command = lab.command(out, &sets);
        command.envs(job.map(|id| ("SLURM_JOB_ID", id)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let timing = lab.path(out).join("clean/timing.jsonl");
        assert!(until(&mut child, || timing.exists()));
        std::thread::sleep(Duration::from_millis(300));
        // Slurm and the job script may both send the signal.
        for _ in 0..2 {
            let id = child.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
        assert!(stderr(&output).contains("a checkpoint is saved"), "{}", stderr(&output));
        let resumed = lab.run(out, &sets);
        assert!(resumed.status.success(), "{}", stderr(&resumed));
        assert_same(&lab.bytes("whole"), &lab.bytes(out));
    }
}

/// A step that does not end in the given time is cut off.
#[test]
fn a_scheduler_can_give_less_time() {
    let lab = Lab::new();
    let sets = ["data.size=64", "pretrain.batch=128", "pretrain.encoder.width=64"];
    let mut command = lab.command("cut", &sets);
    command.env("SSL_BACKDOOR_GRACE", "1");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(until(&mut child, || lab.path("cut/clean").exists()));
    let since = Instant::now();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-USR1", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(!stderr(&output).contains("a checkpoint is saved"), "{}", stderr(&output));
}

/// Resident memory of a process in bytes.
#[cfg(target_os = "linux")]
fn resident(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[test]
#[cfg(target_os = "linux")]
fn memory_stays_flat_over_a_thousand_steps() {
    let lab = Lab::new();
    // 20 steps an epoch.
    let sets = ["pretrain.epochs=60", "probe.curve_every=0"];
    let mut child =
        lab.command("run", &sets).args(["--until", "twin"]).stderr(Stdio::null()).spawn().unwrap();
    let log = lab.path("run/clean/metrics.jsonl");
    let mut samples = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let steps = 20 * line_count(&log);
        samples.extend(resident(&child).map(|bytes| (steps, bytes)));
        std::thread::sleep(Duration::from_millis(5));
    }
    let most = |from: usize, to: usize| {
        let among = samples.iter().filter(|(steps, _)| (from..to).contains(steps));
        among.map(|(_, bytes)| *bytes).max().unwrap()
    };
    let (early, late) = (most(100, 300), most(1000, 1201));
    println!(
        "{:.1} MB after 100 steps, {:.1} MB after 1,000",
        early as f64 / 1e6,
        late as f64 / 1e6
    );
    assert!(late < early + early / 20, "{early} {late}");
}

/// A file system in memory; unmounted when dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    /// Mounts one at `path` with `options`; none if the system does not permit it, as it permits root.
    fn mount(path: std::path::PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).stderr(Stdio::null());
        mount.status().ok().filter(|status| status.success()).map(|_| Self(path))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_or_read_only_disk_is_named_and_nothing_is_lost() {
    let lab = Lab::new();
    let whole = lab.run("whole", &[]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let Some(disk) = Tmpfs::mount(lab.path("disk"), "size=300k") else {
        println!("left out: only root can mount");
        return;
    };
    let full = lab.run("disk/run", &[]);
    assert_eq!(full.status.code(), Some(1), "{}", stderr(&full));
    let said = stderr(&full);
    assert!(said.contains("No space left") && said.contains("disk/run"), "{said}");
    let ledger = std::fs::read(lab.path("disk/run/poison.csv")).unwrap();

    disk.remount("size=64m,ro");
    let read_only = lab.run("disk/run", &[]);
    assert_eq!(read_only.status.code(), Some(1));
    let said = stderr(&read_only);
    assert!(said.contains("Read-only") && said.contains("disk/run"), "{said}");

    disk.remount("rw");
    assert_eq!(std::fs::read(lab.path("disk/run/poison.csv")).unwrap(), ledger);
    let resumed = lab.run("disk/run", &[]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("poison: done already"), "{}", stderr(&resumed));
    assert_same(&lab.bytes("whole"), &lab.bytes("disk/run"));
}
