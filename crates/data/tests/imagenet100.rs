//! The paper's hundred classes from an ImageNet folder.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use ssl_backdoor_data::{DataConfig, Dataset, Eval};

#[test]
fn the_fixed_classes_are_taken_in_their_order_and_others_left() {
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "kind = \"imagenet100\"\npath = \"{}\"\nsize = 16\neval = \"all\"",
        root.path().display()
    );
    let config: DataConfig = toml::from_str(&text).unwrap();
    let wnids = config.class_names().unwrap();
    // Protocol 1.6: the classes of the five released configs.
    for (wnid, class) in [
        ("n02106550", 26),
        ("n02701002", 44),
        ("n03642806", 64),
        ("n03947888", 75),
        ("n04517823", 90),
    ] {
        assert_eq!(wnids[class], wnid);
    }
    for part in ["train", "val"] {
        // n00000001 is a class of the full ImageNet that the paper does not use.
        for wnid in wnids.iter().map(String::as_str).chain(["n00000001"]) {
            let folder = root.path().join(part).join(wnid);
            std::fs::create_dir_all(&folder).unwrap();
            let image = image::RgbImage::new(20, 18);
            image.save(folder.join(format!("{wnid}_1.JPEG"))).unwrap();
        }
    }
    let load = || config.load_part(Eval::All, &|_, _, _| {});
    let splits = load().unwrap();
    assert_eq!((splits.train.labels.len(), splits.eval.labels.len()), (100, 100));
    assert_eq!(splits.train.set.get(99).unwrap().label, 99);
    assert_eq!(splits.classes, wnids);
    std::fs::remove_dir_all(root.path().join("train/n02106550")).unwrap();
    let error = load().err().unwrap().to_string();
    assert!(error.contains("train/n02106550"), "{error}");
}
