//! Values from elsewhere: overrides, defaults, extended files, sweeps, INI configs, and errors after reading.

use ssl_backdoor::{Experiment, read_sweep};

use super::{BASE, assert_none, message, of_file, site, without_folder, wrong};
use crate::sets::Site;

#[test]
fn review_2_04_an_override_and_a_default_are_named_as_such() {
    let site = site();
    let mut bad = Vec::new();
    for (sets, begin) in [
        (&["pretrain.batch=1"][..], "--set pretrain.batch=1: pretrain.batch = 1 is out of range"),
        (&["poison.rate=2"], "--set poison.rate=2: poison.rate = 2 is out of range"),
        (&["seed=99999999999999999999"], "--set seed=99999999999999999999: seed = 999"),
        (&["poison.rat=2"], "--set poison.rat=2: poison.rat: unknown key, did you mean rate?"),
        (&["poison.trigger={kind=\"htba\", id=9, width=8}"], "--set poison.trigger={kind=\"htba\""),
        (&["name.x=1"], "--set name.x=1: name.x: name is not a table"),
        (
            &["defend=[]", "defend.epochs=1"],
            "--set defend.epochs=1: defend.epochs: defend is a list: set it as a whole (defend=[...])",
        ),
        (&["nonsense"], "invalid --set nonsense: expected KEY=VALUE"),
        (&["a..b=1"], "invalid --set a..b=1: expected KEY=VALUE"),
        (&["=1"], "invalid --set =1: expected KEY=VALUE"),
        // The value at fault is named where it was written, whatever the overrides.
        (&["pretrain.epochs=3", "poison.alpha=2"], "--set poison.alpha=2: poison.alpha = 2"),
        (&["pretrain.batch=100"], "base.toml:15: pretrain.method.queue = 512"),
        // The default of a method that was chosen on the command line.
        (
            &["pretrain.method={kind=\"moco-v2\"}", "pretrain.batch=100"],
            "pretrain.method.queue = 65536 (default; set it in base.toml) is out of range: ",
        ),
    ] {
        bad.extend(wrong(&format!("{sets:?}"), &message(&site, sets), begin, "", ""));
    }
    assert_none(bad);
}

#[test]
fn review_2_04_a_value_of_an_extended_file_is_named_there() {
    let site = site();
    site.write("base.toml", BASE.replace("rate = 0.5", "rate = 1.5"));
    site.write(
        "sub/child.toml",
        "# extends nothing\nextends = \"../base.toml\"\n[pretrain]\nlr = 0.1\n",
    );
    let child = |text: &str| site.write("sub/child.toml", text);
    let read = || of_file(&site, "sub/child.toml", &[]);
    assert!(read().starts_with("sub/../base.toml:11: poison.rate = 1.5"), "{}", read());
    child("extends = \"../base.toml\"\npoison.rate = 0.5\n\npretrain.epochs = 0\n");
    assert!(read().starts_with("sub/child.toml:4: pretrain.epochs = 0"), "{}", read());
    child("extends = \"../base.toml\"\npoison.count = 3\n");
    assert!(read().starts_with("sub/child.toml:2: poison needs exactly one"), "{}", read());
    child("\nextends = \"bas.toml\"\n");
    let missing =
        "sub/child.toml:2: extends = \"bas.toml\": cannot read sub/bas.toml: No such file";
    assert!(read().starts_with(missing), "{}", read());
    child("extends = 3\n");
    assert!(read().starts_with("sub/child.toml:1: extends = 3: expected the path"), "{}", read());
    child("extends = \"other.toml\"\n");
    site.write("sub/other.toml", "name = \"x\"\nextends = \"../sub/child.toml\"\n");
    let circle = "sub/other.toml:2: extends is circular: sub/child.toml -> sub/other.toml -> \
                  sub/../sub/child.toml";
    assert_eq!(read(), circle);
    for (unset, begin) in [
        ("unset = 3", "2: unset = 3: expected a list of keys"),
        ("unset = [\n 3]", "3: unset[0] = 3: expected a key in quotes"),
        (
            "unset = [\"name\", \"poison.rat\"]",
            "2: unset[1] = \"poison.rat\": sub/../base.toml has no such key, did you mean poison.rate?",
        ),
        (
            "unset = [\"poison\", \"poison.rate\", \"poison\"]\nname = 3",
            "3: name = 3: expected a string",
        ),
        (
            "unset = [\"probe.labels[0]\"]",
            "2: unset[0] = \"probe.labels[0]\": probe.labels is a list: leave it out as a whole (\"probe.labels\")",
        ),
        ("unset = [\"zzz\"]", "2: unset[0] = \"zzz\": sub/../base.toml has no such key"),
    ] {
        child(&format!("extends = \"../base.toml\"\n{unset}\n"));
        assert_eq!(read(), format!("sub/child.toml:{begin}"));
    }
    child("\nunset = [\"seed\"]\n");
    assert!(read().starts_with("sub/child.toml:2: unset needs extends"), "{}", read());
    // A word in a comment is not a key.
    site.write("base.toml", format!("# extends\n{}", BASE.replace("rate = 0.5", "rate = 1.5")));
    assert!(message(&site, &[]).starts_with("base.toml:12: poison.rate = 1.5"));
}

