//! Initial weights as in the official code of methods other than MAE.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use rand::Rng;

use super::Vit;
use crate::init;

/// The method whose initial weights a transformer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VitInitial {
    /// MoCo v3's (`vits.py` of facebookresearch/moco-v3): Xavier-uniform layers, with queries, keys and values as
    /// three matrices; all biases 0; a class token of N(0, 1e-6).
    MocoV3,
    /// DINO's (`vision_transformer.py` of facebookresearch/dino): layers and tokens N(0, 0.02), biases 0. Weights and
    /// bias of the patch projection have PyTorch's default for a convolution. (The official code truncates the normal
    /// distribution at a hundred standard deviations.)
    Dino,
}

/// Standard deviation of DINO's layers.
const DEVIATION: f32 = 0.02;
/// Standard deviation of MoCo v3's class token.
const CLASS_TOKEN: f32 = 1e-6;

impl Vit {
    /// Redraws the initial weights as another method does. Learned positions stay as they are: N(0, 0.02).
    pub(crate) fn redrawn(mut self, how: VitInitial, rng: &mut impl Rng, device: &Device) -> Self {
        let [dim, _, patch, _] = self.patch_embed.proj.weight.dims();
        let (shape, inputs) = ([dim, 3, patch, patch], 3 * patch * patch);
        let proj = &mut self.patch_embed.proj;
        match how {
            VitInitial::MocoV3 => {
                proj.weight = init::xavier_uniform(shape, [inputs, dim], rng, device);
                proj.bias = init::constant(0.0, dim, device);
                self.cls_token = init::normal([1, 1, dim], CLASS_TOKEN, rng, device);
            }
            VitInitial::Dino => {
                proj.weight = init::linear_uniform(shape, inputs, rng, device);
                proj.bias = init::linear_uniform([dim], inputs, rng, device);
                self.cls_token = init::tokens(1, dim, rng, device);
            }
        }
        let mut layer = |[from, to]: [usize; 2], matrices: usize| -> Param<Tensor<2>> {
            match how {
                VitInitial::MocoV3 => {
                    init::xavier_uniform([from, to], [from, to / matrices], rng, device)
                }
                VitInitial::Dino => init::normal([from, to], DEVIATION, rng, device),
            }
        };
        for block in &mut self.blocks {
            block.redraw(&mut layer);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use ssl_backdoor_rng::keyed;

    use super::*;
    use crate::{EncoderConfig, OnParameter, Positions, for_each_parameter, purpose};

    const DIM: usize = 96;
    const PATCH: usize = 8;

    /// Name, largest absolute value and root mean square of each parameter.
    #[derive(Default)]
    struct Spread(Vec<(String, f32, f32)>);

    impl OnParameter for Spread {
        fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
            let values: Vec<f32> = param.val().into_data().iter::<f32>().collect();
            let most = values.iter().fold(0f32, |most, v| most.max(v.abs()));
            let squares: f32 = values.iter().map(|v| v * v).sum();
            self.0.push((path.to_owned(), most, (squares / values.len() as f32).sqrt()));
        }
    }

    fn spread(how: VitInitial) -> impl Fn(&str) -> [f32; 2] {
        let device = Device::flex();
        let positions = Positions::Fixed;
        let config = EncoderConfig::Vit { dim: DIM, depth: 1, heads: 4, patch: PATCH, positions };
        let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
        let mut found = Spread::default();
        for_each_parameter(&config.init_as(Some(how), &mut rng, &device), &mut found);
        move |name| {
            let (_, most, rms) = found.0.iter().find(|(path, ..)| path.ends_with(name)).unwrap();
            [*most, *rms]
        }
    }

    /// Whether this spread is that of a uniform distribution in ±`bound`.
    fn is_uniform([most, rms]: [f32; 2], bound: f32) -> bool {
        most <= bound && most > 0.98 * bound && (rms * 3f32.sqrt() / bound - 1.0).abs() < 0.05
    }

    #[test]
    fn moco_v3_has_queries_keys_and_values_apart() {
        let of = spread(VitInitial::MocoV3);
        let dim = DIM as f32;
        assert!(is_uniform(of("attn.qkv.weight"), (6.0 / (2.0 * dim)).sqrt()));
        assert!(is_uniform(of("attn.proj.weight"), (6.0 / (2.0 * dim)).sqrt()));
        assert!(is_uniform(of("mlp.fc1.weight"), (6.0 / (5.0 * dim)).sqrt()));
        let inputs = (3 * PATCH * PATCH) as f32;
        assert!(is_uniform(of("patch_embed.proj.weight"), (6.0 / (inputs + dim)).sqrt()));
        assert_eq!(of("patch_embed.proj.bias"), [0.0, 0.0]);
        assert!((of("cls_token")[1] / 1e-6 - 1.0).abs() < 0.3);
    }

    #[test]
    fn dino_has_normal_layers_and_a_convolution_of_pytorch() {
        let of = spread(VitInitial::Dino);
        for layer in ["attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"] {
            let [most, rms] = of(layer);
            assert!((rms / 0.02 - 1.0).abs() < 0.03 && most > 0.05, "{layer}: {most} {rms}");
        }
        let bound = 1.0 / ((3 * PATCH * PATCH) as f32).sqrt();
        assert!(is_uniform(of("patch_embed.proj.weight"), bound));
        assert!(of("patch_embed.proj.bias")[0] <= bound);
        assert!((of("cls_token")[1] / 0.02 - 1.0).abs() < 0.3);
        assert_eq!(of("attn.qkv.bias"), [0.0, 0.0]);
    }
}
