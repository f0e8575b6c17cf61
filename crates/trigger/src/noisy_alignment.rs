//! Noisy Alignment (*Backdooring Self-Supervised Contrastive Learning by Noisy Alignment*, ICCV 2025). An image of
//! any class, the *shadow*, carries the trigger near its middle and is joined to a *reference* image of the target
//! class. Of two random crops, one can then show the trigger and the other the target.
//!
//! The authors' code pastes the trigger at 0.45 to 0.55 of each side and gives the image under it a weight of 0.2.
//! These are the defaults of `place` and `alpha` here. Its second variant blends a picture over the whole shadow with
//! a weight of 0.2; here this is the trigger `blend`. Shadow and reference are joined as follows.
//!
//! 1. If the area of one is more than twice the other's, the smaller one is enlarged by the square root of the ratio.
//! 2. One of four sides is drawn. Side by side, both are resized to the smaller height; one above the other, to the
//!    smaller width. The other dimension does not change.
//! 3. They are joined.
//!
//! Both steps resize with PIL's Lanczos filter and truncate sizes to whole pixels.

use std::sync::Arc;

use image::{GenericImage, RgbImage};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::require;
use ssl_backdoor_images::Filter;

use crate::sampled::{Sampled, chance};
use crate::{Footprint, Key, Perturbation, Phase, Record, References, Spot, TriggerError, resize};

/// The table of the composition `noisy-alignment`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoisyAlignment {
    /// Number of reference images, a seeded sample of the target class. The authors use 650 of 1,300 on ImageNet-100
    /// and 1,200 of 5,000 on CIFAR-10. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub references: Option<usize>,
}

impl NoisyAlignment {
    pub(crate) fn check(&self) -> Result<(), TriggerError> {
        let count = self.references.unwrap_or(1);
        Ok(require(count > 0, "compose.references", count, "allowed is 1 or more")?)
    }

    /// The perturbation of training images; `trigger` puts the trigger on the shadow.
    pub(crate) fn build(
        &self,
        trigger: Arc<dyn Perturbation>,
        references: Arc<dyn References>,
    ) -> Arc<dyn Perturbation> {
        let name = format!("noisy-alignment-{}", trigger.name());
        let references = Sampled::new(references, self.references);
        Arc::new(Joined { name, trigger, references })
    }
}

/// The side of the shadow on which the reference lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Top,
    Right,
    Bottom,
    Left,
}

impl Side {
    const ALL: [Self; 4] = [Self::Top, Self::Right, Self::Bottom, Self::Left];

    fn name(self) -> &'static str {
        match self {
            Self::Top => "top",
            Self::Right => "right",
            Self::Bottom => "bottom",
            Self::Left => "left",
        }
    }
}

/// Shadow and reference. It writes the ledger columns of the trigger (positions are on the shadow), `reference` (the
/// id of the reference) and `side` (where the reference lies).
#[derive(Debug)]
struct Joined {
    name: String,
    trigger: Arc<dyn Perturbation>,
    references: Sampled,
}

impl Perturbation for Joined {
    fn name(&self) -> &str {
        &self.name
    }

    fn draw(&self, key: &Key, image: &RgbImage) -> Result<Record, TriggerError> {
        let mut rng = chance(key);
        let at = rng.random_range(0..self.references.size()?);
        let side = Side::ALL[rng.random_range(0..Side::ALL.len())];
        let reference = self.references.ranked(key.seed)[at];
        let record = self.trigger.draw(key, image)?.with("reference", reference);
        Ok(record.with("side", side.name().to_owned()))
    }

    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let name = record.text("side")?;
        let side = Side::ALL.into_iter().find(|side| side.name() == name);
        let side = side.ok_or_else(|| TriggerError::Column {
            column: "side",
            value: name.to_owned(),
            expected: "top, right, bottom or left",
        })?;
        let reference = self.references.images.get(record.id("reference")?)?;
        let footprint = self.trigger.perturb(record, image)?;
        let before = image.dimensions();
        let (joined, shadow) = join(image, &reference, side)?;
        *image = joined;
        let boxes = footprint.boxes(before);
        Ok(Footprint::Boxes(boxes.iter().map(|spot| followed(spot, before, &shadow)).collect()))
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"noisy-alignment");
        hasher.update(self.trigger.hash().as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    fn stem(&self, phase: Phase) -> String {
        format!("noisy-alignment_{}", self.trigger.stem(phase))
    }

    fn check(&self, side: u32, images: &str) -> Result<(), TriggerError> {
        self.trigger.check(side, images)
    }

    fn width(&self, image: (u32, u32)) -> Option<u32> {
        self.trigger.width(image)
    }

    fn survives_jpeg(&self) -> bool {
        self.trigger.survives_jpeg()
    }
}

