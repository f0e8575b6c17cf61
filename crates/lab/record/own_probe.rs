//! What a reader must know of a method's own probe.

use ssl_backdoor_probe::PaperProbeConfig;

/// Said where a method's own probe is read on fewer labels than the reference could use.
pub(crate) const NO_STEP: &str = "the reference's own probe drops what does not fill a batch and would take no step on so \
     few labels: here all labelled images are one batch";

/// Whether [`NO_STEP`] holds of the probe of `method` on `labelled` images.
pub(crate) fn takes_no_step(method: &str, labelled: usize) -> bool {
    let rules = match method {
        "byol" => PaperProbeConfig::byol(),
        "mae" => PaperProbeConfig::mae(),
        _ => return false,
    };
    rules.below_a_batch(labelled)
}
