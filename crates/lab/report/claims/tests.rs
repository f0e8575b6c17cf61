//! Planted outcomes that the claims must tell apart.

use std::path::Path;

use ssl_backdoor_defend::ModelId;
use ssl_backdoor_probe::Flow;

use super::*;
use crate::record::{BACKDOORED, CLEAN, Images, RunScores, UNTRAINED};
use crate::report::table::Row;

/// A run of one pair and seed with these figures; everything else comes from a stored run.
struct Planted {
    method: &'static str,
    pair: u32,
    seed: u64,
    /// Net flow to the target, and to the class after it.
    flow: [f64; 2],
    /// Accuracy of the untrained encoder, the clean twin and the backdoored model on clean images.
    acc: [f64; 3],
    gathered: [f64; 2],
}

impl Planted {
    fn scores(&self) -> RunScores {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let mut run = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
        run.name = format!("{}-{}-{}", self.method, self.pair, self.seed);
        run.method = self.method.into();
        run.seed = self.seed;
        run.target = Some(self.pair);
        run.trigger = format!("HTBA {}, 8 px", 10 + self.pair);
        run.raw_pixels = Some(50.0);
        let mut net = vec![0.0; 10];
        net[self.pair as usize] = self.flow[0];
        net[(self.pair as usize + 1) % 10] = self.flow[1];
        run.target_neighbour_share =
            [CLEAN, BACKDOORED].map(ModelId::from).into_iter().zip(self.gathered).collect();
        run.probes.truncate(1);
        let reading = &mut run.probes[0];
        reading.flow = Some(Flow { net, lost: 100, lift: None });
        reading.net.net_asr = Some(self.flow[0]);
        for (model, acc) in [UNTRAINED, CLEAN, BACKDOORED].into_iter().zip(self.acc) {
            reading.models.get_mut(model).unwrap().get_mut(&Images::Clean).unwrap().acc = acc;
        }
        run.models = reading.models.clone();
        run
    }
}

/// The column "Verdict" of the claim whose title starts with `title`, by method.
fn verdicts(claims: &[Claim], title: &str) -> Vec<(String, String)> {
    let claim = claims.iter().find(|claim| claim.title.starts_with(title)).unwrap();
    let last = |row: &Row| (row.cells[0].clone(), row.cells.last().unwrap().clone());
    claim.table.rows.iter().map(last).collect()
}

fn is(claims: &[Claim], title: &str, expected: &[(&str, &str)]) {
    let found = verdicts(claims, title);
    let expected: Vec<_> = expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    assert_eq!(found, expected, "{title}");
}

/// Two seeds of ten pairs of six methods; comments say what each method does.
fn planted_runs() -> Vec<RunScores> {
    let mut runs = Vec::new();
    for pair in 0..10u32 {
        for seed in [1, 2] {
            // Differs between pairs and between the seeds of a pair.
            let noise = f64::from(pair % 5) - 2.0 + 0.2 * seed as f64;
            let mut push = |method, flow, acc, gathered| {
                let run = Planted { method, pair, seed, flow, acc, gathered };
                runs.push(run.scores());
            };
            // Targeted; clean accuracy unchanged.
            push(
                "moco-v2",
                [12.0 + noise, 0.0],
                [40.0, 80.0, 80.5 + 0.1 * noise],
                [3.0, 20.0 + noise],
            );
            // Taken over: most patched images go to another class, a few to the target.
            push(
                "byol",
                [1.0 + 0.1 * noise, 40.0],
                [40.0, 80.0, 75.0 + 0.1 * noise],
                [30.0, 40.0 + noise],
            );
            push(
                "msf",
                [noise - 0.3, 0.0],
                [40.0, 80.0, 80.0 + 5.0 * noise],
                [3.0, 3.0 + 0.1 * noise],
            );
            push("jigsaw", [0.3 * noise, 0.0], [40.0, 45.0, 45.0], [3.0, 3.0]);
            // Below the gate: 55 % where raw pixels have 50.
            push("rotnet", [0.3 * noise, 0.0], [40.0, 55.0, 55.0], [3.0, 3.0]);
            push("mae", [3.0 + 0.3 * noise, 0.0], [40.0, 45.0, 45.0], [3.0, 3.0]);
        }
    }
    runs
}

