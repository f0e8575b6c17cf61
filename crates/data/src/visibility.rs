//! The visibility of the trigger in the views of an epoch: in how many views of an image it survives, how much of it
//! is visible, and how many of its patches a masking method hides. This tests the paper's hypothesis of why methods
//! that pull two views together are vulnerable and others are not.

use serde::{Deserialize, Serialize};
use ssl_backdoor_trigger::Spot;

use crate::augment::Geometry;
#[cfg(doc)]
use crate::augment::Views;

/// A trigger survives in a view that shows at least this share of its area.
pub const SURVIVES: f64 = 0.5;

/// Counts and sums over the poisoned images of some batches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerVisibility {
    /// Poisoned images by the number of their views in which the trigger survives: the first entry
    /// counts those without any. Its length is the number of views plus one, or 0 without images.
    pub by_views: Vec<usize>,
    /// Views of poisoned images.
    pub views: usize,
    /// Sum over those of the visible share of the trigger's area.
    visible: f64,
    /// Sum over those of the share of the view that the trigger covers.
    covered: f64,
    /// Patches of the views that the trigger touches, and how many of those are hidden (MAE).
    patches: [usize; 2],
    /// Positive pairs of views of poisoned images, and those of them in which the trigger survives in exactly one view.
    #[serde(default)]
    pairs: [usize; 2],
}

impl TriggerVisibility {
    /// Adds one image: its trigger's boxes, the crops of its views, which of them are [positive pairs](Views::pairs),
    /// and which patches are hidden. The nine copies of a grid count as one trigger of nine times the area. Of a
    /// trigger on the whole image, a view shows the same share as of the image.
    pub fn add(
        &mut self,
        spots: &[Spot],
        geometry: &[Geometry],
        pairs: &[[usize; 2]],
        hidden: Option<&[bool]>,
    ) {
        if spots.is_empty() {
            return;
        }
        self.by_views.resize(geometry.len() + 1, 0);
        let mut survives = Vec::with_capacity(geometry.len());
        for view in geometry {
            let visible: f64 = spots.iter().map(|spot| view.visible(spot)).sum();
            let visible = visible / spots.len() as f64;
            let places = || spots.iter().filter_map(|spot| view.place(spot));
            survives.push(visible >= SURVIVES);
            self.views += 1;
            self.visible += visible;
            self.covered += places().map(|[l, t, r, b]| (r - l) * (b - t)).sum::<f64>();
            if let Some(hidden) = hidden {
                let side = hidden.len().isqrt();
                let touched = |i: usize| {
                    let cell = [i % side, i / side].map(|c| c as f64 / side as f64);
                    let end = cell.map(|c| c + 1.0 / side as f64);
                    places()
                        .any(|[l, t, r, b]| l < end[0] && r > cell[0] && t < end[1] && b > cell[1])
                };
                for (_, &hidden) in hidden.iter().enumerate().filter(|(i, _)| touched(*i)) {
                    self.patches[0] += 1;
                    self.patches[1] += usize::from(hidden);
                }
            }
        }
        self.by_views[survives.iter().filter(|&&survives| survives).count()] += 1;
        let in_one = |[a, b]: &&[usize; 2]| survives.get(*a) != survives.get(*b);
        self.pairs[0] += pairs.len();
        self.pairs[1] += pairs.iter().filter(in_one).count();
    }

    /// Adds the figures of another batch.
    pub fn merge(&mut self, other: &Self) {
        if self.by_views.len() < other.by_views.len() {
            self.by_views.resize(other.by_views.len(), 0);
        }
        self.by_views.iter_mut().zip(&other.by_views).for_each(|(a, b)| *a += b);
        self.views += other.views;
        self.visible += other.visible;
        self.covered += other.covered;
        self.patches.iter_mut().zip(other.patches).for_each(|(a, b)| *a += b);
        self.pairs.iter_mut().zip(other.pairs).for_each(|(a, b)| *a += b);
    }

    /// Whether there were no poisoned images.
    pub fn is_empty(&self) -> bool {
        self.views == 0
    }

    /// Mean visible share of the trigger's area over all views of poisoned images, 0 to 1.
    pub fn mean_visible(&self) -> f64 {
        self.visible / self.views.max(1) as f64
    }

