//! The patch attack: a picture pasted onto images.

use image::RgbImage;

use crate::purpose;
use crate::{
    Footprint, Key, Perturbation, Phase, Place, Record, Spot, Trigger, TriggerError, stamp,
};
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_rng::keyed;

/// A picture with its placement. It writes the ledger columns `x`, `y` and `width`, the box of the patch (in a grid,
/// of the first copy) in pixels, and `alpha`.
#[derive(Debug, Clone)]
pub struct Patch {
    /// The pasted picture.
    pub trigger: Trigger,
    /// Its placement.
    pub place: Place,
    /// Weight of the base image under the picture, 0 (opaque picture) to 1.
    pub alpha: f64,
}

impl Perturbation for Patch {
    fn name(&self) -> &str {
        &self.trigger.name
    }

    fn draw(&self, key: &Key, image: &RgbImage) -> Result<Record, TriggerError> {
        let patch = self.trigger.picture(image.dimensions()).dimensions();
        let spots = self.place.spots(image.dimensions(), patch, &mut key.rng());
        let (x, y, width) = spots.first().map_or((0, 0, 0), |spot| (spot.x, spot.y, spot.width));
        let record = Record::default().with("x", x).with("y", y).with("width", width);
        Ok(record.with("alpha", self.alpha))
    }

    /// The copies of a grid are computed from the image; a single patch is taken from the record.
    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let picture = self.trigger.picture(image.dimensions());
        let (width, height) = picture.dimensions();
        let (x, y, alpha) = (record.whole("x")?, record.whole("y")?, record.real("alpha")?);
        let spots = match self.place {
            Place::Grid { .. } => {
                let mut unused = keyed(0, purpose::TRAIN_SPOT, 0, 0, 0);
                self.place.spots(image.dimensions(), (width, height), &mut unused)
            }
            _ => vec![Spot { x, y, width, height }],
        };
        spots.iter().for_each(|&spot| stamp(image, &picture, spot, alpha));
        Ok(Footprint::Boxes(spots))
    }

    fn hash(&self) -> String {
        self.trigger.hash()
    }

    /// The settings of one phase, named as in the reference code (docs/protocol.md, 1.5).
    fn stem(&self, phase: Phase) -> String {
        let default = match phase {
            Phase::Training => (0.25, 0.75),
            Phase::Evaluation => (0.10, 0.90),
        };
        let (place, (min, max)) = match self.place {
            Place::Random { min, max } => ("random".to_owned(), (min, max)),
            Place::Center {} => ("center".into(), default),
            Place::Grid { copies: 9 } => ("multiple".into(), default),
            Place::Grid { copies } => (format!("multiple-{copies}"), default),
            Place::Corner { which } => (format!("corner-{which:?}").to_lowercase(), default),
        };
        let width = self.trigger.width_in_names();
        format!(
            "loc_{place}_loc-min_{min:.2}_loc-max_{max:.2}_alpha_{:.2}_width_{width}",
            self.alpha
        )
    }

    /// The picture must not be larger than the image.
    fn check(&self, side: u32, images: &str) -> Result<(), TriggerError> {
        let (width, height) = self.trigger.picture((side, side)).dimensions();
        if width <= side && height <= side {
            return Ok(());
        }
        let allowed = format!(
            "it is wider or higher than {images}: the trigger is {width} x {height} pixels, allowed are 1 to {side} pixels"
        );
        Err(OutOfRange::new(self.trigger.size_field(), self.trigger.size(), allowed).into())
    }

    fn width(&self, image: (u32, u32)) -> Option<u32> {
        Some(self.trigger.picture(image).width())
    }

    fn listed_box(&self, record: &Record) -> Option<[u32; 4]> {
        let number = |column| record.whole(column).ok();
        let width = number("width")?;
        Some([number("x")?, number("y")?, width, self.trigger.height(width)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TriggerConfig, psnr};

    #[test]
    fn a_patch_says_where_and_how_wide_it_is() {
        let trigger = TriggerConfig::Htba { id: 12, width: 8.into() }.build(32).unwrap();
        let mut patch = Patch { trigger, place: Place::TRAIN, alpha: 0.2 };
        let key = Key { seed: 1, phase: Phase::Training, id: 5 };
        let blank = RgbImage::new(40, 30);
        let mut image = blank.clone();
        let record = patch.draw(&key, &blank).unwrap();
        assert_eq!(record.columns().collect::<Vec<_>>(), ["x", "y", "width", "alpha"]);
        let footprint = patch.apply(&key, &mut image).unwrap();
        let Footprint::Boxes(spots) = &footprint else { panic!("{footprint:?}") };
        let [x, y, width, height] = patch.listed_box(&record).unwrap();
        assert_eq!(spots[..], [Spot { x, y, width, height }]);
        assert_eq!(patch.width((500, 375)), Some(8));
        assert!(psnr(&blank, &image).is_some());
        // A record of another perturbation.
        let error = patch.perturb(&Record::default().with("x", 1u32), &mut image).unwrap_err();
        assert!(error.to_string().contains("column y"), "{error}");
        for copies in [1, 4, 9] {
            patch.place = Place::Grid { copies };
            let footprint = patch.apply(&key, &mut image).unwrap();
            assert_eq!(footprint.boxes((40, 30)).len(), copies as usize);
        }
        assert!(patch.stem(Phase::Training).starts_with("loc_multiple_loc-min_0.25"));
        patch.place = Place::Grid { copies: 4 };
        assert!(patch.stem(Phase::Training).starts_with("loc_multiple-4_loc-min_0.25"));
    }
}
