//! The `[poison]` table of a config: the attack.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::chance::Purpose;
use crate::{Amount, Place, Poison, PoisonPlan, Size, Trigger, TriggerConfig, TriggerError};

/// The target class as a config names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "allowed are the index of a class, 0 or more, and its name")]
pub enum TargetClass {
    /// Its index, 0 to classes − 1.
    Index(u32),
    /// Its name: that of the class, of its folder, or its wnid.
    Name(String),
}

impl TargetClass {
    /// The class's index among `classes`.
    ///
    /// # Errors
    /// [`TriggerError::Target`] if there is none.
    pub fn index(&self, classes: &[String]) -> Result<u32, TriggerError> {
        let wrong = |target: String, allowed| Err(TriggerError::Target { target, allowed });
        match self {
            Self::Index(index) if (*index as usize) < classes.len() => Ok(*index),
            Self::Index(index) => wrong(
                index.to_string(),
                format!(
                    "the data set has {} classes, allowed are 0 to {}",
                    classes.len(),
                    classes.len().saturating_sub(1)
                ),
            ),
            Self::Name(name) => match classes.iter().position(|class| class == name) {
                Some(index) => Ok(index as u32),
                None => {
                    let some: Vec<&str> = classes.iter().take(10).map(String::as_str).collect();
                    let more = if classes.len() > some.len() { ", …" } else { "" };
                    wrong(name.clone(), format!("the classes are {}{more}", some.join(", ")))
                }
            },
        }
    }
}

/// The `[poison]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoisonConfig {
    /// The target class; absent = images of any class are poisoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetClass>,
    /// Share of the *target class* that is poisoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Share of the whole *training set* that is poisoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_rate: Option<f64>,
    /// Number of poisoned images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// A file list that names the images to poison; with a target, that class is scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<PathBuf>,
    /// The patch.
    pub trigger: TriggerConfig,
    /// Where it goes on training images.
    #[serde(default = "train_place")]
    pub place: Place,
    /// Where it goes on validation images.
    #[serde(default = "val_place")]
    pub val_place: Place,
    /// Weight of the training image under the patch; 0 = opaque patch.
    #[serde(default)]
    pub alpha: f64,
    /// Weight of the validation image under the patch.
    #[serde(default)]
    pub val_alpha: f64,
    /// Width of the patch on validation images (of a text: height of its font); absent = as on training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_width: Option<Size>,
    /// Whether a run encodes and decodes every stamped image that an export writes as JPEG (files named .jpg or
    /// .jpeg), as the reference does, so that it sees the pixels of the export. Files that are exported as PNG are
    /// lossless and stay as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompress: bool,
}

fn train_place() -> Place {
    Place::TRAIN
}
fn val_place() -> Place {
    Place::VAL
}

impl PoisonConfig {
    /// The trigger as it is pasted on validation images.
    pub fn val_trigger(&self) -> TriggerConfig {
        self.val_width.map_or_else(|| self.trigger.clone(), |width| self.trigger.with_size(width))
    }

    /// Checks everything that needs no data, for views and evaluation images of `view` pixels a side; triggers from
    /// files are read.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub fn check(&self, view: u32) -> Result<(), TriggerError> {
        self.amount()?.check()?;
        self.trigger.build(view)?;
        let key =
            if self.val_width.is_some() { "poison.val_width" } else { "poison.trigger.width" };
        let patched = self.val_trigger().build(view).map_err(|error| error.of(key))?;
        fits(key, &patched, view, "the evaluation images")?;
        self.place.check("poison.place")?;
        self.val_place.check("poison.val_place")?;
        for (key, alpha) in [("poison.alpha", self.alpha), ("poison.val_alpha", self.val_alpha)] {
            if !(0.0..=1.0).contains(&alpha) {
                let allowed = "allowed are 0 to 1".into();
                return Err(TriggerError::Range { key, value: alpha.to_string(), allowed });
            }
        }
        Ok(())
    }

    /// Checks that the trigger fits on training images of `native` pixels a side, where views have `view` pixels.
    ///
    /// # Errors
    /// [`TriggerError::Range`]: it is wider or higher.
    pub fn check_native(&self, native: u32, view: u32) -> Result<(), TriggerError> {
        let trigger = self.trigger.build(view)?;
        fits("poison.trigger.width", &trigger, native, "the training images (data.native)")
    }

    /// How much is poisoned.
    ///
    /// # Errors
    /// Not exactly one of `rate`, `dataset_rate`, `count` and `list` is given.
    pub fn amount(&self) -> Result<Amount, TriggerError> {
        let said = [
            self.rate.map(Amount::Rate),
            self.dataset_rate.map(Amount::DatasetRate),
            self.count.map(Amount::Count),
            self.list.as_ref().map(|_| Amount::Listed),
        ];
        let given: Vec<Amount> = said.into_iter().flatten().collect();
        match given[..] {
            [amount] => Ok(amount),
            _ => Err(TriggerError::Amount { found: format!("{} of them are given", given.len()) }),
        }
    }

    /// The attack on a training set with these `labels` and `classes`, for views and evaluation images of `view` pixels
    /// a side.
    ///
    /// # Errors
    /// A target that does not exist, an amount that is not to be had, or a list, which must be read first.
    pub fn attack(
        &self,
        labels: &[(u64, u32)],
        classes: &[String],
        seed: u64,
        view: u32,
    ) -> Result<Attack, TriggerError> {
        self.attack_listed(labels, classes, &[], seed, view)
    }

    /// The same, where the images that `list` names, if it is given, have the ids `listed`.
    ///
    /// # Errors
    /// As [`attack`](Self::attack).
    pub fn attack_listed(
        &self,
        labels: &[(u64, u32)],
        classes: &[String],
        listed: &[u64],
        seed: u64,
        view: u32,
    ) -> Result<Attack, TriggerError> {
        let target = self.target.as_ref().map(|target| target.index(classes)).transpose()?;
        let plan = match self.amount()? {
            Amount::Listed => PoisonPlan::listed(labels, target, listed)?,
            amount => PoisonPlan::new(labels, target, amount, seed)?,
        };
        let (trigger, patch) = (self.trigger.build(view)?, self.val_trigger().build(view)?);
        let poison =
            |trigger, place, alpha, purpose| Poison { trigger, place, alpha, seed, purpose };
        Ok(Attack {
            target,
            plan,
            train: poison(trigger, self.place, self.alpha, Purpose::TrainSpot),
            val: poison(patch, self.val_place, self.val_alpha, Purpose::ValSpot),
            recompress: self.recompress,
        })
    }
}

