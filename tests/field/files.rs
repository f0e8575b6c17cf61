//! Image files as users have them: which are read, which are left out and reported, and sets without labels.

use crate::sets::{Site, picture};

const FOLDER: &str = r#"data = { kind = "folder", path = "d", size = 32, eval = "all" }"#;
const CLASSES: [&str; 3] = ["ant", "bee", "cat"];

fn save(site: &Site, name: &str, class: u64, index: u64) {
    let path = site.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = picture(class, index, 32);
    let format = if name.ends_with("jfif") {
        image::ImageFormat::Jpeg
    } else {
        image::ImageFormat::from_path(&path).unwrap()
    };
    image.save_with_format(path, format).unwrap();
}

#[test]
fn field_f08_every_format_and_every_depth_is_read_and_the_rest_is_said() {
    let site = Site::new();
    site.folder("d", &CLASSES, [4, 6]);
    for (class, name) in (0..).zip(CLASSES) {
        for (i, extension) in (100..).zip(["webp", "bmp", "tif", "gif", "ppm", "jfif"]) {
            save(&site, &format!("d/train/{name}/{i}.{extension}"), class, i);
        }
        save(&site, &format!("d/train/{name}/more/1.png"), class, 200);
    }
    site.write("d/train/ant/x.heic", "x");
    site.write("d/train/ant/notes.txt", "x");
    site.write("d/train/ant/.hidden.png", "x");
    save(&site, "d/train/beside.png", 0, 300);
    for i in 0..5 {
        save(&site, &format!("d/val/dog/{i}.png"), 3, i);
    }
    let config = site.config("t.toml", FOLDER);
    let said = site.run(&format!("run {} --out r --until poison", config.display())).good();
    for words in [
        "left out: 5 images of classes without training images, for example d/val/dog/0.png",
        "left out: 1 image beside the class folders, d/train/beside.png",
        "left out: 1 image of an unsupported format, d/train/ant/x.heic",
        "left out: 1 file that is not an image, d/train/ant/notes.txt",
        "left out: 1 hidden file or folder, d/train/ant/.hidden.png",
    ] {
        assert!(said.stderr.contains(words), "no “{words}” in: {}", said.stderr);
    }
    // Half of the eleven remaining images of the class: the rate is a share of those.
    let ledger = site.read("r/poison.csv");
    assert!(ledger.contains("# count = 5 "), "{ledger}");
    assert!(ledger.contains("# dataset_rate = 0.1515"), "{ledger}");
}

#[cfg(unix)]
#[test]
fn field_f08_a_dead_link_stops_the_run_before_it_trains_or_is_left_out() {
    let site = Site::new();
    site.folder("d", &CLASSES, [4, 6]);
    std::os::unix::fs::symlink("/nowhere/x.png", site.path("d/train/ant/x.png")).unwrap();
    site.config("t.toml", FOLDER);
    site.run("run t.toml --out r")
        .bad(1, &["d/train/ant/x.png", "the link leads to a file that does not exist"]);
    assert!(!site.path("r/clean").exists());
    let said = site.run("run t.toml --out r --until poison --set data.on_corrupt=skip").good();
    assert!(
        said.stderr.contains("left out: 1 missing file or broken link, d/train/ant/x.png"),
        "{}",
        said.stderr
    );
}

#[test]
fn field_f15_a_photograph_with_a_film_behind_it_is_read() {
    let site = Site::new();
    site.folder("d", &CLASSES, [4, 6]);
    let path = site.path("d/train/cat/001.jpg");
    picture(2, 100, 32).save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"MotionPhoto_Data\0\0\0\x18ftypmp42 \xff\xda more");
    std::fs::write(&path, bytes).unwrap();
    site.config("t.toml", FOLDER);
    site.run("run t.toml --out r --until poison --set poison.rate=1.0").good();
    assert!(site.read("r/poison.csv").contains("001.jpg"));
}

/// Writes `d/train.txt` and `d/val.txt`, lists of the images in `d`; `line` makes a line from path and class.
fn lists(site: &Site, line: impl Fn(&str, u64) -> String) {
    for (part, count) in [("train", 4), ("val", 6)] {
        let mut text = String::new();
        for (class, name) in (0..).zip(CLASSES) {
            for i in 0..count {
                text += &line(&format!("{part}/{name}/{i:03}.png"), class);
            }
        }
        site.write(format!("d/{part}.txt"), text);
    }
}

#[test]
fn field_f13_a_byte_order_mark_is_read_and_utf_16_is_named() {
    let site = Site::new();
    site.folder("d", &CLASSES, [4, 6]);
    lists(&site, |path, class| format!("{path} {class}\r\n"));
    let list = std::fs::read(site.path("d/train.txt")).unwrap();
    let data = r#"data = { kind = "file-list", train = "d/train.txt", val = "d/val.txt", size = 32, eval = "all" }"#;
    site.config("t.toml", data);
    site.write("d/train.txt", [b"\xef\xbb\xbf", &list[..]].concat());
    site.run("run t.toml --out r --until poison").good();
    let wide: Vec<u8> = list.iter().flat_map(|&byte| [byte, 0]).collect();
    site.write("d/train.txt", [b"\xff\xfe", &wide[..]].concat());
    site.run("run t.toml --out r --until poison").bad(1, &["d/train.txt", "save it as UTF-8"]);
}

