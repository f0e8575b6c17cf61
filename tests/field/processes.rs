//! A sweep and the processes it starts: none of them outlives it, even if it is killed.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::sets::Site;

/// Two seeds, so two clean twins and two backdoored models, all trained in processes of their own; ten steps an epoch.
fn write(site: &Site) {
    let config = r#"name = "t"
seed = 1
[data]
kind = "shapes"
size = 16
per_class = 8
eval_per_class = 5
[poison]
target = 3
rate = 0.5
trigger = { kind = "htba", id = 12, width = 5 }
[pretrain]
method = { kind = "moco-v2", queue = 16, dim = 8, bn_groups = 1 }
encoder = { kind = "resnet18", width = 4, stem = "small" }
epochs = 12
batch = 8
lr = 0.02
[probe]
labels = [0.5]
curve_every = 0
"#;
    site.write("t.toml", config);
    let sweep = "name = \"s\"\nbase = \"t.toml\"\nout = \"runs\"\n\
                 [[axis]]\nname = \"seed\"\nkey = \"seed\"\nvalues = [1, 2]\n";
    site.write("s.toml", sweep);
}

fn sweep(site: &Site) -> Child {
    let mut command = site.command("sweep s.toml --jobs 2 --set workers=1");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until `met`, for at most `limit`.
#[track_caller]
fn until(limit: Duration, met: impl Fn() -> bool) {
    let since = Instant::now();
    while !met() {
        assert!(since.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Number of processes that work in this site, without the sweep itself.
fn at_work(site: &Site) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let here = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let folder = std::fs::read_link(process.join("cwd"));
        let folder = folder.is_ok_and(|folder| folder == site.path("").canonicalize().unwrap());
        folder && String::from_utf8_lossy(&line).contains("config.toml")
    };
    entries.filter(|entry| here(&entry.path())).count()
}

/// All files below `folder`, with their lengths and modification times.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    // A folder or file under its temporary name may be gone by now.
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            if let Ok(about) = path.metadata() {
                found.insert(path, (about.len(), about.modified().unwrap()));
            }
        }
    }
    found
}

/// Number of models called `name` that have trained for an epoch or more.
fn training(site: &Site, name: &str) -> usize {
    if !site.path("runs").exists() {
        return 0;
    }
    let logs = files(&site.path("runs"));
    logs.keys().filter(|path| path.ends_with(Path::new(name).join("timing.jsonl"))).count()
}

/// The files of each run that the seed determines byte for byte.
fn bytes(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let decided = ["encoder.safetensors", "metrics.jsonl", "scores.json", "poison.csv"];
    let root = site.path("runs");
    let wanted = |path: &PathBuf| decided.iter().any(|name| path.ends_with(name));
    let of = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), bytes)
    };
    files(&root).into_keys().filter(wanted).map(of).collect()
}

#[test]
fn a_sweep_that_is_killed_leaves_no_process_that_writes_and_resumes_to_the_same_bytes() {
    let (site, other) = (Site::new(), Site::new());
    [&site, &other].into_iter().for_each(write);
    let mut whole = sweep(&other);

    let mut killed = sweep(&site);
    until(Duration::from_secs(120), || training(&site, "clean") == 2);
    assert_eq!(at_work(&site), 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    until(Duration::from_secs(5), || at_work(&site) == 0);
    let left = files(&site.path("runs"));
    let logs: Vec<&PathBuf> = left.keys().filter(|path| path.ends_with("log.txt")).collect();
    assert_eq!(logs.len(), 2);
    for log in logs {
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.contains("interrupted after step"), "{text}");
        assert!(text.contains("a checkpoint is saved"), "{text}");
    }
    std::thread::sleep(Duration::from_millis(400));
    assert!(files(&site.path("runs")) == left, "somebody still writes");

    // Killed again, and run again while its processes may still be saving.
    let mut killed = sweep(&site);
    until(Duration::from_secs(120), || training(&site, "backdoored") > 0);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(sweep(&site).wait().unwrap().success());
    assert!(whole.wait().unwrap().success());
    let (found, expected) = (bytes(&site), bytes(&other));
    assert_eq!(expected.len(), 2 * 3 + 2 * 4, "{:?}", expected.keys());
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{} differs", name.display());
    }
}
