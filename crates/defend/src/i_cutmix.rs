//! i-CutMix: the victim's method, trained again on views into which a part of another image is pasted (Lee et al., *i-Mix*,
//! ICLR 2021; as a defence in Tejankar et al., *Defending Against Patch-based Backdoor Attacks on Self-Supervised Learning*,
//! CVPR 2023). A trigger is then often seen on images of other classes, and often covered.

use std::sync::Arc;

use burn::tensor::Tensor;
use rand::RngExt;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ssl_backdoor_rng::{ChaCha8Rng, keyed};
use ssl_backdoor_ssl::{Mix, PretrainConfig, Progress, TrainingHook};

use crate::retrained::{Retrained, not_for};
use crate::{Defence, DefenceSettings, DefendError, purpose};

const KIND: &str = "i-cutmix";
const NEEDS: &str =
    "targets that another network computes from the unmixed images (moco-v2, moco-v3, byol, msf)";

/// Settings of i-CutMix: none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ICutmixConfig {}

impl DefenceSettings for ICutmixConfig {
    fn check(&self, victim: &PretrainConfig, _: Option<usize>, _: u32) -> Result<(), DefendError> {
        if victim.method.settings().mixes() {
            return Ok(());
        }
        Err(not_for(KIND, victim, NEEDS))
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        let hook = Arc::new(ICutmix);
        vec![Box::new(Retrained { kind: KIND, config: json!(self), hook, image: None })]
    }

    fn training(&self) -> &'static str {
        "as the victim"
    }
}

/// Mixes each view of a batch with its own λ, box and permutation.
struct ICutmix;

impl TrainingHook for ICutmix {
    fn mix(&self, views: &[Tensor<4>], progress: &Progress) -> Option<Vec<Mix>> {
        let of = |(number, view): (u64, &Tensor<4>)| {
            let [images, _, height, width] = view.dims();
            let (epoch, step) = (progress.epoch as u32, progress.step as u64);
            let mut rng = keyed(progress.seed, purpose::CUTMIX, epoch, step, number);
            draw(images, [width, height], &mut rng)
        };
        Some((0..).zip(views).map(of).collect())
    }
}

