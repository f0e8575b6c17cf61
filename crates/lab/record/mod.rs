//! The record of a run: names and contents of its files. Reports and other tools read it; nothing here trains or draws.

mod artefact;
mod event_file;
mod feature_map;
mod files;
mod images;
mod made_by;
mod manifest;
mod null_training;
mod onset;
mod own_probe;
mod probe_id;
mod published;
mod run_scans;
mod scores;
mod stage_id;
mod training_progress;
mod trigger_size;
mod versioned;

pub(crate) use artefact::{Artefact, Confusion, FeaturesOf, remove_from, withdraw_scores};
pub(crate) use event_file::{Event, EventFile, Summary, seconds_now};
pub(crate) use feature_map::{FeatureMap, Point};
pub(crate) use files::{hash, hash_file, json_text, relative, write_whole};
pub use images::Images;
pub(crate) use made_by::{FIRST_NUMERICS, MadeBy, NUMERICS};
pub(crate) use manifest::{BURN, Done, Manifest};
pub(crate) use null_training::null_training;
pub use onset::OnsetPoint;
pub(crate) use onset::{ASSIGNED, onset};
pub(crate) use own_probe::{NO_STEP, takes_no_step};
pub use probe_id::ProbeId;
pub(crate) use probe_id::{ProbeHow, ProbePart};
pub(crate) use published::{AccFp, Measured, Published};
pub(crate) use run_scans::{DataScan, EncoderScan, RunScans, ScanScore};
pub use scores::RunScores;
pub(crate) use scores::{
    Against, BACKDOORED, BySet, CLEAN, Expected, ProbeResult, UNTRAINED, percent,
};
pub(crate) use stage_id::{Cost, StageId};
pub(crate) use training_progress::TrainingProgress;
pub(crate) use trigger_size::{COVERED, TriggerSize, by_views};
pub(crate) use versioned::SCHEMA;
