//! Distillation of the clean twin: the cost of CompReSS without a backdoor to remove.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_compress::CompressConfig;
use ssl_backdoor_ssl::PretrainConfig;

use crate::clean_part::CleanPart;
use crate::compress::training;
use crate::student::Student;
use crate::{Defence, DefenceSettings, DefendError};

/// Settings of CompReSS with the clean twin as the teacher; it has neither controls nor contaminated parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DistilCleanConfig(pub CompressConfig);

impl DefenceSettings for DistilCleanConfig {
    fn check(&self, _: &PretrainConfig, images: Option<usize>, _: u32) -> Result<(), DefendError> {
        let CompressConfig { controls, poisoned, .. } = &self.0;
        let lists = [
            ("controls", controls.is_empty(), format!("{controls:?}")),
            ("poisoned", poisoned.is_empty(), format!("{poisoned:?}")),
        ];
        for (field, empty, value) in lists {
            if !empty {
                let reason = "only the kind compress has this field: remove it".into();
                return Err(DefendError::Value { field, value, reason });
            }
        }
        Ok(self.0.check(images)?)
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        let of = |&share: &f64| -> Box<dyn Defence + '_> {
            let part = CleanPart { share, poisoned: 0.0 };
            Box::new(Student { config: &self.0, part, of_twin: true })
        };
        self.0.clean.iter().map(of).collect()
    }

    fn training(&self) -> &'static str {
        training(self.0.steps)
    }

    fn forget_seed(&mut self) {
        self.0.seed = None;
    }
}