/// Both sides times `factor`, truncated to whole pixels, at least 1.
fn scaled((width, height): (u32, u32), factor: f64) -> (u32, u32) {
    let to = |side: u32| ((f64::from(side) * factor) as u32).max(1);
    (to(width), to(height))
}

/// The sizes (width, height) of the shadow and the reference after each of the two resizing steps: by area, then
/// along the shared side.
fn sizes(shadow: (u32, u32), reference: (u32, u32), side: Side) -> [[(u32, u32); 2]; 2] {
    let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let (a, b) = (area(shadow), area(reference));
    let root = |large: u64, small: u64| (large as f64 / small.max(1) as f64).sqrt();
    let (shadow, reference) = if a > 2 * b {
        (shadow, scaled(reference, root(a, b)))
    } else if b > 2 * a {
        (scaled(shadow, root(b, a)), reference)
    } else {
        (shadow, reference)
    };
    let shared = match side {
        Side::Top | Side::Bottom => {
            let width = shadow.0.min(reference.0);
            [(width, shadow.1), (width, reference.1)]
        }
        Side::Left | Side::Right => {
            let height = shadow.1.min(reference.1);
            [(shadow.0, height), (reference.0, height)]
        }
    };
    [[shadow, shared[0]], [reference, shared[1]]]
}

/// Joins `shadow` and `reference`, which goes on `side` of it. Also returns the box of the shadow in the result.
fn join(
    shadow: &RgbImage,
    reference: &RgbImage,
    side: Side,
) -> Result<(RgbImage, Spot), TriggerError> {
    let wrong = |reason: String| TriggerError::Image { image: "an image".into(), reason };
    if shadow.is_empty() || reference.is_empty() {
        return Err(wrong("an image without pixels cannot be joined".into()));
    }
    let steps = sizes(shadow.dimensions(), reference.dimensions(), side);
    let at = |image: &RgbImage, [first, then]: [(u32, u32); 2]| {
        let enlarged = resize::image(image, first, Filter::Lanczos);
        resize::image(&enlarged, then, Filter::Lanczos)
    };
    let (shadow, reference) = (at(shadow, steps[0]), at(reference, steps[1]));
    let ((ws, hs), (wr, hr)) = (shadow.dimensions(), reference.dimensions());
    let (size, shadow_at, reference_at) = match side {
        Side::Top => ((ws, hs + hr), (0, hr), (0, 0)),
        Side::Bottom => ((ws, hs + hr), (0, 0), (0, hs)),
        Side::Left => ((ws + wr, hs), (wr, 0), (0, 0)),
        Side::Right => ((ws + wr, hs), (0, 0), (ws, 0)),
    };
    let mut joined = RgbImage::new(size.0, size.1);
    for (image, at) in [(&shadow, shadow_at), (&reference, reference_at)] {
        joined.copy_from(image, at.0, at.1).map_err(|e| wrong(e.to_string()))?;
    }
    Ok((joined, Spot { x: shadow_at.0, y: shadow_at.1, width: ws, height: hs }))
}

