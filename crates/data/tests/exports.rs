//! Exports read back: a list of an export gives the exported labels and pixels for every kind of set, and a run that
//! recompresses sees the pixels of the files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use proptest::prelude::*;
use ssl_backdoor_data::{
    DataConfig, Dataset, Eval, Export, Exported, Patched, Poisoned, Split, Splits, UNLABELLED,
    read_image, verify,
};
use ssl_backdoor_trigger::{Attack, Ledger, PoisonConfig};

const SEED: u64 = 3;

fn none(_: &str, _: usize, _: usize) {}

fn picture(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| (x * 17 + y * 29 + seed * 13 + c * 90 + x * y % 7) as u8))
    })
}

/// Saves a picture in the format of its extension; without one that is known, as PNG.
fn save(path: &Path, seed: u32, (width, height): (u32, u32)) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = picture(seed, width, height);
    if image.save(path).is_err() {
        image.save_with_format(path, image::ImageFormat::Png).unwrap();
    }
}

/// The class folders of a set and the ends of its file names: blanks, umlauts, both formats, upper and lower case.
const CLASSES: [&str; 4] = ["ant", "a bee", "Käfer", "unlabelled"];
const ENDS: [&str; 6] = [".png", ".JPEG", " 2.jpg", ".b.jpeg", ".PNG", ".bmp"];

/// `root/train/CLASS/*` and `root/val/CLASS/*`.
fn folder(root: &Path, seed: u32, counts: [u32; 2]) -> DataConfig {
    for (part, count) in ["train", "val"].into_iter().zip(counts) {
        for (class, name) in (0..).zip(CLASSES) {
            for i in 0..count {
                let end = ENDS[((seed + i + class) % 6) as usize];
                let size = (17 + (seed + 3 * i) % 20, 16 + (5 * seed + class) % 19);
                save(&root.join(part).join(name).join(format!("{i}{end}")), seed + 7 * i, size);
            }
        }
    }
    serde_json::from_value(serde_json::json!({ "kind": "folder", "path": root, "size": 16 }))
        .unwrap()
}

/// Lists of images whose names repeat from folder to folder, with relative and absolute paths.
fn lists(root: &Path, seed: u32, counts: [u32; 2]) -> DataConfig {
    for (part, count) in ["train", "val"].into_iter().zip(counts) {
        let mut text = String::new();
        for i in 0..count {
            for (source, class) in [("x", 0), ("y", 0), ("y", 1)] {
                let inside = format!("{part}/{source}{class}/{}{}", i, ENDS[(seed % 6) as usize]);
                save(&root.join(&inside), seed + 5 * i + class, (18 + i, 21));
                let path = if i % 2 == 0 { inside.into() } else { root.join(inside) };
                text.push_str(&format!("{}\t{class}\n", path.display()));
            }
        }
        std::fs::write(root.join(format!("{part}.txt")), text).unwrap();
    }
    serde_json::from_value(serde_json::json!({
        "kind": "file-list", "train": root.join("train.txt"), "val": root.join("val.txt"), "size": 16,
    }))
    .unwrap()
}

fn shapes(seed: u32, counts: [u32; 2]) -> DataConfig {
    serde_json::from_value(serde_json::json!({
        "kind": "shapes", "size": 16, "per_class": counts[0], "eval_per_class": counts[1], "seed": seed,
    }))
    .unwrap()
}

/// STL-10 with as many images without a label as with one.
fn stl10(root: &Path, seed: u32) -> DataConfig {
    std::fs::create_dir_all(root).unwrap();
    for (name, first) in [("train", 0), ("test", 40), ("unlabeled", 80)] {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for i in 0..20 {
            let image = picture(seed + first + i, 96, 96);
            for c in 0..3 {
                for x in 0..96 {
                    pixels.extend((0..96).map(|y| image.get_pixel(x, y).0[c]));
                }
            }
            labels.push((i % 10 + 1) as u8);
        }
        std::fs::write(root.join(format!("{name}_X.bin")), pixels).unwrap();
        std::fs::write(root.join(format!("{name}_y.bin")), labels).unwrap();
    }
    serde_json::from_value(serde_json::json!({
        "kind": "stl10", "path": root, "size": 24, "unlabelled": true,
    }))
    .unwrap()
}

