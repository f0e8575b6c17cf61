//! `poison` and `verify` through the real binary: the reference's layout, its counts, and exports that were changed.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::RgbImage;
use ssl_backdoor_data::{DataConfig, Dataset, Poisoned};
use ssl_backdoor_trigger::PoisonConfig;

fn binary(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssl-backdoor")).args(args).output().unwrap()
}

/// Standard output of a call that must succeed.
fn ok(args: &[&str]) -> String {
    let output = binary(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Status and all output of a call.
fn outcome(args: &[&str]) -> (i32, String) {
    let output = binary(args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

fn picture(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| (x * 7 + y * 5 + seed * 13 + c * 40) as u8))
    })
}

/// Writes ROOT/train and ROOT/val with `classes` classes of `count(class)` and 2 images.
fn image_folder(root: &Path, classes: u32, count: impl Fn(u32) -> u32, extension: &str) {
    for class in 0..classes {
        for (part, count) in [("train", count(class)), ("val", 2)] {
            let folder = root.join(part).join(format!("n{class:08}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let path = folder.join(format!("n{class:08}_{i}.{extension}"));
                picture(class + i, 24, 20).save(path).unwrap();
            }
        }
    }
}

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A config for `data` and `poison`, both TOML lines.
    fn config(&self, data: &str, poison: &str) -> String {
        let text = format!("seed = 4\n[data]\n{data}\n[poison]\n{poison}\n");
        std::fs::write(self.path("attack.toml"), text).unwrap();
        self.text("attack.toml")
    }
}

const HTBA: &str = "trigger = { kind = \"htba\", id = 10, width = 6 }";

/// All files below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let inside = path.strip_prefix(folder).unwrap();
                all.insert(inside.to_str().unwrap().to_owned());
            }
        }
    }
    all
}

#[test]
fn layout_and_counts_are_the_references() {
    let lab = Lab::new();
    // Protocol 0 and 1.4: a hundred classes, 1,300 images in the target class, 650 poisoned.
    image_folder(&lab.path("in100"), 100, |class| if class == 26 { 1300 } else { 2 }, "JPEG");
    let data = format!("kind = \"folder\"\npath = \"{}\"\nsize = 16", lab.text("in100"));
    let config = lab.config(&data, &format!("target = \"n00000026\"\nrate = 0.5\n{HTBA}"));
    let out = lab.text("out");
    ok(&["poison", &config, "--out", &out]);

    let stem = "loc_random_loc-min_0.25_loc-max_0.75_alpha_0.00_width_6_rate_0.50_targeted_True";
    let val_stem = "loc_random_loc-min_0.10_loc-max_0.90_alpha_0.00_width_6";
    let id = "HTBA_trigger_10_targeted_n00000026";
    let all = files(&lab.path("out"));
    let of = |prefix: &str| all.iter().filter(|f| f.starts_with(prefix)).count();
    assert_eq!(of(&format!("train/{stem}/n00000026/n00000026_")), 650);
    assert_eq!(of(&format!("val_poisoned/{val_stem}/n000000")), 200);
    // These images, two lists, two ledgers, the settings.
    assert_eq!(all.len(), 650 + 200 + 2 + 2 + 1);
    assert!(all.iter().all(|f| !f.contains("n00000026_") || f.ends_with(".JPEG")));

    let list = |part: &str, stem: &str| {
        std::fs::read_to_string(lab.path(&format!("out/data/{id}/{part}/{stem}_filelist.txt")))
            .unwrap()
    };
    let train = list("train", stem);
    let lines: Vec<&str> = train.lines().collect();
    // Replaced, not added; the target class comes last, its poisoned images first.
    assert_eq!(lines.len(), 99 * 2 + 1300);
    assert!(lines[..198].iter().all(|line| !line.contains("n00000026")));
    let poisoned: Vec<&&str> = lines.iter().filter(|line| line.starts_with(&out)).collect();
    assert_eq!((poisoned.len(), *poisoned[0]), (650, lines[198]));
    assert!(lines[198..].iter().all(|line| line.ends_with(" 26")));
    let val = list("val_poisoned", val_stem);
    assert_eq!(val.lines().count(), 200);
    let first = val.lines().next().unwrap().split(' ').next().unwrap();
    let size = ssl_backdoor_images::size(Path::new(first));
    assert_eq!(size.unwrap(), (16, 16));
    let ledger = std::fs::read_to_string(lab.path("out/poison.csv")).unwrap();
    assert!(ledger.starts_with("# rate = 0.5  # share of the target class\n"), "{ledger}");
    assert!(ledger.contains("# count = 650  # images\n"));

    assert_eq!(ok(&["verify", &out]).trim(), format!("{} files are unchanged", all.len()));
    let clean = ok(&["poison", "--clean", &out]);
    assert_eq!(clean.lines().count(), lines.len());
    assert!(clean.lines().all(|line| line.starts_with(&lab.text("in100"))));
    // Nothing is overwritten.
    let (status, text) = outcome(&["poison", &config, "--out", &out]);
    assert!(status == 1 && text.contains("not empty"), "{text}");
}

