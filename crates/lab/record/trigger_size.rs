//! The size of the trigger on training and evaluation images, and its visibility in views.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use ssl_backdoor_data::SURVIVES;

/// Largest allowed factor between the widths on training and evaluation images, as shares of the shorter side.
const FACTOR: f64 = 2.0;
/// Least mean share of a view that a trigger should cover.
pub(crate) const COVERED: f64 = 0.005;

/// Measurements on a sample of poisoned training images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerSize {
    /// Mean width on poisoned training images, as a share of their shorter side; `None` for a trigger without a width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_width: Option<f64>,
    /// Width on evaluation images, as a share of their side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_width: Option<f64>,
    /// For a trigger without a width: mean PSNR in dB of training and of evaluation images, with against without trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<[f64; 2]>,
    /// For a trigger without a width: the share of its energy that JPEG of quality 75 keeps, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jpeg_energy: Option<f64>,
    /// Mean share of a view that it covers.
    pub covered: f64,
    /// Share of the poisoned images by the number of views in which the trigger survives, from 0.
    pub by_views: Vec<f64>,
    /// Share of the positive pairs of views in which the trigger survives in exactly one view; `None` for a method that
    /// does not compare views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_one_of_pair: Option<f64>,
    /// Warnings.
    pub warnings: Vec<String>,
}

impl TriggerSize {
    /// Adds its warnings.
    pub(crate) fn judge(&mut self) {
        let covered = self.covered;
        let widths = self.train_width.zip(self.eval_width);
        let factor = |(train, eval): &(f64, f64)| (train / eval).max(eval / train);
        if let Some(widths @ (train_width, eval_width)) = widths.filter(|w| factor(w) > FACTOR) {
            let factor = factor(&widths);
            self.warnings.push(format!(
                "the trigger's width is {:.1} % of the shorter side on training images and {:.1} % on evaluation images, a \
                 factor of {factor:.1}: training and evaluation see different triggers. Give its width relative to the \
                 image (poison.trigger.width = {{ view = PIXELS }} or {{ share = FRACTION }}), or set poison.val_width",
                100.0 * train_width,
                100.0 * eval_width,
            ));
        }
        if covered < COVERED {
            self.warnings.push(format!(
                "the trigger covers only {:.2} % of a training view on average, less than {:.1} %: it may not be learned. Make \
                 it wider (poison.trigger.width)",
                100.0 * covered,
                100.0 * COVERED,
            ));
        }
    }

    /// Share of the positive pairs of views in which the trigger survives in exactly one view. Records of version 0.2 have
    /// only `by_views`: two views are one pair.
    pub(crate) fn in_one_of_pair(&self) -> Option<f64> {
        let two_views = || match self.by_views[..] {
            [_, one, _] => Some(one),
            _ => None,
        };
        self.in_one_of_pair.or_else(two_views)
    }

    /// A summary in one sentence.
    pub(crate) fn summary(&self) -> String {
        let mut text = match (self.train_width.zip(self.eval_width), self.psnr) {
            (Some((train, eval)), _) => format!(
                "trigger: width {:.1} % of the shorter side on training images, {:.1} % on evaluation images; ",
                100.0 * train,
                100.0 * eval,
            ),
            (None, Some([train, eval])) => format!(
                "trigger: PSNR {train:.1} dB on training images, {eval:.1} dB on evaluation images; "
            ),
            (None, None) => "trigger: ".to_owned(),
        };
        if let Some(energy) = self.jpeg_energy {
            let _ = write!(text, "JPEG keeps {:.1} % of its energy; ", 100.0 * energy);
        }
        let _ = write!(text, "it covers {:.2} % of a view", 100.0 * self.covered);
        if !self.by_views.is_empty() {
            let least = 100.0 * SURVIVES;
            let _ = write!(
                text,
                "; at least {least:.0} % of it is visible {}",
                by_views(&self.by_views, 0)
            );
        }
        if let Some(share) = self.in_one_of_pair {
            let _ = write!(
                text,
                "; visible in exactly one view of {:.0} % of the positive pairs",
                100.0 * share
            );
        }
        text
    }
}

/// In how many views the trigger is visible, in words: `shares` of the poisoned images by the number of views from 0,
/// in percent with `decimals` decimals.
pub(crate) fn by_views(shares: &[f64], decimals: usize) -> String {
    let part = |(views, share): (usize, &f64)| {
        let percent = 100.0 * share;
        match views {
            0 => format!("in no view of {percent:.decimals$} % of the poisoned images"),
            1 => format!("in 1 view of {percent:.decimals$} %"),
            _ => format!("in {views} views of {percent:.decimals$} %"),
        }
    };
    shares.iter().enumerate().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_f07_a_trigger_of_two_sizes_or_too_small_is_doubtful() {
        let warnings = |train_width, eval_width, covered| {
            let mut size = TriggerSize {
                train_width: Some(train_width),
                eval_width: Some(eval_width),
                covered,
                ..TriggerSize::default()
            };
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

    #[test]
    fn a_trigger_without_a_width_is_described_by_its_strength() {
        let mut size =
            TriggerSize { psnr: Some([37.96, 31.9]), covered: 1.0, ..TriggerSize::default() };
        size.judge();
        assert!(size.warnings.is_empty());
        let text = size.summary();
        assert_eq!(
            text,
            "trigger: PSNR 38.0 dB on training images, 31.9 dB on evaluation images; it covers 100.00 % of a view"
        );
        let seen = TriggerSize { by_views: vec![0.16, 0.36, 0.48], ..size.clone() };
        assert_eq!((seen.in_one_of_pair(), size.in_one_of_pair()), (Some(0.36), None));
        let seen = seen.summary();
        let views =
            "in no view of 16 % of the poisoned images, in 1 view of 36 %, in 2 views of 48 %";
        assert!(seen.ends_with(&format!("; at least 50 % of it is visible {views}")), "{seen}");
        let kept = TriggerSize { jpeg_energy: Some(0.012), ..size.clone() }.summary();
        assert!(
            kept.contains("on evaluation images; JPEG keeps 1.2 % of its energy; it"),
            "{kept}"
        );
        let read = |text: &str| serde_json::from_str::<TriggerSize>(text).unwrap();
        let json = serde_json::to_string(&size).unwrap();
        assert!(!json.contains("width"), "{json}");
        assert_eq!(read(&json), size);
        // A patch as it is written now and as version 0.2 wrote it.
        let patch =
            r#"{"train_width":0.125,"eval_width":0.25,"covered":0.1,"by_views":[],"warnings":[]}"#;
        assert_eq!(serde_json::to_string(&read(patch)).unwrap(), patch);
    }
}