fn poison(amount: serde_json::Value) -> PoisonConfig {
    let mut config = serde_json::json!({
        "alpha": 0.2, "trigger": { "kind": "htba", "id": 12, "width": 6 },
    });
    config.as_object_mut().unwrap().extend(amount.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn export(data: &DataConfig, poison: &PoisonConfig, lossless: bool, out: &Path) -> Exported {
    let export = Export { lossless, ..Export::new(SEED, data.clone(), poison.clone()) };
    export.write(out, &none).unwrap()
}

/// Loads the exported lists, scored on all evaluation images.
fn listed(out: &Path, exported: &Exported, size: u32) -> Splits {
    let config: DataConfig = serde_json::from_value(serde_json::json!({
        "kind": "file-list", "train": out.join(&exported.train_list), "val": out.join(&exported.val_list),
        "size": size, "eval": "all",
    }))
    .unwrap();
    config.load(&none).unwrap()
}

/// Class names and pixels of a set with their counts: its contents without order and ids.
fn contents(
    set: &dyn Dataset<ssl_backdoor_data::Sample, ssl_backdoor_data::DataError>,
    classes: &[String],
) -> BTreeMap<(String, Vec<u8>), u32> {
    let mut all = BTreeMap::new();
    for i in 0..set.len() {
        let sample = set.get(i).unwrap();
        let class = match sample.label {
            UNLABELLED => "none".to_owned(),
            label => classes[label as usize].clone(),
        };
        *all.entry((class, sample.image.into_raw())).or_default() += 1;
    }
    all
}

struct InMemory {
    splits: Splits,
    attack: Attack,
}

impl InMemory {
    fn new(data: &DataConfig, poison: &PoisonConfig) -> Self {
        let splits = data.load_part(Eval::All, &none).unwrap();
        let attack =
            poison.attack(&splits.train.labels, &splits.classes, SEED, data.size()).unwrap();
        Self { splits, attack }
    }

    fn poisoned(&self) -> Poisoned {
        Poisoned::new(self.splits.clone(), self.attack.clone())
    }

    fn patched(&self) -> Patched {
        let Splits { eval, .. } = &self.splits;
        Patched::new(self.splits.prepared(eval), eval, &self.attack)
    }
}

/// Exports `data` and compares what its lists give with what a run sees; no ledger, list or settings file may contain
/// the internal number for unlabelled images.
fn reads_back(data: &DataConfig, poison: &PoisonConfig, lossless: bool) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let exported = export(data, poison, lossless, &out);
    let mut run = poison.clone();
    run.recompress = !lossless;
    let memory = InMemory::new(data, &run);
    let read = listed(&out, &exported, data.size());
    let classes = |splits: &Splits| {
        // Named by their folders, unless two classes share one.
        if splits.classes.iter().all(|class| class.parse::<u32>().is_ok()) {
            memory.splits.classes.clone()
        } else {
            splits.classes.clone()
        }
    };
    assert_eq!(
        contents(&memory.poisoned(), &memory.splits.classes),
        contents(&*read.train.set, &classes(&read))
    );
    assert_eq!(
        contents(&memory.patched(), &memory.splits.classes),
        contents(&*read.eval.set, &classes(&read))
    );
    let verified = verify(&out, &none).unwrap();
    assert_eq!((verified.problems, verified.notes), (vec![], vec![]));
    for file in ["export.toml", "poison.csv", "val_poisoned.csv"]
        .map(PathBuf::from)
        .iter()
        .chain([&exported.train_list, &exported.val_list])
    {
        let text = std::fs::read_to_string(out.join(file)).unwrap();
        assert!(!text.contains(&UNLABELLED.to_string()), "{}", file.display());
    }
    // Read through another path to the same place, the images have the same ids.
    let around = out.join("../out");
    let again = listed(&around, &exported, data.size());
    let ids = |split: &Split| split.labels.clone();
    assert_eq!(ids(&read.train), ids(&again.train));
    assert_eq!(ids(&read.eval), ids(&again.eval));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn field_f13_folders_read_back(seed in 0..1000u32, train in 2..5u32, lossless in any::<bool>()) {
        let folder_ = tempfile::tempdir().unwrap();
        let data = folder(folder_.path(), seed, [train, 2]);
        reads_back(&data, &poison(serde_json::json!({ "target": "a bee", "rate": 0.5 })), lossless);
    }

    #[test]
    fn field_f13_lists_read_back(seed in 0..1000u32, train in 2..5u32, lossless in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let data = lists(folder.path(), seed, [train, 2]);
        reads_back(&data, &poison(serde_json::json!({ "target": 0, "rate": 0.8 })), lossless);
    }

    #[test]
    fn field_f13_drawn_images_read_back(seed in 0..1000u32, train in 2..4u32, lossless in any::<bool>()) {
        let data = shapes(seed, [train, 1]);
        reads_back(&data, &poison(serde_json::json!({ "dataset_rate": 0.5 })), lossless);
    }
}

#[test]
fn field_f13_images_without_a_label_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = stl10(folder.path(), 5);
    for amount in [
        serde_json::json!({ "target": "cat", "rate": 0.5 }),
        serde_json::json!({ "dataset_rate": 0.5 }),
    ] {
        reads_back(&data, &poison(amount), false);
    }
}

