//! Whether the clean twin of a run has learned enough for its figures to say something about the method.

use crate::record::{CLEAN, Images, RunScores, UNTRAINED};

/// Points by which the clean twins of all methods but the [`WEAK`] ones must exceed a probe on raw pixels, or half of what
/// the probe lacks to 100 %, where that is less.
pub(super) const ABOVE_PIXELS: f64 = 10.0;
/// Methods whose features are known to separate classes badly under a linear probe.
pub(super) const WEAK: [&str; 2] = ["jigsaw", "mae"];

/// Whether the clean twin of `run` is below its gate; `None` if the scores do not say. Large images have no probe on
/// raw pixels; there, the twin must reach the accuracy that is expected of it.
pub(super) fn below(run: &RunScores) -> Option<bool> {
    let acc = |model| run.get(model, Images::Clean).map(|scores| scores.acc);
    let (twin, untrained) = (acc(CLEAN)?, acc(UNTRAINED)?);
    if twin <= untrained || WEAK.contains(&run.method.as_str()) {
        return Some(twin <= untrained);
    }
    match run.raw_pixels {
        Some(pixels) => Some(twin < pixels + ABOVE_PIXELS.min((100.0 - pixels) / 2.0)),
        None => run.expected.as_ref().map(|expected| expected.under_trained),
    }
}

/// Whether the clean twin of `run` is below its gate, or less accurate than expected: tables mark such runs.
pub(super) fn weak(run: &RunScores) -> bool {
    run.under_trained() || below(run) == Some(true)
}
