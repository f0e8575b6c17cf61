//! Which images are poisoned.

use std::collections::BTreeSet;

use crate::purpose;
use crate::{Pool, Rates, TriggerError};
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_rng::ranked;

/// How the poisoned images are chosen. A new way needs a variant here with its key and its check, and an arm in
/// [`PoisonPlan::from_pool`] that chooses the images.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// A seeded sample: this share of the target class, above 0 to 1.
    Rate(f64),
    /// A seeded sample: this share of the whole training set, above 0 to 1.
    DatasetRate(f64),
    /// A seeded sample of this many images, 1 or more.
    Count(usize),
    /// The images with these ids, whatever their labels.
    Listed(Vec<u64>),
    /// The images with these ids, which a [`Rule`](crate::Rule) chose.
    Chosen(Vec<u64>),
}

impl Selection {
    /// The config field and its value.
    fn entry(&self) -> (&'static str, String) {
        match self {
            Self::Rate(rate) => ("rate", rate.to_string()),
            Self::DatasetRate(rate) => ("dataset_rate", rate.to_string()),
            Self::Count(count) => ("count", count.to_string()),
            Self::Listed(_) => ("list", "FILE".into()),
            Self::Chosen(_) => ("select.chosen.ids", "[…]".into()),
        }
    }

    fn error(&self, allowed: String) -> TriggerError {
        let (field, value) = self.entry();
        OutOfRange::new(field, value, allowed).into()
    }

    /// Checks the value as far as possible without the data.
    ///
    /// # Errors
    /// A share is outside (0, 1], or a count is 0.
    pub fn check(&self) -> Result<(), TriggerError> {
        match *self {
            Self::Rate(rate) if !(rate > 0.0 && rate <= 1.0) => {
                Err(self.error("allowed is 0 < rate <= 1 (of the target class)".into()))
            }
            Self::DatasetRate(rate) if !(rate > 0.0 && rate <= 1.0) => {
                Err(self.error("allowed is 0 < dataset_rate <= 1 (of the training set)".into()))
            }
            Self::Count(0) => Err(self.error("allowed is 1 or more images".into())),
            _ => Ok(()),
        }
    }

    /// Number of images to poison, where `rate` refers to a class of mean size; `None` for images given by id.
    ///
    /// # Errors
    /// The share comes to less than one image.
    pub(crate) fn of_mean_class(
        &self,
        images: usize,
        classes: usize,
    ) -> Result<Option<usize>, TriggerError> {
        match *self {
            Self::Rate(rate) => {
                let count = (rate * images as f64 / classes.max(1) as f64).floor() as usize;
                let allowed = "it poisons none of the images of a class of mean size: raise it";
                if count > 0 { Ok(Some(count)) } else { Err(self.error(allowed.into())) }
            }
            Self::DatasetRate(rate) => self.share(rate, images).map(Some),
            Self::Count(count) => Ok(Some(count)),
            Self::Listed(_) | Self::Chosen(_) => Ok(None),
        }
    }

    /// `rate` of `of` images, rounded down.
    fn share(&self, rate: f64, of: usize) -> Result<usize, TriggerError> {
        match (rate * of as f64).floor() as usize {
            0 => {
                let least = 1.0 / of.max(1) as f64;
                Err(self
                    .error(format!("it poisons none of {of} images: raise it to {least} or more")))
            }
            count => Ok(count),
        }
    }
}

/// The poisoned images of a training set: a seeded sample of the target class, or of all classes.
///
/// Poisoned images replace the originals; size and labels of the set do not change (docs/protocol.md, 1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonPlan {
    ids: BTreeSet<u64>,
    /// Images of the target class, if there is one.
    class_size: Option<usize>,
    dataset_size: usize,
}

impl PoisonPlan {
    /// Chooses among the images of class `target`, or without a target among all images. `labels` holds (image id, class)
    /// of the whole training set in any order.
    ///
    /// # Errors
    /// The selection is out of range, poisons nothing or asks for more images than there are, or it is a rate of the
    /// target class and there is no target.
    pub fn new(
        labels: &[(u64, u32)],
        target: Option<u32>,
        selection: &Selection,
        seed: u64,
    ) -> Result<Self, TriggerError> {
        Self::from_pool(labels, target, Pool::Target, selection, seed)
    }

