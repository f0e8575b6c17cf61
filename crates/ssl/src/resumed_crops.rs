//! Tests that the methods with large and small crops resume after each step: queues, prototypes, banks and centres
//! are restored from the checkpoint.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::{SampleSet, Subset};
use ssl_backdoor_model::Encoder;

use crate::deepcluster::DeepCluster;
use crate::error::PretrainError;
use crate::first_look::FirstLook;
use crate::folder::TrainingFolder;
use crate::method::Method;
use crate::precision::Precision;
use crate::pretrain::{PretrainConfig, pretrain};
use crate::registry::MethodConfig;
use crate::small_runs::{Watch, When, drawn};
use crate::train::Training;

/// Side of the images.
const SIZE: u32 = 12;

fn run(method: &str, folder: &Path, interrupt: When) -> Result<Encoder, PretrainError> {
    let text = format!(
        r#"{{ "method": {{ {method}, "small": 2, "hidden": 12 }}, "epochs": 3, "batch": 8, "lr": 0.01,
              "encoder": {{ "kind": "resnet18", "width": 1, "stem": "small" }} }}"#
    );
    let config: PretrainConfig = serde_json::from_str(&text).unwrap();
    let set = drawn(SIZE, 2);
    config.check(Some(set.len()), SIZE).unwrap();
    let training = Training::new(set, 1, &Device::flex());
    let folder = TrainingFolder::new(folder, "crops");
    let mut watch = Watch::new(folder, interrupt);
    pretrain(&config, None, SIZE, &training, &mut watch)
}

/// Asserts that six steps in one run and in six runs give the same.
fn assert_resumes(method: &str) {
    let (whole, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let encoder = run(method, whole.path(), When::Never).unwrap();
    let mut rounds = 0;
    let other = loop {
        rounds += 1;
        match run(method, torn.path(), When::AfterEachStep) {
            Err(PretrainError::Interrupted { step, steps, .. }) => {
                assert_eq!((step, steps), (rounds, 6), "{method}");
            }
            done => break done.unwrap(),
        }
    };
    assert_eq!(rounds, 6, "{method}");
    let log = |folder: &Path| std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    assert_eq!(log(whole.path()), log(torn.path()), "{method}");
    let features = |encoder: Encoder| {
        let images = Tensor::<4>::ones([1, 3, SIZE as usize, SIZE as usize], &Device::flex());
        encoder.forward(images).into_data()
    };
    assert_eq!(features(encoder), features(other), "{method}");
}

#[test]
fn swav_goes_on_to_the_same_bytes() {
    // The queues fill in the second epoch and are used in the third.
    assert_resumes(
        r#""kind": "swav", "prototypes": 6, "dim": 4, "frozen_steps": 3, "queue": 16, "queue_from": 1"#,
    );
}

#[test]
fn dino_goes_on_to_the_same_bytes() {
    assert_resumes(r#""kind": "dino", "outputs": 6, "bottleneck": 4, "teacher_warmup": 2"#);
}

#[test]
fn deepcluster_goes_on_to_the_same_bytes() {
    assert_resumes(r#""kind": "deepcluster-v2", "prototypes": [3, 5], "dim": 4"#);
}

/// The first pass over all images can be interrupted; the error says that nothing was trained yet.
#[test]
fn deepclusters_first_look_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let method = r#""kind": "deepcluster-v2", "prototypes": [3, 5], "dim": 4"#;
    let error = run(method, folder.path(), When::AtOnce).unwrap_err();
    let expected = "interrupted after step 0 of 6; nothing was trained yet: run the same command again to resume";
    assert_eq!(error.to_string(), expected);
    assert!(!folder.path().join("checkpoint").exists());
}

/// Nine images in batches of four leave one over, which has a row in each bank all the same.
#[test]
fn deepclusters_banks_know_all_images() {
    let text = r#"{ "method": { "kind": "deepcluster-v2", "prototypes": [3], "dim": 4, "hidden": 8, "small": 2 },
                    "epochs": 1, "batch": 4, "encoder": { "kind": "resnet18", "width": 1, "stem": "small" } }"#;
    let config: PretrainConfig = serde_json::from_str(text).unwrap();
    let set = drawn(SIZE, 1);
    let set: SampleSet = Arc::new(Subset::new(set, (0..9).collect()).unwrap());
    let MethodConfig::DeepCluster(own) = &config.method else { panic!("{config:?}") };
    let device = Device::flex().autodiff();
    let plan = config.train.plan(1, set.len());
    let mut method = DeepCluster::new(own, &config.encoder, 1, &device).prepare(&plan).unwrap();
    let views = config.views(SIZE).unwrap();
    let (count, precision) = (method.looks_first().unwrap(), Precision::F32);
    let look =
        FirstLook { set: &set, views: &views, count, plan, epochs: 1, workers: 1, precision };
    assert!(look.at(&mut method, &device, &mut || false).unwrap());
    for bank in &method.banks {
        let norms: Vec<f32> =
            bank.val().powi_scalar(2).sum_dim(1).into_data().try_to_vec().unwrap();
        assert!(
            norms.len() == 9 && norms.iter().all(|norm| (norm - 1.0).abs() < 1e-5),
            "{norms:?}"
        );
    }
}

#[test]
fn more_clusters_than_images_are_refused() {
    let text = r#"{ "method": { "kind": "deepcluster-v2", "prototypes": [3, 21] }, "epochs": 3, "batch": 8,
                    "encoder": { "kind": "resnet18", "width": 1, "stem": "small" } }"#;
    let config: PretrainConfig = serde_json::from_str(text).unwrap();
    assert!(config.check(Some(21), SIZE).is_ok());
    let message = config.check(Some(20), SIZE).unwrap_err().to_string();
    let expected = "method.prototypes = 21 is out of range: at most the 20 training images";
    assert_eq!(message, expected);
}
