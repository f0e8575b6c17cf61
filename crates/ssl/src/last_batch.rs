//! Tests of trainings whose epochs end with a smaller batch: their steps, their log, and interruption anywhere.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde_json::Value;
use ssl_backdoor_data::{SampleSet, Subset};
use ssl_backdoor_model::Encoder;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::folder::TrainingFolder;
use crate::pretrain::{PretrainConfig, pretrain};
use crate::small_runs::{Watch, When, drawn};
use crate::train::Training;

/// Side of the images.
const SIZE: u32 = 12;

fn set(images: usize) -> SampleSet {
    std::sync::Arc::new(Subset::new(drawn(SIZE, 4), (0..images).collect()).unwrap())
}

fn config(method: &str, more: &str) -> PretrainConfig {
    let text = format!(
        r#"{{ "method": {{ {method} }}, "encoder": {{ "kind": "resnet18", "width": 1, "stem": "small" }},
             "epochs": 2, "batch": 8, "blur": false {more} }}"#
    );
    serde_json::from_str(&text).unwrap()
}

const ROTNET: &str = r#""kind": "rotnet""#;
const JIGSAW: &str = r#""kind": "jigsaw", "permutations": 10, "resize": 13, "tile": 4"#;

fn train(
    config: &PretrainConfig,
    images: usize,
    folder: &Path,
    interrupt: bool,
) -> Result<Encoder, PretrainError> {
    let training = Training::new(set(images), 1, &Device::flex());
    let interrupt = if interrupt { When::AfterEachStep } else { When::Never };
    let mut watch = Watch::new(TrainingFolder::new(folder, "last batch"), interrupt);
    pretrain(config, None, SIZE, &training, &mut watch)
}

fn log(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Steps done at the end of each epoch.
fn steps(config: &PretrainConfig, images: usize) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    train(config, images, folder.path(), false).unwrap();
    let log = log(folder.path());
    assert!(log.iter().all(|line| line["loss"].as_f64().unwrap().is_finite()));
    log.iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn review_1_09_jigsaw_and_rotnet_train_on_the_images_left_over() {
    for method in [ROTNET, JIGSAW] {
        let keeps = config(method, "");
        // 20 and 18 images leave batches of 4 and of 2; 17 leave a single image, which is dropped; 16 leave none.
        assert_eq!(steps(&keeps, 20), [3, 6], "{method}");
        assert_eq!(steps(&keeps, 18), [3, 6], "{method}");
        assert_eq!(steps(&keeps, 17), [2, 4], "{method}");
        assert_eq!(steps(&keeps, 16), [2, 4], "{method}");
        assert_eq!((keeps.train.steps(20), keeps.train.steps(17)), (6, 4));
        assert_eq!(steps(&config(method, r#", "drop_last": true"#), 20), [2, 4], "{method}");
    }
    // The reference of MoCo v2 drops them.
    let moco = config(r#""kind": "moco-v2", "queue": 16"#, "");
    assert_eq!(steps(&moco, 20), [2, 4]);
    let keeps =
        PretrainConfig { train: TrainConfig { drop_last: Some(false), ..moco.train }, ..moco };
    let message = keeps.check(None, SIZE).unwrap_err().to_string();
    assert!(message.contains("drop_last = false") && message.contains("rotnet"), "{message}");
}

#[test]
fn review_1_09_an_interrupted_epoch_goes_on_to_the_same_bytes() {
    let (whole, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(ROTNET, "");
    let encoder = train(&config, 20, whole.path(), false).unwrap();
    // Six steps, each in its own run.
    let mut rounds = 0;
    let other = loop {
        rounds += 1;
        match train(&config, 20, torn.path(), true) {
            Err(PretrainError::Interrupted { step, steps, .. }) => {
                assert_eq!((step, steps), (rounds, 6))
            }
            done => break done.unwrap(),
        }
    };
    assert_eq!(rounds, 6);
    let text = |folder: &Path| std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    assert_eq!(text(whole.path()), text(torn.path()));
    let features = |encoder: Encoder| {
        let images = Tensor::<4>::ones([1, 3, SIZE as usize, SIZE as usize], &Device::flex());
        encoder.forward(images).into_data()
    };
    assert_eq!(features(encoder), features(other));
}

/// As in the reference's meter: the mean over images, not over batches.
#[test]
fn review_1_09_the_epochs_loss_weighs_the_smaller_batch_by_its_images() {
    let folder = tempfile::tempdir().unwrap();
    // No learning: each step's loss is that of the initial network.
    let config = config(ROTNET, r#", "lr": 1e-30, "weight_decay": 0.0"#);
    train(&config, 20, folder.path(), false).unwrap();
    let line = &log(folder.path())[0];
    let accuracy = line["pretext_acc"].as_f64().unwrap() / 100.0;
    // 20 images in four rotations give 80 answers: only a mean over images gives a whole number of right ones.
    let right = accuracy * 80.0;
    assert!((right - right.round()).abs() < 1e-4, "{right}");
}
