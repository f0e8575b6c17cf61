//! The `[poison]` table of a config: the attack.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ssl_backdoor_fields::OutOfRange;

use crate::{
    Attack, Chosen, Compose, FeatureRows, Phase, Place, Poison, PoisonPlan, Pool, Recipe, Select,
    Selected, Selection, Setup, Size, TargetClass, TrainingSet, TriggerConfig, TriggerError,
};

mod check;

/// The `[poison]` table: which images are poisoned, and how. The keys `place`, `alpha` and `val_*` are for patches;
/// other triggers have all their keys in `trigger`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PoisonConfig {
    /// The target class, by index or name. Default: none, images of any class are poisoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetClass>,
    /// Share of the images of the target class that are poisoned. Exactly one of `rate`, `dataset_rate`, `count` and
    /// `list` is needed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub rate: Option<f64>,
    /// Share of all training images that are poisoned. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub dataset_rate: Option<f64>,
    /// Number of poisoned images. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<usize>,
    /// A file list that names the images to poison: on each line a path as in the training list, or an id where the
    /// images are not files. With a target, ASR is measured for that class. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<PathBuf>,
    /// Chooses the poisoned images by a rule. `rate` then refers to a class of mean size; without a target, ASR is
    /// measured for the class of most chosen images. Default: a seeded sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<Select>,
    /// What is done to the images.
    pub trigger: TriggerConfig,
    /// Composes a poisoned training image with an image of the target class. Default: none, the image only gets the
    /// trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Compose>,
    /// Where a patch goes on training images. Default: `{ kind = "random", min = 0.25, max = 0.75 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Where a patch goes on evaluation images. Default: `{ kind = "random", min = 0.1, max = 0.9 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_place: Option<Place>,
    /// Weight of the training image under a patch; 0 is an opaque patch. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alpha: Option<f64>,
    /// Weight of the evaluation image under a patch. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub val_alpha: Option<f64>,
    /// Width of the patch on evaluation images; for a text, the height of its font. Default: as on training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_width: Option<Size>,
    /// Encodes and decodes every poisoned or patched image that an export would write as JPEG (`.jpg`, `.jpeg`), as the
    /// reference code does, so that a run sees the pixels of the export. Images exported as PNG are not changed. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompress: bool,
}

/// Absent keys of patches get their defaults, so that a serialised config states them.
impl<'de> Deserialize<'de> for PoisonConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from).map(Self::placed)
    }
}

impl Serialize for PoisonConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

/// A short description for tables: that of the trigger, with the composition in front.
impl std::fmt::Display for PoisonConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(compose) = &self.compose {
            write!(f, "{compose} of ")?;
        }
        write!(f, "{}", self.trigger)
    }
}

impl PoisonConfig {
    /// The attack in a word: the composition, or else the rule that chooses images, or else the kind of trigger.
    pub fn kind(&self) -> String {
        match (&self.compose, &self.select) {
            (Some(compose), _) => compose.to_string(),
            (None, Some(select)) => format!("no-label {}", select.kind),
            (None, None) => self.trigger.kind().to_owned(),
        }
    }

    /// `trigger`, placed as in the paper. No images are selected yet: set one of `rate`, `dataset_rate`, `count` and
    /// `list` with struct update syntax.
    pub fn new(trigger: TriggerConfig) -> Self {
        let config = Self {
            target: None,
            rate: None,
            dataset_rate: None,
            count: None,
            list: None,
            select: None,
            trigger,
            compose: None,
            place: None,
            val_place: None,
            alpha: None,
            val_alpha: None,
            val_width: None,
            recompress: false,
        };
        config.placed()
    }