/// Checks that `trigger` is not larger than images of `side` pixels a side, which are called `images`; `key` names its
/// size.
fn fits(key: &'static str, trigger: &Trigger, side: u32, images: &str) -> Result<(), TriggerError> {
    let (width, height) = trigger.picture((side, side)).dimensions();
    if width <= side && height <= side {
        return Ok(());
    }
    Err(TriggerError::Range {
        key,
        value: trigger.size().to_string(),
        allowed: format!(
            "it is wider or higher than {images}: the trigger is {width} x {height} pixels, allowed are 1 to {side} \
             pixels"
        ),
    })
}

/// An attack on a certain data set: which images, with what, and where.
#[derive(Debug, Clone)]
pub struct Attack {
    /// The target class.
    pub target: Option<u32>,
    /// The poisoned training images.
    pub plan: PoisonPlan,
    /// What is done to them.
    pub train: Poison,
    /// What is done to every validation image.
    pub val: Poison,
    /// Whether stamped images are encoded and decoded where an export writes JPEG.
    pub recompress: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> PoisonConfig {
        let trigger = r#"trigger = { kind = "htba", id = 10, width = 8 }"#;
        toml::from_str(&format!("{more}\n{trigger}")).unwrap()
    }

    #[test]
    fn a_target_is_an_index_or_a_name() {
        let classes = ["cat".to_owned(), "n02106550".to_owned()];
        let labels = [(1, 0), (2, 1), (3, 1)];
        for target in ["target = 1", "target = \"n02106550\""] {
            let attack =
                config(&format!("{target}\nrate = 1")).attack(&labels, &classes, 0, 32).unwrap();
            assert_eq!((attack.target, attack.plan.ids().collect()), (Some(1), vec![2, 3]));
        }
        for target in ["target = 2", "target = \"dog\""] {
            let error = config(&format!("{target}\nrate = 1")).attack(&labels, &classes, 0, 32);
            assert!(error.unwrap_err().to_string().starts_with("poison.target = "));
        }
    }

    #[test]
    fn field_f07_the_patch_of_validation_images_has_a_size_of_its_own() {
        let sides = |more: &str| {
            let config = config(&format!("dataset_rate = 1\n{more}"));
            config.check(32)?;
            let attack = config.attack(&[(1, 0)], &["cat".into()], 0, 32)?;
            let width = |poison: &Poison, image| poison.trigger.picture(image).width();
            Ok::<_, TriggerError>((width(&attack.train, (500, 375)), width(&attack.val, (32, 32))))
        };
        // The trigger of `config` is 8 pixels wide.
        assert_eq!(sides("").unwrap(), (8, 8));
        assert_eq!(sides("val_width = 12").unwrap(), (8, 12));
        assert_eq!(sides("val_width = { share = 0.5 }").unwrap(), (8, 16));
        for (wrong, words) in [
            ("val_width = 33", "poison.val_width = 33 is out of range"),
            ("val_width = { share = 1.5 }", "0 < share <= 1"),
        ] {
            let error = sides(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn exactly_one_amount() {
        assert!(config("rate = 0.5").check(32).is_ok());
        for more in ["", "rate = 0.5\ncount = 3", "dataset_rate = 0.1\ncount = 3"] {
            let error = config(more).check(32).unwrap_err().to_string();
            assert!(error.contains("exactly one of"), "{error}");
        }
    }
}
