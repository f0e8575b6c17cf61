//! Errors of configs name where the value was written and what is allowed, and give each reason once.

use std::collections::BTreeSet;
use std::path::Path;

use ssl_backdoor::{Experiment, read_sweep};
use toml::{Table, Value};

use crate::sets::Site;

/// A small experiment; the tests below refer to its line numbers.
const BASE: &str = r#"name = "x"
seed = 1

[data]
kind = "shapes"
size = 32
per_class = 20

[poison]
target = 3
rate = 0.5
trigger = { kind = "htba", id = 12, width = 8 }

[pretrain]
method = { kind = "moco-v2", queue = 512, bn_groups = 1 }
encoder = { kind = "resnet18", width = 4, stem = "small" }
epochs = 2
batch = 64

[probe]
labels = [
    0.1,
    0.5,
]
"#;

/// The message of `base.toml` with `sets`, without the folder's path.
fn message(site: &Site, sets: &[&str]) -> String {
    of_file(site, "base.toml", sets)
}

fn of_file(site: &Site, name: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    let error = Experiment::read(&site.path(name), &sets).unwrap_err();
    without_folder(site, &error.to_string())
}

/// A message with paths relative to the site.
fn without_folder(site: &Site, message: &str) -> String {
    let folder = site.path("base.toml");
    message.replace(&format!("{}/", folder.parent().unwrap().display()), "")
}

/// Fails with all wrong messages, if any.
#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A report if `message` does not begin with `begin`, contain `words` and end with `end`, or has strange words.
fn wrong(case: &str, message: &str, begin: &str, words: &str, end: &str) -> Option<String> {
    let right = message.starts_with(begin) && message.contains(words) && message.ends_with(end);
    let strange = strange(message);
    (!right || strange.is_some()).then(|| {
        format!("{case}\n    {message}\n    wanted: {begin} … {words} … {end} {strange:?}")
    })
}

fn site() -> Site {
    let site = Site::new();
    site.write("base.toml", BASE);
    site
}

/// Cases in the first lines: text to replace, its replacement, how the message must begin, what it must contain.
const OF_DATA_AND_POISON: &[(&str, &str, &str, &str)] = &[
    ("rate = 0.5", "rate = 1.5", "base.toml:11: poison.rate = 1.5", "0 < rate <= 1"),
    ("rate = 0.5", "'rate' = 1.5", "base.toml:11: poison.rate = 1.5", "rate"),
    ("rate = 0.5", "rate = \"x\"", "base.toml:11: poison.rate = \"x\"", "expected a number"),
    ("rate = 0.5", "rat = 0.5", "base.toml:11: poison.rat: unknown key", "did you mean rate?"),
    (
        "rate = 0.5",
        "val_place = \"center\"",
        "base.toml:11: poison.val_place = \"center\"",
        "expected a table, such as { kind = \"center\" }",
    ),
    (
        "rate = 0.5",
        "val_place = \"middle\"",
        "base.toml:11: poison.val_place = \"middle\"",
        "expected a table whose kind is one of \"random\", ",
    ),
    ("width = 8", "width = \"8\"", "base.toml:12: poison.trigger.width = \"8\"", "expected"),
    ("width = 8", "width = -8", "base.toml:12: poison.trigger.width = -8", "1 to 4096"),
    ("width = 8", "width = 40", "base.toml:12: poison.trigger.width = 40", "1 to 32"),
    (", width = 8", "", "base.toml:12: poison.trigger.width is missing", ""),
    ("target = 3", "target = 10", "base.toml:10: poison.target = 10", "0 to 9"),
    ("target = 3", "target = 1.5", "base.toml:10: poison.target = 1.5", "name"),
    ("target = 3", "target = [3]", "base.toml:10: poison.target = [3]", "name"),
    ("kind = \"shapes\"", "kind = \"shape\"", "base.toml:5: data.kind = \"shape\"", "\"shapes\""),
    ("kind = \"shapes\"\n", "", "base.toml:4: data.kind is missing", ""),
    ("size = 32", "size = 32.5", "base.toml:6: data.size = 32.5", "a whole number"),
    ("size = 32", "size = 4", "base.toml:6: data.size = 4", "8 to 1024"),
    ("seed = 1", "seed = \"1\"", "base.toml:2: seed = \"1\"", "a whole number"),
    ("seed = 1", "seed = -1", "base.toml:2: seed = -1", "0 or more"),
    ("seed = 1", "seed = 9223372036854775808", "base.toml:2: seed = 9223372036854775808", "2^63"),
    ("seed = 1\n", "", "base.toml: seed is missing", ""),
    ("name = \"x\"", "name = \"x y\"", "base.toml:1: name = \"x y\": invalid name", "letters"),
    ("name = \"x\"", "name = 2026-01-01", "base.toml:1: name = 2026-01-01", "date"),
];

