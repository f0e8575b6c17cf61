//! The search of PatchSearch (Tejankar et al., "Defending Against Patch-based Backdoor Attacks on Self-Supervised
//! Learning", CVPR 2023): which images contain a patch that, pasted on others, moves them into its image's cluster.

use burn::tensor::{Tensor, TensorData};
use image::{RgbImage, imageops};
use ssl_backdoor_data::{SampleSet, plain_batch_by};
use ssl_backdoor_rng::ranked;

use crate::clusters::CosineClusters;
use crate::paste::{FlipSet, Taken};
use crate::purpose::QUEUE;
use crate::window::best_window;
use crate::{Frozen, GradCam, Patch, ScanError, Setting, grad_cam};

/// Images in a batch of Grad-CAM.
const BATCH: usize = 64;

/// An image that was tried, with the patch that supports its cluster most.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Position of the image in its set.
    pub image: usize,
    /// Its id.
    pub id: u64,
    /// Its cluster.
    pub cluster: u32,
    /// Where the patch was cut out.
    pub place: Patch,
    /// The patch.
    pub patch: RgbImage,
    /// How many more images belong to the cluster with the patch on them; may be negative.
    pub flips: i64,
    /// Some of the images that the patch moves into the cluster, by their positions in the set.
    pub taken: Vec<usize>,
}

/// Length of the search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rounds {
    /// Images of each cluster that are tried in a round.
    pub each: usize,
    /// Share of the clusters that are dropped after a round: those whose best patch moves the fewest images.
    pub drop: f64,
}

impl Rounds {
    /// How many of `alive` clusters are dropped after a round: at least one, so that the search ends.
    fn dropped(self, alive: usize) -> usize {
        ((self.drop * alive as f64).floor() as usize).max(1)
    }

    /// Largest number of images that are tried for `clusters` clusters.
    pub fn most(self, clusters: usize) -> usize {
        let (mut alive, mut most) = (clusters, 0);
        while alive > 0 {
            most += self.each * alive;
            alive = alive.saturating_sub(self.dropped(alive));
        }
        most
    }
}

/// The inputs of the search.
pub(crate) struct Search<'a> {
    pub set: &'a SampleSet,
    pub ids: &'a [u64],
    pub clusters: &'a CosineClusters,
    pub encoder: &'a Frozen,
    pub flips: &'a FlipSet<'a>,
    pub size: u32,
    pub window: u32,
    pub setting: &'a Setting<'a>,
}

impl Search<'_> {
    /// Tries images round by round and returns the candidates, those that move the most images first.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn run(&self, rounds: Rounds) -> Result<Vec<Candidate>, ScanError> {
        let mut queues = self.queues();
        let mut best = vec![i64::MIN; queues.len()];
        let mut alive: Vec<usize> = (0..queues.len()).collect();
        let (most, mut found) = (rounds.most(queues.len()).min(self.ids.len()), Vec::new());
        loop {
            alive.retain(|&cluster| !queues[cluster].is_empty());
            if alive.is_empty() {
                break;
            }
            let picked: Vec<usize> = alive
                .iter()
                .flat_map(|&cluster| {
                    let rest = queues[cluster].len().saturating_sub(rounds.each);
                    queues[cluster].split_off(rest)
                })
                .collect();
            for some in picked.chunks(BATCH) {
                for (image, cam) in some.iter().zip(self.cams(some)?) {
                    let candidate = self.candidate(*image, &cam)?;
                    let of = self.clusters.labels[*image] as usize;
                    best[of] = best[of].max(candidate.flips);
                    found.push(candidate);
                    (self.setting.watch)("searching patches", found.len().min(most - 1), most);
                }
            }
            // The weakest clusters come last; in case of a tie, those with larger numbers.
            alive.sort_by_key(|&cluster| (std::cmp::Reverse(best[cluster]), cluster));
            alive.truncate(alive.len().saturating_sub(rounds.dropped(alive.len())));
            alive.sort_unstable();
        }
        (self.setting.watch)("searching patches", most, most);
        found.sort_by_key(|one| (std::cmp::Reverse(one.flips), one.image));
        Ok(found)
    }

    /// The images of each cluster in a random order.
    fn queues(&self) -> Vec<Vec<usize>> {
        let queue = |members: Vec<usize>| {
            let at: std::collections::HashMap<u64, usize> =
                members.iter().map(|&image| (self.ids[image], image)).collect();
            let ids: Vec<u64> = members.iter().map(|&image| self.ids[image]).collect();
            let ids = ranked(&ids, self.setting.seed, QUEUE, 0);
            ids.iter().filter_map(|id| at.get(id).copied()).collect()
        };
        self.clusters.members().into_iter().map(queue).collect()
    }

    fn cams(&self, images: &[usize]) -> Result<Vec<GradCam>, ScanError> {
        let some = ssl_backdoor_data::Subset::new(self.set.clone(), images.to_vec())?;
        let (pixels, _) = plain_batch_by(&some, 0..images.len(), &self.setting.normalization)?;
        let on = self.encoder.device();
        let batch = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), on);
        Ok(grad_cam(self.encoder, batch, &self.clusters.columns(on)))
    }

    fn candidate(&self, image: usize, cam: &GradCam) -> Result<Candidate, ScanError> {
        let place = best_window(cam, self.size, self.window);
        let Patch { x, y, width, height } = place;
        let whole = self.set.get(image)?.image;
        let patch = imageops::crop_imm(&whole, x, y, width, height).to_image();
        let (id, cluster) = (self.ids[image], cam.cluster);
        let Taken { more: flips, some: taken } = self.flips.flips(&patch, id, cluster);
        Ok(Candidate { image, id, cluster, place, patch, flips, taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_clusters_goes_after_each_round_and_at_least_one() {
        let rounds = Rounds { each: 2, drop: 0.25 };
        assert_eq!([100, 5, 4, 3, 2, 1].map(|n| rounds.dropped(n)), [25, 1, 1, 1, 1, 1]);
        // 4, 3, 2 and 1 clusters.
        assert_eq!(rounds.most(4), 20);
        // As published: 1,000 clusters come to about 8,000 images.
        assert!((7900..8100).contains(&rounds.most(1000)), "{}", rounds.most(1000));
        assert_eq!(Rounds { each: 1, drop: 1.0 }.most(9), 9);
    }
}
