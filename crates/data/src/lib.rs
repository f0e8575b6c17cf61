#![doc = include_str!("../README.md")]

pub mod augment;
mod batch;
mod cache;
mod config;
mod decode;
mod error;
mod export;
mod file_parts;
#[cfg(test)]
mod fuzz;
mod inside;
mod layout;
mod left_out;
mod load;
mod loader;
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
pub use export::{Export, Exported};
pub use left_out::{LeftOut, LeftOutKind};
pub use load::Watch;
pub use loader::{EpochPlan, ViewBatch, ViewLoader};
pub use sample::{InMemory, Sample, SampleSet, UNLABELLED};
pub use sets::data_sets_found;
pub use sets::file_list::list_text;
pub use sighting::{SURVIVES, Sightings};
pub use splits::{Split, Splits};
pub use ssl_backdoor_trigger::chance;
pub use subset::{Subset, clean_part_ids, labelled_ids, listed_ids};
pub use verify::{Verified, clean_list, verify};
pub use wrappers::{Joined, Patched, Poisoned, poison_ledger};
