use serde_json::Value;

use super::*;
use crate::{PoisonConfig, Setup};

/// `tests/fixtures/selection.py`.
fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/selection.json")).unwrap()
}

fn numbers<T>(value: &Value, of: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.as_array().unwrap().iter().map(|one| of(one).unwrap()).collect()
}

/// Its features, labels (ids are ten times the position) and the length of a feature.
fn set(golden: &Value) -> (Vec<f32>, Vec<(u64, u32)>, usize) {
    let values = numbers(&golden["values"], |v| v.as_f64().map(|v| v as f32));
    let labels = numbers(&golden["labels"], |v| v.as_u64().map(|v| v as u32));
    let labels = labels.into_iter().enumerate().map(|(i, class)| (10 * i as u64, class));
    (values, labels.collect(), golden["dim"].as_u64().unwrap() as usize)
}

fn classes() -> Vec<String> {
    ["a", "b", "c", "d"].map(str::to_owned).to_vec()
}

fn config(select: &str, more: &str) -> PoisonConfig {
    let trigger = "trigger = { kind = \"htba\", id = 12, width = 8 }";
    toml::from_str(&format!("{more}\nselect = {{ {select} }}\n{trigger}")).unwrap()
}

fn encoded(kind: &str) -> String {
    format!("kind = \"{kind}\", encoder = \"e.safetensors\"")
}

#[test]
fn rules_choose_as_numpy_and_scikit_learn_do() {
    let golden = golden();
    let (values, labels, dim) = set(&golden);
    let classes = classes();
    let training = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
    let rows = Some(FeatureRows { values: &values, dim });
    for case in golden["cases"].as_array().unwrap() {
        let count = case["count"].as_u64().unwrap();
        for kind in ["con", "conp", "conn", "kmean"] {
            let config = config(&encoded(kind), &format!("count = {count}"));
            config.check(32).unwrap();
            let config = config.choose(&training, rows, Some("hash".into()), 1).unwrap();
            let mut expected = numbers(&case[kind], |v| v.as_u64().map(|v| 10 * v));
            expected.sort_unstable();
            let chosen = config.select.clone().unwrap().chosen.unwrap();
            assert_eq!(chosen.ids, expected, "{kind} {count}");
            let attack = config.attack_on(&training, 1, &Setup::new(32)).unwrap();
            assert_eq!(attack.plan.ids().collect::<Vec<_>>(), expected);
            // Their most frequent class is the target.
            let selected = attack.selected.unwrap();
            assert_eq!((selected.class, attack.target), (attack.target, selected.class));
            let class = attack.target.unwrap();
            let of_class = expected.iter().filter(|id| labels[**id as usize / 10].1 == class);
            let share = of_class.count() as f64 / count as f64;
            assert_eq!(selected.class_share, share);
            assert!(share > 0.8, "{kind} {count}: {share}");
            assert_eq!(selected.encoder_hash.as_deref(), Some("hash"));
        }
    }
}

#[test]
fn amounts_are_of_a_mean_class_and_baselines_are_samples() {
    let labels: Vec<(u64, u32)> = (0..40).map(|id| (id, (id % 4) as u32)).collect();
    let classes = classes();
    let training = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
    let chosen = |config: &PoisonConfig| {
        let config = config.choose(&training, None, None, 1).unwrap();
        let attack = config.attack_on(&training, 1, &Setup::new(32)).unwrap();
        (attack.plan.ids().collect::<Vec<_>>(), attack)
    };
    // int(0.6 · 40 / 4) = 6.
    let (random, attack) = chosen(&config("kind = \"random\"", "rate = 0.6"));
    assert_eq!(random.len(), 6);
    let share = attack.selected.as_ref().unwrap().class_share;
    assert!((1.0 / 3.0..1.0).contains(&share), "{share}");
    assert!(attack.selected.as_ref().unwrap().class == attack.target && attack.target.is_some());
    let (of_target, attack) = chosen(&config("kind = \"target\"", "target = 2\nrate = 0.6"));
    assert!(of_target.len() == 6 && of_target.iter().all(|id| id % 4 == 2));
    assert_eq!(attack.plan.rates().rate, Some(0.6));
    // The same as without a rule.
    let trigger = "target = 2\nrate = 0.6\ntrigger = { kind = \"htba\", id = 12, width = 8 }";
    let plain: PoisonConfig = toml::from_str(trigger).unwrap();
    let plain = plain.attack_on(&training, 1, &Setup::new(32)).unwrap();
    assert_eq!(plain.plan.ids().collect::<Vec<_>>(), of_target);
    assert!(plain.selected.is_none());
    // A target that the config names is scored, whatever was chosen.
    let (_, attack) = chosen(&config("kind = \"random\"", "target = \"b\"\ncount = 3"));
    assert_eq!(attack.target, Some(1));
}

