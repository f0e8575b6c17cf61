//! The net flow of patched images to every class, and whether it is directed at the target.

use serde::{Deserialize, Serialize};

use crate::ProbeError;
use crate::features::check_labels;
use crate::scores::check_predictions;

/// The lift is defined only if the poison takes at least this many images from their class.
pub const FEWEST_LOST: i64 = 50;

/// The net flow of patched images in the backdoored model, compared with its clean twin.
///
/// The *net flow* to class c is the share of the patched images of other classes that the backdoored model assigns to c, minus
/// the same share of its twin, in points. The net flow to the target is the net ASR.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Net flow to each class, by class, in points; 0 for a class that all images belong to.
    pub net: Vec<f64>,
    /// Patched images that the twin classifies correctly and the backdoored model does not, minus those of which the
    /// reverse holds: the patched drop in images.
    pub lost: i64,
    /// The lift: the net flow to the target divided by the mean net flow to the other classes, which counts as at least
    /// one image. `None` without a target, or if `lost` is below [`FEWEST_LOST`].
    pub lift: Option<f64>,
}

impl Flow {
    /// Compares the two models' predictions for the same patched images; classes are 0 to `classes` - 1.
    ///
    /// # Errors
    /// [`ProbeError::Empty`] without images, [`ProbeError::Count`] if there are not as many predictions as images, and
    /// [`ProbeError::Label`] for a class out of range.
    pub fn of(
        truth: &[u32],
        backdoored: &[u32],
        clean: &[u32],
        target: Option<u32>,
        classes: usize,
    ) -> Result<Self, ProbeError> {
        check_predictions(truth, &[backdoored, clean])?;
        [truth, backdoored, clean].iter().try_for_each(|labels| check_labels(labels, classes))?;
        check_labels(target.as_slice(), classes)?;
        let mut own = vec![0i64; classes];
        let mut called = vec![0i64; classes];
        let mut lost = 0;
        for ((&truth, &backdoored), &clean) in truth.iter().zip(backdoored).zip(clean) {
            own[truth as usize] += 1;
            lost += i64::from(clean == truth) - i64::from(backdoored == truth);
            for (class, sign) in [(backdoored, 1), (clean, -1)] {
                if class != truth {
                    called[class as usize] += sign;
                }
            }
        }
        let images = truth.len() as i64;
        let others = |class: usize| (images - own[class]).max(1) as f64;
        let net: Vec<f64> =
            called.iter().enumerate().map(|(c, &n)| 100.0 * n as f64 / others(c)).collect();
        let lift = target.filter(|_| lost >= FEWEST_LOST && classes > 1).map(|target| {
            let target = target as usize;
            let rest = (0..classes).filter(|&class| class != target);
            let mean = rest.map(|class| net[class]).sum::<f64>() / (classes - 1) as f64;
            net[target] / mean.max(100.0 / others(target))
        });
        Ok(Self { net, lost, lift })
    }

    /// The class with the largest net flow, the first one on ties; `None` if no net flow is above 0.
    pub fn first(&self) -> Option<usize> {
        self.top(1).first().map(|&(class, _)| class)
    }

    /// The `n` classes with the largest net flow, largest first; only those above 0.
    pub fn top(&self, n: usize) -> Vec<(usize, f64)> {
        let mut classes: Vec<(usize, f64)> = self.net.iter().copied().enumerate().collect();
        classes.retain(|&(_, net)| net > 0.0);
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        classes.truncate(n);
        classes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Paired;

    #[test]
    fn worked_by_hand() {
        // Ten images of three classes. The twin gets one wrong; the backdoored model sends three to class 1.
        let truth = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2];
        let clean = [0, 0, 0, 2, 1, 1, 1, 2, 2, 2];
        let backdoored = [1, 1, 0, 0, 1, 1, 2, 1, 2, 2];
        let flow = Flow::of(&truth, &backdoored, &clean, Some(1), 3).unwrap();
        // To 0: none before, none after. To 1: three of seven. To 2: one before, one after.
        assert_eq!(flow.net, [0.0, 300.0 / 7.0, 0.0]);
        assert_eq!((flow.lost, flow.lift, flow.first()), (3, None, Some(1)));
        assert_eq!(flow.top(5), [(1, 300.0 / 7.0)]);
    }