/// Draws λ from Beta(1, 1), which is uniform, and uses the larger of λ and 1 − λ; a box of √(1 − λ) of the sides
/// around a uniform pixel, clipped to the view; and a permutation of the batch.
fn draw(images: usize, sides: [usize; 2], rng: &mut ChaCha8Rng) -> Mix {
    let own: f64 = rng.random();
    let ratio = (1.0 - own.max(1.0 - own)).sqrt();
    let spans = sides.map(|side| {
        let length = (side as f64 * ratio) as usize;
        let centre = rng.random_range(0..side.max(1));
        let start = centre.saturating_sub(length / 2);
        let end = (centre + length / 2).min(side);
        [start, end.saturating_sub(start)]
    });
    let mut partners: Vec<usize> = (0..images).collect();
    partners.shuffle(rng);
    Mix { corner: spans.map(|[start, _]| start), sides: spans.map(|[_, length]| length), partners }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrained::tests::{METHODS, victim};
    use burn::tensor::{Device, Int};
    use ssl_backdoor_data::DataConfig;
    use ssl_backdoor_model::save_encoder;
    use ssl_backdoor_ssl::{
        Batch, Method, PretrainError, Training, WithMethod, encoder_header, pretrain,
    };

    fn progress(step: usize) -> Progress {
        Progress { seed: 3, step, steps: 90, epoch: step / 10, epochs: 9, seen: 8 * step }
    }

    #[test]
    fn boxes_lie_inside_hide_at_most_half_and_have_the_mean_of_their_law() {
        let (mut shares, mut moved) = (0.0, 0);
        for step in 0..3000 {
            let view = Tensor::zeros([8, 3, 20, 24], &Device::flex());
            let mixes = ICutmix.mix(&[view.clone(), view], &progress(step)).unwrap();
            assert_eq!(mixes.len(), 2);
            assert_ne!(mixes[0], mixes[1]);
            for Mix { corner: [x, y], sides: [width, height], mut partners } in mixes {
                assert!(x + width <= 24 && y + height <= 20);
                let share = (width * height) as f64 / 480.0;
                assert!(share <= 0.5, "{share}");
                shares += share / 6000.0;
                moved += usize::from(!partners.is_sorted());
                partners.sort_unstable();
                assert!(partners.into_iter().eq(0..8));
            }
        }
        // The side ratio is r, r² uniform up to 1/2. Clipped at the border, a side keeps r − r²/4 of the view. E(r −
        // r²/4)² is 1/4 − E(r³)/2 + E(r⁴)/16 = 0.25 − 0.0707 + 0.0052 before lengths are rounded down to even pixels.
        assert!((0.13..0.19).contains(&shares), "{shares}");
        assert!(moved > 5990);
    }

    /// A hook whose boxes are empty.
    struct Empty;

    impl TrainingHook for Empty {
        fn mix(&self, views: &[Tensor<4>], progress: &Progress) -> Option<Vec<Mix>> {
            let mixes = ICutmix.mix(views, progress)?.into_iter();
            Some(mixes.map(|mix| Mix { sides: [0, 0], ..mix }).collect())
        }
    }

    /// With λ = 1, the loss uses only an image's own targets, so the training is the same to the last byte.
    #[test]
    fn without_a_box_it_is_the_victims_training() {
        let folder = tempfile::tempdir().unwrap();
        let data = r#"{ "kind": "shapes", "size": 8, "per_class": 3 }"#;
        let data: DataConfig = serde_json::from_str(data).unwrap();
        let set = data.load(&|_, _, _| {}).unwrap().pretrain_set().clone();
        for method in [
            "{ kind = \"moco-v2\", queue = 16, dim = 4 }",
            "{ kind = \"byol\", hidden = 8, dim = 4 }",
            "{ kind = \"msf\", queue = 16, top_k = 2 }",
        ] {
            let text = format!(
                "method = {method}\nencoder = {{ kind = \"resnet18\", width = 2, stem = \"small\" }}\nepochs = 2\n\
                 batch = 8\ncanaries = \"off\"\n"
            );
            let victim: PretrainConfig = toml::from_str(&text).unwrap();
            let train = |hook: Option<Arc<dyn TrainingHook>>| {
                let training = Training { hook, ..Training::new(set.clone(), 1, &Device::flex()) };
                let encoder = pretrain(&victim, None, 8, &training, &mut ()).unwrap();
                let file = folder.path().join("encoder");
                save_encoder(&encoder, &encoder_header(victim.encoder, 8), &file).unwrap();
                std::fs::read(file).unwrap()
            };
            let plain = train(None);
            assert!(train(Some(Arc::new(Empty))) == plain, "{method}");
            let mixed = train(Some(Arc::new(ICutmix)));
            assert!(mixed != plain && mixed == train(Some(Arc::new(ICutmix))), "{method}");
        }
    }

    /// A mixed forward pass on a batch that fits.
    struct Mixed;

    impl WithMethod for Mixed {
        type Output = ();

        fn on<M: Method>(self, mut method: M) -> Result<(), PretrainError> {
            let device = Device::flex().autodiff();
            let view =
                Tensor::<1, Int>::arange(0..1_728, &device).float().sin().reshape([4, 3, 12, 12]);
            let batch = Batch { views: vec![view; 2], ids: (0..4).collect(), hidden: Vec::new() };
            let mixes = ICutmix.mix(&batch.views, &progress(0)).unwrap_or_default();
            method.forward_mixed(batch, &mixes, &progress(0)).map(drop)
        }
    }

    #[test]
    fn methods_that_say_they_mix_do_and_the_others_are_refused_before_training() {
        for method in METHODS {
            let (victim, size) = victim(method);
            let mixes = ["moco-v2", "moco-v3", "byol", "msf"].contains(&method);
            let checked = ICutmixConfig {}.check(&victim, None, size);
            assert_eq!(checked.is_ok(), mixes, "{method}: {checked:?}");
            let done = victim.with_method(1, &Device::flex().autodiff(), Mixed);
            let refused = matches!(done, Err(PretrainError::NotApplicable { .. }));
            assert_eq!((done.is_ok(), refused), (mixes, !mixes), "{method}");
        }
    }
}
