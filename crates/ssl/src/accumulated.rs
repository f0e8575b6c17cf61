//! Tests of trainings that process their batches in parts.

use burn::tensor::{Device, Tensor};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_model::purpose::INIT;
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::observer::after_each_epoch;
use crate::pretrain::{PretrainConfig, initial_encoder, pretrain};
use crate::projector::Projected;
use crate::registry::MethodConfig;
use crate::small_runs::drawn;
use crate::swav::Swav;
use crate::train::Training;

/// Side of the images in pixels; a set has forty images.
const SIZE: u32 = 12;
const VIT: &str = r#""kind": "vit", "dim": 16, "depth": 1, "heads": 2, "patch": 4"#;
const RESNET: &str = r#""kind": "resnet18", "width": 2, "stem": "small""#;

fn config(method: &str, encoder: &str, accumulate: usize) -> PretrainConfig {
    let text = format!(
        r#"{{ "method": {{ "kind": {method} }}, "encoder": {{ {encoder} }}, "epochs": 2, "batch": 16, "lr": 0.05,
             "optimizer": {{ "kind": "sgd", "momentum": 0.9 }}, "schedule": {{ "kind": "cosine-per-epoch" }},
             "weight_decay": 0.0, "accumulate": {accumulate} }}"#
    );
    serde_json::from_str(&text).unwrap()
}

/// Trains two epochs of two or three steps. Returns the change of the encoder's features, and the loss of each epoch.
fn train(method: &str, encoder: &str, accumulate: usize) -> (Vec<f32>, Vec<f64>) {
    let device = Device::flex();
    let training = Training::new(drawn(SIZE, 4), 1, &device);
    let config = config(method, encoder, accumulate);
    let mut losses = Vec::new();
    let mut observer = after_each_epoch(|epoch, _| {
        losses.push(epoch.loss);
        Ok(())
    });
    let trained = pretrain(&config, None, SIZE, &training, &mut observer).unwrap();
    drop(observer);
    (moved(&config, trained), losses)
}

/// Features of the trained encoder minus those of the initial one.
fn moved(config: &PretrainConfig, trained: Encoder) -> Vec<f32> {
    let device = Device::flex();
    let images = (0..2 * 3 * SIZE * SIZE).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0);
    let images = burn::tensor::TensorData::new(
        images.collect::<Vec<f32>>(),
        [2, 3, SIZE as usize, SIZE as usize],
    );
    let images = Tensor::<4>::from_data(images, &device);
    let initial = initial_encoder(config, 1, &device).forward(images.clone());
    (trained.forward(images) - initial).into_data().iter::<f32>().collect()
}

/// Distance between the results of two trainings, as a share of how far the first one moved.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |m: f32, v| m.max(v.abs()));
    most(&mut a.iter().zip(b).map(|(a, b)| a - b)) / most(&mut a.iter().copied())
}

/// Methods whose networks have no batch norm if the encoder is a transformer.
const WITHOUT_NORMS: [&str; 4] = [
    r#""moco-v2", "queue": 32, "dim": 8"#,
    r#""rotnet""#,
    r#""jigsaw", "permutations": 10, "resize": 24, "tile": 4"#,
    r#""mae", "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2"#,
];

/// MoCo v2 takes four steps; the later ones read the queue that the earlier ones filled.
#[test]
fn parts_without_batch_norm_train_as_the_whole_batch() {
    for method in WITHOUT_NORMS {
        let (whole, losses) = train(method, VIT, 1);
        assert!(whole.iter().any(|v| v.abs() > 1e-3), "{method} learnt nothing");
        for parts in [2, 3, 8] {
            let (found, of_parts) = train(method, VIT, parts);
            let off = apart(&whole, &found);
            assert!(off < 2e-3, "{method} in {parts} parts: {off} of what it moved");
            for (a, b) in losses.iter().zip(&of_parts) {
                assert!((a - b).abs() < 1e-4 * a.abs(), "{method}: {losses:?} {of_parts:?}");
            }
        }
    }
}

