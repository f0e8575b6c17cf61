//! CompReSS: two queues with momentum (the default), one queue, two queues without momentum (docs/protocol.md, 5).

use burn::module::Module;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor};
use rand::RngExt;
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, KeyQueue, Mlp, init, l2_normalize, update_ema};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{Batch, Ema, EmaTiming, Method, PretrainError, Progress, Step};

use crate::{CompressConfig, Variant};

/// Key of the student's draw of initial weights, which differs from the teacher's.
const STUDENT: u64 = 1;

/// A frozen teacher with its bank and a student from scratch. Depending on the variant, also the student's EMA copy,
/// the linear layer to the teacher's space, and the student's bank.
#[derive(Module, Debug)]
pub struct Compress {
    /// In evaluation mode and without autodiff; not part of the trained state.
    #[module(skip)]
    teacher: Encoder,
    student: Encoder,
    target: Option<Encoder>,
    to_teacher: Option<Mlp>,
    teacher_bank: KeyQueue,
    student_bank: Option<KeyQueue>,
    momentum: f64,
    temperature: f64,
}

impl Compress {
    /// `teacher` is in evaluation mode. The student has the same `encoder` config and starts from
    /// random weights; its EMA copy starts equal to it. Each bank has `bank` rows. `device` is an
    /// autodiff device.
    ///
    /// # Errors
    /// [`PretrainError::Range`] if a value of `config` or `encoder` is out of range, or a bank has no rows.
    pub fn new(
        config: &CompressConfig,
        teacher: Encoder,
        encoder: &EncoderConfig,
        bank: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, PretrainError> {
        config.check(None)?;
        encoder.check().map_err(PretrainError::of_encoder)?;
        require(bank > 0, "bank", bank, "1 row or more")?;
        let network = || {
            let mut rng = keyed(seed, purpose::INIT, 0, 0, STUDENT);
            encoder.init(&mut rng, device)
        };
        let variant = config.variant;
        // The reference draws its banks uniformly in ±1/√(d/3), not with unit norm.
        let dim = encoder.dim();
        let bound = 1.0 / (dim as f32 / 3.0).sqrt();
        let rows = |which| {
            let mut rng = keyed(seed, purpose::QUEUE, 0, 0, which);
            let values = (0..bank * dim).map(|_| rng.random_range(-bound..=bound)).collect();
            KeyQueue::of(init::matrix(values, dim, device))
        };
        let to_teacher = |dim| {
            let mut rng = keyed(seed, purpose::INIT, 0, 1, STUDENT);
            Mlp::new(&[dim, dim], &mut rng, device)
        };
        Ok(Self {
            teacher,
            student: network(),
            target: (variant == Variant::TwoQueues).then(|| network().no_grad()),
            to_teacher: (variant == Variant::OneQueue).then(|| to_teacher(dim)),
            teacher_bank: rows(1),
            student_bank: (variant != Variant::OneQueue).then(|| rows(2)),
            momentum: config.momentum,
            temperature: config.temperature,
        })
    }
}

impl Method for Compress {
    /// Teacher, student and EMA copy see the same single view. `keys` are the teacher's features and,
    /// with a student's bank, the copy's; without a copy, the student's.
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let [view] = batch.views()?;
        let teacher = l2_normalize(self.teacher.forward(view.clone().inner()));
        let teacher = Tensor::from_inner(teacher);
        let copy = self.target.as_ref().map(|target| target.forward(view.clone()));
        let student = self.student.forward(view);
        let student = l2_normalize(match &self.to_teacher {
            Some(layer) => layer.forward(student),
            None => student,
        });
        let negatives = self.teacher_bank.rows();
        let bank = self.student_bank.as_ref().map_or(negatives.clone(), KeyQueue::rows);
        let (wanted, temperature) = (teacher.clone(), self.temperature);
        let loss = divergence(wanted, student.clone(), negatives.clone(), bank, temperature);
        let mut keys = vec![teacher];
        if self.student_bank.is_some() {
            let own = copy.map_or(student.clone(), l2_normalize);
            keys.push(own.detach());
        }
        Ok(Step { keys, negatives: Some(negatives), ..Step::new(loss, student) })
    }

