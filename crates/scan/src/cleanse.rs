//! SSL-Cleanse (Zheng et al., "SSL-Cleanse: Trojan Detection and Mitigation in Self-Supervised Learning", ECCV 2024): for
//! each cluster of the features, the smallest trigger that moves the images of the other clusters into it. With a
//! backdoor, one cluster needs a far smaller trigger than the rest.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_kernels::{cpu_threads, share_out};
use ssl_backdoor_model::init;
use ssl_backdoor_rng::keyed;

use crate::clusters::{CosineClusters, top};
use crate::features::{ALIKE, UnitFeatures};
use crate::frozen::unit_rows;
use crate::invert::{Features, Inversion, Shadows, batches, features_of};
use crate::kmeans::kmeans;
use crate::outlier::{anomaly, knee};
use crate::purpose::{CENTRES, TRIGGER_ORDER};
use crate::{
    Evidence, Findings, Frozen, Inverted, Scan, ScanError, Score, Scored, Setting, Subject,
};

/// Name of the scan.
const NAME: &str = "ssl-cleanse";
/// Smallest number of images.
const FEWEST: usize = 64;
/// The smallest and the largest number of clusters that are chosen by default.
const CLUSTERS: (usize, usize) = (4, 16);
/// Starts and rounds of k-means.
const KMEANS: (usize, usize) = (30, 20);
/// Learning rate.
const RATE: f64 = 0.1;
/// Share of the images that a trigger must move in order to work.
const WORKS: f64 = 0.99;
/// Weight of the mean of the mask once the trigger works, the factor by which it grows and shrinks, and the number of
/// rounds in a row after which it does.
const WEIGHT: f64 = 1.0;
const FACTOR: f64 = 1.5;
const AFTER: usize = 5;
/// Largest side of images, in pixels, for which each core inverts clusters of its own. Larger images keep all cores busy
/// and need more memory.
const SMALL: usize = 64;
/// Rounds without a smaller trigger after which an inversion ends.
const PATIENCE: usize = 10;

/// Settings of SSL-Cleanse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CleanseConfig {
    /// Images that are clustered and on which triggers are searched.
    #[schemars(range(min = 64, max = 100_000))]
    pub images: usize,
    /// Number of clusters, at most an eighth of `images`. Default: 4 to 16, where the curve of squared distances has
    /// its knee.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4, max = 12500))]
    pub clusters: Option<usize>,
    /// Images in a step, at most `images`.
    #[schemars(range(min = 2, max = 100_000))]
    pub batch: usize,
    /// Largest number of passes over the images for each reconstructed trigger.
    #[schemars(range(min = 1, max = 100_000))]
    pub rounds: usize,
}

impl Default for CleanseConfig {
    /// The paper uses 1 % of the images, batches of 32 and at most 1,000 rounds.
    fn default() -> Self {
        Self { images: 256, clusters: None, batch: 32, rounds: 60 }
    }
}

impl CleanseConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// It names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let fits = (FEWEST..=100_000).contains(&self.images);
        require(fits, "images", self.images, format!("allowed are {FEWEST} to 100,000"))?;
        let most = self.images / 8;
        let clusters = self.clusters.unwrap_or(CLUSTERS.0);
        let allowed = format!("allowed are {} to {most}, an eighth of the images", CLUSTERS.0);
        require((CLUSTERS.0..=most).contains(&clusters), "clusters", clusters, allowed)?;
        let fits = (2..=self.images).contains(&self.batch);
        require(fits, "batch", self.batch, "allowed are 2 to the number of images")?;
        let fits = (1..=100_000).contains(&self.rounds);
        require(fits, "rounds", self.rounds, "allowed are 1 to 100,000")
    }
}

/// SSL-Cleanse as a scan of encoders. The score is the [`anomaly`] of the triggers' areas: how far the smallest lies
/// below the median, in standard deviations.
#[derive(Debug, Clone, Default)]
pub struct Cleanse {
    /// Its settings.
    pub config: CleanseConfig,
}