#[test]
fn field_f13_no_list_leaves_its_root_from_wherever_it_is_named() {
    let site = Site::new();
    site.folder("d", &CLASSES, [4, 6]);
    lists(&site, |path, class| format!("../d/{path} {class}\n"));
    std::fs::create_dir(site.path("in")).unwrap();
    for list in ["train.txt", "val.txt"] {
        std::fs::rename(site.path("d").join(list), site.path("in").join(list)).unwrap();
    }
    let list = |folder: &str, more: &str| {
        format!(
            r#"data = {{ kind = "file-list", train = "{folder}train.txt", val = "{folder}val.txt", size = 32{more} }}"#
        )
    };
    for (data, inside) in [
        (list("in/", ""), false),
        (list("", ""), true),
        (list("", r#", root = ".""#), true),
        (list("./", r#", root = "./""#), true),
    ] {
        let config = site.config("t.toml", &data);
        let mut command = site.command(&format!("run {} --out r --until poison", config.display()));
        if inside {
            command.current_dir(site.path("in"));
        }
        let said = crate::sets::Said::of(command.output().unwrap());
        said.bad(
            1,
            &["../d/train/ant/000.png is outside ", "a list may name only files below its root"],
        );
    }
}

/// `f/train/*.png` without labels, `f/val/CLASS/*`, and labelled images in `f/labelled/CLASS/*`.
fn flat(site: &Site) {
    site.folder("f", &CLASSES, [6, 4]);
    std::fs::rename(site.path("f/train"), site.path("f/labelled")).unwrap();
    for class in 0..3 {
        for i in 0..8 {
            save(site, &format!("f/train/{class}-{i}.png"), class, 500 + i);
        }
    }
    site.write("f/poison.txt", "train/2-0.png\ntrain/2-1.png\ntrain/2-2.png\n");
}

#[test]
fn field_f13_training_images_need_no_labels() {
    let site = Site::new();
    flat(&site);
    let data = r#"data = { kind = "folder", path = "f", size = 32, eval = "all", labelled = "f/labelled" }"#;
    let text =
        site.read(site.config("t.toml", data)).replace("rate = 0.5", "list = \"f/poison.txt\"");
    site.write("t.toml", &text);
    site.run("run t.toml --out r").good();
    let scores = site.json("r/scores.json");
    assert_eq!((&scores["train_images"], &scores["images"]), (&24.into(), &12.into()));
    assert_eq!(
        (&scores["poison"]["count"], &scores["poison"]["rate"]),
        (&3.into(), &serde_json::Value::Null)
    );
    assert_eq!((&scores["target_name"], &scores["classes"]), (&"cat".into(), &3.into()));
    assert_eq!(scores["labels"], 0.5);
    assert!(!site.read("r/report.md").contains("4294967295"));
    // The same as lists; the probe's list names training images.
    let names = |folder: &str, class: Option<u64>| {
        let name = |i| match class {
            Some(class) => format!("{folder}/{class}-{i}.png {class}\n"),
            None => (0..3).map(|class| format!("{folder}/{class}-{i}.png\n")).collect(),
        };
        (0..8).map(name).collect::<String>()
    };
    site.write("f/train.txt", names("train", None));
    site.write(
        "f/labelled.txt",
        (0..3).map(|class| names("train", Some(class))).collect::<String>(),
    );
    let val = |(class, name)| {
        (0..4).map(move |i| format!("val/{name}/{i:03}.png {class}\n")).collect::<String>()
    };
    site.write("f/val.txt", (0..3).zip(CLASSES).map(val).collect::<String>());
    let lists = r#"data = { kind = "file-list", train = "f/train.txt", val = "f/val.txt", size = 32, eval = "all",
                   labelled = "f/labelled.txt" }"#
        .replace('\n', "");
    site.write("l.toml", text.replace(data, &lists).replace("\"cat\"", "2"));
    site.run("run l.toml --out l").good();
    let scores = site.json("l/scores.json");
    assert_eq!((&scores["train_images"], &scores["labels"]), (&24.into(), &0.5.into()));
}

#[test]
fn field_f13_what_a_set_without_labels_cannot_do_is_said_before_it_trains() {
    let site = Site::new();
    flat(&site);
    site.config("t.toml", r#"data = { kind = "folder", path = "f", size = 32, eval = "all" }"#);
    let run = |sets: &str| site.run(&format!("run t.toml --out r {sets}"));
    run("").bad(
        2,
        &["poison.rate = 0.5", "no training image has the label of the target class", "in `list`"],
    );
    let text = site.read("t.toml");
    site.write("t.toml", text.replace("rate = 0.5", "list = \"f/poison.txt\""));
    run("").bad(2, &["probe.labels", "the training images have no labels", "data.labelled"]);
    site.write("f/poison.txt", "labelled/cat/000.png\n");
    run("--set data.labelled=f/labelled")
        .bad(2, &["f/poison.txt", "labelled/cat/000.png is no training image"]);
    site.write("t.toml", text.replace("target = \"cat\"\nrate = 0.5", "count = 5"));
    run("--set data.labelled=f/labelled --until poison").good();
    assert!(site.read("r/poison.csv").contains("# count = 5 "));
    assert!(!site.path("r/clean").exists());
}

#[test]
fn a_tilde_is_the_home_folder() {
    let site = Site::new();
    site.folder("d", &CLASSES, [4, 6]);
    let config = site.config("t.toml", &FOLDER.replace("\"d\"", "\"~/d\""));
    let mut command = site.command(&format!("run {} --out=~/r --until poison", config.display()));
    command.env("HOME", site.path("")).current_dir(std::env::temp_dir());
    crate::sets::Said::of(command.output().unwrap()).good();
    assert!(site.path("r/poison.csv").exists());
}
