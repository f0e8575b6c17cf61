//! The labelled training images of the probe.

use anyhow::{Result, bail};
use serde::Serialize;
use ssl_backdoor_data::{Splits, UNLABELLED, in_set_order, labelled_ids, listed_ids};
use ssl_backdoor_probe::{Labels, ProbeConfig, ProbeError};

/// Labelled training images.
#[derive(Clone, Serialize)]
pub(crate) struct Labelled {
    /// Their share of each class, or, for a list, of all images.
    pub share: f64,
    /// Their ids, in the order of the training set.
    pub ids: Vec<u64>,
}

/// The labelled training images of each share of the config, or of its list.
///
/// # Errors
/// The list is wrong; a class has no label, so its images could never be classified correctly and it could never be hit as
/// a target; or `probe.k` is not below the number of labelled images.
pub(crate) fn labelled(probe: &ProbeConfig, seed: u64, splits: &Splits) -> Result<Vec<Labelled>> {
    let which = &probe.labels;
    let (all, classes) = (&splits.labelled.labels, splits.classes.len() as u32);
    if all.iter().all(|(_, label)| *label == UNLABELLED) {
        bail!(
            "the training images have no labels: set data.labelled to a folder of class folders or to a \
             list with labels"
        );
    }
    let one = |share, ids: &[u64]| Labelled { share, ids: in_set_order(all, ids) };
    let found = match which {
        Labels::List(list) => {
            let ids = listed_ids(splits, list)?;
            vec![one(ids.len() as f64 / all.len().max(1) as f64, &ids)]
        }
        Labels::Shares(shares) => {
            let of = |&share: &f64| one(share, &labelled_ids(all, classes, share, seed));
            shares.iter().map(of).collect()
        }
    };
    for labelled in &found {
        every_class(which, labelled, splits)?;
        probe.check_labelled(labelled.ids.len())?;
    }
    Ok(found)
}

/// Checks that every class has a label.
fn every_class(which: &Labels, labelled: &Labelled, splits: &Splits) -> Result<(), ProbeError> {
    let classes = splits.classes.len();
    let (mut images, mut labels) = (vec![0usize; classes], vec![0usize; classes]);
    let ids: std::collections::HashSet<u64> = labelled.ids.iter().copied().collect();
    for (id, class) in &splits.labelled.labels {
        if let Some(count) = images.get_mut(*class as usize) {
            *count += 1;
            labels[*class as usize] += usize::from(ids.contains(id));
        }
    }
    // The smallest class needs the largest share, which is then enough for all.
    let without =
        (0..classes).filter(|&class| labels[class] == 0).min_by_key(|&class| images[class]);
    let Some(class) = without else { return Ok(()) };
    let count = images[class];
    Err(ProbeError::ClassWithoutLabel {
        labels: match which {
            Labels::List(list) => format!("{:?}", list.display().to_string()),
            Labels::Shares(_) => labelled.share.to_string(),
        },
        class: splits.classes[class].clone(),
        images: count,
        remedy: match which {
            _ if count == 0 => "add training images, or remove its evaluation images".into(),
            Labels::List(_) => "list an image of every class".into(),
            Labels::Shares(_) => format!("allowed are {} to 1", least_share(count)),
        },
    })
}

/// A share with few digits that labels one of `images` images.
fn least_share(images: usize) -> f64 {
    let steps = 10f64.powi(2 + images.to_string().len() as i32);
    let mut step = (steps / images as f64).ceil();
    while (step / steps * images as f64).floor() < 1.0 {
        step += 1.0;
    }
    step / steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_data::DataConfig;

    #[test]
    fn field_f03_the_share_that_is_named_labels_an_image() {
        for images in (1..2000).chain([126_689, 1_281_167]) {
            let share = least_share(images);
            assert_eq!((share * images as f64).floor(), 1.0, "{images}: {share}");
            assert!(share <= 1.0 && share < 1.1 / images as f64 + 1e-9 || images == 1);
        }
    }

    #[test]
    fn field_f03_a_class_without_a_label_is_named_with_what_would_do() {
        let config = r#"{ "kind": "shapes", "size": 8, "per_class": 9 }"#;
        let config: DataConfig = serde_json::from_str(config).unwrap();
        let splits = config.load(&|_, _, _| {}).unwrap();
        let of = |shares: &[f64]| {
            let labels = Labels::Shares(shares.to_vec());
            let probe = ProbeConfig { labels, ..ProbeConfig::default() };
            labelled(&probe, 0, &splits).map_err(|e| e.to_string())
        };
        let two = of(&[0.5, 0.12]).unwrap();
        assert_eq!((two[0].ids.len(), two[1].ids.len()), (40, 10));
        assert!(two.iter().all(|one| one.ids.is_sorted()), "in the order of the set");
        let message = of(&[0.5, 0.1]).err().unwrap();
        for words in ["labels = 0.1", "class arrow has 9 training images", "0.112 to 1"] {
            assert!(message.contains(words), "{message}");
        }
    }
}