impl Cleanse {
    /// Checks that `images` images are enough.
    ///
    /// # Errors
    /// [`ScanError::TooFew`].
    pub fn check_count(images: usize) -> Result<(), ScanError> {
        match images < FEWEST {
            true => Err(ScanError::TooFew { scan: NAME, images, needed: FEWEST }),
            false => Ok(()),
        }
    }
}

impl Scan for Cleanse {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scan(&self, subject: Subject<'_>, setting: &Setting<'_>) -> Result<Findings, ScanError> {
        let Subject::Encoder { encoder, images } = subject else {
            return Err(ScanError::Subject { scan: NAME, what: "encoders" });
        };
        self.config.check()?;
        Self::check_count(images.len())?;
        let (shadows, set) = Shadows::draw(images, self.config.images, setting.seed)?;
        let features = UnitFeatures::of(encoder, &set, setting, (NAME, ALIKE))?;
        let count = self.count(&features, setting)?;
        let (seed, device) = (setting.seed, setting.device);
        let clusters = CosineClusters::new(&features, count, KMEANS.0, seed, device)?;
        let (rounds, total) = (self.config.rounds, count * self.config.rounds);
        let workers = if shadows.side <= SMALL { cpu_threads(device).min(count) } else { 1 };
        let workers = (0..workers).map(|_| Frozen::new(encoder, device)).collect();
        let done = AtomicUsize::new(0);
        let found = share_out(workers, count, |frozen: &mut Frozen, cluster| {
            let watch = |rounds: usize| {
                let done = done.fetch_add(rounds, Ordering::Relaxed) + rounds;
                (setting.watch)("by cluster", done.min(total - 1), total);
            };
            let task =
                Task { shadows: &shadows, features: &features, clusters: &clusters, cluster };
            let on = (frozen.device(), seed);
            let found = self.config.invert(&task, &features_of(frozen, setting), on, &|_| watch(1));
            watch(rounds - found.rounds);
            found
        });
        (setting.watch)("by cluster", total, total);
        let sizes: Vec<usize> = clusters.members().iter().map(Vec::len).collect();
        Ok(findings(&found, &sizes, shadows.side))
    }
}

impl Cleanse {
    /// The number of clusters: that of the config, or else the [`knee`] of the curve of squared distances.
    fn count(&self, features: &UnitFeatures, setting: &Setting<'_>) -> Result<usize, ScanError> {
        if let Some(count) = self.config.clusters {
            return Ok(count.min(features.len()));
        }
        let (least, most) = (CLUSTERS.0, CLUSTERS.1.min(features.len() / 8));
        let points = (&features.values[..], features.dim);
        let key = (setting.seed, CENTRES);
        let inertia = |clusters| {
            let found = kmeans(points, clusters, (3, KMEANS.1), key, setting.device)?;
            Ok(found.inertia)
        };
        let curve: Result<Vec<f64>, ScanError> = (least..=most).map(inertia).collect();
        Ok(least + knee(&curve?))
    }
}

/// The inversion for one cluster.
struct Task<'a> {
    shadows: &'a Shadows,
    features: &'a UnitFeatures,
    clusters: &'a CosineClusters,
    cluster: usize,
}

