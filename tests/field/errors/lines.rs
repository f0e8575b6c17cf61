//! The line of a value.

use super::{BASE, assert_none, message, site, wrong};

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