/// The same for the lines below.
const OF_TRAINING: &[(&str, &str, &str, &str)] = &[
    ("epochs = 2", "epochs = 0", "base.toml:17: pretrain.epochs = 0", "1 to 100,000"),
    ("epochs = 2", "lr = nan\nepochs = 2", "base.toml:17: pretrain.lr = nan", "finite"),
    ("epochs = 2", "crop = [0.1]\nepochs = 2", "base.toml:17: pretrain.crop", "a list of 2"),
    ("epochs = 2", "canaries = \"loud\"\nepochs = 2", "base.toml:17: pretrain.canaries", "stop"),
    ("queue = 512", "queue = 500", "base.toml:15: pretrain.method.queue = 500", "multiple"),
    ("queue = 512", "queu = 512", "base.toml:15: pretrain.method.queu", "did you mean queue?"),
    ("    0.5,", "    1.5,", "base.toml:21: probe.labels", "above 0 and at most 1"),
    ("    0.5,", "    \"x\",", "base.toml:21: probe.labels", "shares"),
    ("[probe]", "defend = 3\n[probe]", "base.toml:20: pretrain.defend: unknown key", ""),
    ("seed = 1", "seed = 1\ndefend = 3", "base.toml:3: defend = 3", "a list of tables"),
    (
        "[probe]",
        "[[defend]]\nkind = \"compress\"\nclean = [0.5]\nbatch = 1\n[probe]",
        "base.toml:23: defend[0].batch = 1",
        "the smallest clean part",
    ),
    (
        "[probe]",
        "[[defend]]\nkind = \"compress\"\nclean = [0.5]\nbatch = 8\n[[defend]]\nkind = \"scratch\"\nbatc = 8\n[probe]",
        "base.toml:26: defend[1].batc: unknown key",
        "did you mean batch?",
    ),
    (
        "[probe]",
        "[[defend]]\nkind = \"scratch\"\nbatch = 8\n[[defend]]\nkind = \"scratch\"\nbatch = 8\n[probe]",
        "base.toml:20: defend: two defences make a model with the name scratch-0.25",
        "names must be different",
    ),
    ("[probe]", "[probes]\nk = [1]\n[probe]", "base.toml:20: probes: unknown key", "probe"),
    ("[poison]", "device = \"tpu\"\n[poison]", "base.toml:9: data.device: unknown key", ""),
    ("seed = 1", "seed = 1\ndevice = \"tpu\"", "base.toml:3: device = \"tpu\"", "flex"),
    ("seed = 1", "seed = 1\nworkers = 0", "base.toml:3: workers = 0", "1 to 256"),
];

#[test]
fn review_2_04_an_error_names_the_line_of_its_value() {
    let site = site();
    let mut bad = Vec::new();
    for (from, to, begin, words) in [OF_DATA_AND_POISON, OF_TRAINING].concat() {
        assert!(BASE.contains(from), "{from}");
        site.write("base.toml", BASE.replacen(from, to, 1));
        bad.extend(wrong(to, &message(&site, &[]), begin, words, ""));
    }
    assert_none(bad);
}

#[test]
fn review_2_04_syntax_errors_have_line_and_column() {
    let site = site();
    // One table as dotted keys.
    let dotted = BASE.replace("[poison]\n", "").replace("target = 3\nrate = 0.5\n", "");
    let dotted = dotted.replace("trigger = {", "[poison.trigger]\n#");
    let text = format!("poison.rate = 1.5\n{dotted}kind = \"x\"\n");
    site.write("base.toml", text.replacen("poison.rate", "poison . \"rate\"", 1));
    assert!(message(&site, &[]).starts_with("base.toml:"), "{}", message(&site, &[]));
    site.write("base.toml", BASE.replace("seed = 1", "seed = = 1"));
    let syntax = message(&site, &[]);
    assert!(syntax.contains("base.toml:") && syntax.contains("line 2, column 8"), "{syntax}");
    site.write("base.toml", [b"name = \"x\"\n\xff\xfe".as_slice()].concat());
    assert_eq!(message(&site, &[]), "base.toml:2: not UTF-8 text");
}

