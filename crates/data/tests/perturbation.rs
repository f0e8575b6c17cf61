//! A perturbation written outside the workspace's libraries: it adds another image, changes the size of training
//! images, treats evaluation images differently, and has its own columns.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::path::Path;
use std::sync::Arc;

use image::{RgbImage, imageops};
use serde_json::json;
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_data::{
    DataError, Dataset, Patched, Poisoned, Preview, Sample, Splits, mean_psnr,
};
use ssl_backdoor_trigger::{
    Attack, Footprint, Key, Ledger, LedgerHead, LedgerRow, Perturbation, Phase, Poison,
    PoisonConfig, Record, References, Spot, TriggerError, pixel_hash,
};

/// An image of the target class beside the training image.
#[derive(Debug)]
struct Beside(Arc<dyn References>);

impl Perturbation for Beside {
    fn name(&self) -> &str {
        "beside"
    }

    fn draw(&self, key: &Key, _: &RgbImage) -> Result<Record, TriggerError> {
        let reference = self.0.ids()[(key.id % 4) as usize];
        let side = if key.id.is_multiple_of(2) { "left" } else { "right" };
        Ok(Record::default().with("reference", reference).with("side", side.to_owned()))
    }

    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let reference = self.0.get(record.id("reference")?)?;
        let (width, height) = image.dimensions();
        let (own, x) = if record.text("side")? == "left" { (width, 0) } else { (0, width) };
        let mut both = RgbImage::new(2 * width, height);
        imageops::replace(&mut both, image, own.into(), 0);
        imageops::replace(&mut both, &reference, x.into(), 0);
        *image = both;
        Ok(Footprint::Boxes(vec![Spot { x, y: 0, width, height }]))
    }

    fn hash(&self) -> String {
        "beside".into()
    }

    fn stem(&self, _: Phase) -> String {
        "beside".into()
    }

    fn check(&self, _: u32, _: &str) -> Result<(), TriggerError> {
        Ok(())
    }
}

/// Inverts evaluation images.
#[derive(Debug)]
struct Negative;

impl Perturbation for Negative {
    fn name(&self) -> &str {
        "negative"
    }

    fn draw(&self, _: &Key, _: &RgbImage) -> Result<Record, TriggerError> {
        Ok(Record::default())
    }

    fn perturb(&self, _: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        imageops::invert(image);
        Ok(Footprint::Whole)
    }

    fn hash(&self) -> String {
        "negative".into()
    }

    fn stem(&self, _: Phase) -> String {
        "negative".into()
    }

    fn check(&self, _: u32, _: &str) -> Result<(), TriggerError> {
        Ok(())
    }
}

fn config() -> PoisonConfig {
    let trigger = json!({ "kind": "htba", "id": 10, "width": 4 });
    serde_json::from_value(json!({ "target": 3, "rate": 0.5, "trigger": trigger })).unwrap()
}

/// Ten classes of eight drawings of 16 pixels, and the attack on half of a class.
fn attacked() -> (Splits, Attack) {
    let data = json!({ "kind": "shapes", "size": 16, "per_class": 8, "eval_per_class": 1 });
    let data: ssl_backdoor_data::DataConfig = serde_json::from_value(data).unwrap();
    let splits = data.load(&|_, _, _| {}).unwrap();
    let planned = splits.attack(&config(), 5).unwrap();
    let references = splits.setup(&config()).unwrap().references;
    let poison = |perturbation, phase| Poison { perturbation, seed: 5, phase };
    let attack = Attack {
        train: poison(Arc::new(Beside(references)), Phase::Training),
        val: poison(Arc::new(Negative), Phase::Evaluation),
        ..planned
    };
    (splits, attack)
}

#[test]
fn images_of_the_target_are_the_references() {
    let (splits, _) = attacked();
    let references = splits.setup(&config()).unwrap().references;
    let mut ids: Vec<u64> =
        splits.train.labels.iter().filter(|(_, c)| *c == 3).map(|(id, _)| *id).collect();
    ids.sort_unstable();
    assert_eq!(references.ids(), ids);
    let untargeted = PoisonConfig { target: None, rate: None, count: Some(2), ..config() };
    assert!(splits.setup(&untargeted).unwrap().references.ids().is_empty());
}

#[test]
fn training_and_evaluation_images_are_perturbed_differently() {
    let (splits, attack) = attacked();
    let set = Poisoned::new(splits.clone(), attack.clone());
    let mut seen = 0;
    for index in 0..set.len() {
        let clean = splits.train.set.get(index).unwrap();
        let Sample { id, image, trigger, .. } = set.get(index).unwrap();
        if !attack.plan.contains(id) {
            assert!(image == clean.image && trigger.is_empty());
            continue;
        }
        seen += 1;
        let x = if id % 2 == 0 { 0 } else { 16 };
        assert_eq!(trigger.boxes((32, 16)), [Spot { x, y: 0, width: 16, height: 16 }]);
        let own = imageops::crop_imm(&image, 16 - x, 0, 16, 16).to_image();
        assert_eq!((image.dimensions(), own), ((32, 16), clean.image));
    }
    assert_eq!(seen, 4);
    // Views see the reference: half of an image is enough to see all of it, or nothing.
    let positions: Vec<usize> = (0..set.len()).collect();
    let views = ChainViews::moco(16, (0.999, 1.0), false);
    let found = Preview::of(&set, &positions, &views, 1, 2).unwrap();
    assert_eq!((found.images, found.mean_width()), (4, 1.0));
    assert!((found.visibility.mean_covered() - 0.5).abs() < 0.1);

    let clean = splits.prepared(&splits.eval);
    let patched = Patched::new(clean.clone(), &splits.eval, &attack).get(0).unwrap();
    let mut expected = clean.get(0).unwrap().image;
    imageops::invert(&mut expected);
    assert_eq!((patched.image, patched.trigger), (expected, Footprint::Whole));
    // An image of another size has no PSNR.
    assert_eq!(mean_psnr(&*splits.train.set, &positions, &attack.train).unwrap(), None);
    assert!(mean_psnr(&*clean, &[0, 1], &attack.val).unwrap().unwrap() < 20.0);
}

