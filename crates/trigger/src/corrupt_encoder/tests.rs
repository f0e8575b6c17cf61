use super::*;
use crate::{PoisonConfig, Setup, TrainingSet, TriggerConfig};
use image::Luma;

/// The smooth picture of `tests/fixtures/compose.py`.
pub(crate) fn waves(width: u32, height: u32, kind: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let red = (x * (5 + kind) + y * 2) % 256;
        let green = ((x * 3 + y * (4 + kind)) % 510).abs_diff(255);
        let blue = (x * y / (3 + kind) + 40 * kind) % 256;
        Rgb([red, green, blue].map(|level| level as u8))
    })
}

/// The ellipse of that script, on an image of 48 × 40 pixels.
fn ellipse() -> GrayImage {
    GrayImage::from_fn(48, 40, |x, y| {
        let (dx, dy) = ((i64::from(x) - 22) * 7, (i64::from(y) - 19) * 9);
        Luma([if dx * dx + dy * dy <= 14_400 { 255 } else { 0 }])
    })
}

/// Ten pictures of the target class, ids 20 to 29.
#[derive(Debug)]
struct Pictures(Vec<u64>);

impl References for Pictures {
    fn ids(&self) -> &[u64] {
        &self.0
    }

    fn get(&self, id: u64) -> Result<RgbImage, TriggerError> {
        Ok(if id == 29 { waves(40, 30, 1) } else { waves(48, 40, 2) })
    }

    fn mask(&self, id: u64) -> Result<GrayImage, TriggerError> {
        match id {
            28 => Ok(GrayImage::new(48, 40)),
            29 => Ok(GrayImage::new(9, 9)),
            _ => Ok(ellipse()),
        }
    }
}

fn pictures() -> Arc<dyn References> {
    Arc::new(Pictures((20..30).collect()))
}

fn attack(config: CorruptEncoder) -> Arc<dyn Perturbation> {
    let trigger = TriggerConfig::Solid { color: [0; 3], width: 8.into() }.build(32).unwrap();
    config.build(trigger, 0.0, pictures())
}

/// A record with these columns, as a ledger holds it.
fn record(layout: &str, columns: [u32; 4]) -> Record {
    let [crop_x, object_x, x, y] = columns;
    let record = Record::default().with("layout", layout.to_owned()).with("reference", 20u64);
    let record = record.with("support", 29u64).with("crop_x", crop_x).with("object_x", object_x);
    record.with("x", x).with("y", y).with("width", 8u32).with("alpha", 0.0)
}

