//! Exports: read back and verified from anywhere, one process at a time, and exports of older versions.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::sets::{Said, Site, picture};

/// The lists of the export in `folder`: of the training images and of the patched ones.
fn lists(site: &Site, folder: &str) -> [PathBuf; 2] {
    ["train", "val_poisoned"].map(|part| {
        let data = site.path(folder).join("data");
        let id = std::fs::read_dir(data).unwrap().next().unwrap().unwrap().path();
        let list = std::fs::read_dir(id.join(part)).unwrap().next().unwrap().unwrap();
        list.path()
    })
}

/// A config that runs on the lists of the export in `folder`.
fn listed(site: &Site, name: &str, folder: &str) -> PathBuf {
    let [train, val] = lists(site, folder).map(|path| path.display().to_string());
    let data = format!(
        "data = {{ kind = \"file-list\", train = \"{train}\", val = \"{val}\", size = 32, eval = \"all\" }}"
    );
    site.config(name, &data)
}

/// Runs the binary in `folder`, which may be anywhere.
fn run_in(site: &Site, folder: &Path, args: &str) -> Said {
    Said::of(site.command(args).current_dir(folder).output().unwrap())
}

#[test]
fn field_f13_an_export_from_a_relative_path_reads_back_and_verifies_from_anywhere() {
    let site = Site::new();
    site.folder("d", &["ant", "bee", "cat"], [6, 2]);
    picture(9, 9, 12).save(site.path("mark.png")).unwrap();
    let config = site.config("t.toml", "data = { kind = \"folder\", path = \"d\", size = 32 }");
    let trigger = "poison.trigger={kind=\"image\",path=\"mark.png\",width=7}";
    site.run(&format!("poison {} --out p --set {trigger}", config.display())).good();
    let root = site.path("").display().to_string();
    for list in lists(&site, "p") {
        let text = std::fs::read_to_string(list).unwrap();
        assert!(text.lines().all(|line| line.starts_with(&root)), "{text}");
    }
    let said =
        run_in(&site, Path::new("/"), &format!("verify {}", site.path("p").display())).good();
    assert!(said.stdout.contains("files are unchanged") && said.stderr.is_empty(), "{said:?}");
    let clean =
        run_in(&site, Path::new("/"), &format!("poison --clean {}", site.path("p").display()));
    assert!(clean.good().stdout.lines().all(|line| line.starts_with(&format!("{root}d/train/"))));
    // The list is a data set, from here and from elsewhere.
    let config = listed(&site, "back.toml", "p");
    std::fs::create_dir(site.path("else")).unwrap();
    for (folder, out) in [("", "back"), ("else", "back-2")] {
        let out = site.path(out);
        let args = format!("run {} --until poison --out {}", config.display(), out.display());
        run_in(&site, &site.path(folder), &args).good();
    }
    assert_eq!(site.read("back/poison.csv"), site.read("back-2/poison.csv"));
}

#[test]
fn field_f13_a_moved_export_verifies_and_lost_originals_are_named() {
    let site = Site::new();
    site.folder("d", &["ant", "cat"], [4, 2]);
    let config = site.config("t.toml", "data = { kind = \"folder\", path = \"d\", size = 32 }");
    site.run(&format!("poison {} --out p", config.display())).good();
    std::fs::rename(site.path("p"), site.path("q")).unwrap();
    let said = site.run("verify q").good();
    let old = site.path("p").display().to_string();
    assert!(
        said.stderr.contains("note: the folder was moved") && said.stderr.contains(&old),
        "{said:?}"
    );
    std::fs::rename(site.path("d"), site.path("gone")).unwrap();
    let original = site.path("d").display().to_string();
    site.run("verify q").bad(1, &["export.toml", "from which every file is rebuilt", &original]);
}

/// STL-10 in its binary version with twenty images in each part.
fn stl10(site: &Site) {
    for (name, first) in [("train", 0), ("test", 100), ("unlabeled", 200)] {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for i in 0..20u64 {
            let image = picture(i % 10, first + i, 96);
            for c in 0..3 {
                for x in 0..96 {
                    pixels.extend((0..96).map(|y| image.get_pixel(x, y).0[c]));
                }
            }
            labels.push((i % 10 + 1) as u8);
        }
        site.write(format!("stl/{name}_X.bin"), pixels);
        site.write(format!("stl/{name}_y.bin"), labels);
    }
}

