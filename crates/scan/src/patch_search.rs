//! PatchSearch (Tejankar et al., CVPR 2023): the search, the classifier of its best patches, and the flagged images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::{Sample, SampleSet};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::Encoder;

use crate::classifier::{PatchTask, SMALL, Verdicts};
use crate::clusters::CosineClusters;
use crate::features::{ALIKE, UnitFeatures};
use crate::paste::{FlipSet, near_centres, nearest_members};
use crate::search::{Rounds, Search};
use crate::{
    Candidate, Evidence, Findings, Frozen, Scan, ScanError, Score, Scored, Setting, Subject,
};

/// Name of the scan.
const NAME: &str = "patch-search";
/// Smallest number of images in a set. With fewer, clusters are meaningless.
const FEWEST: usize = 60;
/// Networks and steps as published, and for images up to [`SMALL`].
const PUBLISHED: (usize, usize) = (5, 2000);
const FEW: (usize, usize) = (3, 1000);
/// Images of each cluster that are shown.
const TYPICAL: usize = 6;
/// Share of the images, the most suspicious ones, that are not used as clean images to train the classifier.
const LEFT_OUT: f64 = 0.1;

/// Settings of PatchSearch. Absent values follow from the number of images and their size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PatchSearchConfig {
    /// Clusters of the features, at most the number of images. The paper uses 1,000 for 126,689 images. Default: one
    /// per 64 images, 4 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100_000))]
    pub clusters: Option<usize>,
    /// Images on which each patch is pasted, at most the number of images. The paper uses 1,000. Default: one per 25
    /// images, 200 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub flips: Option<usize>,
    /// Side of a patch in pixels, at most that of the images. Default: 60/224 of the side of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub window: Option<u32>,
    /// Images of each cluster that are tried in a round.
    #[schemars(range(min = 1, max = 1000))]
    pub per_round: usize,
    /// Share of the clusters that are dropped after a round, at least one.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub drop: f64,
    /// Patches from which the classifier learns.
    #[schemars(range(min = 1, max = 1000))]
    pub top: usize,
    /// Networks of the classifier. Default: 5 as in the paper, 3 for images up to 64 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub networks: Option<usize>,
    /// Largest number of optimisation steps of a network. Default: 2,000 as in the paper, 1,000 for images up to 64
    /// pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub steps: Option<usize>,
}

impl Default for PatchSearchConfig {
    fn default() -> Self {
        let (clusters, flips, window) = (None, None, None);
        let (networks, steps) = (None, None);
        let (per_round, drop, top) = (2, 0.25, 20);
        Self { clusters, flips, window, per_round, drop, top, networks, steps }
    }
}

impl PatchSearchConfig {
    /// Checks every value; `images` is the size of the set if it is known, `size` the side of its images in pixels.
    ///
    /// # Errors
    /// It names the field, its value and what is allowed.
    pub fn check(&self, images: Option<usize>, size: u32) -> Result<(), OutOfRange> {
        let at_most = |most: usize| images.map_or(most, |n| most.min(n));
        let count = |field, value: usize, least: usize, most: usize| {
            let allowed = format!("allowed are {least} to {most}");
            require((least..=most).contains(&value), field, value, allowed)
        };
        if let Some(clusters) = self.clusters {
            count("clusters", clusters, 2, at_most(100_000))?;
        }
        if let Some(flips) = self.flips {
            count("flips", flips, 1, at_most(100_000))?;
        }
        if let Some(window) = self.window {
            let fits = (1..=size).contains(&window);
            require(fits, "window", window, format!("allowed are 1 to {size} pixels"))?;
        }
        count("per_round", self.per_round, 1, 1000)?;
        let fits = self.drop > 0.0 && self.drop <= 1.0;
        require(fits, "drop", self.drop, "allowed are 0 < drop <= 1")?;
        count("top", self.top, 1, 1000)?;
        if let Some(networks) = self.networks {
            count("networks", networks, 1, 100)?;
        }
        match self.steps {
            Some(steps) => count("steps", steps, 1, 1_000_000),
            None => Ok(()),
        }
    }

    /// Clusters, images to paste on, and side of a patch, for a set of `images` images of `size` pixels a side.
    fn sizes(&self, images: usize, size: u32) -> (usize, usize, u32) {
        let clusters = self.clusters.unwrap_or((images / 64).clamp(4, 1000));
        let flips = self.flips.unwrap_or((images / 25).clamp(200, 1000)).min(images);
        let window = (f64::from(size) * 60.0 / 224.0).round() as u32;
        (clusters, flips, self.window.unwrap_or(window.clamp(1, size)))
    }
}