    fn after_step(
        mut self,
        keys: Vec<Tensor<2>>,
        progress: &Progress,
    ) -> Result<Self, PretrainError> {
        let banks = [Some(&mut self.teacher_bank), self.student_bank.as_mut()];
        let banks = banks.into_iter().flatten();
        for (bank, keys) in banks.zip(keys) {
            bank.enqueue(keys, progress.seen)?;
        }
        let (student, momentum) = (&self.student, self.momentum);
        let target = self.target.map(|target| update_ema(target, student, momentum));
        Ok(Self { target, ..self })
    }

    fn encoder(&self) -> Encoder {
        self.student.clone()
    }

    fn start_from(mut self, trained: Encoder, copy: Encoder) -> Self {
        self.student = trained;
        self.target = self.target.map(|_| copy.no_grad());
        self
    }

    fn queues(&self) -> Vec<&KeyQueue> {
        [Some(&self.teacher_bank), self.student_bank.as_ref()].into_iter().flatten().collect()
    }

    fn ema(&self, _progress: &Progress) -> Option<Ema> {
        let target = self.target.as_ref()?;
        Some(Ema::new(&self.student, target, self.momentum, EmaTiming::AfterStep))
    }
}

/// KL(p_t ‖ p_s) averaged over the batch, where p_t and p_s are the softmax of the similarities to
/// the rows of the teacher's and the student's bank, in their state *before* the batch enters.
///
/// # Shapes
/// - `teacher`, `student`: `[batch, dim]`, rows of norm 1
/// - banks: `[K, dim]`, the same image in the same row of both
/// - output: `[1]`
///
/// # Errors
/// [`OutOfRange`] for shapes that do not match or have no rows, and for a temperature that is not above 0.
pub fn similarity_loss(
    teacher: Tensor<2>,
    student: Tensor<2>,
    teacher_bank: Tensor<2>,
    student_bank: Tensor<2>,
    temperature: f64,
) -> Result<Tensor<1>, OutOfRange> {
    let [[images, dim], [of_student, student_dim]] = [teacher.dims(), student.dims()];
    let [[rows, bank_dim], [of_bank, student_bank_dim]] =
        [teacher_bank.dims(), student_bank.dims()];
    let found = (images, rows, dim, student_dim);
    if found != (of_student, of_bank, bank_dim, student_bank_dim) || images == 0 || rows == 0 {
        let shapes = [[images, dim], [of_student, student_dim], [rows, bank_dim]];
        let shapes = format!("{shapes:?} and {:?}", [of_bank, student_bank_dim]);
        let allowed = "as many rows of each pair, 1 or more, each as long as those of its bank";
        return Err(OutOfRange::new("shapes of teacher, student and banks", shapes, allowed));
    }
    let fits = temperature > 0.0 && temperature.is_finite();
    require(fits, "temperature", temperature, "above 0")?;
    Ok(divergence(teacher, student, teacher_bank, student_bank, temperature))
}

