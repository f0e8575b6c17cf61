//! Attacks that compose a new training image from the image that it replaces, with the trigger on it, and another
//! image of the target class.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::OutOfRange;

use crate::{CorruptEncoder, NoisyAlignment, Perturbation, Pool, Setup, Trigger, TriggerError};

/// How a poisoned training image is composed; the field `compose` of [`PoisonConfig`](crate::PoisonConfig). Evaluation
/// images carry the plain trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Compose {
    /// Noisy Alignment: the image with the trigger, next to a reference image.
    NoisyAlignment(NoisyAlignment),
    /// CorruptEncoder: the object of a reference image and the trigger, with the image as background. Only for
    /// `data.kind = "shapes"`, which knows the outlines of objects.
    CorruptEncoder(CorruptEncoder),
}

/// The name of the attack.
impl fmt::Display for Compose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoisyAlignment(_) => f.write_str("Noisy Alignment"),
            Self::CorruptEncoder(attack) => write!(f, "{attack}"),
        }
    }
}

impl Compose {
    /// Its `kind` in a config.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoisyAlignment(_) => "noisy-alignment",
            Self::CorruptEncoder(_) => "corrupt-encoder",
        }
    }

    /// Which images it replaces, unless they are listed.
    pub(crate) fn pool(&self) -> Pool {
        match self {
            Self::NoisyAlignment(_) => Pool::All,
            Self::CorruptEncoder(_) => Pool::Others,
        }
    }

    /// Whether the attack itself decides where the trigger goes.
    pub(crate) fn places(&self) -> bool {
        matches!(self, Self::CorruptEncoder(_))
    }

    /// Checks its settings.
    pub(crate) fn check(&self) -> Result<(), TriggerError> {
        match self {
            Self::NoisyAlignment(attack) => attack.check(),
            Self::CorruptEncoder(attack) => attack.check(),
        }
    }

    /// The perturbation of training images. Noisy Alignment applies `plain`; CorruptEncoder pastes `patch`, under
    /// which the image has the weight `alpha`.
    pub(crate) fn build(
        &self,
        plain: Arc<dyn Perturbation>,
        patch: Option<Trigger>,
        alpha: f64,
        setup: &Setup,
    ) -> Result<Arc<dyn Perturbation>, TriggerError> {
        self.check()?;
        let references = setup.references.clone();
        match (self, patch) {
            (Self::NoisyAlignment(attack), _) => Ok(attack.build(plain, references)),
            (Self::CorruptEncoder(attack), Some(patch)) => {
                Ok(attack.build(patch, alpha, references))
            }
            (Self::CorruptEncoder(_), None) => {
                let allowed = "it pastes a picture: allowed are triggers that are pasted";
                Err(OutOfRange::new("compose.kind", "\"corrupt-encoder\"", allowed).into())
            }
        }
    }
}