impl CleanseConfig {
    /// The smallest trigger that moves the images of other clusters into the task's.
    fn invert(
        &self,
        task: &Task<'_>,
        features: &Features<'_>,
        (device, seed): (&Device, u64),
        watch: &dyn Fn(usize),
    ) -> Inverted {
        let own = |position: &usize| task.clusters.labels[*position] as usize == task.cluster;
        let (members, others): (Vec<usize>, Vec<usize>) = (0..task.shadows.len()).partition(own);
        if members.is_empty() || others.is_empty() {
            return Inverted { trigger: None, rounds: 0 };
        }
        let columns = task.clusters.columns(device);
        let number = task.cluster as u64;
        let mut inversion = Inversion::new(task.shadows.side, (seed, 1 + number), device);
        let (mut weight, mut best, mut stale) = (Weight::default(), None, 0);
        for round in 0..self.rounds {
            let (mut taken, mut seen) = (0, 0);
            let mut rng = keyed(seed, TRIGGER_ORDER, round as u32, 0, 1 + number);
            for batch in batches(&others, self.batch, (seed, round)) {
                let images = inversion.on(task.shadows.batch(&batch, device));
                let found = unit_rows(features(images));
                let to = top(found.clone().detach().matmul(columns.clone()));
                taken += to.iter().filter(|&&cluster| cluster as usize == task.cluster).count();
                seen += batch.len();
                // The feature of each image should become that of a random image of the cluster.
                let wanted = batch.iter().flat_map(|_| {
                    let member = members[rng.random_range(0..members.len())];
                    task.features.row(member).iter().copied()
                });
                let wanted = init::matrix(wanted.collect(), task.features.dim, device);
                let apart: Tensor<1> =
                    (found - wanted).powi_scalar(2).sum().div_scalar(batch.len() as f64);
                let loss = apart + inversion.area().mul_scalar(weight.now);
                inversion.step(loss, RATE);
            }
            watch(round);
            let trigger = inversion.trigger();
            let area = trigger.area();
            // If the network overflows, the cluster of a feature is meaningless.
            let works = seen > 0 && taken as f64 >= WORKS * seen as f64 && area.is_finite();
            if works {
                let better = best.as_ref().is_none_or(|(least, _)| area < *least);
                stale = if better { 0 } else { stale + 1 };
                if better {
                    best = Some((area, trigger));
                }
                if stale >= PATIENCE {
                    return Inverted { trigger: best.map(|(_, t)| t), rounds: round + 1 };
                }
            }
            weight.after(works);
        }
        Inverted { trigger: best.map(|(_, trigger)| trigger), rounds: self.rounds }
    }
}

/// The weight of the mask: 0 until the trigger has worked for some rounds; then it grows while the trigger works.
#[derive(Default)]
struct Weight {
    now: f64,
    works: usize,
    fails: usize,
}

impl Weight {
    fn after(&mut self, works: bool) {
        (self.works, self.fails) = if works { (self.works + 1, 0) } else { (0, self.fails + 1) };
        if self.works >= AFTER {
            self.now = if self.now > 0.0 { self.now * FACTOR } else { WEIGHT };
            self.works = 0;
        } else if self.fails >= AFTER {
            (self.now, self.fails) = (self.now / FACTOR, 0);
        }
    }
}