#[test]
fn a_choice_reads_back_as_written() {
    let labels: Vec<(u64, u32)> = (0..40).map(|id| (id, (id % 4) as u32)).collect();
    let classes = classes();
    let training = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
    let before = config("kind = \"random\"", "count = 5");
    assert!(!toml::to_string(&before).unwrap().contains("chosen"));
    let after = before.choose(&training, None, None, 1).unwrap();
    let read: PoisonConfig = toml::from_str(&toml::to_string(&after).unwrap()).unwrap();
    assert_eq!(read, after);
    // A choice that was made is kept, whatever the seed.
    assert_eq!(after.choose(&training, None, None, 99).unwrap(), after);
    let unlabelled: Vec<(u64, u32)> = (0..40).map(|id| (id, u32::MAX)).collect();
    let training = TrainingSet { labels: &unlabelled, ..training };
    let attack = after.attack_on(&training, 1, &Setup::new(32)).unwrap();
    assert_eq!((attack.target, attack.selected.unwrap().class_share), (None, 0.0));
}

#[test]
fn wrong_settings_are_named() {
    for (select, more, words) in [
        ("kind = \"con\"", "count = 1", "select.kind = \"con\""),
        ("kind = \"random\", encoder = \"e\"", "count = 1", "select.encoder = \"e\""),
        ("kind = \"target\"", "count = 1", "select.kind = \"target\""),
        ("kind = \"kmean\", encoder = \"e\", clusters = 0", "count = 1", "select.clusters = 0"),
        ("kind = \"con\", encoder = \"e\", clusters = 3", "count = 1", "select.clusters = 3"),
        ("kind = \"random\"", "count = 0", "count = 0"),
        ("kind = \"random\"", "rate = 2.0", "rate = 2"),
        ("kind = \"random\"", "list = \"l.txt\"", "list = \"l.txt\""),
        ("kind = \"random\"", "", "needs exactly one of"),
    ] {
        let error = config(select, more).check(32).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn what_a_rule_cannot_choose_is_said() {
    let labels: Vec<(u64, u32)> = (0..12).map(|id| (id, (id % 4) as u32)).collect();
    let classes = classes();
    let training = TrainingSet { labels: &labels, classes: &classes, listed: &[] };
    let values: Vec<f32> = (0..24).map(|i| (i * i % 7) as f32).collect();
    let choose = |kind: &str, count: usize, values: &[f32]| {
        let select = if kind == "random" { "kind = \"random\"".into() } else { encoded(kind) };
        let rows = FeatureRows { values, dim: 2 };
        let config = config(&select, &format!("count = {count}"));
        config.choose(&training, Some(rows), None, 1).map_err(|e| e.to_string())
    };
    assert!(choose("con", 6, &values).is_ok() && choose("conp", 12, &values).is_ok());
    for (kind, count, words) in [
        ("con", 7, "needs 14 images, but there are only 12"),
        ("conp", 13, "needs 13 images, but there are only 12"),
        ("random", 13, "needs 13 images, but there are only 12"),
        ("kmean", 12, "none of 4 clusters has 12 images"),
    ] {
        let error = choose(kind, count, &values).unwrap_err();
        assert!(error.starts_with("select.kind") && error.contains(words), "{error}");
    }
    let mut broken = values.clone();
    broken[3] = f32::NAN;
    assert!(choose("con", 2, &broken).unwrap_err().contains("not finite"));
    assert!(choose("con", 2, &values[2..]).unwrap_err().contains("of the 12 training images"));
    // Identical features still give a result.
    assert!(choose("con", 3, &[1.0; 24]).is_ok() && choose("kmean", 3, &[0.0; 24]).is_ok());
    // The images are not chosen yet.
    let config = config(&encoded("con"), "count = 2");
    let error = config.attack_on(&training, 1, &Setup::new(32)).unwrap_err().to_string();
    assert!(
        error.starts_with("select.kind = \"con\"") && error.contains("not chosen yet"),
        "{error}"
    );
}