    /// Mean share of a view that the trigger covers, 0 to 1.
    pub fn mean_covered(&self) -> f64 {
        self.covered / self.views.max(1) as f64
    }

    /// Share of the positive pairs of views, over poisoned images, in which the trigger survives in exactly one view:
    /// these pairs tie the trigger to the content of the other view. `None` if the method compares no views.
    pub fn in_one_of_pair(&self) -> Option<f64> {
        let [all, in_one] = self.pairs;
        (all > 0).then(|| in_one as f64 / all as f64)
    }

    /// Share of the patches under the trigger that are hidden from the encoder, for a method that
    /// hides patches.
    pub fn hidden_share(&self) -> Option<f64> {
        let [touched, hidden] = self.patches;
        (touched > 0).then(|| hidden as f64 / touched as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(x: f64) -> Geometry {
        Geometry { corner: [x, 0.0], extent: [16.0, 16.0], ..Geometry::default() }
    }

    #[test]
    fn counts_views_in_which_half_of_the_patch_survives() {
        let spot = [Spot { x: 4, y: 4, width: 4, height: 4 }];
        let mut all = TriggerVisibility::default();
        // All of it and half of it; all and a quarter; none.
        let pairs = &[[0, 1], [1, 0]];
        all.add(&spot, &[view(0.0), view(6.0)], pairs, None);
        all.add(&spot, &[view(0.0), view(7.0)], pairs, None);
        all.add(&spot, &[view(8.0), view(9.0)], pairs, None);
        all.add(&[], &[view(0.0), view(0.0)], pairs, None);
        // With two views, the share of pairs equals that of images.
        assert_eq!(all.in_one_of_pair(), Some(1.0 / 3.0));
        assert_eq!((all.by_views.as_slice(), all.views), ([1, 1, 1].as_slice(), 6));
        assert!((all.mean_visible() - 2.75 / 6.0).abs() < 1e-12);
        assert!((all.mean_covered() - 2.75 / 6.0 / 16.0).abs() < 1e-12);
        let mut twice = all.clone();
        twice.merge(&all);
        assert_eq!((twice.by_views.as_slice(), twice.views), ([2, 2, 2].as_slice(), 12));
        assert_eq!(all.hidden_share(), None);
        assert_eq!(twice.in_one_of_pair(), Some(1.0 / 3.0));
        assert_eq!(TriggerVisibility::default().in_one_of_pair(), None);
    }

    /// Two large crops, one of which shows the trigger, and two small ones, one of which does: of the six pairs of a
    /// large crop and another one, four show it in exactly one.
    #[test]
    fn pairs_count_by_the_crops_that_a_method_compares() {
        let spot = [Spot { x: 4, y: 4, width: 4, height: 4 }];
        let small = |x| Geometry { extent: [8.0, 8.0], ..view(x) };
        let crops = [view(0.0), view(8.0), small(2.0), small(8.0)];
        let pairs = [[0, 1], [0, 2], [0, 3], [1, 0], [1, 2], [1, 3]];
        let mut all = TriggerVisibility::default();
        all.add(&spot, &crops, &pairs, None);
        assert_eq!(all.by_views, [0, 0, 1, 0, 0]);
        assert_eq!(all.in_one_of_pair(), Some(4.0 / 6.0));
        // A method that compares no views has no such share.
        let mut none = TriggerVisibility::default();
        none.add(&spot, &crops, &[], None);
        assert_eq!((none.views, none.in_one_of_pair()), (4, None));
    }

    #[test]
    fn counts_the_patches_under_the_trigger() {
        // Patches of 4 px in a 4 × 4 grid; the trigger touches the four in the middle, two of them hidden.
        let spot = [Spot { x: 6, y: 6, width: 4, height: 4 }];
        let mut hidden = vec![false; 16];
        (hidden[5], hidden[6], hidden[0]) = (true, true, true);
        let mut all = TriggerVisibility::default();
        all.add(&spot, &[view(0.0)], &[], Some(&hidden));
        assert_eq!(all.hidden_share(), Some(0.5));
    }
}