fn findings(found: &[Inverted], sizes: &[usize], side: usize) -> Findings {
    let areas: Vec<f64> = found.iter().map(Inverted::area).collect();
    // The area of one pixel.
    let least = 1.0 / (side * side) as f64;
    let anomaly = anomaly(&areas, least).unwrap_or(0.0);
    let mut scores = vec![Score { of: Scored::Subject, value: anomaly }];
    let mut order: Vec<usize> = (0..areas.len()).collect();
    order.sort_by(|&a, &b| areas[a].total_cmp(&areas[b]).then(a.cmp(&b)));
    scores.extend(
        order.iter().map(|&i| Score { of: Scored::Cluster(i as u32), value: 1.0 - areas[i] }),
    );
    let evidence = order.iter().filter_map(|&i| {
        let trigger = found[i].trigger.as_ref()?;
        let caption = format!(
            "A trigger on {:.1} % of the image pulls the other images into cluster {i}, which has {} images",
            100.0 * areas[i],
            sizes.get(i).copied().unwrap_or(0)
        );
        Some(Evidence {
            cluster: Some(i as u32),
            ..Evidence::new(caption, 1.0 - areas[i], trigger.picture())
        })
    });
    let works = found.iter().filter(|one| one.trigger.is_some()).count();
    let rounds: usize = found.iter().map(|one| one.rounds).sum();
    let figures = [
        ("clusters", found.len() as f64),
        ("clusters with a trigger", works as f64),
        ("rounds", rounds as f64),
    ];
    let mut notes = Vec::new();
    if works == 0 {
        notes.push("No trigger was found for any cluster.".into());
    }
    Findings {
        scores,
        evidence: evidence.collect(),
        figures: figures.into(),
        notes,
        ..Findings::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use burn::module::Module;
    use burn::tensor::activation;
    use ssl_backdoor_data::{DataConfig, Eval, Normalization, Shapes};
    use ssl_backdoor_model::{EncoderConfig, Stem};

    use super::*;
    use crate::invert::planted;

    #[test]
    fn the_findings_do_not_depend_on_the_threads() {
        let device = Device::flex();
        let data = DataConfig::Shapes(Shapes {
            size: 16,
            native: None,
            per_class: 7,
            eval_per_class: 1,
            seed: 0,
            eval: Eval::default(),
        });
        let set = data.load(&|_, _, _| {}).unwrap().pretrain_set().clone();
        let config = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let encoder = config.init(&mut keyed(1, CENTRES, 0, 0, 0), &device).valid();
        let cleanse = Cleanse {
            config: CleanseConfig {
                images: 64,
                clusters: Some(4),
                rounds: 3,
                ..CleanseConfig::default()
            },
        };
        let run = |threads: usize| {
            let done = Mutex::new(Vec::new());
            let watch = |_: &str, now: usize, of: usize| done.lock().unwrap().push((now, of));
            let normalization = Normalization { mean: [0.0; 3], std: [1.0; 3] };
            let setting = Setting { device: &device, seed: 1, normalization, watch: &watch };
            let subject = Subject::Encoder { encoder: &encoder, images: &set };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| cleanse.scan(subject, &setting)).unwrap();
            assert_eq!(done.lock().unwrap().last(), Some(&(12, 12)));
            found
        };
        assert_eq!(run(1), run(3));
    }

    /// Features in three clusters by colour. A white patch moves the features of the encoder in the first direction.
    #[test]
    fn the_cluster_that_a_patch_calls_for_needs_the_smallest_trigger() {
        let device = Device::flex().autodiff();
        let (side, (x, y, patch)) = (planted::SIDE, planted::PATCH);
        let shadows = planted::coloured(96);
        let features = |images: Tensor<4>| {
            let [batch, ..] = images.dims();
            let white = images.clone().slice([0..batch, 0..3, y..y + patch, x..x + patch]);
            let white = white.reshape([batch, 3 * patch * patch]).mean_dim(1);
            let called = activation::sigmoid(white.sub_scalar(0.8).mul_scalar(10.0));
            let means = images.reshape([batch, 3, side * side]).mean_dim(2).reshape([batch, 3]);
            let direction = init::matrix(vec![6.0, 0.0, 0.0], 3, &device);
            activation::softmax(means.mul_scalar(40.0), 1) + called.matmul(direction)
        };
        let all: Vec<usize> = (0..shadows.len()).collect();
        let values = unit_rows(features(shadows.batch(&all, &device)));
        let unit = UnitFeatures { values: values.into_data().iter().collect(), dim: 3 };
        let clusters = CosineClusters::new(&unit, 3, 10, 1, &device).unwrap();
        let config = CleanseConfig::default();
        let areas: Vec<f64> = (0..3)
            .map(|cluster| {
                let task =
                    Task { shadows: &shadows, features: &unit, clusters: &clusters, cluster };
                config.invert(&task, &features, (&device, 1), &|_| {}).area()
            })
            .collect();
        let called = (0..3).max_by(|&a: &usize, &b: &usize| {
            clusters.centres[3 * a].total_cmp(&clusters.centres[3 * b])
        });
        let called = called.unwrap();
        for cluster in (0..3).filter(|&cluster| cluster != called) {
            assert!(areas[called] < 0.3 * areas[cluster], "{called}: {areas:?}");
        }
        // The smallest is far below the two others and one more like them.
        let found: Vec<f64> = areas.iter().copied().chain([0.31]).collect();
        assert!(anomaly(&found, 1.0 / 256.0).unwrap() > 4.0, "{areas:?}");
    }
}