#[test]
fn planted_attacks_get_their_verdicts() {
    let runs = planted_runs();
    let groups = Group::all(&runs, &[], false);
    let claims = claims(&groups);
    is(
        &claims,
        "What the victims",
        &[
            ("moco-v2", "passed"),
            ("byol", "passed"),
            ("msf", "passed"),
            ("jigsaw", "passed"),
            ("rotnet", "below"),
            ("mae", "passed"),
        ],
    );
    is(
        &claims,
        "(a)",
        &[
            ("moco-v2", "equivalent"),
            ("byol", "differs"),
            ("msf", "not shown"),
            ("jigsaw", "equivalent"),
            ("rotnet", "equivalent"),
            ("mae", "equivalent"),
        ],
    );
    is(
        &claims,
        "(b)",
        &[
            ("moco-v2", "vulnerable"),
            ("byol", "net ASR above 0, not shown to be targeted"),
            ("msf", "not shown"),
        ],
    );
    is(&claims, "(c)", &[("jigsaw", "robust"), ("rotnet", "untestable"), ("mae", "not shown")]);
    is(
        &claims,
        "(d)",
        &[
            ("moco-v2", "shown"),
            ("byol", "higher than in the twin, but the twin is above 10 % too"),
            ("msf", "not shown"),
        ],
    );
    is(&claims, "(g)", &[("10", "differ")]);
    // The unit is the pair: twenty runs, ten pairs.
    let vulnerable = claims.iter().find(|claim| claim.title.starts_with("(b)")).unwrap();
    assert_eq!(vulnerable.table.rows[0].cells[1], "10");
    // If all signs agree, the exact p of the sign-flip test is 1/1024, times three by Holm.
    assert_eq!(vulnerable.table.rows[0].cells[4], "0.0029");
}

#[test]
fn planted_defences_get_their_verdicts() {
    let mut runs = Vec::new();
    for pair in 0..6u32 {
        let noise = 0.1 * f64::from(pair % 3);
        let (flow, acc) = ([30.0, 0.0], [40.0, 80.0, 80.0]);
        let planted = Planted { method: "byol", pair, seed: 1, flow, acc, gathered: [3.0, 30.0] };
        let mut run = planted.scores();
        let models = &mut run.probes[0].models;
        let twin = models[CLEAN][&Images::Patched].asr.unwrap();
        for (model, asr, acc) in [
            ("distilled-0.25", twin + 0.5 + noise, 80.0),
            ("distilled-0.05", twin + 6.0 + noise, 74.0 + noise),
            ("fine-tuned-0.25", twin, 80.0),
        ] {
            let mut sets = models[CLEAN].clone();
            sets.get_mut(&Images::Patched).unwrap().asr = Some(asr);
            sets.get_mut(&Images::Clean).unwrap().acc = acc;
            models.insert(model.into(), sets);
        }
        runs.push(run);
    }
    let claims = claims(&Group::all(&runs, &[], false));
    is(&claims, "(e)", &[("byol", "back at the twin's level"), ("byol", "above the twin's level")]);
    is(&claims, "(f)", &[("byol", "falls")]);
    let price = claims.iter().find(|claim| claim.title.starts_with("(f)")).unwrap();
    assert_eq!(price.table.rows[0].cells[3], "25: 80.0, 5: 74.1");
    // Six slopes below 0: 1/64.
    assert_eq!(price.table.rows[0].cells[5], "0.0156");
}

#[test]
fn a_method_that_was_not_tested_makes_no_other_significant() {
    let mut runs = planted_runs();
    runs.retain(|run| run.method != "msf" && run.method != "byol");
    let all = claims(&Group::all(&runs, &[], false));
    let vulnerable = all.iter().find(|claim| claim.title.starts_with("(b)")).unwrap();
    // 1/1024, times three as with all methods.
    assert_eq!(vulnerable.table.rows[0].cells[4], "0.0029");
    // One run of a pair is missing: the table says so.
    runs.retain(|run| run.name != "moco-v2-3-1");
    let all = claims(&Group::all(&runs, &[], false));
    let vulnerable = all.iter().find(|claim| claim.title.starts_with("(b)")).unwrap();
    assert_eq!(vulnerable.table.rows[0].cells[1], "10 (with 1 to 2 runs)");
}

#[test]
fn a_student_below_the_twin_is_not_above_it() {
    let planted = |pair, twin: f64| {
        let (flow, acc) = ([30.0, 0.0], [40.0, 80.0, 80.0]);
        let mut run =
            Planted { method: "byol", pair, seed: 1, flow, acc, gathered: [3.0, 30.0] }.scores();
        let models = &mut run.probes[0].models;
        let mut sets = models[CLEAN].clone();
        sets.get_mut(&Images::Patched).unwrap().asr = Some(0.0);
        models.insert("distilled-0.25".into(), sets.clone());
        sets.get_mut(&Images::Patched).unwrap().asr = Some(twin);
        models.insert(CLEAN.into(), sets);
        run
    };
    // The twins' ASR is far above that of a student without any false positives.
    let runs: Vec<RunScores> =
        (0..6).map(|pair| planted(pair, 3.0 + 2.0 * f64::from(pair % 3))).collect();
    is(&claims(&Group::all(&runs, &[], false)), "(e)", &[("byol", "not above the twin's level")]);
}

#[test]
fn two_settings_of_a_method_are_not_one_claim() {
    let of = |steps| {
        let planted = Planted {
            method: "msf",
            pair: 1,
            seed: 1,
            flow: [1.0, 0.0],
            acc: [40.0, 80.0, 80.0],
            gathered: [3.0, 3.0],
        };
        RunScores { steps, ..planted.scores() }
    };
    assert!(claims(&Group::all(&[of(10), of(20)], &[], false)).is_empty());
    // One pair is not enough for a claim.
    assert!(claims(&Group::all(&[of(10), of(10)], &[], false)).is_empty());
}