#[test]
fn what_was_touched_is_named() {
    let lab = Lab::new();
    image_folder(&lab.path("set"), 3, |_| 6, "jpg");
    let data = format!("kind = \"folder\"\npath = \"{}\"\nsize = 16", lab.text("set"));
    let config = lab.config(&data, &format!("target = 1\ncount = 3\n{HTBA}"));
    let out = lab.text("out");
    ok(&["poison", &config, "--out", &out]);
    let images: Vec<String> =
        files(&lab.path("out")).into_iter().filter(|file| file.starts_with("train/")).collect();
    let (changed, missing) = (&images[0], &images[1]);
    let mut bytes = std::fs::read(lab.path("out").join(changed)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(lab.path("out").join(changed), bytes).unwrap();
    std::fs::remove_file(lab.path("out").join(missing)).unwrap();
    std::fs::write(lab.path("out/train/more.jpg"), "x").unwrap();
    let list =
        files(&lab.path("out")).into_iter().find(|f| f.contains("train") && f.ends_with("txt"));
    let list = list.unwrap();
    let text = std::fs::read_to_string(lab.path("out").join(&list)).unwrap();
    std::fs::write(lab.path("out").join(&list), text.replace(" 1\n", " 2\n")).unwrap();
    let (status, text) = outcome(&["verify", &out]);
    assert_eq!(status, 1);
    for problem in [
        format!("{changed}: changed"),
        format!("{missing}: missing"),
        "train/more.jpg: extra".into(),
        format!("{list}: changed"),
        "error: 4 of ".into(),
    ] {
        assert!(text.contains(&problem), "no {problem:?} in {text}");
    }
    // A changed original is distinguished from a changed copy.
    let ledger = std::fs::read_to_string(lab.path("out/poison.csv")).unwrap();
    let row = ledger.lines().last().unwrap();
    picture(99, 24, 20).save(row.split(',').nth(1).unwrap()).unwrap();
    let (_, text) = outcome(&["verify", &out]);
    assert!(text.contains("has changed"), "{text}");
}

#[test]
fn exported_lossless_is_what_is_poisoned_in_memory() {
    let lab = Lab::new();
    let data = "kind = \"shapes\"\nsize = 20\nper_class = 6\neval_per_class = 2";
    let poison = format!("target = \"key\"\nrate = 0.5\nalpha = 0.3\n{HTBA}");
    let config = lab.config(data, &poison);
    let out = lab.text("out");
    ok(&["poison", &config, "--out", &out, "--lossless"]);
    ok(&["verify", &out]);

    let none = |_: &str, _, _| {};
    let data: DataConfig = toml::from_str(data).unwrap();
    let poison: PoisonConfig = toml::from_str(&poison).unwrap();
    let splits = data.load(&none).unwrap();
    let attack = poison.attack(&splits.train.labels, &splits.classes, 4, 64).unwrap();
    let in_memory = Poisoned::new(splits.clone(), attack);
    let mut expected: Vec<(Vec<u8>, u32)> = (0..in_memory.len())
        .map(|i| in_memory.get(i).unwrap())
        .map(|sample| (sample.image.into_raw(), sample.label))
        .collect();
    let lists: Vec<String> = files(&lab.path("out"))
        .into_iter()
        .filter(|file| file.ends_with("_filelist.txt"))
        .collect();
    let [train, val] = &lists[..] else { panic!("{lists:?}") };
    let exported: DataConfig = toml::from_str(&format!(
        "kind = \"file-list\"\ntrain = \"{out}/{train}\"\nval = \"{out}/{val}\"\nsize = 20"
    ))
    .unwrap();
    let exported = exported.load(&none).unwrap();
    let set = &exported.train.set;
    let mut found: Vec<(Vec<u8>, u32)> = (0..set.len())
        .map(|i| set.get(i).unwrap())
        .map(|sample| (sample.image.into_raw(), sample.label))
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(expected, found);
    // The classes are named by their folders.
    assert_eq!(exported.classes, splits.classes);

    // The clean list names the clean originals.
    let clean = ok(&["poison", "--clean", &out]);
    assert_eq!(clean.lines().filter(|line| line.contains("/clean/")).count(), 60);
}

#[test]
fn a_config_of_the_reference_is_exported() {
    let lab = Lab::new();
    image_folder(&lab.path("set"), 3, |_| 4, "png");
    let text = format!(
        "[experiment]\nID = HTBA_trigger_12_targeted_n00000002\n[poison_generation]\n\
         data_root = {}\ntext = false\nfntsize = 30\ntrigger = triggers/trigger_12.png\n\
         alpha_composite = true\ntrain_location = center\ntrain_location_min = 0.25\n\
         train_location_max = 0.75\ntrain_alpha = 0.00\nwatermark_width = 5\ntargeted = true\n\
         target_wnid = n00000002\npoison_injection_rate = 1.0\nval_location = multiple\n\
         val_location_min = 0.10\nval_location_max = 0.90\nval_alpha = 0.00\n\
         poison_savedir = {}/{{}}\nlogfile = x\nsplits = train,val_poisoned\npatch_params = true\n",
        lab.text("set"),
        lab.text("out")
    );
    std::fs::write(lab.path("a.cfg"), text).unwrap();
    let told = ok(&["poison", &lab.text("a.cfg"), "--set", "seed=3"]);
    assert!(told.contains("poisoned  4 training images: 100.00 % of the target class"), "{told}");
    let out = lab.text("out/HTBA_trigger_12_targeted_n00000002");
    ok(&["verify", &out]);
    let list = files(Path::new(&out))
        .into_iter()
        .find(|file| file.ends_with("w-patch-parameters_filelist.txt"))
        .unwrap();
    let list = std::fs::read_to_string(Path::new(&out).join(list)).unwrap();
    // A 5 px patch in the middle of 24 × 20.
    assert_eq!(list.lines().filter(|line| line.ends_with(" 2 9 7 5 5")).count(), 4, "{list}");
    let (status, text) = outcome(&["poison", &lab.text("a.cfg"), "--set", "rate=1", "--out", "x"]);
    assert!(status == 2 && text.contains("seed=N"), "{text}");
}

#[test]
fn paths_with_blanks_are_kept_with_a_warning_and_untargeted_attacks_reach_all_classes() {
    let lab = Lab::new();
    for (part, count) in [("train", 8), ("val", 1)] {
        for class in ["a cat", "ümläut"] {
            let folder = lab.path(&format!("my set/{part}/{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                picture(i, 20, 20).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let data = format!("kind = \"folder\"\npath = \"{}\"\nsize = 16", lab.text("my set"));
    let config = lab.config(&data, &format!("dataset_rate = 0.5\n{HTBA}"));
    let out = lab.text("out");
    let (status, text) = outcome(&["poison", &config, "--out", &out]);
    assert!(status == 0 && text.contains("tab"), "{text}");
    assert!(text.contains("poisoned  8 training images: 50.000 % of the set"), "{text}");
    let poisoned = files(&lab.path("out"));
    let of = |class: &str| {
        poisoned.iter().filter(|f| f.starts_with("train/") && f.contains(class)).count()
    };
    assert!(of("a cat") > 0 && of("ümläut") > 0 && of("a cat") + of("ümläut") == 8);
    ok(&["verify", &out]);
    let (status, text) =
        outcome(&["poison", &lab.config(&data, &format!("rate = 0.5\n{HTBA}")), "--out", "x"]);
    assert!(status == 2 && text.contains("there is no target"), "{text}");
    let config = lab.config(&data, &format!("target = \"dog\"\nrate = 0.5\n{HTBA}"));
    let (status, text) = outcome(&["poison", &config, "--out", "x"]);
    assert!(status == 2 && text.contains("the classes are a cat, ümläut"), "{text}");
}
