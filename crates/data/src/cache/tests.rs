use std::sync::atomic::{AtomicUsize, Ordering};

use std::io::Write;

use super::*;
use crate::augment::resize_shorter;
use crate::sets::folder::Entry;

/// Five images of one level each, `first` and up, in `folder`.
fn files(folder: &Path, first: u8) -> Files {
    std::fs::create_dir_all(folder).unwrap();
    let entry = |i: u32| {
        let path = folder.join(format!("{i}.png"));
        if !path.exists() {
            let color = image::Rgb([first + i as u8; 3]);
            RgbImage::from_pixel(20 + 4 * i, 12, color).save(&path).unwrap();
        }
        Entry { path, label: i }
    };
    Files::new((0..5).map(entry).collect(), folder, false).unwrap()
}

/// Opens a cache at shorter side 6; `builds` counts the builds of this call.
fn open(
    folder: &Path,
    set: &Files,
    skip: bool,
    builds: &AtomicUsize,
) -> Result<(Cache, Vec<Bad>), DataError> {
    let watch = |what: &str, _, _| {
        if what == "caching images" {
            builds.fetch_add(1, Ordering::Relaxed);
        }
    };
    Cache::open(folder, set, &set.stamp().unwrap(), 6, skip, &watch)
}

/// The names in `folder` that end with `end`.
fn ending(folder: &Path, end: &str) -> Vec<String> {
    let names = folder.read_dir().unwrap().map(|e| e.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.ends_with(end)).collect()
}

#[track_caller]
fn assert_packed(cache: &Cache, set: &Files) {
    assert_eq!(cache.len(), set.len());
    for i in 0..set.len() {
        let (plain, packed) = (set.get(i).unwrap(), cache.get(i).unwrap());
        assert_eq!((plain.id, plain.label), (packed.id, packed.label));
        assert_eq!(resize_shorter(&plain.image, 6), packed.image);
    }
}

#[test]
fn the_cache_gives_the_resized_images_and_is_rebuilt_when_a_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let set = files(folder.path(), 0);
    let builds = AtomicUsize::new(0);
    let open = |set: &Files, skip| open(&packs, set, skip, &builds);
    let (cache, bad) = open(&set, false).unwrap();
    assert!(bad.is_empty());
    assert_packed(&cache, &set);
    assert_eq!(cache.get(4).unwrap().image.dimensions(), (18, 6));
    let built = || builds.load(Ordering::Relaxed);
    assert_eq!(built(), 1);
    open(&set, false).unwrap();
    assert_eq!(built(), 1);
    // A truncated cache is rebuilt.
    let path = packs.join(&ending(&packs, ".pack")[0]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    open(&set, false).unwrap();
    assert_eq!(built(), 2);
    // An image file that changed, here to a corrupt one.
    std::fs::write(folder.path().join("3.png"), b"not an image").unwrap();
    let error = open(&set, false).err().unwrap().to_string();
    assert!(error.contains("3.png"), "{error}");
    for _ in 0..2 {
        let (cache, bad) = open(&set, true).unwrap();
        assert_eq!((bad.len(), bad[0].0, cache.len()), (1, 3, 4));
        assert!(bad[0].1.to_string().contains("3.png"));
        assert_eq!(cache.get(3).unwrap().label, 4);
    }
    assert_eq!(built(), 4);
    // Without `skip`, the corrupt file is an error even though the cache records it.
    assert!(open(&set, false).is_err());
    // One cache in the folder, and no temporary file.
    assert_eq!((ending(&packs, ".pack").len(), ending(&packs, ".tmp").len()), (1, 0));
}

#[test]
fn field_f02_builders_of_one_cache_wait_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let set = files(folder.path(), 0);
    let builds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_packed(&open(&packs, &set, false, &builds).unwrap().0, &set));
        }
    });
    assert_eq!(builds.load(Ordering::Relaxed), 1);
    assert_eq!(ending(&packs, ".tmp").len(), 0);
}

