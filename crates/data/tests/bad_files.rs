//! A folder of bad files: each is decoded, or refused with its path and the reason; a run stops at it, or continues
//! without it if the config says so.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::path::Path;

use image::{ImageFormat, RgbImage};
use ssl_backdoor_data::augment::{ChainViews, Geometry, Scratch, ViewKey, Views};
use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{DataConfig, DataError, Dataset, LeftOutKind, Splits, read_image};

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 77]))
}

fn bytes(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    image.save_with_format(file.path(), format).unwrap();
    std::fs::read(file.path()).unwrap()
}

/// An animated GIF of one pixel and two frames.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x00\x0a\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00!\xf9\x04\x00\x0a\x00\x00\x00,\x00\x00\x00\x00\
    \x01\x00\x01\x00\x00\x02\x02L\x01\x00;";

/// Odd files that are valid images, with their sizes.
fn odd_but_whole() -> Vec<(&'static str, Vec<u8>, (u32, u32))> {
    let png = |width, height| bytes(&picture(width, height), ImageFormat::Png);
    let sixteen = tempfile::NamedTempFile::new().unwrap();
    let deep = image::DynamicImage::ImageRgb8(picture(9, 7)).to_rgb16();
    deep.save_with_format(sixteen.path(), ImageFormat::Png).unwrap();
    let cmyk = include_bytes!("fixtures/pixels/cmyk.jpg").to_vec();
    vec![
        ("really a png.jpg", png(12, 9), (12, 9)),
        ("really-a-jpeg.PNG", bytes(&picture(12, 9), ImageFormat::Jpeg), (12, 9)),
        ("one.png", png(1, 1), (1, 1)),
        ("wide.png", png(30_000, 1), (30_000, 1)),
        ("tall.png", png(1, 30_000), (1, 30_000)),
        ("cmyk.JPEG", cmyk, (53, 38)),
        ("animated.png", GIF.to_vec(), (1, 1)),
        ("sixteen.png", std::fs::read(sixteen.path()).unwrap(), (9, 7)),
        ("mit Blank und Ümläut ☂.png", png(20, 20), (20, 20)),
    ]
}

/// Files that are not valid images, with words of the reason.
fn corrupt() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let jpeg = bytes(&picture(64, 64), ImageFormat::Jpeg);
    let png = bytes(&picture(64, 64), ImageFormat::Png);
    vec![
        ("truncated.png", png[..png.len() / 2].to_vec(), "truncated PNG"),
        ("truncated.jpg", jpeg[..jpeg.len() * 2 / 3].to_vec(), "truncated"),
        ("head-only.jpg", jpeg[..24].to_vec(), "truncated JPEG"),
        (
            "text.jpg",
            b"this is no image at all".to_vec(),
            "it contains no image: supported formats are JPEG, PNG",
        ),
        ("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), "it contains HEIC"),
        ("drawing.png", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "it contains SVG"),
    ]
}

fn try_load(root: &Path, on_corrupt: &str, cache: bool) -> Result<Splits, DataError> {
    let cache = if cache {
        format!("cache = \"{}\"\n", root.join("cache").display())
    } else {
        String::new()
    };
    let config = format!(
        "kind = \"folder\"\npath = \"{}\"\nsize = 16\non_corrupt = \"{on_corrupt}\"\n{cache}",
        root.display()
    );
    toml::from_str::<DataConfig>(&config).unwrap().load(&|_, _, _| {})
}

fn load(root: &Path, on_corrupt: &str, cache: bool) -> Splits {
    try_load(root, on_corrupt, cache).unwrap()
}

/// PATH/train/a and b, PATH/val/a and b; `more` goes to PATH/train/a.
fn folder(more: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        for class in ["a", "b"] {
            let inside = root.path().join(part).join(class);
            std::fs::create_dir_all(&inside).unwrap();
            for i in 0..3 {
                picture(20 + i, 18).save(inside.join(format!("good-{i}.png"))).unwrap();
            }
        }
    }
    let inside = root.path().join("train/a");
    more.iter().for_each(|(name, bytes)| std::fs::write(inside.join(name), bytes).unwrap());
    // A folder named like an image, and files that are not used.
    std::fs::create_dir(inside.join("folder.png")).unwrap();
    std::fs::write(inside.join("notes.txt"), "x").unwrap();
    std::fs::write(inside.join(".hidden.png"), "x").unwrap();
    root
}

