//! A reason is given once.

use super::{assert_none, site, wrong};

/// Commands, their exit status, and words of their message.
const COMMANDS: &[(&str, i32, &str)] = &[
    ("run absent.toml", 2, "cannot read absent.toml: No such file"),
    ("run .", 2, "`ssl-backdoor init --data .` writes a config for a folder of images"),
    ("sweep absent.toml", 2, "cannot read absent.toml: No such file"),
    ("poison absent.cfg", 2, "cannot read absent.cfg: No such file"),
    ("poison base.toml --out file", 1, "file"),
    ("run base.toml --out file", 1, "cannot create the run folder"),
    ("run base.toml --out out --twin absent", 2, "invalid value 'absent' for '--twin"),
    ("probe --encoder absent base.toml", 2, "invalid value 'absent' for '--encoder"),
    ("probe --encoder bad.safetensors base.toml", 1, "bad.safetensors"),
    (
        "convert absent.pth out.safetensors",
        2,
        "invalid value 'absent.pth' for '<INPUT>': No such file",
    ),
    ("convert bad.safetensors out.safetensors", 1, "bad.safetensors"),
    ("report absent", 2, "invalid value 'absent' for"),
    ("report runs", 1, "scores.json is broken"),
    ("verify absent", 2, "invalid value 'absent' for"),
    ("poison --clean absent", 2, "invalid value 'absent' for"),
    ("run baze.toml", 2, "did you mean base.toml?"),
    ("convert bad.safetensor out", 2, "did you mean bad.safetensors?"),
    ("scan data train.text", 2, "did you mean train.txt?"),
    ("verify runs", 1, "runs: it is not an export"),
    ("probe --encoder file base.toml", 1, "not an encoder file"),
    ("verify runs/bat", 2, "did you mean runs/bad?"),
    ("man absent", 1, "absent"),
];

/// Overrides of a run, its exit status, and words of its message.
const SETS: &[(&str, i32, &str)] = &[
    ("data={kind=\"folder\",path=\"absent\",size=32}", 1, "cannot read absent/"),
    (
        "data={kind=\"file-list\",train=\"absent\",val=\"absent\",size=32}",
        1,
        "cannot read absent: No such file",
    ),
    (
        "data={kind=\"file-list\",train=\"train.txt\",val=\"train.txt\",size=32} --until poison",
        1,
        "absent-image.png",
    ),
    ("data={kind=\"mnist\",path=\"absent\",size=32}", 1, "absent"),
    ("data={kind=\"cifar10\",path=\"absent\",size=32}", 1, "absent"),
    ("poison.trigger={kind=\"text\",text=\"wide\",size=60}", 2, "poison.trigger.size = 60"),
    ("probe.labels=absent", 2, "cannot read absent: No such file"),
    ("poison.trigger={kind=\"image\",path=\"absent\",width=4}", 2, "absent: No such file"),
    // A path with a similar one beside it.
    ("data={kind=\"folder\",path=\"rums\",size=32}", 1, "did you mean runs?"),
    (
        "data={kind=\"file-list\",train=\"trian.txt\",val=\"x\",size=32}",
        1,
        "did you mean train.txt?",
    ),
    ("data={kind=\"mnist\",path=\"rums\",size=32}", 1, "Did you mean runs?"),
    ("probe.labels=train.tx", 2, "did you mean train.txt?"),
    ("poison.trigger={kind=\"image\",path=\"rums/x.png\",width=4}", 2, "did you mean runs?"),
    (
        "poison={list=\"train.tx\",trigger={kind=\"htba\",id=10,width=4}}",
        2,
        "did you mean train.txt?",
    ),
];

/// Files that are absent or of another kind: one sentence that names the file once and the reason once.
#[test]
fn review_reasons_are_printed_once() {
    let site = site();
    let mut bad = Vec::new();
    site.write("file", "mine");
    site.write("train.txt", "absent-image.png 0\n");
    site.write("bad.safetensors", "{");
    site.write("runs/bad/scores.json", "{");
    let run = "run base.toml --out out --set pretrain.batch=8 --set";
    let commands =
        COMMANDS.iter().map(|(command, status, words)| (command.to_string(), status, words));
    let sets = SETS.iter().map(|(set, status, words)| (format!("{run} {set}"), status, words));
    for (arguments, status, words) in commands.chain(sets) {
        let said = site.run(&arguments);
        let error: Vec<&str> =
            said.stderr.lines().filter(|line| line.starts_with("error:")).collect();
        let case = format!("{arguments} ended with {:?}: {}", said.status, said.stderr);
        bad.extend(wrong(&arguments, &error.concat(), "error: ", words, ""));
        let reasons = ["No such file", "a directory", "os error"];
        let twice = reasons.iter().any(|reason| said.stderr.matches(reason).count() > 1);
        if said.status != Some(*status) || error.len() != 1 || twice {
            bad.push(case);
        }
    }
    assert_none(bad);
}
