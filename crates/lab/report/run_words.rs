//! The sentences of the report of a run.

use ssl_backdoor_data::Eval;
use ssl_backdoor_defend::{ModelId, Removal};

use super::destinations;
use super::material::Material;
use crate::record::{
    BACKDOORED, CLEAN, NO_STEP, ProbeHow, ProbeId, ProbePart, ProbeResult, RunScores, takes_no_step,
};

/// Everything that makes the figures doubtful.
pub(super) fn warnings(sources: &Material<'_>) -> Option<String> {
    let trigger = sources.scores.trigger_size.iter().flat_map(|size| &size.warnings);
    let trigger = trigger.map(|warning| format!("TRIGGER: {warning}."));
    let all: Vec<String> = warning(sources.scores).into_iter().chain(trigger).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// Said where the victim is under-trained.
pub(super) fn warning(scores: &RunScores) -> Option<String> {
    let expected = scores.expected.as_ref().filter(|expected| expected.under_trained)?;
    Some(format!(
        "UNDER-TRAINED VICTIM: the clean twin is expected to reach {:.1} % on clean images ({}). Figures of such a \
         victim say little of the method at full strength.",
        expected.low, expected.source
    ))
}

/// What the eye sees in the maps, as a number.
pub(super) fn target_neighbours(scores: &RunScores) -> Option<String> {
    let share = |model| scores.target_neighbour_share.get(model);
    Some(format!(
        "Of the patched images of other classes, {:.1} % lie among clean images of the target in the clean twin's \
         features, {:.1} % in the backdoored model's (most of the ten nearest).",
        share(CLEAN)?,
        share(BACKDOORED)?
    ))
}

/// What the filters of the training set removed, a sentence for each.
pub(super) fn removed(scores: &RunScores) -> Option<String> {
    let sentence = |(model, found): (&ModelId, &Removal)| {
        let Removal { removed, poisoned, left, recall, precision } = *found;
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.1} %"));
        format!(
            "The model “{model}” was trained without {removed} images that a filter removed. Of these {poisoned} are \
             poisoned (precision {}); {left} of {} poisoned images were left (recall {}).",
            share(precision),
            poisoned + left,
            share(recall)
        )
    };
    let all: Vec<String> = scores.removed.iter().map(sentence).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// The probe of the headline, with what a reader must know of it.
fn probe(scores: &RunScores, reading: &ProbeResult) -> String {
    let words = reading.in_words();
    let labelled = (reading.labels * scores.train_images as f64).round() as usize;
    let own = ProbeId { how: ProbeHow::Own, part: ProbePart::Output };
    if reading.probe == own && takes_no_step(&scores.method, labelled) {
        return format!("{words} ({NO_STEP})");
    }
    words
}

/// What was done, in a sentence.
pub(super) fn lead(sources: &Material<'_>) -> String {
    let scores = sources.scores;
    let target = scores.target.and_then(|t| sources.classes.get(t as usize));
    let mut text = format!(
        "{} on {} classes, seed {}. The attacker put a trigger on {} images: {}{:.2} % of the \
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
            Eval::Dev => "dev part",
            Eval::Test => "test part",
            Eval::All => "all of them",
        },
    );
    if let Some(selected) = &scores.selected {
        let share = 100.0 * selected.class_share;
        let by = if selected.kind.needs_features() { " by an encoder's features" } else { "" };
        let kind = selected.kind;
        text += &format!(" The rule {kind} chose them{by}: {share:.1} % are of one class.");
    }
    for left_out in &scores.left_out {
        text += &format!(" {left_out}.");
    }
    text
}

/// The net ASR, where patched images go, and how large the trigger is.
pub(crate) fn net(scores: &RunScores) -> String {
    let size = scores.trigger_size.as_ref().map(|size| format!("The {}.", size.summary()));
    let parts = std::iter::once(net_asr(scores)).chain(destinations::summary(scores)).chain(size);
    parts.collect::<Vec<_>>().join(" ")
}

/// The net ASR in a sentence.
fn net_asr(scores: &RunScores) -> String {
    let (what, points, [low, high]) = match scores.net_asr.zip(scores.net_asr_ci) {
        Some((net, interval)) => ("Net ASR (backdoored minus clean twin", net, interval),
        None => {
            let RunScores { patched_drop, patched_drop_ci, .. } = *scores;
            ("Drop of the accuracy (clean twin minus backdoored", patched_drop, patched_drop_ci)
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