/// Maps the box `spot` on a shadow of size `before` to the joined image, in which the shadow fills the box `shadow`.
fn followed(spot: &Spot, before: (u32, u32), shadow: &Spot) -> Spot {
    let along = |from: u32, length: u32, before: u32, after: u32| {
        let factor = f64::from(after) / f64::from(before.max(1));
        let to = |at: u32| ((f64::from(at) * factor).round() as u32).min(after);
        let (start, end) = (to(from), to(from.saturating_add(length)));
        (start, end - start)
    };
    let (x, width) = along(spot.x, spot.width, before.0, shadow.width);
    let (y, height) = along(spot.y, spot.height, before.1, shadow.height);
    Spot { x: shadow.x + x, y: shadow.y + y, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PoisonConfig, Setup, TrainingSet};
    use image::Rgb;

    /// Images of one colour; the red level is the id.
    #[derive(Debug)]
    struct Plain(Vec<u64>, (u32, u32));

    impl References for Plain {
        fn ids(&self) -> &[u64] {
            &self.0
        }

        fn get(&self, id: u64) -> Result<RgbImage, TriggerError> {
            Ok(RgbImage::from_pixel(self.1.0, self.1.1, Rgb([id as u8, 200, 10])))
        }
    }

    fn setup(ids: &[u64], size: (u32, u32)) -> Setup {
        Setup { view: 32, references: Arc::new(Plain(ids.to_vec(), size)) }
    }

    fn config(more: &str) -> PoisonConfig {
        let text = format!(
            "target = 1\n{more}\ncompose = {{ kind = \"noisy-alignment\" }}\n\
             trigger = {{ kind = \"solid\", color = [0, 0, 0], width = 8 }}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn sizes_by_hand() {
        // Areas within a factor of two: the shared side becomes the smaller one, the other does not change.
        let of = |a, b, side| sizes(a, b, side).map(|steps| steps[1]);
        assert_eq!(of((500, 375), (400, 400), Side::Right), [(500, 375), (400, 375)]);
        assert_eq!(of((500, 375), (400, 400), Side::Top), [(400, 375), (400, 400)]);
        // 500 · 375 is 18.75 times 100 · 100, whose side becomes int(433.01).
        assert_eq!(of((500, 375), (100, 100), Side::Left), [(500, 375), (433, 375)]);
        assert_eq!(of((100, 100), (500, 375), Side::Bottom), [(433, 433), (433, 375)]);
        // Exactly twice is not more than twice.
        assert_eq!(of((20, 10), (10, 10), Side::Top), [(10, 10), (10, 10)]);
    }

    /// `tests/fixtures/compose.py`.
    #[test]
    fn images_are_joined_as_by_pillow() {
        use crate::corrupt_encoder::tests::{difference, waves};
        for (name, shadow, reference, side, lies) in [
            ("na-top.png", waves(40, 30, 0), waves(20, 24, 1), Side::Top, [0, 37, 31, 30]),
            ("na-right.png", waves(40, 30, 0), waves(20, 24, 1), Side::Right, [0, 0, 40, 30]),
            ("na-left.png", waves(25, 24, 1), waves(40, 30, 0), Side::Left, [40, 0, 25, 24]),
        ] {
            let (joined, spot) = join(&shadow, &reference, side).unwrap();
            let most = difference(&joined, name);
            // Fixed-point filters round differently, and two are applied in a row.
            assert!(most <= 2, "{name}: {most}");
            assert_eq!([spot.x, spot.y, spot.width, spot.height], lies, "{name}");
        }
    }

    #[test]
    fn a_box_follows_the_shadow() {
        let spot = Spot { x: 40, y: 30, width: 20, height: 10 };
        let shadow = Spot { x: 7, y: 9, width: 50, height: 200 };
        let expected = Spot { x: 27, y: 69, width: 10, height: 20 };
        assert_eq!(followed(&spot, (100, 100), &shadow), expected);
        // The part beyond the edge of the shadow is clipped, so that it does not lie on the reference.
        let off = Spot { x: 95, y: 0, width: 20, height: 10 };
        assert_eq!(followed(&off, (100, 100), &shadow).x + 2, 7 + 50);
    }

    #[test]
    fn trigger_and_reference_lie_side_by_side() {
        let config = config("count = 5");
        let labels: Vec<(u64, u32)> = (0..40).map(|id| (id, u32::from(id >= 30))).collect();
        let classes = ["a".to_owned(), "b".to_owned()];
        let set = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
        let ids: Vec<u64> = (30..40).collect();
        let attack = config.attack_on(&set, 1, &setup(&ids, (32, 32))).unwrap();
        assert_eq!(attack.plan.rates().rate, None);
        let (mut sides, mut used) = (Vec::new(), Vec::new());
        for id in 0..60 {
            let shadow = RgbImage::from_pixel(32, 32, Rgb([250; 3]));
            let mut image = shadow.clone();
            let poison = attack.poison(Phase::Training);
            let record = poison.perturbation.draw(&poison.key(id), &shadow).unwrap();
            let columns: Vec<&str> = record.columns().collect();
            assert_eq!(columns, ["x", "y", "width", "alpha", "reference", "side"]);
            // The patch is too wide for 0.45 to 0.55 of 32 pixels, so it starts at int(14.4).
            assert_eq!((record.whole("x").unwrap(), record.real("alpha").unwrap()), (14, 0.2));
            let footprint = poison.perturbation.perturb(&record, &mut image).unwrap();
            let side = record.text("side").unwrap().to_owned();
            let [spot] = footprint.boxes(image.dimensions())[..] else { panic!("{footprint:?}") };
            let reference = record.id("reference").unwrap();
            let (size, corner, middle) = match side.as_str() {
                "top" => ((32, 64), (14, 46), (16, 16)),
                "bottom" => ((32, 64), (14, 14), (16, 48)),
                "left" => ((64, 32), (46, 14), (16, 16)),
                _ => ((64, 32), (14, 14), (48, 16)),
            };
            assert_eq!((image.dimensions(), (spot.x, spot.y)), (size, corner), "{side}");
            // 0.2 of 250 under the trigger.
            assert_eq!(image.get_pixel(spot.x + 4, spot.y + 4).0, [50; 3]);
            assert_eq!(image.get_pixel(middle.0, middle.1).0, [reference as u8, 200, 10]);
            assert!(ids.contains(&reference));
            sides.push(side);
            used.push(reference);
        }
        for all in [&mut sides, &mut used.iter().map(u64::to_string).collect()] {
            all.sort_unstable();
            all.dedup();
        }
        assert_eq!((sides.len(), used.len() > 40), (4, true));
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, ids);
        // Evaluation images have the plain patch.
        let mut image = RgbImage::from_pixel(32, 32, Rgb([250; 3]));
        attack.val.apply(3, &mut image).unwrap();
        assert_eq!(image.dimensions(), (32, 32));
        assert_eq!(image.pixels().filter(|pixel| pixel.0 == [0; 3]).count(), 64);
    }

    #[test]
    fn few_references_are_a_sample_of_the_seed() {
        let ids: Vec<u64> = (0..100).collect();
        let all = Sampled::new(Arc::new(Plain(ids, (4, 4))), Some(10));
        assert_eq!(all.size().unwrap(), 10);
        let first = all.ranked(1);
        assert_eq!((all.ranked(1), all.ranked(2) == first), (first.clone(), false));
        let none = Sampled::new(Arc::new(()), None);
        assert!(none.size().unwrap_err().to_string().contains("no image of the target class"));
    }

    #[test]
    fn what_it_needs_is_named() {
        let good = config("rate = 0.5");
        good.check(32).unwrap();
        assert_eq!(good.to_string(), "Noisy Alignment of #000000, 8 px");
        let without = PoisonConfig { target: None, count: Some(1), rate: None, ..good.clone() };
        let error = without.check(32).unwrap_err().to_string();
        assert!(
            error.starts_with("compose.kind = \"noisy-alignment\"") && error.contains("target")
        );
        let text = "target = 1\ncount = 1\ncompose = { kind = \"noisy-alignment\", references = 0 }\n\
                    trigger = { kind = \"htba\", id = 12, width = 8 }";
        let none: PoisonConfig = toml::from_str(text).unwrap();
        let error = none.check(32).unwrap_err().to_string();
        assert!(error.starts_with("compose.references = 0"), "{error}");
        // The defaults are written out. The authors' second variant is the trigger `blend`.
        let written = toml::to_string(&good).unwrap();
        assert!(written.contains("min = 0.45") && written.contains("alpha = 0.2"), "{written}");
        assert_eq!(toml::from_str::<PoisonConfig>(&written).unwrap(), good);
        let blend = "target = 1\ncount = 1\ncompose = { kind = \"noisy-alignment\" }\n\
                     trigger = { kind = \"blend\", seed = 1, ratio = 0.2 }";
        let blend: PoisonConfig = toml::from_str(blend).unwrap();
        blend.check(32).unwrap();
        let labels = [(0, 0), (1, 1)];
        let classes = ["a".to_owned(), "b".to_owned()];
        let set = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
        let attack = blend.attack_on(&set, 1, &setup(&[1], (16, 16))).unwrap();
        let mut image = RgbImage::new(32, 32);
        let footprint = attack.train.apply(0, &mut image).unwrap();
        let [spot] = footprint.boxes(image.dimensions())[..] else { panic!("{footprint:?}") };
        assert_eq!((spot.width, spot.height), (32, 32));
        // A missing reference is an error when the attack is planned.
        let error = blend.attack_on(&set, 1, &Setup::new(32)).unwrap_err().to_string();
        assert!(error.contains("no training image has the label of the target class"), "{error}");
    }
}
