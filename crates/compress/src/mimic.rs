//! MIMIC (Han et al., *Mutual Information Guided Backdoor Mitigation for Pre-trained Encoders*, arXiv 2406.03508): a new
//! student learns by contrast, from the teacher's features, and from the attention maps of the teacher's stages.
//! Stages with more mutual information with the final feature have larger weights.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp, l2_normalize};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{Batch, Method, PretrainError, Progress, Step, nt_xent};

/// Key of the student's draw of initial weights, which differs from the teacher's.
const STUDENT: u64 = 1;
/// Length of a projection for the contrastive loss.
const PROJECTION: usize = 128;

/// Number of stages whose maps are compared.
pub const STAGES: usize = 4;

/// A frozen teacher and a student from scratch with a projector.
#[derive(Module, Debug)]
pub struct Mimic {
    /// In evaluation mode and without autodiff; not part of the trained state.
    #[module(skip)]
    teacher: Encoder,
    student: Encoder,
    head: Mlp,
    #[module(skip)]
    weights: [f64; STAGES],
    temperature: f64,
}

impl Mimic {
    /// `teacher` is in evaluation mode; the student has the same `encoder` config and starts from random weights.
    /// `weights` are those of the four stages; `device` is an autodiff device.
    ///
    /// # Errors
    /// [`PretrainError::NotApplicable`] if the encoder has no maps, [`PretrainError::Range`] if it is out of range.
    pub fn new(
        teacher: Encoder,
        encoder: &EncoderConfig,
        weights: [f64; STAGES],
        temperature: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self, PretrainError> {
        check_encoder(encoder)?;
        let student = untrained(encoder, seed, device);
        let mut rng = keyed(seed, purpose::INIT, 0, 1, STUDENT);
        let dim = encoder.dim();
        let head = Mlp::normed(&[dim, dim, PROJECTION], &mut rng, device);
        Ok(Self { teacher, student, head, weights, temperature })
    }
}

/// Checks that the maps of the encoder's stages can be compared.
pub(crate) fn check_encoder(encoder: &EncoderConfig) -> Result<(), PretrainError> {
    encoder.check().map_err(PretrainError::of_encoder)?;
    if encoder.has_maps() {
        return Ok(());
    }
    let needs = "an encoder with maps of four stages: a ResNet or a RegNetY";
    Err(PretrainError::NotApplicable { what: "mimic", needs })
}

/// The student before training.
pub(crate) fn untrained(encoder: &EncoderConfig, seed: u64, device: &Device) -> Encoder {
    encoder.init(&mut keyed(seed, purpose::INIT, 0, 0, STUDENT), device)
}

/// The maps of the four stages, and the feature: the mean of the last map over its positions.
fn read(
    encoder: &Encoder,
    images: Tensor<4>,
) -> Result<([Tensor<4>; STAGES], Tensor<2>), PretrainError> {
    let Some([_, first, second, third, last]) = encoder.maps(images) else {
        let needs = "an encoder with maps of four stages: a ResNet or a RegNetY";
        return Err(PretrainError::NotApplicable { what: "mimic", needs });
    };
    let [batch, channels, height, width] = last.dims();
    let feature = last.clone().reshape([batch, channels, height * width]).mean_dim(2);
    Ok(([first, second, third, last], feature.reshape([batch, channels])))
}

impl Method for Mimic {
    /// Both views pass through the networks as one batch. All three parts of the loss are means over it.
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; 2] = batch.views()?;
        let images = Tensor::cat(views.to_vec(), 0);
        let (wanted_maps, wanted) = read(&self.teacher, images.clone().inner())?;
        let (maps, feature) = read(&self.student, images)?;
        let projected = l2_normalize(self.head.forward(feature.clone()));
        let contrast = nt_xent(projected.clone(), self.temperature);
        let alike =
            (l2_normalize(feature) * l2_normalize(Tensor::from_inner(wanted))).sum_dim(1).mean();
        let pairs = maps.into_iter().zip(wanted_maps).zip(self.weights);
        let loss = pairs.fold(contrast - alike, |loss, ((map, wanted), weight)| {
            loss + attention_distance(map, Tensor::from_inner(wanted)).mul_scalar(weight)
        });
        Ok(Step::new(loss, projected))
    }

    fn encoder(&self) -> Encoder {
        self.student.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.student = trained;
        self
    }
}

/// Attention transfer: the mean squared difference of two attention maps. An attention map is the sum of squares over
/// the channels at each position, as a vector of norm 1.
///
/// # Shapes
/// - both: `[batch, channels, height, width]`; channels may differ
/// - output: `[1]`
pub fn attention_distance(map: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    let attention = |map: Tensor<4>| {
        let [batch, _, height, width] = map.dims();
        l2_normalize(map.powi_scalar(2).sum_dim(1).reshape([batch, height * width]))
    };
    (attention(map) - attention(wanted)).powi_scalar(2).mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use ssl_backdoor_model::{Positions, Stem};
    use ssl_backdoor_ssl::{OptimizerConfig, WeightDecayScope};

    use crate::fixture::Fixture;

    #[test]
    fn the_distance_of_attention_by_hand() {
        let map = |values: [f32; 4]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 2, 1, 2]), &Device::flex())
        };
        // Sums of squares (5, 10) and (9, 12): norms √125 and 15.
        let (a, b) = (map([1.0, 3.0, -2.0, 1.0]), map([3.0, 0.0, 0.0, 12f32.sqrt()]));
        let norm = 125f64.sqrt();
        let expected =
            ((5.0 / norm - 9.0 / 15.0).powi(2) + (10.0 / norm - 12.0 / 15.0).powi(2)) / 2.0;
        let found: f32 = attention_distance(a.clone(), b).into_scalar();
        assert!((f64::from(found) - expected).abs() < 1e-6, "{found} {expected}");
        // Only the shape of an attention map counts, not its scale.
        let twice: f32 = attention_distance(a.clone(), a.mul_scalar(-2.0)).into_scalar();
        assert!(twice.abs() < 1e-12);
    }

    /// Two steps against PyTorch (`crates/ssl/tests/fixtures/golden/golden.py`).
    #[test]
    fn golden_mimic() {
        let (fixture, device) = (Fixture::open("mimic"), Device::flex().autodiff());
        let encoder = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
        let teacher = encoder.init(&mut keyed(9, purpose::INIT, 0, 0, 0), &Device::flex());
        let teacher = fixture.fill(teacher, "teacher").valid();
        let weights = [1000.0, 2500.0, 4000.0, 6500.0];
        let mut method = Mimic::new(teacher, &encoder, weights, 0.5, 1, &device).unwrap();
        method.student = fixture.fill(method.student, "student");
        method.head = fixture.fill(
            Mlp::normed(&[32, 32, 8], &mut keyed(1, purpose::INIT, 0, 0, 0), &device),
            "head",
        );
        // Not Adam: it moves the head's first bias, whose gradient is only rounding, by a whole step in any direction.
        let settings = (OptimizerConfig::sgd(), 5e-4, WeightDecayScope::All, 1e-3);
        fixture.train(method, settings, [0, 1], |step| fixture.batch(step, 2, &device));
    }

    #[test]
    fn only_encoders_with_maps_can_be_mimicked() {
        let vit = EncoderConfig::Vit {
            dim: 8,
            depth: 5,
            heads: 2,
            patch: 4,
            positions: Positions::Fixed,
        };
        assert!(matches!(check_encoder(&vit), Err(PretrainError::NotApplicable { .. })));
        let resnet = EncoderConfig::Resnet50 { width: 2, stem: Stem::Imagenet };
        assert!(check_encoder(&resnet).is_ok());
    }
}