#[test]
fn field_f13_images_without_a_label_have_class_minus_one_in_lists_and_read_back() {
    let site = Site::new();
    stl10(&site);
    let data =
        "data = { kind = \"stl10\", path = \"stl\", size = 32, unlabelled = true, eval = \"all\" }";
    let config = site.config("t.toml", data);
    site.run(&format!("poison {} --out p", config.display())).good();
    let text = std::fs::read_to_string(&lists(&site, "p")[0]).unwrap();
    let of = |end: &str| text.lines().filter(|line| line.ends_with(end)).count();
    assert_eq!((of(" -1"), of(" 0"), text.lines().count()), (20, 2, 40), "{text}");
    assert!(!text.contains("4294967295"), "{text}");
    site.run("verify p").good();
    let config = listed(&site, "back.toml", "p");
    site.run(&format!("run {} --until poison --out back", config.display())).good();
}

#[test]
fn review_1_02_an_export_of_version_0_1_verifies_and_is_said_to_be_of_that_version() {
    let site = Site::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/export-0.1");
    copy(&fixture, &site.path("old"));
    let said = run_in(&site, &site.path("old"), "verify out").good();
    assert!(said.stderr.contains("written in format 1 by an older version"), "{said:?}");
    assert!(said.stdout.contains("9 files are unchanged"), "{said:?}");
    // Its paths are relative: from elsewhere, the error says so.
    site.run("verify old/out").bad(
        1,
        &["set is a relative path", "older version", "in the folder where it was exported"],
    );
    // A changed file is still distinguished from one of another version.
    let image = std::fs::read_dir(site.path("old/out/train")).unwrap().next().unwrap().unwrap();
    let image = image.path().join("bee/0.jpg");
    let mut bytes = std::fs::read(&image).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let said = run_in(&site, &site.path("old"), "verify out");
    assert!(said.status == Some(1) && said.stdout.contains("bee/0.jpg: changed"), "{said:?}");
    // A later format is refused.
    let path = site.path("old/out/export.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("format = 9\nversion = \"7.1.0\"\nnew_key = 1\n{text}")).unwrap();
    run_in(&site, &site.path("old"), "verify out")
        .bad(1, &["version 7.1.0 in format 9", "reads 1 to 3"]);
}

