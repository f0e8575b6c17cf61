//! Planted outcomes of the claims about the dose and about newer methods.

use std::path::Path;

use super::*;
use crate::config::Experiment;
use crate::record::{RunScores, TriggerSize};
use crate::report::setting::common;

/// A run with this net ASR, everything else of a stored run, and the common part of a config with this `[poison]` and
/// `[pretrain]` method.
fn planted(
    method: &str,
    pair: u32,
    seed: u64,
    net: f64,
    text: [&str; 2],
) -> (RunScores, Option<Experiment>) {
    let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
    let mut run = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
    (run.method, run.seed, run.target) = (method.into(), seed, Some(pair));
    run.trigger = format!("HTBA {}, 8 px", 10 + pair);
    run.probes.truncate(1);
    run.probes[0].net.net_asr = Some(net);
    let [poison, keys] = text;
    let text = format!(
        "name = \"n\"\nseed = {seed}\ndata = {{ kind = \"shapes\", size = 32, per_class = 20 }}\n\
         poison = {{ target = {pair}, {poison}, trigger = {{ kind = \"htba\", id = 12, width = 8 }} }}\n\
         probe = {{ labels = [0.1] }}\n[pretrain]\nmethod = {{ kind = \"{method}\"{keys} }}\nepochs = 50\nbatch = 8\n\
         encoder = {{ kind = \"resnet18\", width = 4, stem = \"small\" }}\nschedule = {{ kind = \"cosine\" }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (run, Some(common(Experiment::read(&path, &[]).unwrap())))
}

/// The cells of the last row of the claim whose title starts with `title`.
fn last(runs: Vec<(RunScores, Option<Experiment>)>, title: &str) -> Option<Vec<String>> {
    let (runs, configs): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let groups = Group::all(&runs, &configs, false);
    let claims = claims(&groups);
    let claim = claims.iter().find(|claim| claim.title.starts_with(title))?;
    Some(claim.table.rows.last()?.cells.clone())
}

/// Five pairs of two methods at four places, where the trigger is in one view of 10, 20, 30 and 40 % of the images; net ASR
/// is `net` of the share, the pair and the method. The middle place has a second seed that the others lack.
fn by_place(net: impl Fn(f64, u32, &str) -> f64) -> Vec<(RunScores, Option<Experiment>)> {
    let mut runs = Vec::new();
    for (place, share) in [(0.4, 10.0), (0.2, 20.0), (0.1, 30.0), (0.0, 40.0)] {
        let poison =
            format!("rate = 0.5, place = {{ kind = \"random\", min = {place}, max = 0.9 }}");
        for (pair, method) in (0..5).flat_map(|pair| [(pair, "moco-v2"), (pair, "byol")]) {
            for seed in [1, 2] {
                if seed == 2 && !(15.0..25.0).contains(&share) {
                    continue;
                }
                let net = if seed == 2 { -100.0 } else { net(share, pair, method) };
                let (mut run, config) = planted(method, pair, seed, net, [&poison, ""]);
                // The seed that is left out has another share.
                let share = if seed == 2 { 90.0 } else { share };
                let by_views = vec![0.5 - share / 200.0, share / 100.0, 0.5 - share / 200.0];
                run.trigger_size = Some(TriggerSize { by_views, ..TriggerSize::default() });
                runs.push((run, config));
            }
        }
    }
    runs
}

#[test]
fn a_dose_that_raises_net_asr_is_found_over_the_pairs_and_seeds_in_common() {
    // The slope is 2 points for 10 points of the share with MoCo v2 and 4 with BYOL, plus 0.1 with each pair.
    let net = |share: f64, pair: u32, method: &str| {
        let slope = if method == "byol" { 0.4 } else { 0.2 };
        share * (slope + 0.01 * f64::from(pair)) + f64::from(pair)
    };
    let cells = last(by_place(net), "(j)").unwrap();
    assert_eq!((&*cells[0], &*cells[1]), ("together", "5"));
    assert!(cells[3].starts_with("3.2 ["), "{cells:?}");
    // Five slopes above 0: 1/32.
    assert_eq!((&*cells[5], &*cells[6]), ("0.0312", "rises"));
    let none = |_: f64, pair: u32, _: &str| f64::from(pair);
    assert_eq!(last(by_place(none), "(j)").unwrap()[6], "not shown");
    // Without one of the four doses, no verdict is given.
    let mut three = by_place(net);
    three.retain(|(run, _)| {
        !run.trigger_size.as_ref().is_some_and(|size| (size.by_views[1] - 0.3).abs() < 0.01)
    });
    assert_eq!(last(three, "(j)").unwrap()[6], "not tested: 3 of 4 doses");
    // The rate does not vary; two doses make no curve; the claim is about both methods.
    assert!(last(by_place(net), "(k)").is_none());
    let mut alone = by_place(net);
    alone.retain(|(run, _)| run.method == "byol");
    assert!(last(alone, "(j)").is_none());
    let mut two = by_place(net);
    two.truncate(25);
    assert!(last(two, "(j)").is_none());
}

#[test]
fn the_rate_counts_by_doublings() {
    let mut runs = Vec::new();
    for rate in [0.125, 0.25, 0.5, 1.0] {
        for pair in 0..5 {
            let net = 8.0 + 3.0 * f64::from(pair) * f64::log2(rate);
            let poison = format!("rate = {rate}");
            let (mut run, config) = planted("byol", pair, 1, net, [&poison, ""]);
            run.poison.rate = Some(rate);
            let other = RunScores { method: "moco-v2".into(), ..run.clone() };
            let (_, of_other) = planted("moco-v2", pair, 1, net, [&poison, ""]);
            runs.extend([(run, config), (other, of_other)]);
        }
    }
    let cells = last(runs, "(k)").unwrap();
    // The mean of 0, 3, 6, 9 and 12; a slope of 0 counts half of the assignments of signs.
    assert!(cells[3].starts_with("6.0 ["), "{cells:?}");
    assert_eq!(cells[5], "0.0625");
}

#[test]
fn newer_methods_are_judged_together_and_multi_crop_by_pair() {
    let poison = "rate = 0.5";
    let mut runs = Vec::new();
    for pair in 0..5 {
        let noise = 0.1 * f64::from(pair);
        for method in ["simclr", "simclr-v2", "simsiam", "barlow-twins", "vicreg", "moco-v3"] {
            runs.push(planted(method, pair, 1, 4.0 + noise, [poison, ""]));
        }
        for (small, net) in [(4, 9.0 + noise), (0, 2.0)] {
            runs.push(planted("swav", pair, 1, net, [poison, &format!(", small = {small}")]));
        }
    }
    let cells = last(runs.clone(), "(h)").unwrap();
    assert!(cells[1].starts_with("4.2 ["), "{cells:?}");
    assert_eq!((&*cells[0], &*cells[3], &*cells[4]), ("5", "0.0312", "vulnerable"));
    let cells = last(runs.clone(), "(i)").unwrap();
    assert!(cells[1].starts_with("7.2 ["), "{cells:?}");
    // Two-sided, five pairs allow no p below 1/16.
    assert_eq!((&*cells[3], &*cells[4]), ("0.0625", "not shown"));
    // Without one of the six methods there is no claim about them.
    runs.retain(|(run, _)| run.method != "vicreg");
    assert!(last(runs, "(h)").is_none());
}
