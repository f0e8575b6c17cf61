//! What an attacker does to the pixels of a data set: the trigger patches of *Backdoor Attacks on
//! Self-Supervised Learning* (Saha et al., CVPR 2022), where they are pasted, which images are
//! poisoned, and the ledger that keeps the provenance of each one.
//!
//! The crate knows nothing of training. A [`Trigger`] is a value, [`stamp`] is a pure function of
//! its arguments, and all chance is [keyed](chance), so the same seed poisons the same images at
//! the same places whatever the number of workers.
//!
//! ```
//! use ssl_backdoor_trigger::{Place, Poison, TriggerConfig, chance::Purpose};
//!
//! let trigger = TriggerConfig::Htba { id: 10, width: 8 }.build()?;
//! let poison = Poison { trigger, place: Place::Random { min: 0.25, max: 0.75 }, alpha: 0.0, seed: 1,
//!     purpose: Purpose::TrainSpot };
//! let mut photo = image::RgbImage::new(32, 32);
//! let spot = poison.apply(7, &mut photo)[0];
//! assert!(spot.x >= 8 && spot.x + spot.width <= 24);
//! # Ok::<(), ssl_backdoor_trigger::TriggerError>(())
//! ```

pub mod chance;
mod config;
mod error;
mod htba;
mod ledger;
mod place;
mod plan;
mod stamp;
mod text;
mod trigger;

pub use config::{Attack, PoisonConfig, TargetClass};
pub use error::TriggerError;
pub use htba::{HTBA_IDS, HTBA_SIDE, htba, seeded};
pub use ledger::{Ledger, LedgerHead, LedgerRow, Rates, pixel_hash};
pub use place::{Corner, Place, Spot};
pub use plan::{Amount, PoisonPlan};
pub use stamp::{Poison, stamp};
pub use trigger::{Trigger, TriggerConfig};
