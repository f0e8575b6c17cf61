//! The sentences in the report of a run.

use ssl_backdoor_data::Eval;
use ssl_backdoor_defend::{ModelId, Removal};

use super::destinations;
use super::material::Material;
use crate::record::{
    BACKDOORED, CLEAN, NO_STEP, ProbeHow, ProbeId, ProbePart, ProbeResult, RunScores, takes_no_step,
};

/// All warnings about the figures.
pub(super) fn warnings(sources: &Material<'_>) -> Option<String> {
    let trigger = sources.scores.trigger_size.iter().flat_map(|size| &size.warnings);
    let trigger = trigger.map(|warning| format!("TRIGGER: {warning}."));
    let all: Vec<String> = warning(sources.scores).into_iter().chain(trigger).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// The warning about an under-trained victim.
pub(crate) fn warning(scores: &RunScores) -> Option<String> {
    let expected = scores.expected.as_ref().filter(|expected| expected.under_trained)?;
    Some(format!(
        "UNDER-TRAINED VICTIM: the clean twin should reach {:.1} % on clean images ({}). Its figures say little about \
         the method at full strength.",
        expected.low, expected.source
    ))
}

/// The number behind the feature maps.
pub(super) fn target_neighbours(scores: &RunScores) -> Option<String> {
    let share = |model| scores.target_neighbour_share.get(model);
    Some(format!(
        "Most of the ten nearest clean images are of the target class for {:.1} % of the patched images of other classes \
         in the clean twin, and for {:.1} % in the backdoored model.",
        share(CLEAN)?,
        share(BACKDOORED)?
    ))
}

/// The images that filters removed from the training set, in a sentence for each filter.
pub(super) fn removed(scores: &RunScores) -> Option<String> {
    let sentence = |(model, found): (&ModelId, &Removal)| {
        let Removal { removed, poisoned, left, recall, precision } = *found;
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.1} %"));
        format!(
            "The model “{model}” was trained without {removed} images that a filter removed. Of these, {poisoned} are \
             poisoned (precision {}); {left} of {} poisoned images remained (recall {}).",
            share(precision),
            poisoned + left,
            share(recall)
        )
    };
    let all: Vec<String> = scores.removed.iter().map(sentence).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// The probe of the headline figures, with a note if the reference could not have run it.
fn probe(scores: &RunScores, reading: &ProbeResult) -> String {
    let words = reading.in_words();
    let labelled = (reading.labels * scores.train_images as f64).round() as usize;
    let own = ProbeId { how: ProbeHow::Own, part: ProbePart::Output };
    if reading.probe == own && takes_no_step(&scores.method, labelled) {
        return format!("{words} ({NO_STEP})");
    }
    words
}

/// The experiment, in a few sentences.
pub(super) fn lead(sources: &Material<'_>) -> String {
    let scores = sources.scores;
    let target = scores.target.and_then(|t| sources.classes.get(t as usize));
    let mut text = format!(
        "Method {}, {} classes, seed {}. The attacker added a trigger to {} images: {}{:.2} % of the \
         training set. {}; {} evaluation images ({}).",
        scores.method,
        scores.classes,
        scores.seed,
        scores.poison.count,
        target.zip(scores.poison.rate).map_or(String::new(), |(name, rate)| {
            format!("{:.1} % of the target class “{name}”, ", 100.0 * rate)
        }),
        100.0 * scores.poison.dataset_rate,
        scores.probes.first().map_or(String::new(), |reading| probe(scores, reading)),
        scores.images,
        match scores.eval {
            Eval::Dev => "dev half",
            Eval::Test => "test half",
            Eval::All => "both halves",
        },
    );
    if let Some(selected) = &scores.selected {
        let share = 100.0 * selected.class_share;
        let by = if selected.kind.needs_features() { " by an encoder's features" } else { "" };
        let kind = selected.kind;
        text += &format!(
            " The rule {kind} chose the images{by}; {share:.1} % of them belong to one class."
        );
    }
    for left_out in &scores.left_out {
        text += &format!(" {left_out}.");
    }
    text
}

/// The net ASR, and [`details`].
pub(crate) fn net(scores: &RunScores) -> String {
    let details = details(scores);
    let parts = std::iter::once(net_asr(scores)).chain((!details.is_empty()).then_some(details));
    parts.collect::<Vec<_>>().join(" ")
}

/// The net flow of patched images, and the size of the trigger; empty if both are unknown.
pub(super) fn details(scores: &RunScores) -> String {
    let size = scores.trigger_size.as_ref();
    let size = size.map(|size| format!("{}.", size.summary().replacen("trigger", "Trigger", 1)));
    destinations::summary(scores).into_iter().chain(size).collect::<Vec<_>>().join(" ")
}

/// The net ASR in a sentence.
pub(super) fn net_asr(scores: &RunScores) -> String {
    let (what, points, [low, high]) = match scores.net_asr.zip(scores.net_asr_ci) {
        Some((net, interval)) => ("Net ASR (backdoored model minus clean twin", net, interval),
        None => {
            let RunScores { patched_drop, patched_drop_ci, .. } = *scores;
            (
                "Patched drop (accuracy of the clean twin minus that of the backdoored model",
                patched_drop,
                patched_drop_ci,
            )
        }
    };
    let p = scores.mcnemar_p;
    let p = if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") };
    format!(
        "{what}, same patched images): {points:.1} points, 95 % interval [{low:.1}, {high:.1}] (McNemar: {p})."
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn review_1_11_a_probe_that_the_reference_could_not_run_says_so() {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
        let scores = RunScores::read(&path).unwrap();
        let words = |method: &str, name: &str, labels, train_images| {
            let reading =
                ProbeResult { probe: name.to_owned().into(), labels, ..scores.probes[0].clone() };
            let scores = RunScores { method: method.into(), train_images, ..scores.clone() };
            probe(&scores, &reading)
        };
        assert!(words("mae", "paper", 0.01, 126_689).contains("would take no step"));
        assert!(!words("mae", "paper", 0.5, 126_689).contains("would take no step"));
        assert!(!words("mae", "linear", 0.01, 126_689).contains("would take no step"));
        assert!(words("byol", "paper", 0.01, 6_000).contains("would take no step"));
        assert_eq!(words("byol", "paper", 0.01, 126_689), "The method's own probe on 1 % labels");
    }
}
