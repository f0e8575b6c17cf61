//! Defaults, checks and the text of `[pretrain]`.

use super::*;
use crate::learning_rate::LearningRate;

fn config(text: &str) -> Result<PretrainConfig, String> {
    let encoder =
        "encoder = { kind = \"vit\", dim = 8, depth = 1, heads = 2, patch = 4 }\nepochs = 10\n";
    toml::from_str(&format!("{encoder}{text}")).map_err(|e| e.to_string())
}

const MAE: &str = "method = { kind = \"mae\" }\n";

#[test]
fn review_1_03_a_base_rate_follows_the_batch_and_a_fixed_one_does_not() {
    let mae = config(MAE).unwrap();
    assert_eq!((mae.train.batch, mae.train.lr), (4096, LearningRate::Base(1.5e-4)));
    assert!((mae.train.learning_rate() - 2.4e-3).abs() < 1e-15);
    // In the file …
    let smaller = config(&format!("{MAE}batch = 512\n")).unwrap();
    assert!((smaller.train.learning_rate() - 3e-4).abs() < 1e-15);
    let other = config(&format!("{MAE}batch = 512\nbase_lr = 1e-3\n")).unwrap();
    assert!((other.train.learning_rate() - 2e-3).abs() < 1e-15);
    // … and in a control of the defence.
    assert!((other.with_budget(5, 64).train.learning_rate() - 2.5e-4).abs() < 1e-15);
    let fixed = config(&format!("{MAE}batch = 512\nlr = 1e-3\n")).unwrap();
    assert_eq!(
        (fixed.train.learning_rate(), fixed.with_budget(5, 64).train.learning_rate()),
        (1e-3, 1e-3)
    );
    // BYOL's reference does not scale its rate.
    let byol = config("method = { kind = \"byol\" }\nbatch = 32\n").unwrap();
    assert_eq!(byol.train.lr, LearningRate::Fixed(2e-3));
    let base = config("method = { kind = \"byol\" }\nbatch = 32\nbase_lr = 1e-3").unwrap();
    assert_eq!(base.train.learning_rate(), 1.25e-4);
}

#[test]
fn review_1_03_a_resolved_config_is_the_same_training() {
    for more in ["", "lr = 1e-3", "base_lr = 1e-3", "batch = 512", "batch = 512\nbase_lr = 1e-3"] {
        let read = config(&format!("{MAE}{more}\n")).unwrap();
        let text = toml::to_string(&read).unwrap();
        assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), read, "{text}");
        let keys = ["\nlr = ", "\nbase_lr = "].map(|key| text.matches(key).count());
        assert_eq!(keys.iter().sum::<usize>(), 1, "{text}");
    }
    // Only Jigsaw and RotNet write `drop_last`; older configs of other methods keep their text.
    let of = |kind: &str| config(&format!("method = {{ kind = \"{kind}\" }}")).unwrap();
    for (kind, says) in [("rotnet", true), ("jigsaw", true), ("moco-v2", false), ("byol", false)] {
        let (read, text) = (of(kind), toml::to_string(&of(kind)).unwrap());
        assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), read, "{text}");
        assert_eq!(text.contains("drop_last = false"), says, "{text}");
        assert!(!text.contains("bn_groups"), "{text}");
    }
}

#[test]
fn review_1_03_both_rates_at_once_are_refused() {
    let message = config(&format!("{MAE}lr = 1e-3\nbase_lr = 1e-4\n")).unwrap_err();
    let says = |word| message.contains(word);
    assert!(says("lr = 0.001") && says("base_lr = 0.0001"), "{message}");
    let mae = config(&format!("{MAE}base_lr = 0\n"));
    let message = mae.unwrap().check(None, 32).unwrap_err().to_string();
    assert!(message.contains("base_lr = 0 "), "{message}");
}

#[test]
fn review_1_06_groups_follow_the_batch_unless_they_are_given() {
    let groups = |text: &str| {
        let config = config(text).unwrap();
        let of = |config: &PretrainConfig| config.method.settings().bn_groups(config.train.batch);
        (of(&config), of(&config.with_budget(3, 50)))
    };
    assert_eq!(groups("method = { kind = \"moco-v2\" }"), (2, 1));
    assert_eq!(groups("method = { kind = \"byol\" }"), (4, 1));
    assert_eq!(groups("method = { kind = \"msf\" }"), (4, 1));
    assert_eq!(groups("method = { kind = \"moco-v2\", bn_groups = 1 }"), (1, 1));
    assert_eq!(groups("method = { kind = \"moco-v2\", bn_groups = 2 }\nbatch = 16"), (2, 2));
    assert_eq!(groups("method = { kind = \"rotnet\" }"), (1, 1));
}

/// Features of a fixed image.
fn features(encoder: &Encoder) -> Vec<f32> {
    let pixels: Vec<f32> = (0..3 * 64).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let images = burn::tensor::TensorData::new(pixels, [1, 3, 8, 8]);
    let features =
        encoder.valid().forward(burn::tensor::Tensor::from_data(images, &Device::flex()));
    features.into_data().iter::<f32>().collect()
}

struct Start;

impl WithMethod for Start {
    type Output = Vec<f32>;

    fn on<M: Method>(self, method: M) -> Result<Self::Output, PretrainError> {
        Ok(features(&method.encoder()))
    }
}