/// [`similarity_loss`] of tensors whose shapes match.
fn divergence(
    teacher: Tensor<2>,
    student: Tensor<2>,
    teacher_bank: Tensor<2>,
    student_bank: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    let logits = |x: Tensor<2>, bank: Tensor<2>| x.matmul(bank.transpose()).div_scalar(temperature);
    let teacher = logits(teacher, teacher_bank);
    let wanted = softmax(teacher.clone(), 1);
    let log_wanted = log_softmax(teacher, 1);
    let got = log_softmax(logits(student, student_bank), 1);
    (wanted * (log_wanted - got)).sum_dim(1).mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Int, s};
    use ssl_backdoor_model::Stem;
    use ssl_backdoor_ssl::{OptimizerConfig, WeightDecayScope};

    use crate::fixture::Fixture;

    fn matrix(values: &[f32], dim: usize) -> Tensor<2> {
        init::matrix(values.to_vec(), dim, &Device::flex())
    }

    #[test]
    fn the_loss_is_the_divergence_by_hand_and_zero_for_a_perfect_student() {
        let teacher = matrix(&[1.0, 0.0], 2);
        let student = matrix(&[0.0, 1.0], 2);
        let bank = matrix(&[1.0, 0.0, 0.0, 1.0], 2);
        let same =
            similarity_loss(teacher.clone(), teacher.clone(), bank.clone(), bank.clone(), 0.5);
        assert!(same.unwrap().into_scalar::<f32>().abs() < 1e-6);
        let loss = similarity_loss(teacher, student, bank.clone(), bank, 0.5).unwrap();
        let loss: f32 = loss.into_scalar();
        // Logits (2, 0) against (0, 2): p = σ(2) and its mirror image.
        let p = 1.0 / (1.0 + (-2.0f64).exp());
        let expected = p * (p / (1.0 - p)).ln() + (1.0 - p) * ((1.0 - p) / p).ln();
        assert!((f64::from(loss) - expected).abs() < 1e-5, "{loss} {expected}");
    }

    /// Two steps against PyTorch (`crates/ssl/tests/fixtures/golden/golden.py`).
    #[test]
    fn golden_compress() {
        let (fixture, device) = (Fixture::open("compress"), Device::flex().autodiff());
        let encoder = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
        let teacher = encoder.init(&mut keyed(9, purpose::INIT, 0, 0, 0), &Device::flex());
        let teacher = fixture.fill(teacher, "teacher").valid();
        let config = CompressConfig { momentum: 0.9, ..CompressConfig::default() };
        let mut method = Compress::new(&config, teacher, &encoder, 24, 1, &device).unwrap();
        method.student = fixture.fill(method.student, "student");
        method.target = method.target.map(|target| fixture.fill(target, "student"));
        method.teacher_bank = KeyQueue::of(fixture.tensor("init.teacher_bank.rows", &device));
        let rows = fixture.tensor("init.student_bank.rows", &device);
        method.student_bank = Some(KeyQueue::of(rows));
        let settings = (OptimizerConfig::sgd(), 1e-4, WeightDecayScope::All, 0.01);
        fixture.train(method, settings, [0, 1], |step| fixture.batch(step, 1, &device));
    }

    #[test]
    fn banks_take_the_features_after_the_loss_and_the_copy_follows_the_student() {
        let device = Device::flex().autodiff();
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let teacher = encoder.init(&mut keyed(9, purpose::INIT, 0, 0, 0), &Device::flex());
        let config = CompressConfig { momentum: 0.5, ..CompressConfig::default() };
        let mut method = Compress::new(&config, teacher, &encoder, 8, 1, &device).unwrap();
        let progress = Progress { seed: 1, step: 1, steps: 2, epoch: 0, epochs: 1, seen: 4 };
        let view = Tensor::<4>::from_data(
            burn::tensor::TensorData::new(
                (0..4 * 3 * 64).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect::<Vec<_>>(),
                [4, 3, 8, 8],
            ),
            &device,
        );
        let batch = Batch { views: vec![view], ids: vec![0, 1, 2, 3], hidden: Vec::new() };
        let step = method.forward(batch, &progress).unwrap();
        let keys = step.keys.clone();
        let grads = burn::optim::GradientsParams::from_grads(step.loss.backward(), &method);
        // Twenty convolutions, twenty scales and twenty shifts of the student; nothing else learns.
        assert_eq!(grads.len(), 60);
        method = method.after_step(keys.clone(), &progress).unwrap();
        let row = |queue: &KeyQueue| queue.rows().slice(s![4..8, ..]).into_data();
        assert_eq!(row(&method.teacher_bank), keys[0].clone().into_data());
        let own = method.student_bank.as_ref().unwrap();
        assert_eq!(row(own), keys[1].clone().into_data());
    }

    #[test]
    fn the_variants_differ_in_what_fills_and_takes_the_banks() {
        let device = Device::flex().autodiff();
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let view = Tensor::<1, Int>::arange(0..768, &device).float().sin().reshape([4, 3, 8, 8]);
        let progress = Progress { seed: 1, step: 0, steps: 1, epoch: 0, epochs: 1, seen: 0 };
        // Number of banks and of learning parameters, and whether the second keys are the student's own features.
        for (variant, banks, learning, own) in [
            (Variant::TwoQueues, 2, 60, false),
            (Variant::OneQueue, 1, 62, false),
            (Variant::TwoQueuesNoMomentum, 2, 60, true),
        ] {
            let teacher = encoder.init(&mut keyed(9, purpose::INIT, 0, 0, 0), &device).valid();
            let config = CompressConfig { variant, ..CompressConfig::default() };
            let mut method = Compress::new(&config, teacher, &encoder, 8, 1, &device).unwrap();
            // A copy that differs from the student.
            method.target = method
                .target
                .map(|_| encoder.init(&mut keyed(5, purpose::INIT, 0, 0, 0), &device).no_grad());
            assert_eq!(method.queues().len(), banks, "{variant:?}");
            let batch = Batch { views: vec![view.clone()], ids: vec![0, 1, 2, 3], hidden: vec![] };
            let step = method.forward(batch, &progress).unwrap();
            assert_eq!(step.keys.len(), banks, "{variant:?}");
            let same =
                |keys: &Tensor<2>| keys.clone().into_data() == step.embeddings.clone().into_data();
            assert_eq!(step.keys.get(1).is_some_and(same), own, "{variant:?}");
            let grads = burn::optim::GradientsParams::from_grads(step.loss.backward(), &method);
            assert_eq!(grads.len(), learning, "{variant:?}");
        }
    }

    #[test]
    fn review_2_06_shapes_that_do_not_fit_are_errors() {
        let rows = |n: usize, dim: usize| matrix(&vec![0.5; n * dim], dim);
        let loss = |teacher, student, teacher_bank, student_bank, temperature| {
            similarity_loss(teacher, student, teacher_bank, student_bank, temperature)
                .map_err(|e| e.to_string())
        };
        // Teacher and student may have spaces of their own.
        assert!(loss(rows(2, 3), rows(2, 4), rows(5, 3), rows(5, 4), 0.1).is_ok());
        for (teacher, student, teacher_bank, student_bank) in [
            (rows(2, 3), rows(1, 3), rows(5, 3), rows(5, 3)),
            (rows(2, 3), rows(2, 3), rows(5, 3), rows(4, 3)),
            (rows(2, 3), rows(2, 3), rows(5, 2), rows(5, 3)),
            (rows(2, 3), rows(2, 3), rows(5, 3), rows(5, 4)),
        ] {
            let message = loss(teacher, student, teacher_bank, student_bank, 0.1).unwrap_err();
            assert!(message.contains("shapes of teacher, student and banks"), "{message}");
        }
        for temperature in [0.0, -0.1, f64::NAN] {
            let message = loss(rows(2, 3), rows(2, 3), rows(5, 3), rows(5, 3), temperature);
            assert!(message.unwrap_err().contains("temperature"));
        }
        let device = Device::flex().autodiff();
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let teacher = || encoder.init(&mut keyed(9, purpose::INIT, 0, 0, 0), &Device::flex());
        let config = CompressConfig::default();
        assert!(Compress::new(&config, teacher(), &encoder, 0, 1, &device).is_err());
        let cold = CompressConfig { temperature: 0.0, ..config };
        assert!(Compress::new(&cold, teacher(), &encoder, 8, 1, &device).is_err());
    }
}