#[test]
fn field_f02_sets_in_one_cache_folder_keep_their_own_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let sets = ["a", "b"].map(|name| files(&folder.path().join(name), name.as_bytes()[0]));
    let builds = AtomicUsize::new(0);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for set in &sets {
                let open = || open(&packs, set, false, &builds).unwrap().0;
                scope.spawn(move || assert_packed(&open(), set));
            }
        });
    }
    // Both caches stay.
    assert_eq!((builds.load(Ordering::Relaxed), ending(&packs, ".pack").len()), (2, 2));
}

#[test]
#[cfg(unix)]
fn field_f02_a_folder_behind_a_link_is_not_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let (packs, link) = (folder.path().join("cache"), folder.path().join("link"));
    let builds = AtomicUsize::new(0);
    for name in ["a", "b"] {
        let real = folder.path().join(name);
        files(&real, name.as_bytes()[0]);
        // Same names, sizes and times: everything that the fingerprint of the files covers.
        for i in 0..5 {
            let file = File::options().append(true).open(real.join(format!("{i}.png"))).unwrap();
            file.set_len(400).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let set = files(&link, 0);
        assert_packed(&open(&packs, &set, false, &builds).unwrap().0, &set);
    }
}

#[test]
fn field_f02_an_open_cache_survives_its_replacement() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let set = files(folder.path(), 0);
    let builds = AtomicUsize::new(0);
    let (cache, _) = open(&packs, &set, false, &builds).unwrap();
    let before = cache.get(0).unwrap();
    RgbImage::from_pixel(50, 12, image::Rgb([200; 3])).save(folder.path().join("0.png")).unwrap();
    let (after, _) = open(&packs, &set, false, &builds).unwrap();
    assert_eq!(builds.load(Ordering::Relaxed), 2);
    assert_eq!(cache.get(0).unwrap(), before);
    assert_packed(&after, &set);
}

#[test]
fn field_f02_what_a_killed_builder_left_does_no_harm_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let set = files(folder.path(), 0);
    let inputs = Inputs::new(&packs, &set, &set.stamp().unwrap(), 6);
    std::fs::create_dir_all(&packs).unwrap();
    std::fs::write(format!("{}.AbCdEf.tmp", inputs.path.display()), "half of it").unwrap();
    std::fs::write(inputs.lock_path(), "").unwrap();
    // A cache of an older version, whose pixels may be those of another decoder.
    std::fs::write(packs.join("train-6.pack"), b"ssl-backdoor packed images 1\n").unwrap();
    assert_eq!(ending(&packs, ".tmp").len(), 1);
    assert_packed(&open(&packs, &set, false, &AtomicUsize::new(0)).unwrap().0, &set);
    assert_eq!(ending(&packs, ".tmp").len(), 0);
}

#[test]
fn field_f02_a_failed_build_leaves_nothing_but_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let set = files(folder.path(), 0);
    std::fs::write(folder.path().join("3.png"), b"not an image").unwrap();
    assert!(open(&packs, &set, false, &AtomicUsize::new(0)).is_err());
    let left = packs.read_dir().unwrap().map(|e| e.unwrap().path());
    assert!(left.map(|path| path.extension().unwrap().to_owned()).eq(["lock"]));
    // A cache folder that is a file.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = open(&folder.path().join("file"), &set, false, &AtomicUsize::new(0));
    assert!(error.err().unwrap().to_string().contains("file"));
}

#[test]
fn a_file_that_the_cache_calls_corrupt_and_that_is_not_makes_it_out_of_date() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("cache");
    let set = files(folder.path(), 0);
    let broken = folder.path().join("3.png");
    let whole = std::fs::read(&broken).unwrap();
    let write = |bytes: &[u8]| {
        let mut file = File::create(&broken).unwrap();
        file.write_all(bytes).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    // As long as the whole file, so that size and time are the same.
    write(&vec![7; whole.len()]);
    let builds = AtomicUsize::new(0);
    let (cache, bad) = open(&packs, &set, true, &builds).unwrap();
    assert_eq!((cache.len(), bad.len()), (4, 1));
    write(&whole);
    for skip in [true, false] {
        let (cache, bad) = open(&packs, &set, skip, &builds).unwrap();
        assert!(bad.is_empty());
        assert_packed(&cache, &set);
    }
    assert_eq!(builds.load(Ordering::Relaxed), 2);
}
