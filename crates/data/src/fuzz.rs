//! Feeds random and mutated bytes to every reader, none of which may panic. 100,000 inputs each, for images over all
//! formats; the seeds are small files of each kind.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ssl_backdoor_images::decode;

use crate::list_text;
use crate::sets::{cifar, file_list, idx, pickle, stl10, tiny_imagenet};

const INPUTS: u32 = 100_000;

/// A change of a seed file: bytes set, a piece cut out, a piece repeated at the end, or all of it random.
#[derive(Debug, Clone)]
enum Change {
    Set(Vec<(prop::sample::Index, u8)>),
    Cut(prop::sample::Index, prop::sample::Index),
    Double(prop::sample::Index, prop::sample::Index),
    Random(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        6 => prop::collection::vec((at(), any::<u8>()), 1..6).prop_map(Change::Set),
        2 => (at(), at()).prop_map(|(a, b)| Change::Cut(a, b)),
        1 => (at(), at()).prop_map(|(a, b)| Change::Double(a, b)),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Change::Random),
    ]
}

fn apply(seed: &[u8], change: Change) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let range = |a: prop::sample::Index, b: prop::sample::Index| {
        let (a, b) = (a.index(seed.len() + 1), b.index(seed.len() + 1));
        a.min(b)..a.max(b)
    };
    match change {
        Change::Set(changes) => {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        Change::Cut(a, b) => {
            bytes.drain(range(a, b));
        }
        Change::Double(a, b) => {
            let piece = bytes[range(a, b)].to_vec();
            bytes.extend(piece);
        }
        Change::Random(random) => bytes = random,
    }
    bytes
}

/// Runs `read` on changed copies of the seeds.
fn survive(seeds: &[&[u8]], read: impl Fn(&[u8])) {
    let config = Config { cases: INPUTS, failure_persistence: None, ..Config::default() };
    let strategy = (0..seeds.len(), change());
    TestRunner::new(config)
        .run(&strategy, |(seed, change)| {
            read(&apply(seeds[seed], change));
            Ok(())
        })
        .unwrap();
}

fn small(format: image::ImageFormat) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let image = image::RgbImage::from_fn(9, 6, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 9]));
    image.save_with_format(file.path(), format).unwrap();
    std::fs::read(file.path()).unwrap()
}

/// Real files of every format, and small generated ones.
fn images() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().unwrap() != "png").collect();
    files.sort();
    let real = files.iter().map(|path| std::fs::read(path).unwrap());
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    real.chain([Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP].map(small)).collect()
}

#[test]
fn image_files() {
    let seeds = images();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    survive(&seeds, |bytes| {
        // A wrong size in the header gives a large image at worst.
        if let Ok(image) = decode(bytes, true) {
            assert!(image.width() > 0 && image.height() > 0);
        }
    });
}