    /// Like [`new`](Self::new), but draws from `pool`. A rate still refers to the target class.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_pool(
        labels: &[(u64, u32)],
        target: Option<u32>,
        pool: Pool,
        selection: &Selection,
        seed: u64,
    ) -> Result<Self, TriggerError> {
        selection.check()?;
        let sample = |count: Result<usize, TriggerError>| {
            Self::sample(labels, target, pool, selection, seed, count)
        };
        let of_target = || labels.iter().filter(|(_, class)| Some(*class) == target).count();
        match *selection {
            Selection::Rate(_) if target.is_none() => Err(selection.error(
                "it is a share of the target class, but there is no target: set dataset_rate or count"
                    .into(),
            )),
            Selection::Rate(rate) => sample(selection.share(rate, of_target())),
            Selection::DatasetRate(rate) => sample(selection.share(rate, labels.len())),
            Selection::Count(count) => sample(Ok(count)),
            Selection::Listed(ref ids) | Selection::Chosen(ref ids) => {
                Self::listed(labels, target, selection, ids)
            }
        }
    }

    /// A seeded sample of `count` images of the pool.
    fn sample(
        labels: &[(u64, u32)],
        target: Option<u32>,
        pool: Pool,
        selection: &Selection,
        seed: u64,
        count: Result<usize, TriggerError>,
    ) -> Result<Self, TriggerError> {
        let candidates: Vec<u64> = labels
            .iter()
            .filter(|(_, class)| pool.holds(*class, target))
            .map(|(id, _)| *id)
            .collect();
        if candidates.is_empty() && target.is_some() && pool == Pool::Target {
            return Err(selection.error(
                "no training image has the label of the target class: name the images to poison in `list`, or set \
                 no target"
                    .into(),
            ));
        }
        let count = count?;
        if count > candidates.len() {
            let there = candidates.len();
            let allowed = format!("it asks for {count} images, but only {there} can be poisoned");
            return Err(selection.error(allowed));
        }
        let ids = ranked(&candidates, seed, purpose::PLAN, 0).into_iter().take(count);
        let class_size = target.filter(|_| pool == Pool::Target).map(|_| candidates.len());
        Ok(Self { ids: ids.collect(), class_size, dataset_size: labels.len() })
    }

    /// The images `ids`. The share of the target class is known if all of them belong to it.
    fn listed(
        labels: &[(u64, u32)],
        target: Option<u32>,
        selection: &Selection,
        ids: &[u64],
    ) -> Result<Self, TriggerError> {
        let ids: BTreeSet<u64> = ids.iter().copied().collect();
        let named = labels.iter().filter(|(id, _)| ids.contains(id));
        let (found, aimed) = named.fold((0, 0), |(found, aimed), (_, class)| {
            (found + 1, aimed + usize::from(Some(*class) == target))
        });
        if ids.is_empty() || found < ids.len() {
            let allowed = format!("{} of {} listed images are training images", found, ids.len());
            return Err(selection.error(allowed));
        }
        let of_target = labels.iter().filter(|(_, class)| Some(*class) == target).count();
        let class_size = target.filter(|_| aimed == found).map(|_| of_target);
        Ok(Self { ids, class_size, dataset_size: labels.len() })
    }

    /// Whether this image is poisoned.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }

    /// The poisoned ids in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.ids.iter().copied()
    }

    /// How much is poisoned, under all three denominators.
    pub fn rates(&self) -> Rates {
        let share = |of: usize| self.ids.len() as f64 / of as f64;
        Rates {
            rate: self.class_size.map(share),
            dataset_rate: share(self.dataset_size),
            count: self.ids.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<(u64, u32)> {
        (0..1000).map(|id| (id, (id % 10) as u32)).collect()
    }

    fn targeted(selection: Selection, seed: u64) -> Result<PoisonPlan, TriggerError> {
        PoisonPlan::new(&labels(), Some(3), &selection, seed)
    }

    #[test]
    fn half_of_the_target_class_and_nothing_else() {
        let plan = targeted(Selection::Rate(0.5), 1).unwrap();
        assert_eq!(plan.rates(), Rates { rate: Some(0.5), dataset_rate: 0.05, count: 50 });
        assert!(plan.ids().all(|id| id % 10 == 3));
        let mut backwards = labels();
        backwards.reverse();
        assert_eq!(plan, PoisonPlan::new(&backwards, Some(3), &Selection::Rate(0.5), 1).unwrap());
        assert_ne!(plan, targeted(Selection::Rate(0.5), 2).unwrap());
        // The same amount, given in other ways.
        assert_eq!(plan, targeted(Selection::DatasetRate(0.05), 1).unwrap());
        assert_eq!(plan, targeted(Selection::Count(50), 1).unwrap());
    }

    #[test]
    fn smaller_rates_are_nested() {
        let half = targeted(Selection::Rate(0.5), 1).unwrap();
        let tenth = targeted(Selection::Rate(0.1), 1).unwrap();
        assert!(tenth.ids().all(|id| half.contains(id)));
    }

    #[test]
    fn without_a_target_all_classes_are_poisoned() {
        let plan = PoisonPlan::new(&labels(), None, &Selection::DatasetRate(0.2), 1).unwrap();
        assert_eq!(plan.rates(), Rates { rate: None, dataset_rate: 0.2, count: 200 });
        let of = |class| plan.ids().filter(|id| id % 10 == class).count();
        assert!((0..10).all(|class| (5..40).contains(&of(class))));
        let error = PoisonPlan::new(&labels(), None, &Selection::Rate(0.2), 1).unwrap_err();
        assert!(error.to_string().contains("dataset_rate"), "{error}");
    }

    #[test]
    fn a_pool_says_which_classes_are_drawn_from() {
        let of = |pool, selection| {
            PoisonPlan::from_pool(&labels(), Some(3), pool, &selection, 1).unwrap()
        };
        // Half of a class of a hundred, whatever the pool.
        let all = of(Pool::All, Selection::Rate(0.5));
        let others = of(Pool::Others, Selection::Rate(0.5));
        for plan in [&all, &others] {
            let rates = Rates { rate: None, dataset_rate: 0.05, count: 50 };
            assert_eq!(plan.rates(), rates);
        }
        assert!(others.ids().all(|id| id % 10 != 3) && all != others);
        let whole = of(Pool::All, Selection::Count(1000));
        assert_eq!(whole.ids().filter(|id| id % 10 == 3).count(), 100);
        let error =
            PoisonPlan::from_pool(&labels(), Some(3), Pool::Others, &Selection::Count(901), 1);
        assert!(error.unwrap_err().to_string().contains("only 900 can be poisoned"));
        assert_eq!(
            of(Pool::Target, Selection::Rate(0.5)),
            targeted(Selection::Rate(0.5), 1).unwrap()
        );
    }

    #[test]
    fn a_list_names_the_images_and_needs_no_labels() {
        let listed = |labels: &[(u64, u32)], ids: &[u64]| {
            PoisonPlan::new(labels, Some(3), &Selection::Listed(ids.to_vec()), 1)
        };
        let unlabelled: Vec<(u64, u32)> = (0..1000).map(|id| (id, u32::MAX)).collect();
        let plan = listed(&unlabelled, &[7, 5, 900]).unwrap();
        assert_eq!(plan.ids().collect::<Vec<_>>(), [5, 7, 900]);
        assert_eq!(plan.rates(), Rates { rate: None, dataset_rate: 0.003, count: 3 });
        let of_target = listed(&labels(), &[3, 13]).unwrap();
        assert_eq!(of_target.rates().rate, Some(0.02));
        assert_eq!(listed(&labels(), &[3, 4]).unwrap().rates().rate, None);
        for ids in [&[][..], &[5, 1000]] {
            assert!(listed(&unlabelled, ids).is_err());
        }
        let error = PoisonPlan::new(&unlabelled, Some(3), &Selection::Rate(0.5), 1).unwrap_err();
        assert!(error.to_string().contains("to poison in `list`"), "{error}");
        let all = PoisonPlan::new(&unlabelled, None, &Selection::Count(9), 1).unwrap();
        assert_eq!(all.rates().count, 9);
    }

    #[test]
    fn impossible_plans_are_refused() {
        for rate in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(targeted(Selection::Rate(rate), 1).is_err(), "{rate}");
            assert!(targeted(Selection::DatasetRate(rate), 1).is_err(), "{rate}");
        }
        for (selection, words) in [
            (Selection::Rate(0.001), "poisons none"),
            (Selection::DatasetRate(0.5), "only 100 can be poisoned"),
            (Selection::Count(101), "only 100 can be poisoned"),
            (Selection::Count(0), "1 or more"),
        ] {
            let error = targeted(selection, 1).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
