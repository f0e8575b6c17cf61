//! The attack during the training, measured on dev images (`probe.curve_every`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Key in `metrics.jsonl`: percent of the patched dev images of other classes that a model assigns to each class.
pub(crate) const ASSIGNED: &str = "dev_patched_to";

/// The net flow of patched dev images after a number of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnsetPoint {
    /// Steps of both trainings.
    pub step: u64,
    /// Net flow to each class, by class, in points.
    pub net: Vec<f64>,
}

/// The points at which both trainings were measured, from the lines of their `metrics.jsonl`.
pub(crate) fn onset(clean: &[Value], backdoored: &[Value]) -> Vec<OnsetPoint> {
    let assigned = |line: &Value| -> Option<(u64, Vec<f64>)> {
        let shares = line.get(ASSIGNED)?.as_array()?.iter().map(Value::as_f64);
        Some((line.get("step")?.as_u64()?, shares.collect::<Option<_>>()?))
    };
    let clean: Vec<_> = clean.iter().filter_map(assigned).collect();
    let point = |(step, shares): (u64, Vec<f64>)| {
        let (_, twin) = clean.iter().find(|(other, _)| *other == step)?;
        Some(OnsetPoint { step, net: shares.iter().zip(twin).map(|(b, t)| b - t).collect() })
    };
    backdoored.iter().filter_map(assigned).filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_point_is_the_difference_from_the_twin_at_the_same_step() {
        let line = |step: u64, shares: [f64; 2]| json!({ "step": step, ASSIGNED: shares });
        let clean = [line(10, [5.0, 1.0]), json!({ "step": 15 }), line(20, [4.0, 2.0])];
        let backdoored = [line(10, [5.5, 1.0]), line(15, [9.0, 9.0]), line(20, [44.0, 1.0])];
        let expected = [(10, vec![0.5, 0.0]), (20, vec![40.0, -1.0])]
            .map(|(step, net)| OnsetPoint { step, net });
        assert_eq!(onset(&clean, &backdoored), expected);
        assert!(onset(&[json!({ "step": 10 })], &backdoored).is_empty());
    }
}
