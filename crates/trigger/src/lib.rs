#![doc = include_str!("../README.md")]

mod attack;
mod config;
mod ctrl;
mod error;
mod footprint;
mod htba;
mod kind;
mod ledger;
mod patch;
mod perturbation;
mod place;
mod plan;
pub mod purpose;
mod record;
mod size;
mod stamp;
mod text;
mod trigger;

pub use attack::{Attack, TrainingSet};
pub use config::{PoisonConfig, TargetClass};
pub use ctrl::Ctrl;
pub use error::TriggerError;
pub use footprint::{Footprint, Spot};
pub use htba::{HTBA_IDS, HTBA_SIDE, htba, seeded};
pub use kind::{Recipe, TriggerConfig, strength};
pub use ledger::{Ledger, LedgerHead, LedgerRow, Rates, pixel_hash};
pub use patch::Patch;
pub use perturbation::{Key, Perturbation, Phase, Poison, References, Setup, psnr};
pub use place::{Corner, Place};
pub use plan::{PoisonPlan, Selection};
pub use record::{Record, Value};
pub use size::Size;
pub use stamp::stamp;
pub use trigger::Trigger;
