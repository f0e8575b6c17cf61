//! A note on methods' own probes.

use ssl_backdoor_probe::PaperProbeConfig;

/// The note for a method's own probe on fewer labels than its reference could use.
pub(crate) const NO_STEP: &str = "the reference's probe drops images that do not fill a batch, so it would take no step on so \
     few labels; here all labelled images are one batch";

/// Whether [`NO_STEP`] applies to the probe of `method` on `labelled` images.
pub(crate) fn takes_no_step(method: &str, labelled: usize) -> bool {
    let rules = match method {
        "byol" => PaperProbeConfig::byol(),
        "mae" => PaperProbeConfig::mae(),
        _ => return false,
    };
    rules.below_a_batch(labelled)
}