#[test]
fn review_1_04_a_run_sees_the_pixels_of_the_exported_files() {
    let folder_ = tempfile::tempdir().unwrap();
    let data = folder(&folder_.path().join("set"), 11, [5, 3]);
    let mut config = poison(serde_json::json!({ "target": "Käfer", "rate": 0.8 }));
    let out = folder_.path().join("out");
    export(&data, &config, false, &out);
    config.recompress = true;
    let memory = InMemory::new(&data, &config);
    let sets: [Arc<dyn Dataset<_, _>>; 2] =
        [Arc::new(memory.poisoned()), Arc::new(memory.patched())];
    let splits = [&memory.splits.train, &memory.splits.eval];
    let mut seen = [0, 0];
    for (part, ledger) in ["poison.csv", "val_poisoned.csv"].into_iter().enumerate() {
        let path = out.join(ledger);
        let ledger = Ledger::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        for row in ledger.rows {
            let file = read_image(&out.join(&row.file), false).unwrap();
            let at = splits[part].labels.iter().position(|(id, _)| *id == row.image_id).unwrap();
            let sample = sets[part].get(at).unwrap();
            assert_eq!(sample.image, file, "{}", row.file);
            assert!(!sample.trigger.is_empty());
            // The ledger's hash is that of the stamped pixels; JPEG changes them afterwards.
            let jpeg = row.file.to_lowercase().ends_with("jpg")
                || row.file.to_lowercase().ends_with("jpeg");
            assert_eq!(ssl_backdoor_trigger::pixel_hash(&sample.image) == row.output_hash, !jpeg);
            seen[usize::from(jpeg)] += 1;
        }
    }
    assert!(seen[0] > 3 && seen[1] > 3, "{seen:?}");
}

#[test]
fn review_1_04_without_the_key_nothing_is_recompressed_and_configs_read_as_before() {
    let folder_ = tempfile::tempdir().unwrap();
    let data = folder(folder_.path(), 2, [4, 2]);
    let config = poison(serde_json::json!({ "target": "ant", "rate": 1 }));
    assert!(!serde_json::to_string(&config).unwrap().contains("recompress"));
    let memory = InMemory::new(&data, &config);
    let set = memory.poisoned();
    for (i, (id, _)) in memory.splits.train.labels.iter().enumerate() {
        let mut image = memory.splits.train.set.get(i).unwrap().image;
        if memory.attack.plan.contains(*id) {
            memory.attack.train.apply(*id, &mut image).unwrap();
        }
        assert_eq!(set.get(i).unwrap().image, image);
    }
}

#[test]
fn rates_are_of_what_remains_and_the_ledger_says_so() {
    let folder_ = tempfile::tempdir().unwrap();
    let root = folder_.path().join("set");
    folder(&root, 1, [5, 2]);
    let broken = std::fs::read_dir(root.join("train/ant")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(broken, "no image").unwrap();
    let data =
        serde_json::json!({ "kind": "folder", "path": root, "size": 16, "on_corrupt": "skip" });
    let data: DataConfig = serde_json::from_value(data).unwrap();
    let out = folder_.path().join("out");
    let config = poison(serde_json::json!({ "target": "ant", "rate": 0.5 }));
    let exported = export(&data, &config, false, &out);
    // Two of the four images that remain of five; of all images, 19 of 20 remain.
    assert_eq!((exported.rates.rate, exported.rates.count), (Some(0.5), 2));
    assert_eq!(exported.rates.dataset_rate, 2.0 / 19.0);
    let text = std::fs::read_to_string(out.join("poison.csv")).unwrap();
    assert!(
        text.contains("\n# left_out = 1  # files that cannot be read; the shares are of"),
        "{text}"
    );
    assert_eq!(verify(&out, &none).unwrap().problems, Vec::<String>::new());
}

/// On a file system that ignores case both images would be one file: there it is an error, elsewhere both stay.
#[test]
fn names_that_differ_in_case_alone_stay_apart() {
    let folder_ = tempfile::tempdir().unwrap();
    let root = folder_.path().join("set");
    for name in ["train/a/1.jpg", "train/a/1.JPG", "val/a/1.jpg"] {
        save(&root.join(name), name.len() as u32, (20, 20));
    }
    let data = serde_json::json!({ "kind": "folder", "path": root, "size": 16 });
    let data: DataConfig = serde_json::from_value(data).unwrap();
    let export = Export::new(SEED, data, poison(serde_json::json!({ "target": 0, "rate": 1 })));
    match export.write(&folder_.path().join("out"), &none) {
        Ok(exported) => assert_eq!(exported.rates.count, 2),
        Err(error) => assert!(error.to_string().contains("differ only in case"), "{error}"),
    }
}