/// As the docs of `accumulate` say: each part has its own batch-norm statistics.
#[test]
fn parts_with_batch_norm_have_statistics_of_their_own() {
    for (method, encoder) in [
        (r#""rotnet""#, RESNET),
        (r#""byol", "hidden": 8, "dim": 4"#, VIT),
        (r#""simsiam", "hidden": 8, "dim": 16"#, VIT),
    ] {
        let (whole, _) = train(method, encoder, 1);
        let (parts, _) = train(method, encoder, 2);
        assert!(parts.iter().all(|v| v.is_finite()));
        assert!(apart(&whole, &parts) > 1e-2, "{method}");
    }
}

/// Codes are computed from the whole batch whatever its parts: except for batch norm, which this network lacks, SwAV
/// trains as on the whole. The queue is full after the first epoch and used in the second and third.
#[test]
fn parts_of_swav_share_the_codes_of_the_whole_batch() {
    let set = drawn(SIZE, 4);
    let run = |accumulate: usize| {
        let method = r#""swav", "prototypes": 6, "frozen_steps": 1, "queue": 32, "queue_from": 0, "hidden": 8, "dim": 4, "small": 2, "small_size": 8"#;
        let config = config(method, VIT, accumulate);
        config.check(Some(set.len()), SIZE).unwrap();
        let training = Training::new(set.clone(), 1, &Device::flex());
        let MethodConfig::Swav(own) = &config.method else { panic!("{config:?}") };
        let device = training.autodiff_device();
        let mut swav = Swav::new(own, &config.encoder, 1, &device);
        let mut rng = keyed(1, INIT, 0, 0, 0);
        let widths = |width| vec![width, 8, 4];
        swav.network = Projected::new(&config.encoder, &mut rng, &device, widths, false);
        let views = config.views(SIZE).unwrap();
        let mut losses = Vec::new();
        let mut observer = after_each_epoch(|epoch, _| {
            losses.push(epoch.loss);
            Ok(())
        });
        let more = TrainConfig { epochs: 3, ..config.train.clone() };
        let trained = crate::train::train(&training, &more, views, swav, &mut observer).unwrap();
        drop(observer);
        (moved(&config, trained), losses)
    };
    let (whole, losses) = run(1);
    assert!(whole.iter().any(|v| v.abs() > 1e-3), "{whole:?}");
    for parts in [2, 3] {
        let (found, of_parts) = run(parts);
        let off = apart(&whole, &found);
        assert!(off < 2e-3, "in {parts} parts: {off} of what it moved");
        for (a, b) in losses.iter().zip(&of_parts) {
            assert!((a - b).abs() < 1e-4 * a.abs(), "{losses:?} {of_parts:?}");
        }
    }
}

/// Without `bn_groups`, the number of batch-norm groups depends on the size of a part; a part holds whole groups.
#[test]
fn parts_have_whole_groups_of_batch_norm() {
    let of = |text: &str, batch: usize, parts: usize| {
        let mut config = config(text, RESNET, parts);
        config.train.batch = batch;
        config
    };
    let moco = r#""moco-v2", "queue": 128, "dim": 8"#;
    // A batch of 64 has two groups of 32, each of its halves only one.
    assert!(of(moco, 64, 1).check(None, SIZE).is_ok() && of(moco, 64, 2).check(None, SIZE).is_ok());
    let asked = r#""moco-v2", "queue": 128, "dim": 8, "bn_groups": 4"#;
    assert!(of(asked, 64, 8).check(None, SIZE).is_ok());
    // Groups of one image, and parts of 21 and 22 images.
    for parts in [16, 3] {
        let error = of(asked, 64, parts).check(None, SIZE).unwrap_err();
        assert_eq!(error.field(), Some("accumulate"));
        assert!(error.to_string().contains("method.bn_groups = 4 equal groups"), "{error}");
    }
}

#[test]
fn methods_that_hold_a_batchs_images_against_each_other_refuse_parts() {
    for (method, more) in [
        ("msf", r#", "queue": 32"#),
        ("simclr", ""),
        ("simclr-v2", ""),
        ("barlow-twins", ""),
        ("vicreg", ""),
        ("moco-v3", ""),
        ("dino", r#", "teacher_warmup": 1"#),
        ("deepcluster-v2", r#", "prototypes": [4]"#),
    ] {
        let of = |parts| config(&format!("\"{method}\"{more}"), RESNET, parts);
        of(1).check(Some(40), SIZE).unwrap();
        let error = of(2).check(Some(40), SIZE).unwrap_err();
        assert_eq!(error.field(), Some("accumulate"));
        assert!(error.to_string().starts_with("accumulate = 2 is out of range: 1 with"), "{error}");
    }
    for parts in [0, 9] {
        let error: PretrainError =
            config(r#""rotnet""#, RESNET, parts).check(None, SIZE).unwrap_err();
        assert!(error.to_string().contains("1 to 8: a part has 2 images"), "{error}");
    }
    config(r#""rotnet""#, RESNET, 8).check(None, SIZE).unwrap();
}
