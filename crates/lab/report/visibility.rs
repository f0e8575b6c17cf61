//! The visibility of the trigger in the victim's views, in words.

use serde_json::Value;
use ssl_backdoor_data::SURVIVES;

use crate::record::by_views;

/// The figures of the backdoored model's `metrics.jsonl` over all epochs, in words; `None` if its lines lack them.
pub(super) fn summary(lines: &[Value]) -> Option<String> {
    let mut images: Vec<u64> = Vec::new();
    let (mut visible, mut covered) = (Vec::new(), Vec::new());
    let (mut pairs, mut hidden) = (Vec::new(), Vec::new());
    for line in lines {
        let counts = line.get("trigger_views")?.as_array()?;
        images.resize(images.len().max(counts.len()), 0);
        images.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n.as_u64().unwrap_or(0));
        visible.push(line.get("trigger_visible")?.as_f64()?);
        covered.push(line.get("trigger_covered")?.as_f64()?);
        pairs.extend(line.get("trigger_in_one_of_pair").and_then(Value::as_f64));
        hidden.extend(line.get("trigger_hidden").and_then(Value::as_f64));
    }
    let total = images.iter().sum::<u64>();
    if total == 0 {
        return None;
    }
    let mean = |values: &[f64]| 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64;
    let shares: Vec<f64> = images.iter().map(|&n| n as f64 / total as f64).collect();
    let mut text = format!(
        "The trigger survives (at least {:.0} % of it is visible) {}. Mean visible share of its area: {:.1} %. \
         Mean share of a view that it covers: {:.2} %.",
        100.0 * SURVIVES,
        by_views(&shares, 1),
        mean(&visible),
        mean(&covered),
    );
    if !pairs.is_empty() {
        text += &format!(
            " It survives in exactly one view of {:.1} % of the positive pairs of views.",
            mean(&pairs)
        );
    }
    if !hidden.is_empty() {
        text += &format!(" Of the patches that it touches, {:.1} % are masked.", mean(&hidden));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_summed() {
        let line = |counts: [u64; 3], visible: f64| {
            serde_json::json!({ "trigger_views": counts, "trigger_visible": visible,
                                "trigger_covered": 0.05 })
        };
        let text = summary(&[line([1, 2, 1], 0.5), line([1, 0, 3], 0.7)]).unwrap();
        let views = "in no view of 25.0 % of the poisoned images, in 1 view of 25.0 %, in 2 views of 50.0 %.";
        assert!(text.contains(views), "{text}");
        assert!(text.contains("area: 60.0 %") && text.contains("covers: 5.00 %"), "{text}");
        assert!(!text.contains("pairs"), "{text}");
        let mut of_pairs = line([1, 2, 1], 0.5);
        of_pairs["trigger_in_one_of_pair"] = 0.25.into();
        let text = summary(&[of_pairs]).unwrap();
        assert!(
            text.ends_with("exactly one view of 25.0 % of the positive pairs of views."),
            "{text}"
        );
        assert_eq!(summary(&[serde_json::json!({ "loss": 1.0 })]), None);
    }
}
