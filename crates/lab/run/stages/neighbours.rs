//! The target-neighbour share: how many patched images lie among the target's clean images in a model's features.

use anyhow::Result;
use ssl_backdoor_probe::target_neighbour_share;

use super::features::Extracted;
use crate::run::lab::Lab;

/// Number of neighbours of a patched image.
const NEIGHBOURS: usize = 10;

/// Percent of the patched images of other classes whose nearest clean evaluation images are mostly of the target class;
/// `None` without a target or with too few images.
pub(super) fn target_share(lab: &Lab, extracted: &Extracted) -> Result<Option<f64>> {
    let Some(target) = lab.attack.target else { return Ok(None) };
    let [clean, patched] = &extracted.eval;
    let classes = lab.splits.classes.len();
    let share = target_neighbour_share(clean, patched, classes, target, NEIGHBOURS, &lab.device)?;
    Ok(share.map(|share| 100.0 * share))
}