    /// `classes` classes with 100 images each; the twin gets all right, and `to` is the class an image moves to.
    fn moved(classes: u32, to: impl Fn(u32, u32) -> u32, target: u32) -> Flow {
        let truth: Vec<u32> = (0..100 * classes).map(|i| i % classes).collect();
        let places = truth.iter().enumerate();
        let backdoored: Vec<u32> = places.map(|(i, &t)| to(i as u32 / classes, t)).collect();
        Flow::of(&truth, &backdoored, &truth, Some(target), classes as usize).unwrap()
    }

    #[test]
    fn lift_tells_a_target_from_a_takeover() {
        // Every image of another class goes to class 3: the other classes get none, which counts as one image.
        let all = moved(10, |_, _| 3, 3);
        assert_eq!((all.net[3], all.lost, all.first()), (100.0, 900, Some(3)));
        assert!((all.lift.unwrap() - 900.0).abs() < 1e-9);
        // The same model if class 5 is the poisoned one: taken over, not targeted.
        let elsewhere = moved(10, |_, _| 3, 5);
        assert_eq!((elsewhere.lift, elsewhere.first()), (Some(0.0), Some(3)));
        // Each class's images go evenly to the nine others: no class stands out.
        let even = moved(10, |i, t| (t + 1 + i % 9) % 10, 5);
        assert!((even.lift.unwrap() - 1.0).abs() < 0.1, "{even:?}");
        // Below fifty images the lift is undefined.
        let few = moved(10, |i, t| if t == 0 && i < 49 { 3 } else { t }, 3);
        assert_eq!((few.lost, few.lift), (49, None));
        assert!(moved(10, |i, t| if t == 0 && i < 50 { 3 } else { t }, 3).lift.is_some());
    }

    #[test]
    fn mistakes_of_a_caller_are_errors() {
        assert!(Flow::of(&[], &[], &[], None, 2).is_err());
        assert!(Flow::of(&[0, 1], &[0], &[0, 1], None, 2).is_err());
        assert!(Flow::of(&[0, 1], &[0, 2], &[0, 1], None, 2).is_err());
        assert!(Flow::of(&[0, 1], &[0, 1], &[0, 1], Some(2), 2).is_err());
        let one = Flow::of(&[0, 0], &[0, 0], &[0, 0], Some(0), 1).unwrap();
        assert_eq!((one.net, one.lift), (vec![0.0], None));
    }

    proptest! {
        #[test]
        fn the_net_flow_to_the_target_is_the_net_asr(
            images in prop::collection::vec((0u32..5, 0u32..5, 0u32..5), 1..80), target in 0u32..5,
        ) {
            let column = |of: fn(&(u32, u32, u32)) -> u32| images.iter().map(of).collect::<Vec<_>>();
            let (truth, backdoored, clean) = (column(|i| i.0), column(|i| i.1), column(|i| i.2));
            let flow = Flow::of(&truth, &backdoored, &clean, Some(target), 5).unwrap();
            let paired = Paired::of(&truth, &backdoored, &clean, Some(target)).unwrap();
            let net = flow.net[target as usize];
            prop_assert!((net - paired.net_asr.unwrap_or(0.0)).abs() < 1e-9);
            let drop = 100.0 * flow.lost as f64 / images.len() as f64;
            prop_assert!((drop - paired.patched_drop).abs() < 1e-9);
            // Without the poison there is no net flow.
            let none = Flow::of(&truth, &clean, &clean, Some(target), 5).unwrap();
            prop_assert!(none.net.iter().all(|net| *net == 0.0) && none.lost == 0);
        }
    }
}
