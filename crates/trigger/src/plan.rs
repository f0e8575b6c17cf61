//! Which images are poisoned.

use std::collections::BTreeSet;

use crate::chance::{self, Purpose};
use crate::{Rates, TriggerError};

/// How much is poisoned; three ways to say it, because papers mix them up, and a list of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Share of the target class, above 0 to 1.
    Rate(f64),
    /// Share of the whole training set, above 0 to 1.
    DatasetRate(f64),
    /// Number of images, 1 or more.
    Count(usize),
    /// The images that a list names ([`PoisonPlan::listed`]).
    Listed,
}

impl Amount {
    /// The config's key.
    fn key(&self) -> &'static str {
        match self {
            Self::Rate(_) => "poison.rate",
            Self::DatasetRate(_) => "poison.dataset_rate",
            Self::Count(_) => "poison.count",
            Self::Listed => "poison.list",
        }
    }

    fn error(&self, allowed: String) -> TriggerError {
        let value = match self {
            Self::Rate(rate) | Self::DatasetRate(rate) => rate.to_string(),
            Self::Count(count) => count.to_string(),
            Self::Listed => "FILE".into(),
        };
        TriggerError::Range { key: self.key(), value, allowed }
    }

    /// Checks the value as far as that goes without the data.
    ///
    /// # Errors
    /// A share outside (0, 1], or no image.
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

    /// How many of `candidates` images in a training set of `all` are poisoned.
    fn of(&self, candidates: usize, all: usize) -> Result<usize, TriggerError> {
        self.check()?;
        let share = |rate: f64, of: usize| match (rate * of as f64).floor() as usize {
            0 => {
                let least = 1.0 / of.max(1) as f64;
                Err(self
                    .error(format!("of {of} images it poisons none: raise it to {least} or more")))
            }
            count => Ok(count),
        };
        let count = match *self {
            Self::Rate(rate) => share(rate, candidates)?,
            Self::DatasetRate(rate) => share(rate, all)?,
            Self::Count(count) => count,
            Self::Listed => {
                return Err(self.error("the list names the images: use PoisonPlan::listed".into()));
            }
        };
        if count > candidates {
            let allowed =
                format!("it asks for {count} images, but there are {candidates} to poison");
            return Err(self.error(allowed));
        }
        Ok(count)
    }
}

/// The poisoned images of a training set: a seeded sample of the target class, or of all classes.
///
/// Poisoned images replace the originals; size and labels of the set do not change (protocol 1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonPlan {
    ids: BTreeSet<u64>,
    /// Images of the target class, if there is one.
    class_size: Option<usize>,
    dataset_size: usize,
}

impl PoisonPlan {
    /// Poisons `amount` of the images of class `target`, or without a target of all images. `labels`
    /// holds (image id, class) of the whole training set in any order.
    ///
    /// # Errors
    /// An amount out of range, that poisons nothing, that is more than there is, or a rate of the
    /// target class without one.
    pub fn new(
        labels: &[(u64, u32)],
        target: Option<u32>,
        amount: Amount,
        seed: u64,
    ) -> Result<Self, TriggerError> {
        let aimed = |class: u32| target.is_none_or(|target| class == target);
        let candidates: Vec<u64> =
            labels.iter().filter(|(_, class)| aimed(*class)).map(|(id, _)| *id).collect();
        if let (None, Amount::Rate(_)) = (target, amount) {
            return Err(amount.error(
                "it is of the target class, and there is no target: give dataset_rate or count"
                    .into(),
            ));
        }
        if candidates.is_empty() && target.is_some() {
            return Err(amount.error(
                "no training image is labelled as the target class: name the images to poison in poison.list, or give \
                 no target"
                    .into(),
            ));
        }
        let count = amount.of(candidates.len(), labels.len())?;
        let ids = chance::ranked(&candidates, seed, Purpose::Plan, 0).into_iter().take(count);
        let class_size = target.map(|_| candidates.len());
        Ok(Self { ids: ids.collect(), class_size, dataset_size: labels.len() })
    }

