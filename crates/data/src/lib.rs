//! From files or a seed to batches of views: the data sets, the wrappers that poison or patch them,
//! the augmentations, and the batches that worker threads prepare while the network trains.
//!
//! Every set is Burn's `Dataset<Sample>`; [`Poisoned`], [`Patched`] and [`Subset`] wrap another one
//! and leave it untouched. Views are keyed by (seed, epoch, image id, view), so a batch has the same
//! bytes whoever prepares it.
//!
//! ```
//! use ssl_backdoor_data::{DataConfig, Dataset};
//!
//! let config: DataConfig =
//!     serde_json::from_str(r#"{ "kind": "shapes", "size": 24, "per_class": 3, "eval_per_class": 2 }"#)?;
//! let splits = config.load(&|_, _, _| {})?;
//! assert_eq!(splits.train.set.len(), 30);
//! assert_eq!(splits.train.set.get(0)?.image.dimensions(), (24, 24));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod augment;
mod batch;
mod cache;
mod config;
mod decode;
mod error;
mod export;
#[cfg(test)]
mod fuzz;
mod layout;
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
pub use loader::{EpochPlan, ViewBatch, ViewLoader};
pub use sample::{InMemory, Sample, SampleSet, UNLABELLED};
pub use sets::file_list::list_text;
pub use sighting::{SURVIVES, Sightings};
pub use splits::{Split, Splits, Watch};
pub use ssl_backdoor_trigger::chance;
pub use subset::{Subset, clean_part_ids, labelled_ids, listed_ids};
pub use verify::{Verified, clean_list, verify};
pub use wrappers::{Joined, Patched, Poisoned, poison_ledger};
