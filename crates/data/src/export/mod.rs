//! A poisoned data set on disk, in the reference's layout (docs/protocol.md, 1.5): poisoned training images that
//! replace the originals in the list, every evaluation image patched, file lists, and the ledgers from
//! which [`verify`](crate::verify) rebuilds every byte.
//!
//! ```text
//! DIR/export.toml            what was exported, under which settings
//! DIR/poison.csv             the ledger of the training images; val_poisoned.csv that of the others
//! DIR/train/STEM/CLASS/*     the poisoned training images
//! DIR/val_poisoned/STEM/CLASS/*
//! DIR/clean/CLASS/*          the clean training images of a set that is not in image files
//! DIR/data/ID/train/STEM_filelist.txt and DIR/data/ID/val_poisoned/STEM_filelist.txt
//! ```
//!
//! Every path in the settings, ledgers and lists is absolute, so that they mean the same from every folder. An image
//! without a label has class -1 in the lists.

mod images;
mod job;
mod layout;
mod names;
mod partial;
mod settings;
mod verify;
mod write;

pub use settings::{Export, FORMAT};
pub use verify::{Verified, clean_list, verify};
pub use write::Exported;