#[test]
fn review_2_04_dotted_keys_have_lines_too() {
    let site = site();
    let from = "[poison]\ntarget = 3\nrate = 0.5\n";
    let text = BASE.replace(from, "").replace("\ntrigger = {", "\n[poison]\ntrigger = {");
    let text = text.replace("seed = 1", "seed = 1\npoison . target = 3");
    // A table cannot be reopened by a header: TOML's own error.
    site.write("base.toml", text);
    assert!(message(&site, &[]).contains("line"), "{}", message(&site, &[]));
    let text = BASE.replace(
        "rate = 0.5",
        "place.kind = \"random\"\nplace.min = 0.9\nplace.max = 0.2\nrate = 0.5",
    );
    site.write("base.toml", text);
    assert!(message(&site, &[]).starts_with("base.toml:11: poison.place has min"));
}

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
        "name = \"x\"\nkey = \"probe.curve_every\"\nvalues = [1]",
        "sweep.toml:7: probe.curve_every = 1",
        "(run x-1 of sweep.toml)",
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

/// A table for each method.
const METHODS: &[&str] = &[
    "{kind=\"moco-v2\"}",
    "{kind=\"simclr\"}",
    "{kind=\"simclr-v2\"}",
    "{kind=\"simsiam\"}",
    "{kind=\"barlow-twins\"}",
    "{kind=\"vicreg\"}",
    "{kind=\"moco-v3\"}",
    "{kind=\"swav\"}",
    "{kind=\"dino\"}",
    "{kind=\"deepcluster-v2\", prototypes=[4, 4, 4]}",
    "{kind=\"byol\"}",
    "{kind=\"msf\", queue=512}",
    "{kind=\"jigsaw\"}",
    "{kind=\"rotnet\"}",
    "{kind=\"mae\"}",
];

/// Configs with tables of other kinds.
const OTHERS: &[&[&str]] = &[
    &["pretrain.optimizer={kind=\"sgd\", momentum=0.9}", "pretrain.schedule={kind=\"cosine\"}"],
    &["pretrain.optimizer={kind=\"adam\", betas=[0.9, 0.99]}"],
    &["pretrain.schedule={kind=\"steps\", drops=[1], factor=0.1}", "defend={kind=\"compress\"}"],
    &[
        "data={kind=\"cifar10\", size=32, per_class=20}",
        "defend={kind=\"compress\", controls=[\"scratch\"]}",
    ],
    &[
        "data={kind=\"stl10\", path=\"x\", size=32}",
        "pretrain.encoder={kind=\"resnet50\", width=4, stem=\"small\"}",
    ],
    &[
        "data={kind=\"folder\", path=\"x\", size=32}",
        "poison.place={kind=\"random\", min=0.1, max=0.9}",
    ],
    &["data={kind=\"file-list\", train=\"x\", val=\"y\", size=32}", "poison.target=\"a\""],
    &["poison.trigger={kind=\"seeded\", seed=3, width=5}", "poison.count=3", "poison.rate=0.5"],
    &["poison.trigger={kind=\"solid\", color=[1, 2, 3], width=5}"],
    &["poison.trigger={kind=\"text\", text=\"x\", size=8}"],
    &["pretrain.encoder={kind=\"vit\", dim=32, depth=1, heads=2, patch=8}"],
];

/// The values that each key is set to.
const VALUES: &[&str] = &[
    "0",
    "-1",
    "1",
    "2",
    "99999999999",
    "9223372036854775807",
    "18446744073709551616",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "-1e300",
    "1e-300",
    "0.5",
    "\"x\"",
    "true",
    "[]",
    "[-1]",
    "[nan]",
    "{}",
    "2026-01-01",
];

/// The `--set`s of each config.
fn all_sets() -> impl Iterator<Item = Vec<String>> {
    let methods = METHODS.iter().map(|method| vec![format!("pretrain.method={method}")]);
    let others = OTHERS.iter().map(|sets| sets.iter().map(|set| set.to_string()).collect());
    methods.chain(others)
}

