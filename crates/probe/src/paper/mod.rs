//! The `paper` protocol: each method's own probe, trained as in the reference (docs/protocol.md, 3.2 to 3.5 and 2.6).
//! All but BYOL's augment the labelled images at every step, so features are computed anew and not cached.

mod head;
mod optimizer;
mod rules;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ssl_backdoor_data::purpose::PROBE_VIEW;
use ssl_backdoor_data::{Pixels, SampleSet, plain_batch, view_batch};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_rng::keyed;

use crate::purpose::PROBE_INIT;
use crate::{ProbeError, features};
use head::{Classifier, Normed};
use rules::{Norm, Reads, SIDES};

pub(crate) use optimizer::Optimizer;
pub use rules::PaperProbeConfig;

/// Images per forward pass without training.
const BATCH: usize = 250;

/// The labelled images: unprepared (to be augmented), and prepared like evaluation images.
pub struct Labelled<'a> {
    /// Unprepared.
    pub images: &'a SampleSet,
    /// Prepared, in the same order.
    pub prepared: &'a SampleSet,
    /// Side of a prepared image in pixels.
    pub size: u32,
}

/// The trained classifiers of one encoder: one, or one for each of five maps.
pub struct PaperProbe<'a> {
    encoder: &'a Encoder,
    rules: PaperProbeConfig,
    norms: Vec<Normed>,
    heads: Vec<Classifier>,
    device: Device,
}

impl<'a> PaperProbe<'a> {
    /// Trains on the labelled images by the `rules`; weights, order and views are keyed by `seed`. `encoder` is in
    /// evaluation mode on `device` (without autodiff). With fewer images than a batch, each step uses all.
    ///
    /// # Errors
    /// - [`ProbeError::Empty`] without labelled images, [`ProbeError::Count`] if the number of prepared ones differs
    /// - [`ProbeError::NoMaps`] if the rules read maps and the encoder has none
    /// - [`ProbeError::Label`] or [`ProbeError::NotFinite`] for a label that is not below `classes` and a feature that
    ///   is not finite
    /// - [`ProbeError::Data`] if an image cannot be read
    pub fn fit(
        rules: PaperProbeConfig,
        encoder: &'a Encoder,
        labelled: &Labelled<'_>,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ProbeError> {
        let count = labelled.prepared.len();
        if count == 0 {
            return Err(ProbeError::Empty { what: "labelled images" });
        }
        features::count("labelled images as they are", labelled.images.len(), count)?;
        let plain = device.clone().without_autodiff();
        let on = plain.clone().autodiff();
        let mut probe =
            Self { encoder, rules, norms: Vec::new(), heads: Vec::new(), device: plain };
        let views = probe.rules.views(labelled.size);
        // Features of the plain images: for the statistics, for a probe without augmentation, and otherwise only for
        // the shapes.
        let once = views.is_none() || probe.rules.norm == Norm::L2Standard;
        let (kept, labels) = probe.features(labelled.prepared, if once { count } else { 1 })?;
        features::check_labels(&labels, classes)?;
        probe.start(&kept, classes, seed, &on);
        let mut optimizer = probe.rules.optimizer.build();
        let loss = CrossEntropyLossConfig::new().init(&on);
        let batch = probe.rules.batch.min(count);
        for epoch in 0..probe.rules.epochs {
            let order = probe.rules.order(count, seed, epoch as u32);
            let parts: Vec<&[usize]> = order.chunks(batch).collect();
            for (step, part) in parts.iter().enumerate() {
                let (features, targets) = match &views {
                    Some(views) => {
                        let key = (seed, PROBE_VIEW, epoch as u32);
                        let (pixels, labels) =
                            view_batch(labelled.images.as_ref(), views.as_ref(), part, key)?;
                        features::check_labels(&labels, classes)?;
                        (probe.read(pixels, |row| part[row])?, labels)
                    }
                    None => {
                        let indices: Vec<i64> = part.iter().map(|&i| i as i64).collect();
                        let indices = Tensor::from_data(
                            TensorData::new(indices, [part.len()]),
                            &probe.device,
                        );
                        let chosen = kept.iter().map(|f| f.clone().select(0, indices.clone()));
                        (chosen.collect(), part.iter().map(|&i| labels[i]).collect())
                    }
                };
                let targets: Vec<i64> = targets.into_iter().map(i64::from).collect();
                let targets =
                    Tensor::<1, Int>::from_data(TensorData::new(targets, [part.len()]), &on);
                let mut sum: Option<Tensor<1>> = None;
                let heads = probe.heads.iter().zip(&mut probe.norms);
                for ((head, norm), features) in heads.zip(features) {
                    let x = Tensor::from_inner(norm.train(features)).flatten(1, 2);
                    let own = loss.forward(head.linear.forward(x), targets.clone());
                    sum = Some(sum.map_or(own.clone(), |sum| sum + own));
                }
                let Some(sum) = sum else { break };
                let grads = GradientsParams::from_grads(sum.backward(), &probe.heads);
                let lr = probe.rules.lr(epoch, step, parts.len(), batch);
                probe.heads = optimizer.step(lr, probe.heads, grads);
            }
        }
        probe.heads = probe.heads.valid();
        Ok(probe)
    }

