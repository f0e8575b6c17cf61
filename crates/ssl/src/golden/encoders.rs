//! ResNet-18, ResNet-50, the ViT, Conv-4 and a RegNetY: outputs and gradients in training mode, two steps, outputs in
//! evaluation mode.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{
    Conv4Config, Encoder, EncoderConfig, Positions, RegNetConfig, RegNetShape, RegNetSize,
    RegNetStem, Stem,
};
use ssl_backdoor_rng::keyed;

use super::fixture::Fixture;
use crate::optimizer::{OptimizerConfig, WeightDecayScope};

/// The fixture's network: it holds an encoder and nothing else.
#[derive(Module, Debug)]
struct Net {
    encoder: Encoder,
}

fn values(out: Tensor<2>) -> Vec<f32> {
    out.into_data().iter::<f32>().collect()
}

fn check(name: &str, config: EncoderConfig, optimizer: OptimizerConfig, decay: f64, lr: f64) {
    let (fixture, device) = (Fixture::open(name), Device::flex().autodiff());
    let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
    let mut net = Net { encoder: fixture.fill(config.init(&mut rng, &device), "encoder") };
    let weights: Tensor<2> = fixture.tensor("given.weights", &device);
    let mut optimizer = optimizer.build(decay, WeightDecayScope::All, &net);
    for step in 0..2 {
        let images: Tensor<4> = fixture.tensor(&format!("view.{step}.0"), &device);
        let out = fixture.run(|| net.encoder.forward(images));
        let of_step = format!("out.{step}.training");
        fixture.near(&of_step, &values(out.clone()), &fixture.get(&of_step).1, 1e-4);
        let loss = (out * weights.clone()).mean();
        fixture.near_loss(step, loss.clone().into_scalar());
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        if step == 0 {
            fixture.compare_gradients(&net, &grads);
        }
        net = optimizer.step(lr, net, grads);
    }
    fixture.compare_state(&net);
    let images: Tensor<4> = fixture.tensor("view.1.0", &Device::flex());
    let out = values(net.valid().encoder.forward(images));
    fixture.near("out.evaluation", &out, &fixture.get("out.evaluation").1, 1e-4);
}

#[test]
fn golden_resnet18() {
    let config = EncoderConfig::Resnet18 { width: 4, stem: Stem::Imagenet };
    check("resnet18", config, OptimizerConfig::sgd(), 5e-4, 0.02);
}

#[test]
fn golden_resnet50() {
    let config = EncoderConfig::Resnet50 { width: 4, stem: Stem::Small };
    check("resnet50", config, OptimizerConfig::sgd(), 5e-4, 0.005);
}

#[test]
fn golden_vit() {
    let config =
        EncoderConfig::Vit { dim: 16, depth: 3, heads: 4, patch: 4, positions: Positions::Fixed };
    check("vit", config, OptimizerConfig::AdamW { betas: [0.9, 0.95] }, 0.5, 1e-3);
}

#[test]
fn golden_conv4() {
    let config = EncoderConfig::Conv4(Conv4Config { width: 4 });
    check("conv4", config, OptimizerConfig::sgd(), 5e-4, 0.02);
}

#[test]
fn golden_regnet() {
    let shape = RegNetShape { depths: [1, 2, 1, 1], widths: [8, 8, 16, 24], group: 8 };
    let (size, stem) = (RegNetSize::Custom(shape), RegNetStem::Imagenet);
    let config = EncoderConfig::RegnetY(RegNetConfig { size, stem });
    check("regnet", config, OptimizerConfig::sgd(), 5e-4, 0.02);
}
