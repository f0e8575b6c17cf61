//! Where the poison sends patched images, in words: targeted, or taken over.

use ssl_backdoor_probe::{FEWEST_LOST, Flow};

use crate::record::RunScores;

/// Least patched drop, in points, of a model that is taken over.
pub(super) const TAKEN_OVER: f64 = 10.0;
/// Least net ASR, in points, of a targeted model.
pub(super) const TARGETED: f64 = 5.0;
/// A lift above this is not shown as a number, because the mean of the other classes is then about one image.
const LIFT_SHOWN: f64 = 100.0;
/// Largest number of classes that a text names.
const NAMED: usize = 3;

/// What the poison did to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Patched images go to the target before any other class.
    Targeted,
    /// Patched images leave their class, and most of them go to another class than the target.
    TakenOver,
    /// Neither of these.
    Neither,
}

impl Effect {
    /// The effect for a model with this flow and patched drop, in points.
    pub(super) fn of(flow: &Flow, target: Option<u32>, drop: f64) -> Self {
        let first = flow.first();
        match target.map(|target| target as usize) {
            Some(target) if first == Some(target) && flow.net[target] >= TARGETED => Self::Targeted,
            target if drop >= TAKEN_OVER && (target.is_none() || first != target) => {
                Self::TakenOver
            }
            _ => Self::Neither,
        }
    }

    /// One word, for a table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Targeted => "targeted",
            Self::TakenOver => "taken over",
            Self::Neither => "neither",
        }
    }
}

/// The largest net flow to another class than `target`, in points; none if there is no other.
pub(super) fn elsewhere(flow: &Flow, target: u32) -> Option<f64> {
    let others = flow.net.iter().enumerate().filter(|(class, _)| *class != target as usize);
    others.map(|(_, net)| *net).reduce(f64::max)
}

/// The classes that most patched images flow to: `flag 52.1, heart 3.0`.
pub(super) fn top(scores: &RunScores, flow: &Flow) -> String {
    let named = |(class, net): (usize, f64)| format!("{} {net:.1}", scores.class_name(class));
    let all: Vec<String> = flow.top(NAMED).into_iter().map(named).collect();
    if all.is_empty() { "no class".into() } else { all.join(", ") }
}

/// A few sentences on where patched images go; none if the scores do not contain it.
pub(super) fn summary(scores: &RunScores) -> Option<String> {
    let flow = scores.flow.as_ref()?;
    let mut text = format!("Net flow of patched images in points: {}.", top(scores, flow));
    // Without a target, the patched drop is the headline already.
    if let Some(target) = &scores.target_name {
        let (drop, lost) = (scores.patched_drop, flow.lost);
        text += &format!(" Patched drop: {drop:.1} points ({lost} images).");
        text += &match flow.lift {
            Some(lift) => format!(
                " Lift (net flow to the target divided by the mean net flow to the other classes): {}.",
                if lift > LIFT_SHOWN {
                    format!("above {LIFT_SHOWN:.0}")
                } else {
                    format!("{lift:.1}")
                }
            ),
            None => format!(" Lift is undefined for fewer than {FEWEST_LOST} images."),
        };
        if Effect::of(flow, scores.target, scores.patched_drop) == Effect::TakenOver {
            text += &format!(
                " TAKEN OVER, NOT TARGETED: patched images leave their class, but most of them do not go to “{target}”."
            );
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_targeted_where_the_target_is_the_first_destination() {
        let of = |net: [f64; 3], target, drop| {
            let flow = Flow { net: net.to_vec(), lost: 100, lift: None };
            Effect::of(&flow, target, drop)
        };
        assert_eq!(of([1.0, 50.0, 3.0], Some(1), 40.0), Effect::Targeted);
        assert_eq!(of([1.0, 6.0, 3.0], Some(1), 4.0), Effect::Targeted);
        assert_eq!(of([1.0, 4.9, 3.0], Some(1), 40.0), Effect::Neither);
        // The target gets many, another class more.
        assert_eq!(of([40.0, 35.0, 0.0], Some(1), 60.0), Effect::TakenOver);
        assert_eq!(of([40.0, 0.0, 0.0], Some(1), 9.9), Effect::Neither);
        assert_eq!(of([-1.0, -2.0, 0.0], Some(1), 30.0), Effect::TakenOver);
        assert_eq!(of([40.0, 0.0, 0.0], None, 30.0), Effect::TakenOver);
        assert_eq!(of([4.0, 0.0, 0.0], None, 3.0), Effect::Neither);
    }
}