    /// Adds a classifier with initial weights, and a normalisation, for each kind of features.
    fn start(&mut self, kinds: &[Tensor<3>], classes: usize, seed: u64, on: &Device) {
        for (i, features) in kinds.iter().enumerate() {
            let [_, channels, places] = features.dims();
            let mut rng = keyed(seed, PROBE_INIT, 0, i as u64, 0);
            let dim = channels * places;
            self.heads.push(Classifier::new(&self.rules, dim, classes, &mut rng, on));
            let mut norm = Normed::new(self.rules.norm);
            if self.rules.norm == Norm::L2Standard {
                norm.standardise(features.clone());
            }
            self.norms.push(norm);
        }
    }

    /// The predicted classes of the images of `set` (prepared), by classifier.
    ///
    /// # Errors
    /// [`ProbeError::NotFinite`] for a feature that is not finite, [`ProbeError::Data`] if an image cannot be read.
    pub fn predict(&self, set: &SampleSet) -> Result<Vec<Vec<u32>>, ProbeError> {
        let mut found = vec![Vec::with_capacity(set.len()); self.heads.len()];
        for first in (0..set.len()).step_by(BATCH) {
            let (pixels, _) = plain_batch(set.as_ref(), first..set.len().min(first + BATCH))?;
            let heads = self.heads.iter().zip(&self.norms).zip(&mut found);
            for (((head, norm), found), features) in
                heads.zip(self.read(pixels, |row| first + row)?)
            {
                let classes = head.linear.forward::<2>(norm.eval(features).flatten(1, 2)).argmax(1);
                found.extend(classes.into_data().iter::<i64>().map(|class| class as u32));
            }
        }
        Ok(found)
    }