/// PatchSearch as a scan of sets. The score of an image is the mean probability over the networks that it carries one
/// of the best patches. Images above one half are flagged.
#[derive(Debug, Clone, Default)]
pub struct PatchSearch {
    /// Its settings.
    pub config: PatchSearchConfig,
}

impl Scan for PatchSearch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scan(&self, subject: Subject<'_>, setting: &Setting<'_>) -> Result<Findings, ScanError> {
        let Subject::Set { images, encoder } = subject else {
            return Err(ScanError::Subject { scan: NAME, what: "sets of images" });
        };
        let (ids, size) = ids_and_size(images)?;
        self.config.check(Some(ids.len()), size)?;
        let found = self.search(images, encoder, (&ids, size), setting)?;
        self.judge(images, (&ids, size), found, setting)
    }
}

/// The result of the search.
struct Searched {
    candidates: Vec<Candidate>,
    /// Cluster of each image.
    labels: Vec<u32>,
    /// Positions of some images of each cluster.
    typical: Vec<Vec<usize>>,
    /// Images that patches were pasted on.
    flips: usize,
}

/// The ids of the images and their side; checks that they are squares of one size.
fn ids_and_size(images: &SampleSet) -> Result<(Vec<u64>, u32), ScanError> {
    let count = images.len();
    PatchSearch::check_count(count)?;
    let size = images.get(0)?.image.width();
    let mut ids = Vec::with_capacity(count);
    for index in 0..count {
        let Sample { id, image, .. } = images.get(index)?;
        let found = image.dimensions();
        if found != (size, size) {
            return Err(ScanError::Size { id, found, size });
        }
        ids.push(id);
    }
    Ok((ids, size))
}

impl PatchSearch {
    /// What the scan cannot see, in sentences.
    pub const BLIND: [&str; 4] = [
        "The scan looks for patches. It does not detect triggers that cover the whole image, such as blended pictures or frequency patterns.",
        "It often misses patches that are much larger or smaller than the window, and backdoors that the encoder has not learned.",
        "Only some images were searched for a patch and show one; the networks have judged all images.",
        "The networks learn the strongest patches of any set, so they also suspect some images of a clean set.",
    ];

    /// Checks that a set of `images` images is large enough.
    ///
    /// # Errors
    /// [`ScanError::TooFew`].
    pub fn check_count(images: usize) -> Result<(), ScanError> {
        if images < FEWEST {
            return Err(ScanError::TooFew { scan: NAME, images, needed: FEWEST });
        }
        Ok(())
    }

    fn search(
        &self,
        images: &SampleSet,
        encoder: &Encoder,
        (ids, size): (&[u64], u32),
        setting: &Setting<'_>,
    ) -> Result<Searched, ScanError> {
        let (clusters, flips, window) = self.config.sizes(ids.len(), size);
        let features = UnitFeatures::of(encoder, images, setting, (NAME, ALIKE))?;
        let clusters = CosineClusters::new(&features, clusters, 1, setting.seed, setting.device)?;
        let near = near_centres(&features, &clusters, flips);
        let (device, seed) = (setting.device, setting.seed);
        let normalization = setting.normalization;
        let flips =
            FlipSet::new(encoder, &clusters, (images, near), (device, seed), normalization)?;
        let (encoder, rounds) = (
            &Frozen::new(encoder, device),
            Rounds { each: self.config.per_round, drop: self.config.drop },
        );
        let (set, typical) = (images, nearest_members(&features, &clusters, TYPICAL));
        let search =
            Search { set, ids, clusters: &clusters, encoder, flips: &flips, size, window, setting };
        let candidates = search.run(rounds)?;
        let flips = flips.len();
        Ok(Searched { candidates, labels: clusters.labels, typical, flips })
    }

