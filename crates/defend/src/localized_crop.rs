//! Localized cropping: the victim's method, trained again on pairs of views of neighbouring places (Zhang et al.,
//! *Data Poisoning based Backdoor Attacks to Contrastive Learning*, CVPR 2024, section 6).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ssl_backdoor_data::augment::{LocalizedViews, Views};
use ssl_backdoor_fields::require;
use ssl_backdoor_ssl::{PretrainConfig, PretrainError, TrainingHook};

use crate::retrained::{Retrained, not_for};
use crate::{Defence, DefenceSettings, DefendError};

const KIND: &str = "localized-crop";
const NEEDS: &str = "two augmented views of each image (moco-v2, moco-v3, byol, msf, simclr, simclr-v2, simsiam, \
                     barlow-twins, vicreg)";

/// Settings of localized cropping; the default is the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalizedCropConfig {
    /// Share of its width and height by which the box of the first view is enlarged on each side. The second view is
    /// cropped there.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub grow: f64,
}

impl Default for LocalizedCropConfig {
    fn default() -> Self {
        Self { grow: 0.2 }
    }
}

impl DefenceSettings for LocalizedCropConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        _: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        require((0.0..=100.0).contains(&self.grow), "grow", self.grow, "0 to 100")?;
        match LocalizedViews::of(victim.views(size)?.as_ref(), self.grow) {
            Some(_) => Ok(()),
            None => Err(not_for(KIND, victim, NEEDS)),
        }
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        let hook = Arc::new(Localize(self.grow));
        vec![Box::new(Retrained { kind: KIND, config: json!(self), hook, image: None })]
    }

    fn training(&self) -> &'static str {
        "as the victim"
    }
}

/// Crops the second view near the first one.
struct Localize(f64);

impl TrainingHook for Localize {
    fn augment(&self, views: Arc<dyn Views>) -> Result<Arc<dyn Views>, PretrainError> {
        match LocalizedViews::of(views.as_ref(), self.0) {
            Some(views) => Ok(Arc::new(views)),
            None => Err(PretrainError::NotApplicable { what: KIND, needs: NEEDS }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrained::tests::{METHODS, victim};

    #[test]
    fn methods_with_two_views_by_chains_can_use_it_and_the_others_are_refused() {
        let config = LocalizedCropConfig::default();
        for method in METHODS {
            let (victim, size) = victim(method);
            let checked = config.check(&victim, None, size).map_err(|e| e.to_string());
            let hooked = Localize(0.2).augment(victim.views(size).unwrap());
            let fits =
                !["jigsaw", "rotnet", "mae", "swav", "dino", "deepcluster-v2"].contains(&method);
            assert_eq!((checked.is_ok(), hooked.is_ok()), (fits, fits), "{method}");
            if !fits {
                let expected = format!(
                    "kind = \"localized-crop\": it does not apply to {method}: it needs {NEEDS}"
                );
                assert_eq!(checked, Err(expected));
            }
        }
        let (victim, size) = victim("moco-v2");
        for grow in [-0.1, f64::NAN] {
            let message = LocalizedCropConfig { grow }.check(&victim, None, size).unwrap_err();
            assert!(message.to_string().starts_with("grow = "), "{message}");
        }
    }
}