#[test]
fn a_ledger_with_other_columns_reads_back_and_is_replayed() {
    let (splits, attack) = attacked();
    let originals: Vec<Sample> = (0..splits.train.labels.len())
        .map(|index| splits.train.set.get(index).unwrap())
        .filter(|sample| attack.plan.contains(sample.id))
        .collect();
    let row = |sample: &Sample| {
        LedgerRow::poison(&attack.train, sample.id, "x".into(), &mut sample.image.clone()).unwrap()
    };
    let rows: Vec<LedgerRow> = originals.iter().map(row).collect();
    let recipe = config().recipe(Phase::Training);
    let head = LedgerHead::new(attack.plan.rates(), attack.target, recipe, &attack.train);
    let ledger = Ledger { head, rows };
    let path = Path::new("poison.csv");
    let text = ledger.to_csv(path).unwrap();
    assert!(
        text.contains(
            "\nimage_id,source,source_hash,trigger,reference,side,output_hash,file,file_hash\n"
        ),
        "{text}"
    );
    let mut read = Ledger::parse(&text, path).unwrap();
    assert_eq!(read, ledger);
    for (row, original) in read.rows.iter().zip(&originals) {
        let mut again = original.image.clone();
        row.replay(&*attack.train.perturbation, &mut again).unwrap();
        assert_eq!(pixel_hash(&again), row.output_hash);
    }
    // A reference that is not of the class.
    let stranger = splits.train.labels.iter().find(|(_, class)| *class != 3).unwrap().0;
    read.rows[0].record = Record::default().with("reference", stranger);
    let mut image = originals[0].image.clone();
    let error = read.rows[0].replay(&*attack.train.perturbation, &mut image).unwrap_err();
    assert!(error.to_string().contains("no image of the target class"), "{error}");
}

#[test]
fn evaluation_images_keep_their_size() {
    let (splits, mut attack) = attacked();
    attack.val.perturbation = attack.train.perturbation.clone();
    let error = Patched::new(splits.prepared(&splits.eval), &splits.eval, &attack).get(0);
    assert!(
        matches!(error, Err(DataError::Sizes { found: (32, 16), expected: (16, 16), .. })),
        "{error:?}"
    );
}

/// How much of CTRL's tile remains in images after an export writes them as JPEG; 1 = all of it. PIL's JPEG of the
/// same kind (quality 75, 4:2:0) keeps less than 0.001 of magnitudes 50 to 200 on this picture.
#[test]
fn jpeg_erases_ctrl() {
    let folder = tempfile::tempdir().unwrap();
    let clean = RgbImage::from_fn(64, 64, |x, y| image::Rgb([60 + x as u8, 90 + y as u8, 120]));
    for part in ["train/a", "val/a"] {
        let inside = folder.path().join(part);
        std::fs::create_dir_all(&inside).unwrap();
        // The reader detects the format by content: this is lossless.
        clean.save_with_format(inside.join("1.jpg"), image::ImageFormat::Png).unwrap();
    }
    let data = json!({ "kind": "folder", "path": folder.path(), "size": 64, "eval": "all" });
    let data: ssl_backdoor_data::DataConfig = serde_json::from_value(data).unwrap();
    let splits = data.load(&|_, _, _| {}).unwrap();
    for magnitude in [50.0, 100.0, 200.0] {
        let trigger = json!({ "kind": "ctrl", "magnitude": magnitude });
        let config: PoisonConfig =
            serde_json::from_value(json!({ "target": 0, "rate": 1, "trigger": trigger })).unwrap();
        let attack = splits.attack(&config, 1).unwrap();
        let set = |recompress: bool| {
            let attack = Attack { recompress, ..attack.clone() };
            Poisoned::new(splits.clone(), attack).get(0).unwrap().image
        };
        let change = |image: &RgbImage| -> Vec<f64> {
            let both = image.as_raw().iter().zip(clean.as_raw());
            both.map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
        };
        let tile = change(&set(false));
        let product = |a: &[f64]| a.iter().zip(&tile).map(|(a, b)| a * b).sum::<f64>();
        let left = product(&change(&set(true))) / product(&tile);
        assert!(left.abs() < 0.02, "{magnitude}: {left}");
        assert!(!attack.survives_jpeg());
    }
}