    /// Fills in the defaults of a patch.
    fn placed(mut self) -> Self {
        if self.trigger.is_patch() {
            let (place, alpha) = match &self.compose {
                Some(Compose::NoisyAlignment(_)) => {
                    (Some(Place::Random { min: 0.45, max: 0.55 }), 0.2)
                }
                Some(compose) if compose.places() => (None, 0.0),
                _ => (Some(Place::TRAIN), 0.0),
            };
            self.place = self.place.or(place);
            self.val_place.get_or_insert(Place::VAL);
            self.alpha.get_or_insert(alpha);
            self.val_alpha.get_or_insert(0.0);
        }
        self
    }

    /// The recipe for the perturbation of images of `phase`.
    pub fn recipe(&self, phase: Phase) -> Recipe {
        let (place, alpha) = match phase {
            Phase::Training => (self.place, self.alpha),
            Phase::Evaluation => (self.val_place, self.val_alpha),
        };
        let trigger = match (phase, self.val_width) {
            (Phase::Evaluation, Some(width)) => self.trigger.with_size(width),
            _ => self.trigger.clone(),
        };
        let patch = trigger.is_patch();
        let compose = self.compose.clone().filter(|_| phase == Phase::Training);
        let placed = patch && !compose.as_ref().is_some_and(Compose::places);
        let (place, alpha) = (place.unwrap_or(Place::of_paper(phase)), alpha.unwrap_or(0.0));
        let (place, alpha) = (placed.then_some(place), patch.then_some(alpha));
        Recipe { trigger, place, alpha, compose }
    }

    /// How the poisoned images are chosen. If `list` is set, `listed` holds the ids that it names.
    ///
    /// # Errors
    /// Not exactly one of `rate`, `dataset_rate`, `count` and `list` is given.
    pub fn selection(&self, listed: &[u64]) -> Result<Selection, TriggerError> {
        let said = [
            self.rate.map(Selection::Rate),
            self.dataset_rate.map(Selection::DatasetRate),
            self.count.map(Selection::Count),
            self.list.as_ref().map(|_| Selection::Listed(listed.to_vec())),
        ];
        let mut given: Vec<Selection> = said.into_iter().flatten().collect();
        match (given.pop(), given.is_empty()) {
            (Some(selection), true) => Ok(selection),
            (last, _) => {
                let count = given.len() + usize::from(last.is_some());
                Err(TriggerError::Amount { found: format!("{count} of them are set") })
            }
        }
    }

    /// Chooses images of `set` by the rule of `select`. If the rule uses features, it takes `features` of all images,
    /// from the encoder whose file has the hash `encoder_hash`. Returns the config unchanged if there is no rule or
    /// the images are already chosen.
    ///
    /// # Errors
    /// As [`check`](Self::check); the rule cannot choose as many images as requested; or the features are not those
    /// of the set.
    pub fn choose(
        &self,
        set: &TrainingSet<'_>,
        features: Option<FeatureRows<'_>>,
        encoder_hash: Option<String>,
        seed: u64,
    ) -> Result<Self, TriggerError> {
        let mut config = self.clone();
        let Some(select) = config.select.as_mut().filter(|select| select.chosen.is_none()) else {
            return Ok(config);
        };
        self.check_select()?;
        let amount = self.selection(&[])?;
        amount.check()?;
        let Some(count) = amount.of_mean_class(set.labels.len(), set.classes.len())? else {
            return Ok(config);
        };
        let target = self.target.as_ref().map(|target| target.index(set.classes)).transpose()?;
        let positions = select.positions(set, target, features, count, seed)?;
        let mut ids: Vec<u64> = positions.into_iter().map(|i| set.labels[i].0).collect();
        ids.sort_unstable();
        select.chosen = Some(Chosen { encoder_hash, ids });
        Ok(config)
    }

    /// The images of `set` that a rule chose; `None` without a rule.
    fn selected(
        &self,
        set: &TrainingSet<'_>,
    ) -> Result<Option<(Selected, Selection)>, TriggerError> {
        let Some(select) = &self.select else { return Ok(None) };
        let Some(chosen) = &select.chosen else {
            let allowed = "the images are not chosen yet: PoisonConfig::choose does that";
            let kind = format!("\"{}\"", select.kind);
            return Err(OutOfRange::new("select.kind", kind, allowed).into());
        };
        let selection = Selection::Chosen(chosen.ids.clone());
        Ok(Some((Selected::of(select, chosen, set), selection)))
    }