    /// Features `[batch, channels, places]` of each kind that the rules read, all of them finite. `image` maps a row
    /// of the batch to the position in its set, for the error. [`ProbeError::NoMaps`] if the encoder has no maps.
    fn read(
        &self,
        pixels: Pixels,
        image: impl Fn(usize) -> usize,
    ) -> Result<Vec<Tensor<3>>, ProbeError> {
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.device);
        let all = match self.rules.reads {
            Reads::Maps => {
                let maps = self.encoder.maps(images).ok_or(ProbeError::NoMaps)?;
                let pooled = |(map, side)| adaptive_avg_pool2d(map, [side; 2]).flatten(2, 3);
                maps.into_iter().zip(SIDES).map(pooled).collect()
            }
            Reads::Output => vec![self.encoder.forward(images).unsqueeze_dim(2)],
        };
        for features in &all {
            let [_, channels, places] = features.dims();
            let values: Vec<f32> = features.clone().into_data().iter::<f32>().collect();
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, index) = (at / (channels * places), at % (channels * places));
                return Err(ProbeError::NotFinite { image: image(row), index, value: values[at] });
            }
        }
        Ok(all)
    }

    /// Features and labels of the first `count` images of `set`.
    fn features(
        &self,
        set: &SampleSet,
        count: usize,
    ) -> Result<(Vec<Tensor<3>>, Vec<u32>), ProbeError> {
        let (mut all, mut labels): (Vec<Vec<Tensor<3>>>, Vec<u32>) = (Vec::new(), Vec::new());
        for first in (0..count).step_by(BATCH) {
            let (pixels, of) = plain_batch(set.as_ref(), first..count.min(first + BATCH))?;
            labels.extend(of);
            for (i, features) in self.read(pixels, |row| first + row)?.into_iter().enumerate() {
                match all.get_mut(i) {
                    Some(parts) => parts.push(features),
                    None => all.push(vec![features]),
                }
            }
        }
        Ok((all.into_iter().map(|parts| Tensor::cat(parts, 0)).collect(), labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_data::purpose::{STUDENT_VIEW, VIEW};
    use ssl_backdoor_data::{DataConfig, Shapes};
    use ssl_backdoor_model::purpose::INIT;
    use ssl_backdoor_model::{EncoderConfig, Stem};

    /// Every method's probe on a random encoder and sixty drawn images: far better than chance on its training
    /// images, and reproducible by seed. Rates are raised where so few images leave only one step per epoch.
    #[test]
    fn each_methods_probe_learns_its_labels() {
        let shapes = Shapes {
            size: 16,
            native: None,
            per_class: 6,
            eval_per_class: 1,
            seed: 1,
            eval: Default::default(),
        };
        let splits = DataConfig::Shapes(shapes).load(&|_, _, _| {}).unwrap();
        let device = Device::flex();
        let labelled =
            Labelled { images: &splits.train.set, prepared: &splits.labelled_prepared, size: 16 };
        let truth: Vec<u32> = splits.train.labels.iter().map(|(_, label)| *label).collect();
        let mut rng = keyed(1, INIT, 0, 0, 0);
        let encoder = EncoderConfig::Resnet18 { width: 8, stem: Stem::Small };
        let encoder = encoder.init(&mut rng, &device).valid();
        let fast = |lr| rules::Rate::Steps(vec![(0, lr)]);
        let cosine = rules::Rate::CosineByEpoch { blr: 20.0 };
        // Plain SGD on unnormalised features needs more steps than sixty images give. Without crops, steps cost
        // little.
        let plain = |rules| {
            let (rate, seen) = (rules::Rate::CosineByEpoch { blr: 1.0 }, rules::Seen::Plain);
            PaperProbeConfig { rate, seen, epochs: 1000, ..rules }
        };
        for (name, rules, heads) in [
            ("moco", PaperProbeConfig { rate: fast(0.1), ..PaperProbeConfig::moco() }, 1),
            ("byol", PaperProbeConfig::byol(), 1),
            ("jigsaw", PaperProbeConfig { rate: fast(0.1), ..PaperProbeConfig::jigsaw() }, 5),
            ("rotnet", PaperProbeConfig { epochs: 10, ..PaperProbeConfig::rotnet() }, 5),
            ("mae", PaperProbeConfig { rate: fast(6.4), ..PaperProbeConfig::mae() }, 1),
            (
                "simsiam",
                PaperProbeConfig { epochs: 300, rate: cosine, ..PaperProbeConfig::simsiam() },
                1,
            ),
            ("simclr-v2", plain(PaperProbeConfig::simclr_v2()), 1),
            ("barlow", plain(PaperProbeConfig::barlow_twins()), 1),
            ("vicreg", plain(PaperProbeConfig::vicreg()), 1),
            ("moco-v3", plain(PaperProbeConfig::moco_v3()), 1),
        ] {
            let fit =
                || PaperProbe::fit(rules.clone(), &encoder, &labelled, 10, 3, &device).unwrap();
            let found = fit().predict(&splits.labelled_prepared).unwrap();
            assert_eq!(found.len(), heads, "{name}");
            let right = |found: &Vec<u32>| {
                found.iter().zip(&truth).filter(|(a, b)| a == b).count() as f64 / truth.len() as f64
            };
            let best = found.iter().map(right).fold(0.0, f64::max);
            assert!(best > 0.3, "{name}: {best}");
            if name == "byol" {
                assert_eq!(fit().predict(&splits.labelled_prepared).unwrap(), found);
            }
        }
    }

    /// Ten shapes, their labels, and an encoder with random weights.
    fn small(size: u32) -> (ssl_backdoor_data::Splits, Encoder) {
        let shapes = Shapes {
            size,
            native: None,
            per_class: 1,
            eval_per_class: 1,
            seed: 1,
            eval: Default::default(),
        };
        let splits = DataConfig::Shapes(shapes).load(&|_, _, _| {}).unwrap();
        let mut rng = keyed(1, INIT, 0, 0, 0);
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        (splits, encoder.init(&mut rng, &Device::flex()).valid())
    }

    #[test]
    fn review_2_06_a_callers_mistakes_are_errors() {
        let (splits, encoder) = small(16);
        let device = Device::flex();
        let part = |set: &SampleSet, n| -> SampleSet {
            std::sync::Arc::new(
                ssl_backdoor_data::Subset::new(set.clone(), (0..n).collect()).unwrap(),
            )
        };
        let all = [
            PaperProbeConfig { epochs: 2, ..PaperProbeConfig::moco() },
            PaperProbeConfig { epochs: 2, ..PaperProbeConfig::byol() },
            PaperProbeConfig { epochs: 2, ..PaperProbeConfig::jigsaw() },
            PaperProbeConfig { epochs: 2, ..PaperProbeConfig::rotnet() },
            PaperProbeConfig { epochs: 2, ..PaperProbeConfig::mae() },
        ];
        let fit = |rules: &PaperProbeConfig, encoder, [images, prepared]: [usize; 2], classes| {
            let (images, prepared) =
                (part(&splits.train.set, images), part(&splits.labelled_prepared, prepared));
            let labelled = Labelled { images: &images, prepared: &prepared, size: 16 };
            PaperProbe::fit(rules.clone(), encoder, &labelled, classes, 1, &device)
                .and_then(|probe| probe.predict(&splits.labelled_prepared))
        };
        let mut rng = keyed(1, INIT, 0, 0, 0);
        let vit = EncoderConfig::Vit {
            dim: 8,
            depth: 1,
            heads: 2,
            patch: 4,
            positions: Default::default(),
        };
        let vit = vit.init(&mut rng, &device).valid();
        for rules in &all {
            let error =
                |sizes, classes| fit(rules, &encoder, sizes, classes).unwrap_err().to_string();
            assert!(error([0, 0], 10).contains("no labelled images"));
            assert!(error([4, 5], 10).contains("4 labelled images as they are, expected 5"));
            assert!(error([10, 10], 9).contains("label 9: classes are 0 to 8"));
            // One image is a valid batch for any probe.
            let found = fit(rules, &encoder, [1, 1], 10).unwrap();
            assert!(
                found.iter().all(|classes| classes.len() == 10 && classes.iter().all(|c| *c < 10))
            );
            let of_vit = fit(rules, &vit, [2, 2], 10);
            assert_eq!(of_vit.is_err(), rules.reads == Reads::Maps);
        }
        // An encoder whose weights are NaN.
        struct Broken;
        impl burn::module::ModuleMapper for Broken {
            fn map_float<const D: usize>(
                &mut self,
                param: burn::module::Param<Tensor<D>>,
            ) -> burn::module::Param<Tensor<D>> {
                param.map(|t| t.mul_scalar(f32::NAN))
            }
        }
        let broken = encoder.clone().map(&mut Broken);
        for rules in &all {
            let message = fit(rules, &broken, [3, 3], 10).unwrap_err().to_string();
            assert!(message.contains("is NaN: the encoder is broken"), "{message}");
        }
    }

    /// A probe draws other views than the pretraining. Otherwise, with the same seed, it would see an image in the
    /// views that the encoder was trained on.
    #[test]
    fn review_1_13_views_of_a_probe_are_its_own() {
        let (splits, _) = small(16);
        let views = PaperProbeConfig::moco().views(16).unwrap();
        let of = |purpose| {
            let set = splits.train.set.as_ref();
            view_batch(set, views.as_ref(), &[0, 1, 2], (3, purpose, 0)).unwrap().0.values
        };
        assert_eq!(of(PROBE_VIEW), of(PROBE_VIEW));
        assert_ne!(of(PROBE_VIEW), of(VIEW));
        assert_ne!(of(PROBE_VIEW), of(STUDENT_VIEW));
    }
}