/// A length has one key of two: the later one replaces the other, but one file must not have both.
#[test]
fn a_length_in_another_unit_replaces_the_one_below() {
    let site = site();
    let share = BASE.replace("width = 8 }", "width = { share = 0.25 } }");
    site.write("base.toml", &share);
    site.write("child.toml", "extends = \"base.toml\"\npoison.trigger.width = { view = 8 }\n");
    let read = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        Experiment::read(&site.path("child.toml"), &sets).unwrap().to_toml().unwrap()
    };
    let one = |text: String| (text.contains("view = 8"), text.contains("share = "));
    assert_eq!(one(read(&[])), (true, false), "{}", read(&[]));
    assert_eq!(one(read(&["poison.trigger.width.share=0.5"])), (false, true));
    site.write("base.toml", share.replace("share = 0.25", "share = 0.25, view = 3"));
    assert!(message(&site, &[]).contains("poison.trigger.width"), "{}", message(&site, &[]));
}

/// An axis of a sweep, and how its message begins and ends.
const SWEEPS: &[(&str, &str, &str)] = &[
    (
        "name = \"rate\"\nkey = \"poison.rate\"\nvalues = [\n  0.5,\n  2.0,\n]",
        "sweep.toml:9: poison.rate = 2.0 ",
        "(run rate-2.0 of sweep.toml)",
    ),
    (
        "name = \"p\"\npoints = [\n  { name = \"a\" },\n  { name = \"b\", set = { \"pretrain.batch\" = 1 } },\n]",
        "sweep.toml:8: pretrain.batch = 1 ",
        "(run b of sweep.toml)",
    ),
    (
        "name = \"p\"\npoints = [{ name = \"a\", set = { \"poison.trigger.widht\" = 1 } }]",
        "sweep.toml:6: poison.trigger.widht: unknown key, did you mean width?",
        "(run a of sweep.toml)",
    ),
    (
        "name = \"p\"\npoints = [{ name = \"a\", unset = [\"poison.rate\"] }]",
        "base.toml:9: poison needs exactly one",
        "(run a of sweep.toml)",
    ),
    ("name = \"p\"\npoints = [{ nam = \"a\" }]", "sweep.toml:6: axis[0].points[0].nam", ""),
    ("name = \"p\"\npoints = 3", "sweep.toml:6: axis[0].points = 3: expected a list", ""),
    ("name = \"p\"", "sweep.toml:5: axis p needs points", ""),
    ("name = \"p\"\npoints = [{ name = \"a b\" }]", "sweep.toml:6: name = \"a b\": invalid", ""),
    (
        "name = \"p\"\npoints = [\n{ name = \"a\", config = \"none.toml\" }]",
        "sweep.toml:7: cannot read none.toml: No such file",
        "",
    ),
    (
        "name = \"x\"\nkey = \"probe.batch\"\nvalues = [0]",
        "sweep.toml:7: probe.batch = 0",
        "(run x-0 of sweep.toml)",
    ),
    ("name = \"p\"\npoints = [{ name = \"a\" }, { name = \"a\" }]", "sweep.toml:4: two runs", ""),
];

/// The message of a sweep over `base.toml` with this axis.
fn of_sweep(site: &Site, axis: &str) -> String {
    let head = "name = \"s\"\nbase = \"base.toml\"\nset = { \"pretrain.epochs\" = 3 }\n[[axis]]\n";
    let path = site.write("sweep.toml", format!("{head}{axis}\n"));
    let message = read_sweep(&path).unwrap_err().to_string();
    without_folder(site, &message)
}