#[test]
fn odd_files_are_images_and_every_view_of_them_can_be_made() {
    let odd = odd_but_whole();
    let files: Vec<_> = odd.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
    let root = folder(&files);
    for (name, _, size) in &odd {
        let image = read_image(&root.path().join("train/a").join(name), false).unwrap();
        assert_eq!(image.dimensions(), *size, "{name}");
    }
    for cache in [false, true] {
        let splits = load(root.path(), "stop", cache);
        assert_eq!(splits.train.labels.len(), 6 + odd.len());
        let chain = ChainViews::moco(16, (0.2, 1.0), true);
        let set = splits.pretrain_set();
        for i in 0..splits.train.labels.len() {
            let sample = set.get(i).unwrap();
            let mut out = vec![f32::NAN; 2 * 768];
            let (a, b) = out.split_at_mut(768);
            let key = ViewKey { seed: 0, purpose: purpose::VIEW, epoch: 0, id: sample.id };
            let mut geometry = [Geometry::default(); 2];
            chain.write(&sample.image, &key, &mut Scratch::default(), &mut [a, b], &mut geometry);
            assert!(out.iter().all(|v| v.is_finite()));
            assert_eq!(splits.labelled_prepared.get(i).unwrap().image.dimensions(), (16, 16));
        }
    }
}

#[test]
fn corrupt_files_are_refused_with_path_and_reason() {
    for (name, bytes, words) in corrupt() {
        let root = folder(&[(name, bytes)]);
        let splits = load(root.path(), "stop", false);
        let results: Vec<_> = (0..7).map(|i| splits.train.set.get(i)).collect();
        let errors: Vec<String> =
            results.into_iter().filter_map(|r| r.err().map(|e| e.to_string())).collect();
        let [error] = &errors[..] else { panic!("{name}: {errors:?}") };
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
}

#[test]
fn corrupt_files_are_left_out_named_and_counted_if_the_config_says_so() {
    let bad = corrupt();
    let files: Vec<_> = bad.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
    let root = folder(&files);
    let clean = load(folder(&[]).path(), "stop", false);
    for cache in [false, true, true] {
        let splits = load(root.path(), "skip", cache);
        assert_eq!((splits.train.labels.len(), splits.skipped.len()), (6, bad.len()));
        for (name, _, _) in &bad {
            assert!(splits.skipped.iter().any(|skipped| skipped.contains(name)), "{name}");
        }
        let counts: Vec<_> = splits.left_out.iter().map(|l| (l.kind, l.count)).collect();
        let expected =
            [(LeftOutKind::Other, 1), (LeftOutKind::Hidden, 1), (LeftOutKind::Corrupt, bad.len())];
        assert_eq!(counts, expected);
        // Ids depend on the paths inside the folder alone.
        assert_eq!(splits.train.labels, clean.train.labels);
        let set = splits.pretrain_set();
        assert!((0..6).all(|i| set.get(i).unwrap().id == splits.train.labels[i].0));
    }
}

/// Detected without decoding anything, so before training starts.
#[cfg(unix)]
#[test]
fn field_f08_empty_files_and_dead_links_stop_the_run_or_are_left_out() {
    let dead = |root: &Path| {
        std::os::unix::fs::symlink("/nowhere/x.png", root.join("train/a/dead.png")).unwrap()
    };
    let empty = |root: &Path| std::fs::write(root.join("val/b/empty.png"), b"").unwrap();
    type Make = dyn Fn(&Path);
    let cases: [(&Make, _, _, _); 2] = [
        (&dead, LeftOutKind::Missing, "dead.png", "the link leads to a file that does not exist"),
        (&empty, LeftOutKind::Empty, "empty.png", "the file is empty"),
    ];
    for (make, kind, name, words) in cases {
        let root = folder(&[]);
        make(root.path());
        let error = try_load(root.path(), "stop", false).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains(words), "{error}");
        for cache in [false, true] {
            let splits = load(root.path(), "skip", cache);
            assert_eq!(splits.train.labels.len(), 6);
            let left_out = splits.left_out.iter().find(|left_out| left_out.kind == kind).unwrap();
            assert_eq!(left_out.count, 1);
            assert!(left_out.example.ends_with(name) && splits.skipped[0].contains(words));
        }
    }
}