    /// Poisons the images `ids`, whatever their labels. The share of the target class is known if they are all of it.
    ///
    /// # Errors
    /// No image is named, or one that is not in the training set.
    pub fn listed(
        labels: &[(u64, u32)],
        target: Option<u32>,
        ids: &[u64],
    ) -> Result<Self, TriggerError> {
        let ids: BTreeSet<u64> = ids.iter().copied().collect();
        let named = labels.iter().filter(|(id, _)| ids.contains(id));
        let (found, aimed) = named.fold((0, 0), |(found, aimed), (_, class)| {
            (found + 1, aimed + usize::from(Some(*class) == target))
        });
        if ids.is_empty() || found < ids.len() {
            let allowed = format!("{} of {} listed images are training images", found, ids.len());
            return Err(Amount::Listed.error(allowed));
        }
        let of_target = labels.iter().filter(|(_, class)| Some(*class) == target).count();
        let class_size = target.filter(|_| aimed == found).map(|_| of_target);
        Ok(Self { ids, class_size, dataset_size: labels.len() })
    }

    /// Is this image poisoned?
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

    fn targeted(amount: Amount, seed: u64) -> Result<PoisonPlan, TriggerError> {
        PoisonPlan::new(&labels(), Some(3), amount, seed)
    }

    #[test]
    fn half_of_the_target_class_and_nothing_else() {
        let plan = targeted(Amount::Rate(0.5), 1).unwrap();
        assert_eq!(plan.rates(), Rates { rate: Some(0.5), dataset_rate: 0.05, count: 50 });
        assert!(plan.ids().all(|id| id % 10 == 3));
        let mut backwards = labels();
        backwards.reverse();
        assert_eq!(plan, PoisonPlan::new(&backwards, Some(3), Amount::Rate(0.5), 1).unwrap());
        assert_ne!(plan, targeted(Amount::Rate(0.5), 2).unwrap());
        // The same amount said in other words.
        assert_eq!(plan, targeted(Amount::DatasetRate(0.05), 1).unwrap());
        assert_eq!(plan, targeted(Amount::Count(50), 1).unwrap());
    }

    #[test]
    fn smaller_rates_are_nested() {
        let half = targeted(Amount::Rate(0.5), 1).unwrap();
        let tenth = targeted(Amount::Rate(0.1), 1).unwrap();
        assert!(tenth.ids().all(|id| half.contains(id)));
    }

    #[test]
    fn without_a_target_all_classes_are_poisoned() {
        let plan = PoisonPlan::new(&labels(), None, Amount::DatasetRate(0.2), 1).unwrap();
        assert_eq!(plan.rates(), Rates { rate: None, dataset_rate: 0.2, count: 200 });
        let of = |class| plan.ids().filter(|id| id % 10 == class).count();
        assert!((0..10).all(|class| (5..40).contains(&of(class))));
        let error = PoisonPlan::new(&labels(), None, Amount::Rate(0.2), 1).unwrap_err();
        assert!(error.to_string().contains("dataset_rate"), "{error}");
    }

    #[test]
    fn a_list_names_the_images_and_needs_no_labels() {
        let unlabelled: Vec<(u64, u32)> = (0..1000).map(|id| (id, u32::MAX)).collect();
        let plan = PoisonPlan::listed(&unlabelled, Some(3), &[7, 5, 900]).unwrap();
        assert_eq!(plan.ids().collect::<Vec<_>>(), [5, 7, 900]);
        assert_eq!(plan.rates(), Rates { rate: None, dataset_rate: 0.003, count: 3 });
        let of_target = PoisonPlan::listed(&labels(), Some(3), &[3, 13]).unwrap();
        assert_eq!(of_target.rates().rate, Some(0.02));
        assert_eq!(PoisonPlan::listed(&labels(), Some(3), &[3, 4]).unwrap().rates().rate, None);
        for ids in [&[][..], &[5, 1000]] {
            assert!(PoisonPlan::listed(&unlabelled, Some(3), ids).is_err());
        }
        let error = PoisonPlan::new(&unlabelled, Some(3), Amount::Rate(0.5), 1).unwrap_err();
        assert!(error.to_string().contains("poison.list"), "{error}");
        let all = PoisonPlan::new(&unlabelled, None, Amount::Count(9), 1).unwrap();
        assert_eq!(all.rates().count, 9);
    }

    #[test]
    fn impossible_plans_are_refused() {
        for rate in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(targeted(Amount::Rate(rate), 1).is_err(), "{rate}");
            assert!(targeted(Amount::DatasetRate(rate), 1).is_err(), "{rate}");
        }
        for (amount, words) in [
            (Amount::Rate(0.001), "poisons none"),
            (Amount::DatasetRate(0.5), "there are 100"),
            (Amount::Count(101), "there are 100"),
            (Amount::Count(0), "1 or more"),
        ] {
            let error = targeted(amount, 1).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
