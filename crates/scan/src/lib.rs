#![doc = include_str!("../README.md")]

mod cam;
mod classifier;
mod cleanse;
mod clusters;
mod decree;
mod error;
mod features;
mod findings;
mod frozen;
mod invert;
mod kmeans;
mod null;
mod paste;
mod patch_search;
pub mod purpose;
mod ranking;
mod scan;
mod search;
mod small_encoder;
mod window;

pub use cam::{GradCam, grad_cam};
pub use cleanse::{Cleanse, CleanseConfig, anomaly, knee};
pub use decree::{Decree, DecreeConfig};
pub use error::ScanError;
pub use findings::{Evidence, Findings, Patch, Score, Scored};
pub use frozen::Frozen;
pub use invert::{Inverted, Trigger};
pub use kmeans::{Clusters, kmeans, lloyd};
pub use null::{NULL_SCHEMA, NullScore, Nulls, PValue};
pub use patch_search::{PatchSearch, PatchSearchConfig};
pub use ranking::{AtK, precision_and_recall};
pub use scan::{Scan, Setting, Subject};
pub use search::Candidate;
pub use small_encoder::small_encoder;