/// Folders with unlikely names, including links, through the walker: every training image that it lists is a file.
#[test]
fn image_folders() {
    use crate::left_out::Tally;
    use crate::sets::folder;
    let part = prop_oneof![
        4 => "[ab]",
        2 => "[ab]\\.(png|JPG|tif|heic|txt|)",
        1 => "\\.[ab]",
        1 => "[^/\\x00]{1,6}",
    ];
    let name = prop::collection::vec(part, 1..4);
    let strategy = prop::collection::vec((name, 0..6u8), 0..8);
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |names| {
            let root = tempfile::tempdir().unwrap();
            for (parts, how) in names {
                let path =
                    parts.iter().fold(root.path().join("train"), |path, part| path.join(part));
                // A name that cannot be created is left out.
                let _ = path.parent().map(std::fs::create_dir_all);
                #[cfg(unix)]
                if how == 0 {
                    let _ = std::os::unix::fs::symlink(root.path().join("train"), &path);
                    continue;
                }
                let _ =
                    if how == 1 { std::fs::create_dir(&path) } else { std::fs::write(&path, b"x") };
            }
            for on_corrupt in [crate::OnCorrupt::Stop, crate::OnCorrupt::Skip] {
                let mut tally = Tally::new(on_corrupt);
                if let Ok(found) = folder::training(&root.path().join("train"), &mut tally) {
                    assert!(found.entries.iter().all(|entry| entry.path.is_file()));
                    let classes = found.classes.unwrap_or_default();
                    let _ = folder::evaluation(&root.path().join("train"), &classes, &mut tally);
                    let _ = crate::sets::files::present(found.entries, &mut tally);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn idx_files() {
    let mut seed = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2];
    seed.extend(0..8);
    survive(&[&seed], |bytes| {
        let _ = idx::parse(bytes, 3);
        let _ = idx::parse(bytes, 1);
    });
}

#[test]
fn binary_sets() {
    survive(&[&[3; 3073]], |bytes| {
        let _ = cifar::CIFAR10.parse(bytes);
        let _ = cifar::CIFAR100.parse(bytes);
        let _ = stl10::labels(bytes, 3073);
    });
    survive(&[&[7; 96]], |bytes| {
        let _ = stl10::images(bytes, bytes.len() as u64);
    });
}

#[test]
fn pickled_sets() {
    let seeds: [&[u8]; 3] = [
        include_bytes!("../tests/fixtures/pickles/short-python2"),
        include_bytes!("../tests/fixtures/pickles/short-protocol4"),
        include_bytes!("../tests/fixtures/pickles/cifar10-python2"),
    ];
    for seed in seeds {
        assert!(pickle::parse(seed).is_ok());
    }
    survive(&seeds, |bytes| {
        let _ = pickle::parse(bytes);
        let _ = cifar::CIFAR10.parse_pickle(bytes);
    });
}

#[test]
fn tiny_imagenet_annotations() {
    let wnids = ["n01443537", "n01629819"].map(str::to_owned);
    survive(
        &[b"val_0.JPEG\tn01443537\t0\t32\t44\t62\nval_1.JPEG\tn01629819\t0\t0\t63\t63\n"],
        |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let _ = tiny_imagenet::annotations(text, &wnids);
            let _ = tiny_imagenet::wnids(text);
        },
    );
}

#[test]
fn file_lists_and_what_is_read_is_written_back() {
    let labelled = b"\xef\xbb\xbfa/b.JPEG 3\nmy dir/x.png\t1\textra\n\r\nc.png  -1 1 2 3 4\n";
    survive(&[labelled, b"a/b.png\r\nmy dir/x.png\t\r../c.png\n"], |bytes| {
        let Ok(text) = file_list::text(bytes) else { return };
        let Ok(entries) = file_list::parse(&text) else { return };
        let lines = entries.iter().map(|e| (e.path.to_str().unwrap(), e.label, None));
        if let Ok((again, _)) = list_text(lines) {
            assert_eq!(file_list::parse(&again).unwrap(), entries);
        }
        for entry in &entries {
            for root in ["", ".", "..", "a", "/a"] {
                if let Some(path) = crate::inside::inside(root.as_ref(), &entry.path) {
                    assert!(
                        crate::inside::whole(&path)
                            .starts_with(crate::inside::whole(root.as_ref()))
                    );
                }
            }
        }
        let _ = file_list::class_names(&entries);
    });
}

#[test]
fn packed_caches() {
    let places = [(0u64, 2u32, 1u32), (6, 1, 1), (0, 0, 0)];
    let mut seed = b"ssl-backdoor packed images 2\n".to_vec();
    seed.extend([7; 32]);
    seed.extend(3u64.to_le_bytes());
    let start = seed.len() as u64 + 3 * 16;
    for (offset, width, height) in places {
        seed.extend((start + offset).to_le_bytes());
        seed.extend(width.to_le_bytes());
        seed.extend(height.to_le_bytes());
    }
    seed.extend([1; 9]);
    assert_eq!(crate::cache::read_any(&seed), Some(3));
    survive(&[&seed], |bytes| {
        crate::cache::read_any(bytes);
    });
}

#[test]
fn ledgers() {
    use ssl_backdoor_trigger::Ledger;
    let seed = "# rate = 0.5  # share of the target class\n# dataset_rate = 0.05\n# count = 1\n\
        # target = 3\n# seed = 1\n# trigger_hash = \"aa\"\n# alpha = 0.0\n# \n# [trigger]\n\
        # kind = \"htba\"\n# id = 10\n# width = 8\n# \n# [place]\n# kind = \"center\"\n\
        image_id,source,source_hash,trigger,x,y,width,alpha,output_hash,file,file_hash\n\
        4,a.png,00,htba-10,8,9,8,0.0,11,train/a.png,22\n";
    assert!(Ledger::parse(seed, "x".as_ref()).is_ok());
    survive(&[seed.as_bytes()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(ledger) = Ledger::parse(&text, "x".as_ref()) {
            // A patch may lie anywhere and be of any size without harm.
            let setup = ssl_backdoor_trigger::Setup::new(32);
            let built = ledger.head.recipe.build(ssl_backdoor_trigger::Phase::Training, &setup);
            if let (Ok(perturbation), Some(row)) = (built, ledger.rows.first()) {
                let mut image = image::RgbImage::new(8, 8);
                let _ = row.replay(&*perturbation, &mut image);
            }
        }
    });
}