/// The encoder called untrained is the one that training starts from, whichever initial weights the method uses.
#[test]
fn the_initial_encoder_is_the_one_that_training_starts_from() {
    let device = Device::flex();
    let started = |method: &str| {
        let config = config(&format!("method = {{ {method} }}\nbatch = 16\n")).unwrap();
        let initial = features(&initial_encoder(&config, 3, &device));
        let start = config.with_method(3, &device.clone().autodiff(), Start).unwrap();
        assert_eq!(initial, start, "{method}");
        initial
    };
    let mae = started("kind = \"mae\"");
    let dino = started("kind = \"dino\", outputs = 8, hidden = 8, bottleneck = 4");
    let moco_v3 = started("kind = \"moco-v3\", hidden = 8, dim = 4");
    assert_eq!(started("kind = \"moco-v2\", queue = 16"), mae);
    assert!(mae != dino && mae != moco_v3 && dino != moco_v3);
}

#[test]
fn a_methods_own_clocks_follow_the_budget() {
    let of = |method: &str| config(&format!("method = {{ {method} }}\nbatch = 64\n")).unwrap();
    let clocks = |config: &PretrainConfig| match &config.method {
        MethodConfig::Swav(own) => [own.frozen_steps, own.queue_from],
        MethodConfig::Dino(own) => [own.teacher_warmup, own.frozen_epochs],
        _ => [0, 0],
    };
    let swav = of("kind = \"swav\", frozen_steps = 100, queue_from = 4");
    assert_eq!(clocks(&swav.with_budget(10, 64)), [100, 4]);
    // Twice as many epochs of four times as many steps.
    assert_eq!(clocks(&swav.with_budget(20, 16)), [800, 8]);
    assert_eq!(clocks(&swav.with_budget_on(0.25, 20, 16)), [200, 8]);
    let dino = of("kind = \"dino\", teacher_warmup = 5, frozen_epochs = 1");
    assert_eq!(clocks(&dino.with_budget(30, 64)), [15, 3]);
    assert_eq!(clocks(&dino.with_budget(2, 64)), [1, 0]);
    // A valid config stays valid.
    assert!(dino.with_budget(1, 64).check(Some(640), 32).is_ok());
}

#[test]
fn a_clock_behind_the_end_of_the_training_is_refused() {
    let said = |method: &str, images: Option<usize>| {
        let config = config(&format!("method = {{ {method} }}\nbatch = 64\n")).unwrap();
        config.check(images, 32).map_err(|e| e.to_string())
    };
    // Ten epochs of ten steps.
    let swav = |more: &str| said(&format!("kind = \"swav\", {more}"), Some(640));
    assert_eq!(swav("queue = 576, queue_from = 9, frozen_steps = 99"), Ok(()));
    assert_eq!(swav("queue = 0, frozen_steps = 0"), Ok(()));
    let message = swav("queue = 0").unwrap_err();
    assert!(message.starts_with("method.frozen_steps = 5005 is out of range: below the 100 steps"));
    let message = swav("queue_from = 10, frozen_steps = 0").unwrap_err();
    assert!(message.starts_with("method.queue_from = 10 is out of range: below the 10 epochs"));
    assert_eq!(said("kind = \"swav\", queue = 0", None), Ok(()));
    let dino = |more: &str| said(&format!("kind = \"dino\", {more}"), None);
    assert_eq!(dino("teacher_warmup = 10, frozen_epochs = 9"), Ok(()));
    let message = dino("frozen_epochs = 1").unwrap_err();
    assert!(message.starts_with("method.teacher_warmup = 30 is out of range: at most the 10"));
    let message = dino("teacher_warmup = 0, frozen_epochs = 10").unwrap_err();
    assert!(message.starts_with("method.frozen_epochs = 10 is out of range: below the 10"));
}

#[test]
fn review_2_03_the_number_of_images_is_named_once_it_is_known() {
    let config = config(&format!("{MAE}batch = 1\n")).unwrap();
    let message = |images| config.check(images, 32).unwrap_err().to_string();
    assert_eq!(message(None), "batch = 1 is out of range: 2 to 65,536");
    assert!(message(Some(50)).ends_with("2 to 65,536 and at most the 50 training images"));
}

/// Config tables, each with its resolved text in version 0.2.0: finished runs are recognised by that text.
#[test]
fn resolved_configs_keep_their_text() {
    let fixture = include_str!("../../tests/fixtures/resolved.txt");
    let mut cases = 0;
    for case in fixture.split("# ---\n").skip(1) {
        let (written, resolved) = case.split_once("# ->\n").unwrap();
        let config: PretrainConfig = toml::from_str(written).unwrap();
        assert_eq!(toml::to_string_pretty(&config).unwrap().trim(), resolved.trim(), "{written}");
        assert_eq!(toml::from_str::<PretrainConfig>(resolved).unwrap(), config, "{written}");
        cases += 1;
    }
    assert_eq!(cases, 21);
    // In JSON, the keys keep their old order: the twins of a sweep are found by it.
    let json = serde_json::to_string(&config(MAE).unwrap()).unwrap();
    let keys = ["method", "encoder", "epochs", "batch", "base_lr", "weight_decay", "decayed"];
    let more = ["optimizer", "schedule", "crop", "checkpoint_every", "keep", "canaries"];
    let at = |key: &&str| json.find(&format!("\"{key}\":")).unwrap();
    let at: Vec<usize> = keys.iter().chain(&more).map(at).collect();
    assert!(at.is_sorted(), "{json}");
}

#[test]
fn a_config_in_code_is_that_of_a_file_that_is_silent() {
    let read = config(MAE).unwrap();
    assert_eq!(PretrainConfig::new(read.method.clone(), read.encoder, 10), read);
}
