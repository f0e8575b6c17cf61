//! The claims about the attack: (a) to (d) and (g).

use ssl_backdoor_probe::{
    Alternative, Destinations, Targeting, equivalence, holm, sign_flip, targeting, upper_bound,
};

use super::claim::{Claim, LEVEL, MARGIN, ROBUST, SEED, VULNERABLE, p_value, with_interval};
use super::gate;
use super::pairs::{Pair, mean_cells, number, pairs, values};
use crate::record::{BACKDOORED, CLEAN, Images, ProbeResult, RunScores};
use crate::report::group::Group;
use crate::report::table::Row;

/// Percent of patched images that lie among one of ten classes by chance.
const CHANCE: f64 = 10.0;

/// A method, its pairs, and the group of its runs.
struct Method<'a> {
    name: &'a str,
    pairs: Vec<Pair<'a>>,
    group: &'a Group<'a>,
}

pub(super) fn claims(groups: &[&Group<'_>]) -> Vec<Claim> {
    let of = |names: &[&str]| -> Vec<Method<'_>> {
        let found = |name: &&str| groups.iter().find(|group| group.setting.method == *name);
        let methods = names.iter().filter_map(found).map(|group| Method {
            name: group.setting.method.as_str(),
            pairs: pairs(group),
            group,
        });
        methods.filter(|method| method.pairs.len() >= 2).collect()
    };
    let (vulnerable, robust) = (of(&VULNERABLE), of(&ROBUST));
    let all: Vec<&Method<'_>> = vulnerable.iter().chain(&robust).collect();
    let claims = [
        clean_accuracy(&all),
        vulnerability(&vulnerable),
        robustness(&robust),
        neighbourhood(&vulnerable),
        difference(&vulnerable, &robust),
    ];
    claims.into_iter().flatten().collect()
}

fn net_asr(_: &RunScores, reading: &ProbeResult) -> Option<f64> {
    reading.net.net_asr
}

/// The p-values of methods of [`VULNERABLE`] with Holm's correction over all of them: one that was not tested counts with
/// a p of 1, so that its absence makes no other significant.
fn over_methods(p: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
    let mut all: Vec<f64> = p.collect();
    let tested = all.len();
    all.resize(tested.max(VULNERABLE.len()), 1.0);
    let mut adjusted = holm(&all)?;
    adjusted.truncate(tested);
    Some(adjusted)
}

/// (a) The poison does not change clean accuracy.
fn clean_accuracy(methods: &[&Method<'_>]) -> Option<Claim> {
    let difference = |_: &RunScores, reading: &ProbeResult| {
        let acc = |model: &str| Some(reading.models.get(model)?.get(&Images::Clean)?.acc);
        Some(acc(BACKDOORED)? - acc(CLEAN)?)
    };
    let row = |method: &&Method<'_>| {
        let values = values(&method.pairs, difference)?;
        let test = equivalence(&values, MARGIN)?;
        let within = values.iter().filter(|value| value.abs() <= MARGIN).count();
        let [low, high] = test.interval90;
        let verdict = match () {
            () if test.p < LEVEL => "equivalent",
            () if low > MARGIN || high < -MARGIN => "differs",
            () => "not shown",
        };
        let cells = vec![
            method.name.into(),
            number(&method.pairs),
            with_interval(test.mean, test.interval90),
            mean_cells(&values)[1].clone(),
            format!("{within} of {}", values.len()),
            p_value(test.p),
            verdict.into(),
        ];
        Some(Row { cells, anchor: method.group.anchor() })
    };
    Claim::new(
        "(a) The poison leaves clean accuracy as it was",
        format!(
            "Accuracy on clean images, backdoored model minus clean twin, in points, with Student's 90 % interval; bootstrap \
             95 %. Equivalent: two one-sided t-tests against {MARGIN:.0} points have p < {LEVEL}."
        ),
        &["Method", "Pairs", "Difference", "Bootstrap", "Pairs within 2 points", "p", "Verdict"],
        methods.iter().filter_map(row).collect(),
    )
}

