//! How large the trigger is on training and on evaluation images, and how views show it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use ssl_backdoor_data::SURVIVES;

/// Widths on training and evaluation images, as shares of the shorter side, may differ by this factor.
const FACTOR: f64 = 2.0;
/// Least mean share of a view that the trigger should cover.
const COVERED: f64 = 0.005;

/// What a sample of poisoned training images showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerSize {
    /// Mean width on poisoned training images, as a share of their shorter side.
    pub train_width: f64,
    /// Width on evaluation images, as a share of their side.
    pub eval_width: f64,
    /// Mean share of a view that it covers.
    pub covered: f64,
    /// Share of the poisoned images by the number of views in which the trigger survives, from none on.
    pub by_views: Vec<f64>,
    /// What is doubtful about it.
    pub warnings: Vec<String>,
}

impl TriggerSize {
    /// Finds what is doubtful about it.
    pub(crate) fn judge(&mut self) {
        let Self { train_width, eval_width, covered, .. } = *self;
        let factor = (train_width / eval_width).max(eval_width / train_width);
        if factor > FACTOR {
            self.warnings.push(format!(
                "the trigger is {:.1} % of the shorter side wide on training images and {:.1} % on evaluation images, a \
                 factor of {factor:.1}: training and evaluation see different triggers. Give its width relative to the \
                 image (poison.trigger.width = {{ view = PIXELS }} or {{ share = FRACTION }}), or set poison.val_width",
                100.0 * train_width,
                100.0 * eval_width,
            ));
        }
        if covered < COVERED {
            self.warnings.push(format!(
                "the trigger covers {:.2} % of a training view on average, below {:.1} %: training hardly sees it. Make \
                 it wider (poison.trigger.width)",
                100.0 * covered,
                100.0 * COVERED,
            ));
        }
    }

    /// One sentence.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "trigger: {:.1} % of the shorter side on training images, {:.1} % on evaluation images; it covers {:.2} % of \
             a view; at least {:.0} % of it visible",
            100.0 * self.train_width,
            100.0 * self.eval_width,
            100.0 * self.covered,
            100.0 * SURVIVES,
        );
        for (views, share) in self.by_views.iter().enumerate() {
            let _ = write!(
                text,
                "{} in {views}: {:.0} %",
                if views == 0 { "" } else { "," },
                100.0 * share
            );
        }
        text + if self.by_views.is_empty() { "" } else { " of images (views)" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_f07_a_trigger_of_two_sizes_or_too_small_is_doubtful() {
        let warnings = |train_width, eval_width, covered| {
            let mut size =
                TriggerSize { train_width, eval_width, covered, ..TriggerSize::default() };
            size.judge();
            size.warnings.len()
        };
        // The paper: 50 of 375 pixels on a training image, 50 of 224 on an evaluation image.
        assert_eq!(warnings(50.0 / 375.0, 50.0 / 224.0, 0.028), 0);
        assert_eq!(warnings(0.1, 0.21, 0.028), 1);
        assert_eq!(warnings(0.21, 0.1, 0.028), 1);
        assert_eq!(warnings(0.2, 0.2, 0.0049), 1);
        // 8 of 375 and 8 of 32 pixels.
        assert_eq!(warnings(8.0 / 375.0, 0.25, 0.0005), 2);
    }
}
