//! The queue of SwAV, and its head as in SEER.

use super::*;
use crate::{MethodConfig, PretrainConfig, Training, pretrain};
use ssl_backdoor_model::purpose::QUEUE;
use ssl_backdoor_model::{RegNetConfig, RegNetShape, RegNetSize, RegNetStem, Stem};

const BATCH: usize = 3;

fn read(queue: usize, queue_from: usize) -> PretrainConfig {
    let method = SwavConfig { queue, queue_from, frozen_steps: 0, ..SwavConfig::default() };
    let encoder = EncoderConfig::Resnet18 { width: 1, stem: Stem::Small };
    PretrainConfig::new(MethodConfig::Swav(method), encoder, 16)
}

/// 2,000 images give 7 steps of 256 images an epoch.
#[test]
fn a_queue_that_never_fills_is_refused() {
    let check = |queue, from| read(queue, from).check(Some(2000), 32).map_err(|e| e.to_string());
    assert_eq!(check(256 * 6, 15), Ok(()));
    assert_eq!(check(3840, 13), Ok(()));
    let message = check(3840, 15).unwrap_err();
    assert!(message.starts_with("method.queue = 3840") && message.contains("1536"), "{message}");
}

/// SEER's head, on its kind of encoder.
#[test]
fn the_head_of_seer_has_three_layers_without_batch_norm() {
    let device = Device::flex().autodiff();
    let method = SwavConfig {
        prototypes: 6,
        frozen_steps: 0,
        queue: 0,
        hidden: 12,
        layers: Some(3),
        head_norm: Some(false),
        dim: 4,
        small: 2,
        small_size: Some(8),
        ..SwavConfig::default()
    };
    let shape = RegNetShape { depths: [1; 4], widths: [8, 8, 16, 24], group: 8 };
    let encoder = EncoderConfig::RegnetY(RegNetConfig {
        size: RegNetSize::Custom(shape),
        stem: RegNetStem::Small,
    });
    let swav = Swav::new(&method, &encoder, 1, &device);
    let inner = |width: usize| 24 * width + width + width * width + width + width * 4 + 4;
    assert_eq!(swav.network.head.num_params(), inner(12));
    let config = PretrainConfig::new(MethodConfig::Swav(method), encoder, 1);
    let config =
        PretrainConfig { train: TrainConfig { batch: 4, ..config.train.clone() }, ..config };
    let set = crate::small_runs::drawn(16, 2);
    config.check(Some(set.len()), 16).unwrap();
    let training = Training::new(set, 1, &Device::flex());
    assert!(pretrain(&config, None, 16, &training, &mut ()).is_ok());
}

/// A queue of two batches that fills from epoch 1 on, with epochs of one step: codes use it from the step in
/// which it is full before the batch's own embeddings enter.
#[test]
fn codes_are_made_with_the_queue_once_it_is_full() {
    let device = Device::flex().autodiff();
    let config = SwavConfig {
        prototypes: 5,
        queue: 2 * BATCH,
        queue_from: 1,
        hidden: 4,
        dim: 4,
        small: 0,
        ..SwavConfig::default()
    };
    let encoder = EncoderConfig::Resnet18 { width: 1, stem: Stem::Small };
    let mut swav = Swav::new(&config, &encoder, 1, &device);
    let rows = |step: usize, crop: u64| {
        let mut rng = keyed(step as u64, QUEUE, 0, crop, 0);
        init::unit_rows(BATCH, 4, &mut rng, &device)
    };
    let values = |codes: Tensor<2>| codes.into_data().try_to_vec::<f32>().unwrap();
    for step in 0..5 {
        let progress =
            Progress { seed: 1, step, steps: 5, epoch: step, epochs: 5, seen: BATCH * step };
        swav = swav.before_step(&progress).unwrap();
        // The batches of steps 1 and 2 fill it; from then on it holds those of the last two steps.
        let full = step >= 3;
        assert_eq!(swav.queued[1], full, "step {step}");
        for crop in 0..2 {
            let prototypes = swav.prototypes.val().transpose();
            let own = rows(step, crop).matmul(prototypes.clone());
            let found = values(swav.codes(crop as usize, own.clone()));
            let alone = values(sinkhorn(own.clone(), 0.05, 3));
            if !full {
                assert_eq!(found, alone, "step {step}");
                continue;
            }
            // The order of rows in the ring affects codes only by rounding.
            let before = Tensor::cat(vec![rows(step - 2, crop), rows(step - 1, crop)], 0);
            let all = Tensor::cat(vec![before.matmul(prototypes), own], 0);
            let wanted = sinkhorn(all, 0.05, 3).slice(s![2 * BATCH.., ..]);
            let off = |other: &[f32]| {
                let off = found.iter().zip(other).map(|(a, b)| (a - b).abs());
                off.fold(0.0, f32::max)
            };
            assert!(off(&values(wanted)) < 1e-5 && off(&alone) > 1e-2, "step {step}");
        }
        let keys = (0..2).map(|crop| rows(step, crop)).collect();
        swav = swav.after_step(keys, &progress).unwrap();
    }
}