/// (b) Methods that pull two views together are vulnerable.
fn vulnerability(methods: &[Method<'_>]) -> Option<Claim> {
    struct Tested {
        values: Vec<f64>,
        above: f64,
        targeting: Targeting,
    }
    let tested = |method: &Method<'_>| {
        let values = values(&method.pairs, net_asr)?;
        let above = sign_flip(&values, Alternative::Greater, SEED)?.p;
        let destinations: Option<Vec<Destinations>> = method
            .pairs
            .iter()
            .map(|pair| Some(Destinations { target: pair.target as usize, flow: pair.flow()? }))
            .collect();
        Some(Tested { values, above, targeting: targeting(&destinations?, SEED)? })
    };
    let all: Vec<(&Method<'_>, Tested)> =
        methods.iter().filter_map(|method| Some((method, tested(method)?))).collect();
    let above = over_methods(all.iter().map(|(_, tested)| tested.above))?;
    let targeted = over_methods(all.iter().map(|(_, tested)| tested.targeting.p))?;
    let row = |((method, tested), (above, targeted)): (&(&Method<'_>, Tested), (&f64, &f64))| {
        let verdict = match (*above < LEVEL, *targeted < LEVEL) {
            (true, true) => "vulnerable",
            (true, false) => "net ASR above 0, not shown to be targeted",
            (false, _) => "not shown",
        };
        let [mean, drawn] = mean_cells(&tested.values);
        let cells = vec![
            method.name.into(),
            number(&method.pairs),
            mean,
            drawn,
            p_value(*above),
            format!("{:.1}", tested.targeting.expected),
            p_value(*targeted),
            verdict.into(),
        ];
        Row { cells, anchor: method.group.anchor() }
    };
    Claim::new(
        "(b) Methods that pull two views together are vulnerable",
        format!(
            "Net ASR, the mean net flow to the poisoned class, in points with Student's 95 % interval; bootstrap 95 %. \
             Vulnerable: an exact sign-flip test over pairs finds it above 0, and a permutation of the targets over the pairs \
             finds it above the net flow to classes that other pairs poisoned, each with p < {LEVEL} by Holm over the methods."
        ),
        &[
            "Method",
            "Pairs",
            "Net ASR",
            "Bootstrap",
            "p, above 0",
            "Flow with targets permuted",
            "p, targeted",
            "Verdict",
        ],
        all.iter().zip(above.iter().zip(&targeted)).map(row).collect(),
    )
}

/// (c) Methods that do not pull two views together are robust.
fn robustness(methods: &[Method<'_>]) -> Option<Claim> {
    let row = |method: &Method<'_>| {
        let values = values(&method.pairs, net_asr)?;
        let bound = upper_bound(&values, 0.95)?;
        let verdict = match (bound < MARGIN, gate::closed(method.group)) {
            (true, true) => "untestable",
            (true, false) => "robust",
            (false, _) => "not shown",
        };
        let [mean, drawn] = mean_cells(&values);
        let cells = vec![
            method.name.into(),
            number(&method.pairs),
            mean,
            drawn,
            format!("{bound:.1}"),
            verdict.into(),
        ];
        Some(Row { cells, anchor: method.group.anchor() })
    };
    Claim::new(
        "(c) Methods that do not pull two views together are robust",
        format!(
            "Robust: the one-sided upper 95 % bound of the mean net ASR (Student) is below {MARGIN:.0} points; untestable \
             if the victims are below the gate."
        ),
        &["Method", "Pairs", "Net ASR", "Bootstrap", "Upper bound", "Verdict"],
        methods.iter().filter_map(row).collect(),
    )
}

/// (d) Patched images lie among the target's.
fn neighbourhood(methods: &[Method<'_>]) -> Option<Claim> {
    struct Tested {
        twin: f64,
        backdoored: f64,
        more: Vec<f64>,
        p: f64,
    }
    let among = |model: &'static str| {
        move |run: &RunScores, _: &ProbeResult| run.target_neighbour_share.get(model).copied()
    };
    let tested = |method: &Method<'_>| {
        let [twin, backdoored] =
            [values(&method.pairs, among(CLEAN))?, values(&method.pairs, among(BACKDOORED))?];
        let more: Vec<f64> = backdoored.iter().zip(&twin).map(|(b, t)| b - t).collect();
        let p = sign_flip(&more, Alternative::Greater, SEED)?.p;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Some(Tested { twin: mean(&twin), backdoored: mean(&backdoored), more, p })
    };
    let all: Vec<(&Method<'_>, Tested)> =
        methods.iter().filter_map(|method| Some((method, tested(method)?))).collect();
    let adjusted = over_methods(all.iter().map(|(_, tested)| tested.p))?;
    let row = |((method, tested), p): (&(&Method<'_>, Tested), &f64)| {
        let Tested { twin, backdoored, more, .. } = tested;
        let verdict = match (*p < LEVEL, *twin < CHANCE) {
            (true, true) => "shown",
            (true, false) => "higher than in the twin, but the twin is above 10 % too",
            (false, _) => "not shown",
        };
        let cells = vec![
            method.name.into(),
            number(&method.pairs),
            format!("{twin:.1}"),
            format!("{backdoored:.1}"),
            mean_cells(more)[0].clone(),
            p_value(*p),
            verdict.into(),
        ];
        Row { cells, anchor: method.group.anchor() }
    };
    Claim::new(
        "(d) Patched images lie among the target's in the backdoored features, not in the twin's",
        format!(
            "Percent of the patched images of other classes whose ten nearest clean images are mostly the target's. Shown: \
             an exact sign-flip test over pairs finds more in the backdoored model (p < {LEVEL} by Holm), and the twin has \
             fewer than the {CHANCE:.0} % of chance."
        ),
        &["Method", "Pairs", "Clean twin", "Backdoored", "Difference", "p", "Verdict"],
        all.iter().zip(&adjusted).map(row).collect(),
    )
}

/// (g) The two groups of methods differ.
fn difference(vulnerable: &[Method<'_>], robust: &[Method<'_>]) -> Option<Claim> {
    let shared = vulnerable.first()?.pairs.iter().map(|pair| (pair.target, pair.trigger()));
    // A pair counts if every method has it.
    let of = |methods: &[Method<'_>], key: (u32, &str)| -> Option<f64> {
        let values: Option<Vec<f64>> = methods
            .iter()
            .map(|m| m.pairs.iter().find(|p| (p.target, p.trigger()) == key)?.mean(net_asr))
            .collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    if vulnerable.len() < VULNERABLE.len() || robust.len() < ROBUST.len() {
        return None;
    }
    let values: Vec<f64> =
        shared.filter_map(|key| Some(of(vulnerable, key)? - of(robust, key)?)).collect();
    let test = sign_flip(&values, Alternative::TwoSided, SEED)?;
    let [mean, drawn] = mean_cells(&values);
    let verdict = if test.p < LEVEL { "differ" } else { "not shown" };
    let cells = vec![values.len().to_string(), mean, drawn, p_value(test.p), verdict.into()];
    Claim::new(
        "(g) The two groups of methods differ",
        format!(
            "Mean net ASR of {} minus that of {}, by pair. Differ: an exact two-sided sign-flip test over pairs has p < \
             {LEVEL}.",
            VULNERABLE.join(", "),
            ROBUST.join(", ")
        ),
        &["Pairs", "Difference", "Bootstrap", "p", "Verdict"],
        vec![Row { cells, anchor: vulnerable.first()?.group.anchor() }],
    )
}
