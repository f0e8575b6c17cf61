#![doc = include_str!("../README.md")]

pub mod chance;
mod config;
mod error;
mod htba;
mod ledger;
mod place;
mod plan;
mod size;
mod stamp;
mod text;
mod trigger;

pub use config::{Attack, PoisonConfig, TargetClass};
pub use error::TriggerError;
pub use htba::{HTBA_IDS, HTBA_SIDE, htba, seeded};
pub use ledger::{Ledger, LedgerHead, LedgerRow, Rates, pixel_hash};
pub use place::{Corner, Place, Spot};
pub use plan::{Amount, PoisonPlan};
pub use size::Size;
pub use stamp::{Poison, stamp};
pub use trigger::{Trigger, TriggerConfig};
