#![doc = include_str!("../README.md")]

mod clean_part;
mod compress;
mod defence;
mod distil_clean;
mod error;
mod filter;
mod fine_tune;
mod hooks;
mod model_id;
mod on_part;
mod patch_search;
mod removal;
mod scratch;
mod search;
mod settings;
mod student;
mod table;
mod victim;

pub use defence::{Defence, Identity, Needs, ProbedAs, Rehearsal, Train, Workload};
pub use distil_clean::DistilCleanConfig;
pub use error::DefendError;
pub use filter::FilterConfig;
pub use fine_tune::FineTuneConfig;
pub use hooks::{Hooked, ImageHook};
pub use model_id::{ModelId, Role};
pub use on_part::OnPartConfig;
pub use removal::Removal;
pub use scratch::ScratchConfig;
pub use search::Search;
pub use settings::Settings;
pub use table::{DefendConfig, check_names, defences, one_or_several};
pub use victim::{Bench, Images, Victim};
