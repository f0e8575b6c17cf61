//! Reports of users and findings of a code review, each checked on the real binary for the right behaviour.
//! `field_fNN_…` is a report, `review_S_NN_…` a finding.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop anywhere"
)]

mod blend;
mod compose;
mod ctrl;
mod errors;
mod exports;
mod files;
mod import;
mod labels;
mod late;
mod probe;
mod processes;
mod selection;
mod sets;
mod small_sets;
mod training;
mod trigger_size;
