//! The cost of defences. Those that act during training: the views of a 32 px image, and the loss of a batch of 64 with
//! its gradients, for MoCo v2 with each of them and without. Distillations: the loss of a batch of 64 with its gradients.
//!
//! ```sh
//! cargo bench --bench defences
//! ```

#![allow(clippy::expect_used, reason = "a bench may stop anywhere")]

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use image::RgbImage;
use rand::RngExt;
use ssl_backdoor::device;
use ssl_backdoor_compress::{Compress, CompressConfig, Mimic};
use ssl_backdoor_data::augment::{Geometry, Scratch, ViewKey};
use ssl_backdoor_data::purpose;
use ssl_backdoor_defend::{DefendConfig, defences};
use ssl_backdoor_model::purpose::INIT;
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{
    Batch, Method, PretrainConfig, PretrainError, Progress, TrainingHook, WithMethod,
};

const SIDE: u32 = 32;
const BATCH: usize = 64;

const VICTIM: &str = "method = { kind = \"moco-v2\", queue = 4096, bn_groups = 1 }\nepochs = 2\nbatch = 64\n\
                      encoder = { kind = \"resnet18\", width = 16, stem = \"small\" }";

fn victim() -> PretrainConfig {
    toml::from_str(VICTIM).expect("the text is a [pretrain] table")
}

/// No defence, and each defence that acts during training.
fn hooks() -> Vec<(&'static str, Option<Arc<dyn TrainingHook>>)> {
    let mut hooks = vec![("none", None)];
    for kind in ["i-cutmix", "localized-crop", "blur-luma"] {
        let config: DefendConfig =
            toml::from_str(&format!("kind = \"{kind}\"")).expect("the text is a [defend] table");
        let hook = defences(&[config]).first().and_then(|defence| defence.on_training());
        hooks.push((kind, Some(hook.expect("it acts during the training"))));
    }
    hooks
}

fn views(c: &mut Criterion) {
    let mut rng = keyed(0, purpose::DRAW, 0, 0, 0);
    let image = RgbImage::from_fn(SIDE, SIDE, |_, _| image::Rgb(rng.random()));
    let mut group = c.benchmark_group("views of an image, 32 px");
    for (kind, hook) in hooks() {
        let plain = victim().views(SIDE).expect("the method trains this encoder");
        let views = match hook {
            Some(hook) => hook.augment(plain).expect("it can change two views"),
            None => plain,
        };
        let side = views.size() as usize;
        let mut planes = vec![vec![0.0; 3 * side * side]; views.count()];
        let mut geometry = vec![Geometry::default(); views.count()];
        let (mut scratch, mut id) = (Scratch::default(), 0);
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                id += 1;
                let mut out: Vec<&mut [f32]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
                let key = ViewKey { seed: 0, purpose: purpose::VIEW, epoch: 0, id };
                views.write(&image, &key, &mut scratch, &mut out, &mut geometry);
            });
        });
    }
    group.finish();
}

fn steps(c: &mut Criterion) {
    let found = device::found().into_iter().flatten().next().expect("the CPU is a device");
    let (plain, device) = (&found.device, &found.device.clone().autodiff());
    let mut group =
        c.benchmark_group(format!("loss and gradients, batch 64, 32 px/{}", found.name));
    group.sample_size(10);
    let config = victim().encoder;
    let teacher = || config.init(&mut keyed(0, INIT, 0, 0, 0), plain).valid();
    let compress = CompressConfig::default();
    group.bench_function("compress", |bencher| {
        let student = Compress::new(&compress, teacher(), &config, 4096, 0, device);
        losses(bencher, student.expect("the values are allowed"), None, device, 1);
    });
    group.bench_function("mimic", |bencher| {
        let student = Mimic::new(teacher(), &config, [1000.0; 4], 0.5, 0, device);
        losses(bencher, student.expect("the encoder has maps"), None, device, 2);
    });
    for (kind, hook) in hooks() {
        let step = &mut |bencher: &mut Bencher| {
            let losses = Losses { bencher, hook: hook.clone(), device };
            victim().with_method(0, device, losses).expect("the method trains this encoder");
        };
        group.bench_function(kind, step);
    }
    group.finish();
}

/// Measures one loss after another, each with its gradients.
struct Losses<'a, 'b> {
    bencher: &'a mut Bencher<'b>,
    hook: Option<Arc<dyn TrainingHook>>,
    device: &'a Device,
}

impl WithMethod for Losses<'_, '_> {
    type Output = ();

    fn on<M: Method>(self, method: M) -> Result<(), PretrainError> {
        losses(self.bencher, method, self.hook, self.device, 2);
        Ok(())
    }
}

/// Measures the losses of a method that compares `views` views, each with its gradients.
fn losses(
    bencher: &mut Bencher<'_>,
    mut method: impl Method,
    hook: Option<Arc<dyn TrainingHook>>,
    device: &Device,
    views: usize,
) {
    let shape = [BATCH, 3, SIDE as usize, SIDE as usize];
    let view = || Tensor::<4>::random(shape, Distribution::Default, device);
    let plain: Vec<Tensor<4>> = (0..views).map(|_| view()).collect();
    let progress = Progress { seed: 0, step: 0, steps: 2, epoch: 0, epochs: 2, seen: 0 };
    let ids: Vec<u64> = (0..BATCH as u64).collect();
    bencher.iter(|| {
        let views = match &hook {
            Some(hook) => hook.views(plain.clone(), &progress),
            None => plain.clone(),
        };
        let mix = hook.as_ref().and_then(|hook| hook.mix(&views, &progress));
        let batch = Batch { views, ids: ids.clone(), hidden: Vec::new() };
        let out = match mix {
            Some(mix) => method.forward_mixed(batch, &mix, &progress),
            None => method.forward(batch, &progress),
        };
        let loss = out.expect("the views are the method's").loss;
        let gradients = loss.backward();
        let loss: f32 = loss.into_scalar();
        (loss, gradients)
    });
}

criterion_group! { name = benches; config = Criterion::default(); targets = views, steps }
criterion_main!(benches);
