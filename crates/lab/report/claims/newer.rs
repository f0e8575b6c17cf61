//! The claims about methods that the paper did not test: (h) and (i).

use ssl_backdoor_probe::{Alternative, sign_flip};
use toml::Value;

use super::claim::{Claim, LEVEL, SEED, p_value};
use super::pairs::mean_cells;
use crate::report::group::Group;
use crate::report::in_common::in_common;
use crate::report::table::Row;

/// The methods of (h), which compare two views.
const TWO_VIEWS: [&str; 6] =
    ["simclr", "simclr-v2", "simsiam", "barlow-twins", "vicreg", "moco-v3"];
/// The method of (i), and the key with the number of its small crops.
const MULTI_CROP: &str = "swav";
const SMALL: &str = "small";

pub(super) fn claims(groups: &[&Group<'_>]) -> Vec<Claim> {
    [together(groups), multi_crop(groups)].into_iter().flatten().collect()
}

/// (h) The two-view methods are vulnerable together.
fn together(groups: &[&Group<'_>]) -> Option<Claim> {
    let only = |method: &&str| {
        let mut of = groups.iter().filter(|group| group.setting.method == **method);
        of.next().filter(|_| of.next().is_none()).copied()
    };
    let found: Option<Vec<&Group<'_>>> = TWO_VIEWS.iter().map(only).collect();
    let found = found?;
    let mean = |row: &Vec<f64>| row.iter().sum::<f64>() / row.len() as f64;
    let values: Vec<f64> = in_common(&found).pairs.iter().map(mean).collect();
    let test = sign_flip(&values, Alternative::Greater, SEED)?;
    let verdict = if test.p < LEVEL { "vulnerable" } else { "not shown" };
    Claim::new(
        "(h) Newer methods that compare two views are vulnerable together",
        format!(
            "Mean net ASR over {}, by pair, in points with Student's 95 % interval; bootstrap 95 %. Vulnerable: an exact \
             one-sided sign-flip test over pairs has p < {LEVEL}. No method is judged on its own.",
            TWO_VIEWS.join(", ")
        ),
        &["Pairs", "Net ASR", "Bootstrap", "p", "Verdict"],
        vec![row(&values, test.p, verdict, found[0])],
    )
}

/// (i) Multi-crop changes net ASR.
fn multi_crop(groups: &[&Group<'_>]) -> Option<Claim> {
    let of = groups.iter().filter(|group| group.setting.method == MULTI_CROP);
    let of: Vec<_> = of.filter_map(|group| Some((group, small_crops(group)?))).collect();
    match of.as_slice() {
        [(with, (1.., one)), (without, (0, other))]
        | [(without, (0, one)), (with, (1.., other))]
            if one == other =>
        {
            difference(with, without)
        }
        _ => None,
    }
}

/// The number of small crops of a group, and the rest of its setting.
fn small_crops(group: &Group<'_>) -> Option<(i64, Value)> {
    let mut tree = group.setting.tree();
    let method = tree.get_mut("pretrain")?.get_mut("method")?.as_table_mut()?;
    let small = method.remove(SMALL)?.as_integer()?;
    Some((small, tree))
}

fn difference(with: &Group<'_>, without: &Group<'_>) -> Option<Claim> {
    let values: Vec<f64> =
        in_common(&[with, without]).pairs.iter().map(|row| row[0] - row[1]).collect();
    let test = sign_flip(&values, Alternative::TwoSided, SEED)?;
    let verdict = if test.p < LEVEL { "changes" } else { "not shown" };
    Claim::new(
        "(i) Multi-crop changes net ASR",
        format!(
            "Net ASR of {MULTI_CROP} with small crops minus that without, by pair, in points with Student's 95 % interval; \
             bootstrap 95 %. Changes: an exact two-sided sign-flip test over pairs has p < {LEVEL}."
        ),
        &["Pairs", "Difference", "Bootstrap", "p", "Verdict"],
        vec![row(&values, test.p, verdict, with)],
    )
}

fn row(values: &[f64], p: f64, verdict: &str, group: &Group<'_>) -> Row {
    let [mean, drawn] = mean_cells(values);
    let cells = vec![values.len().to_string(), mean, drawn, p_value(p), verdict.into()];
    Row { cells, anchor: group.anchor() }
}