#[test]
fn an_export_of_version_0_2_verifies_and_is_said_to_be_of_that_version() {
    let site = Site::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    copy(&fixtures.join("export-0.1/set"), &site.path("set"));
    copy(&fixtures.join("export-0.2/out"), &site.path("out"));
    let root = site.path("").display().to_string();
    let named =
        ["out/export.toml", "out/poison.csv", "out/val_poisoned.csv"].map(|name| site.path(name));
    for path in named.into_iter().chain(lists(&site, "out")) {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("/data/export-0.2/", &root)).unwrap();
    }
    let said = site.run("verify out").good();
    let note = "written in format 2 by an older version: its JPEGs differ from PIL's by rounding";
    assert!(said.stderr.contains(note), "{said:?}");
    assert!(said.stdout.contains("9 files are unchanged"), "{said:?}");
    // The same files as of this version are not what it would write.
    let path = site.path("out/export.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("format = 2", "format = 3")).unwrap();
    let said = site.run("verify out");
    assert!(
        said.status == Some(1)
            && said.stdout.contains("bee/0.jpg: matches the ledger, but this version"),
        "{said:?}"
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A config whose export takes some seconds.
fn slow(site: &Site) -> PathBuf {
    let data = "data = { kind = \"shapes\", size = 96, per_class = 150, eval_per_class = 20 }";
    let config = site.config("slow.toml", data);
    let text = std::fs::read_to_string(&config).unwrap().replace("\"cat\"", "3");
    std::fs::write(&config, text).unwrap();
    config
}

/// Starts an export to `out` and waits until it has begun to write images.
fn begun(site: &Site, config: &Path, out: &str) -> Child {
    let mut command = site.command(&format!("poison {} --out {out}", config.display()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !site.path(format!("{out}.partial/train")).exists() {
        assert!(child.try_wait().unwrap().is_none() && since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[cfg(unix)]
fn signal(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
}

#[test]
#[cfg(unix)]
fn two_exports_into_one_folder_keep_out_of_each_others_way() {
    let site = Site::new();
    let config = slow(&site);
    let first = begun(&site, &config, "p");
    // It is paused while the second tries, with another spelling of the same folder.
    signal(&first, "-STOP");
    let pid = format!("another process (pid {})", first.id());
    let second = format!("poison {} --out ./x/../p", config.display());
    std::fs::create_dir(site.path("x")).unwrap();
    site.run(&second).bad(1, &[&pid, "is exporting to this folder", "p"]);
    signal(&first, "-CONT");
    let first = Said::of(first.wait_with_output().unwrap()).good();
    assert!(first.stderr.is_empty(), "{first:?}");
    site.run("verify p").good();
    assert!(!site.path("p.partial").exists() && !site.path("p/.lock").exists());
    site.run(&second).bad(1, &["not empty"]);
    assert!(!site.path("p.partial").exists());
    site.run("verify p").good();
}

#[test]
fn what_a_killed_export_left_is_taken_over_and_what_is_anothers_is_left_alone() {
    let site = Site::new();
    let config = slow(&site);
    let mut killed = begun(&site, &config, "p");
    killed.kill().unwrap();
    killed.wait().unwrap();
    site.write("p.partial/train/stray.png", "half");
    let small = format!("poison {} --set data.per_class=4 --out p", config.display());
    site.run(&small).good();
    site.run("verify p").good();
    assert!(!site.path("p.partial").exists());
    // A folder with that name that no export created.
    site.write("q.partial/mine.txt", "mine");
    let args = format!("poison {} --set data.per_class=4 --out q", config.display());
    site.run(&args).bad(1, &["q.partial", "in the way"]);
    assert_eq!(site.read("q.partial/mine.txt"), "mine");
    // An export that fails leaves nothing behind.
    let args = format!("poison {} --set poison.target=99 --out r", config.display());
    site.run(&args).bad(2, &["poison.target = 99"]);
    assert!(!site.path("r").exists() && !site.path("r.partial").exists());
    std::fs::write(site.path("broken.png"), "no image").unwrap();
    site.folder("d", &["ant", "cat"], [3, 1]);
    std::fs::copy(site.path("broken.png"), site.path("d/val/cat/broken.png")).unwrap();
    let config = site.config("d.toml", "data = { kind = \"folder\", path = \"d\", size = 32 }");
    site.run(&format!("poison {} --out s", config.display())).bad(1, &["broken.png"]);
    assert!(!site.path("s").exists() && !site.path("s.partial").exists());
}

#[test]
fn review_1_04_recompress_reaches_ledger_and_export() {
    let site = Site::new();
    site.folder("d", &["ant", "cat"], [4, 2]);
    // Lossless pictures with a name that is exported as JPEG.
    for entry in std::fs::read_dir(site.path("d/train/cat")).unwrap().map(Result::unwrap) {
        std::fs::rename(entry.path(), entry.path().with_extension("JPEG")).unwrap();
    }
    let data = "data = { kind = \"folder\", path = \"d\", size = 32 }";
    let config = site.config("t.toml", data).display().to_string();
    let key = "--set poison.recompress=true";
    site.run(&format!("run {config} {key} --until poison --out run")).good();
    site.run(&format!("run {config} --until poison --out plain")).good();
    let [with, without] = ["run/poison.csv", "plain/poison.csv"].map(|file| site.read(file));
    assert_eq!(
        with.lines().filter(|line| *line != "# recompress = true").collect::<Vec<_>>(),
        without.lines().collect::<Vec<_>>()
    );
    assert_ne!(with, without);
    site.run(&format!("poison {config} {key} --out p")).good();
    site.run("verify p").good();
    // A run sees JPEG, so a lossless export would be another data set.
    site.run(&format!("poison {config} {key} --lossless --out q"))
        .bad(2, &["poison.recompress = true", "--set poison.recompress=false"]);
    // If everything is exported as PNG, the key changes nothing, and a message says so.
    let said = site.run(&format!(
        "run {config} {key} --set data={{kind=\"shapes\",size=16,per_class=8,eval_per_class=2}} \
         --set poison.target=1 --set poison.trigger.width=4 --until poison --out shapes"
    ));
    assert!(said.good().stderr.contains("poison.recompress = true has no effect"));
}
