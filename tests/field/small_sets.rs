//! Small sets in the formats that users have, empty parts, and packed caches that several runs share.

use std::fs;
use std::path::Path;

use super::sets::{Said, Site, picture};

const PIXELS: usize = 3 * 32 * 32;

/// `count` records of CIFAR-10's binary version, of all classes in turn.
fn records(count: u64, first: u64) -> Vec<u8> {
    let record = |i: u64| {
        let image = picture(i % 10, first + i, 32);
        let planes = (0..3).flat_map(|c| image.pixels().map(move |p| p.0[c]).collect::<Vec<_>>());
        std::iter::once((i % 10) as u8).chain(planes).collect::<Vec<u8>>()
    };
    (0..count).flat_map(record).collect()
}

/// The same as a pickle of protocol 2 whose opcodes are those of `tests/fixtures/pickles` in crates/data.
fn pickle(records: &[u8]) -> Vec<u8> {
    let rows = || records.chunks_exact(1 + PIXELS);
    let count = rows().len() as u8;
    let mut text = b"\x80\x02}(U\x06labels](".to_vec();
    rows().for_each(|row| text.extend([b'K', row[0]]));
    text.extend(b"eU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K");
    text.push(count);
    text.extend(b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    text.extend((u32::from(count) * PIXELS as u32).to_le_bytes());
    rows().for_each(|row| text.extend(&row[1..]));
    text.extend(b"tbu.");
    text
}

fn cifar(site: &Site) {
    for i in 0..6 {
        let name = if i == 5 { "test_batch".into() } else { format!("data_batch_{}", i + 1) };
        let records = records(20, 100 * i);
        site.write(format!("py/cifar-10-batches-py/{name}"), pickle(&records));
        site.write(format!("bin/{name}.bin"), records);
    }
}

#[test]
fn both_versions_of_cifar_train_the_same_bytes() {
    let site = Site::new();
    cifar(&site);
    for place in ["bin", "py"] {
        site.config(
            "t.toml",
            &format!(r#"data = {{ kind = "cifar10", path = "{place}", size = 32 }}"#),
        );
        site.run(&format!("run t.toml --out r-{place}")).good();
    }
    for file in ["clean/encoder.safetensors", "backdoored/encoder.safetensors", "poison.csv"] {
        let of = |place: &str| fs::read(site.path(format!("r-{place}")).join(file)).unwrap();
        assert!(of("bin") == of("py"), "{file}");
    }
}

#[test]
fn a_pickle_that_calls_something_is_refused() {
    let site = Site::new();
    cifar(&site);
    site.write(
        "py/cifar-10-batches-py/data_batch_3",
        b"\x80\x02cos\nsystem\nU\x0atouch here\x85R.",
    );
    site.config("t.toml", r#"data = { kind = "cifar10", path = "py", size = 32 }"#);
    site.run("run t.toml --out r").bad(1, &["data_batch_3", "os.system", "nothing is called"]);
    assert!(!site.path("here").exists());
}

#[test]
fn archives_and_wrong_paths_are_answered_with_what_to_do() {
    let site = Site::new();
    fs::create_dir(site.path("d")).unwrap();
    let said = |kind: &str, path: &str| {
        site.config(
            "t.toml",
            &format!(r#"data = {{ kind = "{kind}", path = "{path}", size = 32 }}"#),
        );
        site.run("run t.toml --out r --set poison.target=3")
    };
    for (kind, archive, file, command) in [
        ("cifar10", "cifar-10-python.tar.gz", "data_batch_1.bin", "tar xzf"),
        ("cifar100", "cifar-100-binary.tar.gz", "cifar-100-python/train", "tar xzf"),
        ("stl10", "stl10_binary.tar.gz", "stl10_binary/train_X.bin", "tar xzf"),
        ("tiny-imagenet", "tiny-imagenet-200.zip", "tiny-imagenet-200/wnids.txt", "unzip"),
    ] {
        said(kind, "d").bad(1, &[file, archive, "`path`"]);
        said(kind, "none").bad(1, &["none does not exist", file]);
        site.write(format!("d/{archive}"), "");
        let command = format!("{command} d/{archive} -");
        said(kind, "d").bad(1, &[file, &command]);
        said(kind, &format!("d/{archive}")).bad(1, &["is an archive", &command]);
    }
    said("mnist", "d").bad(1, &["d/train-images-idx3-ubyte", "d/MNIST/raw/", "IDX"]);
    site.config("t.toml", r#"data = { kind = "cifar10", size = 32 }"#);
    site.run("run t.toml --out r").bad(1, &["data.path is not set", "Python version"]);
}

#[test]
fn tiny_imagenet_is_read_as_its_archive_unpacks() {
    let site = Site::new();
    let (classes, mut lines) = (["n01443537", "n02123045"], String::new());
    site.write("tiny-imagenet-200/wnids.txt", "n02123045\nn01443537\n");
    let save = |path: String, class: usize, i: u64| {
        let path = site.write(format!("tiny-imagenet-200/{path}"), "");
        picture(class as u64, i, 64).save_with_format(path, image::ImageFormat::Jpeg).unwrap();
    };
    for (class, wnid) in classes.iter().enumerate() {
        (0..12).for_each(|i| save(format!("train/{wnid}/images/{wnid}_{i}.JPEG"), class, i));
        for i in 0..4 {
            let name = format!("val_{}.JPEG", 4 * class as u64 + i);
            save(format!("val/images/{name}"), class, 100 + i);
            lines += &format!("{name}\t{wnid}\t0\t32\t44\t62\n");
        }
    }
    site.write("tiny-imagenet-200/val/val_annotations.txt", lines);
    site.config(
        "t.toml",
        r#"data = { kind = "tiny-imagenet", path = ".", size = 32, eval = "all" }"#,
    );
    site.run("run t.toml --out r --set poison.target=n02123045").good();
    let scores = site.json("r/scores.json");
    assert_eq!((&scores["classes"], &scores["target"]), (&2.into(), &1.into()));
    let ledger = site.read("r/poison.csv");
    assert_eq!(ledger.matches("train/n02123045/images/").count(), 6, "{ledger}");
}

#[test]
fn review_2_01_an_empty_test_part_is_refused_before_anything_is_trained() {
    let site = Site::new();
    site.folder("d", &["ant", "bee", "cat"], [8, 1]);
    site.config("t.toml", r#"data = { kind = "folder", path = "d", size = 32, eval = "test" }"#);
    let words =
        ["data.eval = \"test\"", "3 evaluation images in 3 classes, 1.0 per class", "Set `eval`"];
    site.run("run t.toml --out r").bad(2, &words);
    assert!(!site.path("r/clean").exists());
}

/// Both encoders that a run trained.
fn trained(run: &Path) -> [Vec<u8>; 2] {
    ["clean", "backdoored"]
        .map(|model| fs::read(run.join(model).join("encoder.safetensors")).unwrap())
}

/// Number of names in `folder` that end with `end`.
fn ending(folder: &Path, end: &str) -> usize {
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(end)).count()
}

#[test]
fn field_f02_runs_that_share_a_cache_folder_train_what_they_train_alone() {
    let site = Site::new();
    site.folder("a", &["ant", "cat"], [60, 2]);
    // Other pixels under the same names.
    for entry in ["train/ant", "train/cat", "val/ant", "val/cat"] {
        for (i, file) in (0..).zip(fs::read_dir(site.path("a").join(entry)).unwrap()) {
            let path = site.path("b").join(entry).join(file.unwrap().file_name());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture(5, i, 32).save(path).unwrap();
        }
    }
    let config = |set: &str, cache: &str| {
        let keys = format!(r#"kind = "folder", path = "{set}", size = 32, cache = "{cache}""#);
        site.config(&format!("{set}.toml"), &format!("data = {{ {keys} }}"));
    };
    let alone = ["a", "b"].map(|set| {
        config(set, &format!("cache-{set}"));
        site.run(&format!("run {set}.toml --out alone-{set}")).good();
        config(set, "cache");
        trained(&site.path(format!("alone-{set}")))
    });
    let start = |set: &str, out: &str| {
        let mut command = site.command(&format!("run {set}.toml --out {out}"));
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    // Two runs on the first set and one on the other, all at once.
    let runs =
        [("a", "r1"), ("a", "r2"), ("b", "r3")].map(|(set, out)| (set, out, start(set, out)));
    for (set, out, child) in runs {
        Said::of(child.wait_with_output().unwrap()).good();
        assert!(trained(&site.path(out)) == alone[usize::from(set == "b")], "{out}");
    }
    let cache = site.path("cache");
    assert_eq!((ending(&cache, ".pack"), ending(&cache, ".tmp")), (2, 0));
}

#[test]
fn field_f02_every_job_of_a_sweep_succeeds_at_the_first_start() {
    let site = Site::new();
    site.folder("a", &["ant", "cat"], [60, 2]);
    site.config("a.toml", r#"data = { kind = "folder", path = "a", size = 32, cache = "cache" }"#);
    site.write(
        "sweep.toml",
        r#"name = "sweep"
base = "a.toml"
out = "runs"
[[axis]]
name = "seed"
points = [ { name = "s1", set = { seed = 1 } }, { name = "s2", set = { seed = 2 } } ]
"#,
    );
    site.run("sweep sweep.toml --jobs 2").good();
    site.run("run a.toml --out alone").good();
    // The clean twin of a sweep is stored elsewhere.
    let trained =
        |run: &str| fs::read(site.path(run).join("backdoored/encoder.safetensors")).unwrap();
    assert!(trained("runs/s1") == trained("alone"));
    assert_eq!((ending(&site.path("cache"), ".pack"), ending(&site.path("cache"), ".tmp")), (1, 0));
}

/// A limit on the size of files stands in for a full disk.
#[test]
#[cfg(unix)]
fn field_f02_a_full_disk_is_an_error_that_says_what_the_cache_needs() {
    let site = Site::new();
    site.folder("a", &["ant", "cat"], [60, 2]);
    site.config("a.toml", r#"data = { kind = "folder", path = "a", size = 32, cache = "cache" }"#);
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" run a.toml --out r";
    let mut command = std::process::Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_ssl-backdoor");
    command.args(["-c", script, binary]).current_dir(site.path("."));
    let said = Said::of(command.output().unwrap());
    // 120 images of 37 × 37 pixels.
    said.bad(1, &["cannot write cache/train-37-", "the cache of 120 images needs about 0.5 MB"]);
    assert_eq!((ending(&site.path("cache"), ".pack"), ending(&site.path("cache"), ".tmp")), (0, 0));
}
