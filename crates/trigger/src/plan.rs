//! Which images are poisoned.

use std::collections::BTreeSet;

use crate::chance::{self, Purpose};
use crate::{Rates, TriggerError};

/// The poisoned images of a training set: a seeded sample of the target class.
///
/// Poisoned images replace the originals; size and labels of the set do not change (protocol 1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonPlan {
    ids: BTreeSet<u64>,
    class_size: usize,
    dataset_size: usize,
}

impl PoisonPlan {
    /// Poisons `floor(rate · n)` of the n images of class `target`. `labels` holds (image id,
    /// class) of the whole training set in any order; `rate` is of the *target class*.
    ///
    /// # Errors
    /// A rate outside (0, 1], a class that does not exist, or a rate that poisons nothing.
    pub fn targeted(
        labels: &[(u64, u32)],
        classes: u32,
        target: u32,
        rate: f64,
        seed: u64,
    ) -> Result<Self, TriggerError> {
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(TriggerError::Rate { rate });
        }
        if target >= classes {
            return Err(TriggerError::Target { target, classes });
        }
        let of_target: Vec<u64> =
            labels.iter().filter(|(_, class)| *class == target).map(|(id, _)| *id).collect();
        let count = (rate * of_target.len() as f64).floor() as usize;
        if count == 0 {
            return Err(TriggerError::NothingPoisoned { rate, of: of_target.len(), target });
        }
        let ids = chance::ranked(&of_target, seed, Purpose::Plan, 0).into_iter().take(count);
        Ok(Self { ids: ids.collect(), class_size: of_target.len(), dataset_size: labels.len() })
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
        Rates {
            rate: self.ids.len() as f64 / self.class_size as f64,
            dataset_rate: self.ids.len() as f64 / self.dataset_size as f64,
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

    #[test]
    fn half_of_the_target_class_and_nothing_else() {
        let plan = PoisonPlan::targeted(&labels(), 10, 3, 0.5, 1).unwrap();
        assert_eq!(plan.rates(), Rates { rate: 0.5, dataset_rate: 0.05, count: 50 });
        assert!(plan.ids().all(|id| id % 10 == 3));
        let mut backwards = labels();
        backwards.reverse();
        assert_eq!(plan, PoisonPlan::targeted(&backwards, 10, 3, 0.5, 1).unwrap());
        assert_ne!(plan, PoisonPlan::targeted(&labels(), 10, 3, 0.5, 2).unwrap());
    }

    #[test]
    fn smaller_rates_are_nested() {
        let half = PoisonPlan::targeted(&labels(), 10, 3, 0.5, 1).unwrap();
        let tenth = PoisonPlan::targeted(&labels(), 10, 3, 0.1, 1).unwrap();
        assert!(tenth.ids().all(|id| half.contains(id)));
    }

    #[test]
    fn impossible_plans_are_refused() {
        for rate in [0.0, -0.5, 1.5, f64::NAN] {
            let result = PoisonPlan::targeted(&labels(), 10, 3, rate, 1);
            assert!(matches!(result, Err(TriggerError::Rate { .. })), "{rate}");
        }
        let result = PoisonPlan::targeted(&labels(), 10, 10, 0.5, 1);
        assert!(result.unwrap_err().to_string().contains("0 to 9"));
        let result = PoisonPlan::targeted(&labels(), 10, 3, 0.001, 1);
        assert!(matches!(result, Err(TriggerError::NothingPoisoned { .. })));
    }
}