/// Faults of the message that refuses `key = value`, set by `--set` over `file`.
fn complaints(key: &str, value: &str, message: &str, file: &str) -> Vec<String> {
    let set = format!("{key}={value}");
    let here = message.contains(&format!("{key} = {value}")) && !message.contains("(default; ");
    let begin = if here { format!("--set {set}: ") } else { String::new() };
    let mut bad: Vec<String> = wrong(&set, message, &begin, "", "").into_iter().collect();
    if !message.starts_with("--set ") && !message.contains(file) {
        bad.push(format!("{set}: no place in: {message}"));
    }
    // A library names the field without its table.
    let field = key.rsplit('.').next().unwrap();
    let said = message.replace(&set, "").replace(&format!("{field} = {value}"), "");
    let words = |c: char| !c.is_ascii_alphanumeric();
    let sentinels = ["18446744073709551615", "9223372036854775807", "4294967295", "NaN", "inf"];
    if said.split(words).any(|word| sentinels.contains(&word)) {
        bad.push(format!("{set}: a number that nobody wrote: {message}"));
    }
    bad
}

/// Sets every key to each of [`VALUES`]: the value is read, or refused in one plain sentence that says where it was
/// written.
#[test]
fn review_2_03_no_number_makes_a_strange_message() {
    let site = site();
    let path = site.path("base.toml");
    let file = path.display().to_string();
    let mut bad = Vec::new();
    let (mut tried, mut refused) = (BTreeSet::new(), 0);
    for (i, sets) in all_sets().enumerate() {
        // All keys of the first config; for the others, only those of the tables that differ.
        let own = |key: &String| {
            let table = |set: &String| set.split('=').next().unwrap().to_owned();
            i == 0 || sets.iter().any(|set| key.starts_with(&table(set)))
        };
        for key in keys(&path, &sets).into_iter().filter(own) {
            for value in VALUES {
                let mut sets = sets.clone();
                sets.push(format!("{key}={value}"));
                tried.insert(key.clone());
                let Err(error) = Experiment::read(&path, &sets) else { continue };
                refused += 1;
                bad.extend(complaints(&key, value, &error.to_string(), &file));
            }
        }
    }
    bad.sort();
    bad.dedup();
    assert_none(bad);
    assert!(tried.len() > 60 && refused > 1000, "{} keys, {refused} refused", tried.len());
    for key in ["seed", "data.per_class", "pretrain.method.bn_groups", "defend.bank", "probe.stage"]
    {
        assert!(tried.contains(key), "{key}");
    }
}

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

/// All keys of the config with `sets`: each table lists its keys when it is given an unknown one.
fn keys(path: &Path, sets: &[String]) -> Vec<String> {
    fn tables(prefix: &str, table: &Table, all: &mut Vec<String>) {
        all.push(prefix.to_owned());
        for (key, value) in table {
            if let Value::Table(inner) = value {
                tables(&format!("{prefix}{key}."), inner, all);
            }
        }
    }
    let known = Experiment::read(path, sets);
    let known = known.map(|experiment| experiment.to_toml().unwrap().parse::<Table>().unwrap());
    // If the sets do not fit together, a fixed list of tables.
    let mut prefixes = Vec::new();
    match known {
        Ok(table) => tables("", &table, &mut prefixes),
        Err(_) => prefixes.extend(
            ["", "data.", "poison.", "poison.trigger.", "pretrain.", "probe."].map(str::to_owned),
        ),
    }
    prefixes.extend(["pretrain.method.", "pretrain.encoder."].map(str::to_owned));
    prefixes.sort();
    prefixes.dedup();
    let mut keys = Vec::new();
    for prefix in prefixes {
        let mut sets = sets.to_vec();
        sets.push(format!("{prefix}zzzz=1"));
        let message = Experiment::read(path, &sets).unwrap_err().to_string();
        let Some((_, known)) = message.split_once("allowed are ") else { continue };
        keys.extend(known.split(", ").map(|key| format!("{prefix}{key}")));
    }
    keys
}

/// A word of the underlying libraries, or a phrase that occurs twice.
fn strange(message: &str) -> Option<String> {
    let inner = [
        "any variant",
        "variant identifier",
        "untagged",
        "struct ",
        "enum ",
        "serde",
        "visitor",
        "deserialize",
        "usize",
        "expected u",
        "expected i",
        "expected f",
        "Some(",
        "None",
        "IO error",
    ];
    if let Some(word) = inner.into_iter().find(|word| message.contains(word)) {
        return Some(format!("“{word}”"));
    }
    let mut phrases = BTreeSet::new();
    message
        .trim()
        .split(": ")
        .map(str::trim)
        .find(|phrase| !phrases.insert(*phrase))
        .map(str::to_owned)
}