    /// The attack on a training set with these `labels` and `classes`, for views and evaluation images of `view` pixels
    /// a side.
    ///
    /// # Errors
    /// The target does not exist, or the selection is not available: a list must be read first (see
    /// [`attack_on`](Self::attack_on)), and a rule must first [choose](Self::choose) its images.
    pub fn attack(
        &self,
        labels: &[(u64, u32)],
        classes: &[String],
        seed: u64,
        view: u32,
    ) -> Result<Attack, TriggerError> {
        self.attack_on(&TrainingSet { labels, classes, listed: &[] }, seed, &Setup::new(view))
    }

    /// The attack on `set`.
    ///
    /// # Errors
    /// As [`attack`](Self::attack).
    pub fn attack_on(
        &self,
        set: &TrainingSet<'_>,
        seed: u64,
        setup: &Setup,
    ) -> Result<Attack, TriggerError> {
        let target = self.target.as_ref().map(|target| target.index(set.classes)).transpose()?;
        let pool = self.compose.as_ref().map_or(Pool::Target, Compose::pool);
        let (selected, selection) = match self.selected(set)? {
            Some((selected, selection)) => (Some(selected), selection),
            None => (None, self.selection(set.listed)?),
        };
        let target = target.or(selected.as_ref().and_then(|selected| selected.class));
        let plan = PoisonPlan::from_pool(set.labels, target, pool, &selection, seed)?;
        if let Some(compose) = self.compose.as_ref().filter(|_| setup.references.ids().is_empty()) {
            let allowed = "no training image has the label of the target class";
            let kind = format!("\"{}\"", compose.kind());
            return Err(OutOfRange::new("compose.kind", kind, allowed).into());
        }
        let poison = |phase| {
            let perturbation = self.recipe(phase).build(phase, setup)?;
            Ok::<_, TriggerError>(Poison { perturbation, seed, phase })
        };
        let (train, val) = (poison(Phase::Training)?, poison(Phase::Evaluation)?);
        Ok(Attack { target, selected, plan, train, val, recompress: self.recompress })
    }
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
            assert!(error.unwrap_err().to_string().starts_with("target = "));
        }
    }

    #[test]
    fn field_f07_the_patch_of_validation_images_has_a_size_of_its_own() {
        let sides = |more: &str| {
            let config = config(&format!("dataset_rate = 1\n{more}"));
            config.check(32)?;
            let attack = config.attack(&[(1, 0)], &["cat".into()], 0, 32)?;
            let width = |poison: &Poison, image| poison.perturbation.width(image).unwrap();
            Ok::<_, TriggerError>((width(&attack.train, (500, 375)), width(&attack.val, (32, 32))))
        };
        // The trigger of `config` is 8 pixels wide.
        assert_eq!(sides("").unwrap(), (8, 8));
        assert_eq!(sides("val_width = 12").unwrap(), (8, 12));
        assert_eq!(sides("val_width = { share = 0.5 }").unwrap(), (8, 16));
        for (wrong, words) in [
            ("val_width = 33", "val_width = 33 is out of range"),
            ("val_width = { share = 1.5 }", "0 < share <= 1"),
        ] {
            let error = sides(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_config_by_hand_is_the_file_that_says_as_much() {
        let TriggerConfig::Htba { id, width } = config("").trigger else { unreachable!() };
        let by_hand = PoisonConfig::new(TriggerConfig::Htba { id, width });
        assert_eq!(by_hand, config(""));
        let PoisonConfig { place, alpha, .. } =
            PoisonConfig::new(TriggerConfig::Ctrl(toml::from_str("magnitude = 50").unwrap()));
        assert_eq!((place, alpha), (None, None));
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