#[test]
fn review_2_04_a_value_of_a_sweep_is_named_there() {
    let site = site();
    let mut bad = Vec::new();
    for (axis, begin, end) in SWEEPS {
        bad.extend(wrong(axis, &of_sweep(&site, axis), begin, "", end));
    }
    assert_none(bad);
    site.write("base.toml", format!("extends = \"more.toml\"\n{}", BASE.replace("seed = 1\n", "")));
    site.write("more.toml", "\nseed = -1\n");
    let message = of_sweep(&site, "name = \"p\"\npoints = [{ name = \"a\" }]");
    assert!(message.starts_with("more.toml:2: seed = -1"), "{message}");
}

/// Errors that need the images to be read also name the place, and end with the status of a wrong config.
#[test]
fn review_2_04_errors_after_reading_name_the_place() {
    let site = site();
    let mut bad = Vec::new();
    let few = BASE.replace("per_class = 20", "per_class = 4\neval_per_class = 2");
    site.write("base.toml", &few);
    for (sets, words) in [
        ("", "error: base.toml:19: pretrain.batch = 64 is out of range"),
        (
            "--set pretrain.batch=48 --set pretrain.method.queue=96",
            "error: --set pretrain.batch=48: pretrain.batch = 48",
        ),
        (
            "--set pretrain.batch=16 --set poison.count=9 --set poison.rate=1",
            "poison needs exactly one",
        ),
        (
            "--set pretrain.batch=16 --set probe.labels=[0.01]",
            "error: --set probe.labels=[0.01]: probe.labels",
        ),
        (
            "--set pretrain.batch=16 --set probe.labels=none.txt",
            "error: --set probe.labels=none.txt: probe.labels: ",
        ),
    ] {
        let said = site.run(&format!("run base.toml --out run {sets}"));
        let case = format!("{sets} ended with {:?}", said.status);
        bad.extend(wrong(&case, &said.stderr, "", words, "\n"));
        if said.status != Some(2) {
            bad.push(case);
        }
    }
    assert_none(bad);
    // A default: MoCo's batch of 256 images.
    site.write("base.toml", few.replace("batch = 64\n", ""));
    let words = "error: pretrain.batch = 256 (default; set it in base.toml) is out of range: 2 to";
    site.run("run base.toml --out run").bad(2, &[words, "the 40 training images"]);
    // The same for other commands.
    site.write("base.toml", BASE.replace("target = 3", "target = \"cow\""));
    site.run("poison base.toml --out e").bad(2, &["error: base.toml:10: poison.target = cow"]);
    site.run("sweep base.toml").bad(2, &["error: base.toml:", "unknown key"]);
}

/// INI configs of the paper's code: the message names the line of the key that gives the value.
#[test]
fn review_2_04_a_value_of_a_cfg_is_named_there() {
    let site = site();
    let cfg = "[experiment]\nID = HTBA_trigger_10\n\n[poison_generation]\ndata_root = absent\ntext = false\n\
               trigger = triggers/trigger_10.png\nalpha_composite = true\ntrain_location = random\n\
               train_location_min = 0.25\ntrain_location_max = 0.75\ntrain_alpha = 0.0\n\
               watermark_width = 50\ntargeted = true\ntarget_wnid = n02106550\n\
               poison_injection_rate = 1.0\nval_location = random\nval_location_min = 0.1\n\
               val_location_max = 0.9\nval_alpha = 0.0\npoison_savedir = out/{}\n\
               splits = train,val_poisoned\npatch_params = false\n";
    let mut bad = Vec::new();
    for (from, to, sets, begin) in [
        ("rate = 1.0", "rate = 1.5", "", "error: a.cfg:16: poison.rate = 1.5 is out of range"),
        ("width = 50", "width = wide", "", "error: a.cfg:13: watermark_width = wide"),
        ("width = 50", "width = 5000", "", "error: a.cfg:13: poison.trigger.width = 5000"),
        ("val_alpha = 0.0", "val_alpha = 2", "", "error: a.cfg:20: poison.val_alpha = 2"),
        ("text = false", "text = maybe", "", "error: a.cfg:6: text = maybe"),
        ("", "", "--set size=4", "error: --set size=4: data.size = 4 is out of range"),
        ("", "", "--set sizes=4", "error: invalid --set sizes=4: a .cfg accepts seed=N and size=N"),
    ] {
        assert!(cfg.contains(from), "{from}");
        site.write("a.cfg", cfg.replacen(from, to, 1));
        let said = site.run(&format!("poison a.cfg --out out {sets}"));
        bad.extend(wrong(to, &said.stderr, begin, "", "\n"));
        if said.status != Some(2) {
            bad.push(format!("{to} ended with {:?}", said.status));
        }
    }
    assert_none(bad);
}
