//! CompReSS as a defence, with its controls.

use serde_json::json;
use ssl_backdoor_compress::{CompressConfig, Control};
use ssl_backdoor_ssl::PretrainConfig;

use crate::clean_part::CleanPart;
use crate::on_part::{OnPart, check_victim};
use crate::student::{Student, alone};
use crate::{Defence, DefenceSettings, DefendError};

impl DefenceSettings for CompressConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        CompressConfig::check(self, images)?;
        if self.controls.is_empty() {
            return Ok(());
        }
        // A control trains with the victim's method and the defence's batch size.
        let blamed = ("controls", "a control cannot train");
        check_victim(victim, self.batch, images, size, blamed)
    }

    /// Students, then controls, then students on contaminated parts.
    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        let part = |share, poisoned| CleanPart { share, poisoned };
        let student = |part, of_twin| -> Box<dyn Defence + '_> {
            Box::new(Student { config: self, part, of_twin })
        };
        let trained = |part, fine_tunes| -> Box<dyn Defence + '_> {
            let (seed, budget, alone) = (self.seed, self.budget(), json!(alone(self)));
            Box::new(OnPart { fine_tunes, part, seed, budget, lr: None, alone })
        };
        let mut all: Vec<_> =
            self.clean.iter().map(|&share| student(part(share, 0.0), false)).collect();
        for control in &self.controls {
            all.extend(self.clean.iter().map(|&share| match control {
                Control::FineTune => trained(part(share, 0.0), true),
                Control::Scratch => trained(part(share, 0.0), false),
                Control::DistilClean => student(part(share, 0.0), true),
            }));
        }
        let first = self.clean.first().copied().unwrap_or_default();
        all.extend(self.poisoned.iter().map(|&poisoned| student(part(first, poisoned), false)));
        all
    }

    fn training(&self) -> &'static str {
        training(self.steps)
    }

    fn forget_seed(&mut self) {
        self.seed = None;
    }
}

/// What trainings on clean parts have in common: the number of `steps` if it is set, or else the number of epochs.
pub(crate) fn training(steps: Option<usize>) -> &'static str {
    if steps.is_some() { "equal steps" } else { "equal epochs" }
}
