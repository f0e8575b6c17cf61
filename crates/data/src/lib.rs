#![doc = include_str!("../README.md")]

mod absolute;
pub mod augment;
mod batch;
mod cache;
mod config;
mod decode;
mod error;
mod export;
#[cfg(test)]
mod fuzz;
mod halves;
mod inside;
mod jpeg;
mod layout;
mod load;
mod loader;
mod lock;
mod preview;
mod sample;
mod sets;
mod sighting;
mod splits;
mod subset;
mod verify;
mod wrappers;

pub use batch::{Pixels, plain_batch, view_batch};
pub use burn_dataset::Dataset;
pub use config::{DataConfig, Eval, FileList, Folder, OnCorrupt, Shapes, SmallSet, Stl10};
pub use decode::{decode, read_image};
pub use error::DataError;
pub use export::{Export, Exported, FORMAT};
pub use load::Watch;
pub use loader::{Draws, EpochPlan, ViewBatch, ViewLoader};
pub use preview::Preview;
pub use sample::{InMemory, Sample, SampleSet, UNLABELLED};
pub use sets::data_sets_found;
pub use sets::file_list::list_text;
pub use sets::files::unreadable;
pub use sighting::{SURVIVES, Sightings};
pub use splits::{Fingerprint, Split, Splits};
pub use ssl_backdoor_trigger::chance;
pub use subset::{Subset, clean_part_ids, in_set_order, labelled_ids, listed_ids};
pub use verify::{Verified, clean_list, verify};
pub use wrappers::{Joined, Patched, Poisoned, poison_ledger};