/// Largest difference from the picture `name` of that script.
pub(crate) fn difference(image: &RgbImage, name: &str) -> u8 {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose");
    let expected =
        ssl_backdoor_images::decode(&std::fs::read(folder.join(name)).unwrap(), false).unwrap();
    assert_eq!(image.dimensions(), expected.dimensions(), "{name}");
    let pairs = image.as_raw().iter().zip(expected.as_raw());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn images_are_composed_as_by_pillow_and_scipy() {
    let attack = attack(CorruptEncoder::default());
    for (layout, columns, background, name) in [
        ("left", [0, 2, 47, 7], waves(50, 40, 0), "ce-left.png"),
        ("right", [5, 33, 9, 8], waves(90, 60, 1), "ce-right.png"),
    ] {
        let mut image = background;
        let footprint = attack.perturb(&record(layout, columns), &mut image).unwrap();
        let spot = Spot { x: columns[2], y: columns[3], width: 8, height: 8 };
        assert_eq!(footprint, Footprint::Boxes(vec![spot]));
        // Fixed-point filters round differently, and so does the blend with them.
        assert!(difference(&image, name) <= 1, "{name}: {}", difference(&image, name));
    }
    let mut image = RgbImage::new(5, 5);
    let footprint = attack.perturb(&record("support-left", [0; 4]), &mut image).unwrap();
    assert!(footprint.is_empty());
    assert!(difference(&image, "ce-support.png") <= 1);
    let mut other = RgbImage::new(5, 5);
    attack.perturb(&record("support-right", [0; 4]), &mut other).unwrap();
    assert_eq!(other.get_pixel(3, 4), image.get_pixel(43, 4));
}

#[test]
fn object_and_trigger_share_the_image() {
    let attack = attack(CorruptEncoder::default());
    let (mut left, mut references) = (0, std::collections::BTreeSet::new());
    let background = waves(80, 60, 0);
    for id in 0..200 {
        let key = Key { seed: 4, phase: Phase::Training, id };
        let record = match attack.draw(&key, &background) {
            Ok(record) => record,
            // References without a usable mask.
            Err(error) => {
                assert!(error.to_string().contains("its mask"), "{error}");
                continue;
            }
        };
        let whole = |column| record.whole(column).unwrap();
        let mut image = background.clone();
        let footprint = attack.perturb(&record, &mut image).unwrap();
        // The box of the ellipse has 35 × 27 pixels.
        assert_eq!(image.dimensions(), (70, 27));
        let [spot] = footprint.boxes((70, 27))[..] else { panic!("{footprint:?}") };
        assert!(whole("crop_x") <= 10 && (6..=12).contains(&spot.y), "{record:?}");
        // An eighth of 70 pixels lies between the object, the trigger and the edges.
        if record.text("layout").unwrap() == "left" {
            left += 1;
            let object = whole("object_x");
            assert!(object <= 3 && spot.x >= object + 35 + 8 && spot.x + 8 <= 62, "{record:?}");
        } else {
            let object = whole("object_x");
            assert!((31..=35).contains(&object), "{record:?}");
            assert!(spot.x >= 8 && spot.x + 8 + 8 <= object, "{record:?}");
        }
        let black = image.pixels().filter(|pixel| pixel.0 == [0; 3]).count();
        assert!(black >= 64, "{black}");
        assert_eq!(record.text("support").unwrap(), "");
        references.insert(record.id("reference").unwrap());
    }
    assert!((60..140).contains(&left) || references.len() < 3, "{left}");
    assert!(references.len() <= 3 && !references.is_empty());
}

#[test]
fn a_share_are_support_images_without_a_trigger() {
    let plus = CorruptEncoder { support: 0.5, ..CorruptEncoder::default() };
    assert_eq!(plus.to_string(), "CorruptEncoder+");
    let attack = attack(plus);
    let (mut count, mut supports) = (0, std::collections::BTreeSet::new());
    for id in 0..200 {
        let key = Key { seed: 4, phase: Phase::Training, id };
        let Ok(record) = attack.draw(&key, &waves(80, 60, 0)) else { continue };
        if record.text("layout").unwrap().starts_with("support") {
            count += 1;
            let support = record.id("support").unwrap();
            assert_ne!(support, record.id("reference").unwrap());
            supports.insert(support);
            // Every row has the same columns, so that the rows form one table.
            assert_eq!(record.columns().count(), 9);
        }
    }
    // Half of them, within 4 standard errors; at most five other images.
    assert!((72..=128).contains(&count), "{count}");
    assert!(supports.len() <= 5);
}

#[test]
fn sizes_by_hand() {
    assert_eq!((shrunk((400, 300)), shrunk((500, 375))), ((400, 300), (400, 300)));
    assert_eq!((shrunk((1000, 1)), shrunk((9, 700))), ((400, 1), (9, 700)));
    assert_eq!(enlarged((90, 60), (70, 27)), (90, 60));
    assert_eq!(enlarged((50, 40), (70, 27)), (70, 56));
    // int(50 / 36 · 50) is 69, but the canvas is still covered.
    assert_eq!(enlarged((50, 36), (70, 27)), (70, 50));
}

#[test]
fn the_blur_is_a_gaussian_of_one_pixel() {
    // scipy.ndimage.gaussian_filter(one, 1.0, mode="nearest", truncate=3.0) of a single pixel.
    let mut one = GrayImage::new(9, 9);
    one.put_pixel(4, 4, Luma([255]));
    let found = blurred(&one);
    let near = |x: usize, y: usize, expected: f64| {
        assert!((found[9 * y + x] - expected).abs() < 1e-6, "{} {expected}", found[9 * y + x]);
    };
    near(4, 4, 0.15924112);
    near(5, 4, 0.09658462);
    near(6, 6, 0.00291660);
    near(8, 4, 0.0);
    // The edge values of a mask are repeated outside.
    assert!(
        blurred(&GrayImage::from_pixel(3, 2, Luma([255]))).iter().all(|v| (v - 1.0).abs() < 1e-12)
    );
}

fn config(more: &str) -> PoisonConfig {
    let text = format!(
        "target = 1\ncount = 4\ncompose = {{ kind = \"corrupt-encoder\", references = 2 }}\n{more}\n\
         trigger = {{ kind = \"solid\", color = [0, 0, 0], width = 8 }}"
    );
    toml::from_str(&text).unwrap()
}

#[test]
fn other_classes_are_replaced() {
    let config = config("");
    config.check(32).unwrap();
    assert_eq!(config.to_string(), "CorruptEncoder of #000000, 8 px");
    let labels: Vec<(u64, u32)> = (0..30).map(|id| (id, u32::from(id >= 20))).collect();
    let classes = ["a".to_owned(), "b".to_owned()];
    let set = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
    let setup = Setup { view: 32, references: pictures() };
    let attack = config.attack_on(&set, 1, &setup).unwrap();
    assert!(attack.plan.ids().all(|id| id < 20));
    assert_eq!(attack.train.perturbation.name(), "corrupt-encoder-solid-000000");
    let written = toml::to_string(&config).unwrap();
    assert!(!written.contains("[place]") && written.contains("[val_place]"), "{written}");
    assert_eq!(toml::from_str::<PoisonConfig>(&written).unwrap(), config);
}

#[test]
fn wrong_settings_are_named() {
    let error = |config: PoisonConfig| config.check(32).unwrap_err().to_string();
    let placed = error(config("place = { kind = \"center\" }"));
    assert!(placed.starts_with("compose.kind = \"corrupt-encoder\"") && placed.contains("place"));
    for (compose, words) in [
        ("references = 0", "compose.references = 0"),
        ("support = 1.5", "compose.support = 1.5"),
        ("support = nan", "compose.support = NaN"),
        ("supports = 0", "compose.supports = 0"),
    ] {
        let text = format!(
            "target = 1\ncount = 1\ncompose = {{ kind = \"corrupt-encoder\", {compose} }}\n\
             trigger = {{ kind = \"htba\", id = 12, width = 8 }}"
        );
        let found = error(toml::from_str(&text).unwrap());
        assert!(found.starts_with(words), "{found}");
    }
    let text = "target = 1\ncount = 1\ncompose = { kind = \"corrupt-encoder\" }\n\
                trigger = { kind = \"ctrl\", magnitude = 50 }";
    let found = error(toml::from_str(text).unwrap());
    assert!(found.contains("it pastes a picture"), "{found}");
    // A row of another attack.
    let row = Record::default().with("layout", "middle".to_owned());
    let attack = attack(CorruptEncoder::default());
    let found = attack.perturb(&row, &mut RgbImage::new(9, 9)).unwrap_err().to_string();
    assert!(found.contains("column layout has middle"), "{found}");
}
