//! One training step of each method on every compiled-in device of this machine: before_step, forward, backward,
//! optimiser, after_step, on views in memory.
//!
//! ```sh
//! cargo bench --bench backends                              # the CPU with our kernels
//! SSL_BACKDOOR_KERNELS=off cargo bench --bench backends     # the CPU with plain Burn
//! cargo bench --bench backends --features wgpu              # and GPUs
//! ```

#![allow(clippy::expect_used, reason = "a bench may stop anywhere")]

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use image::RgbImage;
use rand::RngExt;
use ssl_backdoor::device::{self, Found};
use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{Draws, EpochPlan, InMemory, Sample, SampleSet, ViewLoader};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{Batch, Method, PretrainConfig, PretrainError, Progress, WithMethod};

const SIDE: u32 = 32;
const BATCH: usize = 64;

const RESNET: &str = "{ kind = \"resnet18\", width = 16, stem = \"small\" }";
const VIT: &str = "{ kind = \"vit\", dim = 96, depth = 4, heads = 4, patch = 4 }";
// One batch-norm group, whatever the default for such a batch, so that the timed work stays the same.
const METHODS: [(&str, &str, &str); 15] = [
    ("moco-v2", ", queue = 4096, bn_groups = 1", RESNET),
    ("byol", ", bn_groups = 1", RESNET),
    ("msf", ", queue = 4096, bn_groups = 1", RESNET),
    ("jigsaw", ", permutations = 100, resize = 33, tile = 8", RESNET),
    ("rotnet", "", RESNET),
    ("mae", ", decoder_dim = 64, decoder_depth = 2, decoder_heads = 4", VIT),
    ("simclr", "", RESNET),
    ("simclr-v2", "", RESNET),
    ("simsiam", ", dim = 512, hidden = 128", RESNET),
    ("barlow-twins", ", hidden = 512, dim = 512", RESNET),
    ("vicreg", ", hidden = 512, dim = 512", RESNET),
    ("moco-v3", ", hidden = 512, dim = 128", RESNET),
    ("swav", ", prototypes = 512, queue = 0, hidden = 512", RESNET),
    ("dino", ", outputs = 4096, hidden = 512", RESNET),
    ("deepcluster-v2", ", prototypes = [64, 64, 64], hidden = 512", RESNET),
];

fn images() -> SampleSet {
    let sample = |id| {
        let mut rng = keyed(0, purpose::DRAW, 0, id, 0);
        Sample::new(id, RgbImage::from_fn(SIDE, SIDE, |_, _| image::Rgb(rng.random())), 0)
    };
    Arc::new(InMemory::new((0..BATCH as u64).map(sample).collect()))
}

fn methods(c: &mut Criterion) {
    let off = std::env::var("SSL_BACKDOOR_KERNELS").is_ok_and(|path| path == "off");
    for Found { name, device, .. } in device::found().into_iter().flatten() {
        let by = match (name.as_str(), off) {
            ("flex", true) => "plain",
            ("flex", false) => "kernels",
            // A GPU uses Burn's kernels in either case: once is enough.
            (_, true) => continue,
            (name, false) => name,
        };
        let mut group = c.benchmark_group(format!("step of a method, batch 64, 32 px/{by}"));
        group.sample_size(10);
        let on = &device.autodiff();
        for (kind, settings, encoder) in METHODS {
            let text = format!(
                "method = {{ kind = \"{kind}\"{settings} }}\nencoder = {encoder}\nepochs = 2\nbatch = {BATCH}"
            );
            let config: PretrainConfig =
                toml::from_str(&text).expect("the text is a [pretrain] table");
            let run = &mut |bencher: &mut Bencher| {
                let steps = Steps { bencher, config: &config, device: on };
                config.with_method(0, on, steps).expect("the method trains this encoder");
            };
            group.bench_function(kind, run);
        }
        group.finish();
    }
}

/// Measures one step after another. Each fetches the loss, so a step is complete when it is counted.
struct Steps<'a, 'b> {
    bencher: &'a mut Bencher<'b>,
    config: &'a PretrainConfig,
    device: &'a Device,
}

impl WithMethod for Steps<'_, '_> {
    type Output = ();

    fn on<M: Method>(self, method: M) -> Result<(), PretrainError> {
        let Self { bencher, config, device } = self;
        let views = config.views(SIDE)?;
        let plan = EpochPlan {
            seed: 0,
            images: BATCH,
            batch: BATCH,
            drop_last: true,
            draws: Draws::PRETRAIN,
        };
        let batch = ViewLoader::start(images(), views, plan, 0..1, 1).next();
        let batch = batch.expect("there is one batch").expect("the images are in memory");
        let tensors: Vec<Tensor<4>> = batch
            .views
            .into_iter()
            .map(|pixels| Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device))
            .collect();
        let mut optimizer =
            config.train.optimizer.build(config.train.weight_decay, config.train.decayed, &method);
        let mut method = Some(method.prepare(&plan)?);
        let mut steps = 0;
        bencher.iter(|| {
            let seen = BATCH * steps;
            let progress =
                Progress { seed: 0, step: steps, steps: 1000, epoch: 0, epochs: 2, seen };
            let (ids, hidden) = (batch.ids.clone(), batch.hidden.clone());
            let views = Batch { views: tensors.clone(), ids, hidden };
            let old = method.take().expect("each step gives the method back");
            let mut old = old.before_step(&progress).expect("the method is sound");
            let out = old.forward(views, &progress).expect("the views are the method's");
            let loss: f32 = out.loss.clone().into_scalar();
            let grads = GradientsParams::from_grads(out.loss.backward(), &old);
            let grads = old.gradients(grads, &progress);
            let new = optimizer.step(1e-3, old, grads);
            method = Some(new.after_step(out.keys, &progress).expect("the keys are its own"));
            steps += 1;
            loss
        });
        Ok(())
    }
}

criterion_group! { name = benches; config = Criterion::default(); targets = methods }
criterion_main!(benches);