    /// Trains the classifier on the best patches and judges all images.
    fn judge(
        &self,
        images: &SampleSet,
        (ids, size): (&[u64], u32),
        searched: Searched,
        setting: &Setting<'_>,
    ) -> Result<Findings, ScanError> {
        let candidates = &searched.candidates;
        // The best and the worst must be different images, and others must remain.
        let top = self.config.top.min(candidates.len() / 3).max(1);
        let (best, worst) =
            (&candidates[..top], &candidates[candidates.len().saturating_sub(top).max(top)..]);
        let clean = clean(&searched, ids.len(), worst);
        let patches: Vec<_> = best.iter().map(|one| &one.patch).collect();
        let positions = |of: &[Candidate]| of.iter().map(|one| one.image).collect::<Vec<_>>();
        let (with, without) = (positions(best), positions(worst));
        let (networks, steps) = if size <= SMALL { FEW } else { PUBLISHED };
        let (networks, steps) =
            (self.config.networks.unwrap_or(networks), self.config.steps.unwrap_or(steps));
        let (patches, known) = (&patches[..], [&with[..], &without[..]]);
        let task = PatchTask { set: images, clean: &clean, patches, known, size, steps, setting };
        let verdicts = task.run(networks)?;
        findings(images, ids, &searched, &verdicts)
    }
}

/// Positions of the images that are assumed to be clean: all but the most suspicious tenth and the `worst`, on which
/// the networks are evaluated. An image that was not tried is as suspicious as one whose patch moves no image; in
/// case of a tie, the image whose cluster has the better patch is more suspicious.
fn clean(searched: &Searched, images: usize, worst: &[Candidate]) -> Vec<usize> {
    let mut best = vec![i64::MIN; searched.typical.len()];
    let mut tried = vec![None; images];
    for one in &searched.candidates {
        tried[one.image] = Some(one.flips);
        let of = &mut best[searched.labels[one.image] as usize];
        *of = one.flips.max(*of);
    }
    let key = |&image: &usize| {
        (tried[image].unwrap_or(0), best[searched.labels[image] as usize], std::cmp::Reverse(image))
    };
    let mut all: Vec<usize> = (0..images).collect();
    all.sort_by_key(|image| std::cmp::Reverse(key(image)));
    let suspicious = (LEFT_OUT * images as f64).ceil() as usize;
    let known = |image: &usize| worst.iter().any(|one| one.image == *image);
    let mut clean: Vec<usize> =
        all.into_iter().skip(suspicious).filter(|image| !known(image)).collect();
    clean.sort_unstable();
    clean
}

fn findings(
    images: &SampleSet,
    ids: &[u64],
    searched: &Searched,
    verdicts: &Verdicts,
) -> Result<Findings, ScanError> {
    let Searched { candidates, flips, typical, .. } = searched;
    let ids_of = |positions: &[usize]| positions.iter().map(|&at| ids[at]).collect::<Vec<_>>();
    let mut accused: Vec<u64> = ids
        .iter()
        .zip(&verdicts.probability)
        .filter(|(_, probability)| **probability > 0.5)
        .map(|(id, _)| *id)
        .collect();
    accused.sort_unstable();
    let score = |(&id, &value)| Score { of: Scored::Image(id), value };
    let mut scores: Vec<Score> = ids.iter().zip(&verdicts.probability).map(score).collect();
    let tried: std::collections::HashMap<u64, i64> =
        candidates.iter().map(|one| (one.id, one.flips)).collect();
    // In case of a tie, images whose patch moves more images come first.
    let tie = |score: &Score| match score.of {
        Scored::Image(id) => tried.get(&id).copied().unwrap_or(0),
        _ => 0,
    };
    scores.sort_by(|a, b| b.value.total_cmp(&a.value).then(tie(b).cmp(&tie(a))));
    let mut evidence = Vec::with_capacity(candidates.len());
    for one in candidates {
        let caption = format!(
            "Pasted on {flips} images, the patch takes {} more of them into cluster {}",
            one.flips, one.cluster
        );
        evidence.push(Evidence {
            image: Some(one.id),
            cluster: Some(one.cluster),
            taken: ids_of(&one.taken),
            patch: Some(one.place),
            ..Evidence::new(caption, one.flips as f64, images.get(one.image)?.image)
        });
    }
    let figures = [
        ("clusters", typical.len() as f64),
        ("images pasted on", *flips as f64),
        ("images tried", candidates.len() as f64),
        ("F1 of the classifier", verdicts.f1),
        ("steps of a network", verdicts.steps),
    ];
    let typical = (0..).zip(typical).map(|(cluster, some)| (cluster, ids_of(some))).collect();
    let (figures, notes) = (figures.into(), Vec::new());
    Ok(Findings { scores, evidence, accused, typical, figures, notes })
}
