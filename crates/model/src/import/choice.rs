//! Chooses an encoder of a checkpoint: the one that its tool evaluates, or the one that the user names.

use crate::encoder::{FAMILIES, Row};
use crate::family::Arrays;
use crate::found::Place;

/// Prefix of the names of the optimiser's state, which does not belong to any network.
pub(super) const OPTIMIZER: &str = "optimizer";

/// An encoder in a checkpoint.
pub(super) struct Candidate {
    pub place: Place,
    pub family: &'static Row,
}

/// The chosen encoder, the prefixes of the others, and the reason for the choice.
pub(super) struct Choice {
    pub taken: Candidate,
    pub left: Vec<String>,
    pub reason: &'static str,
}

impl Candidate {
    fn prefix(&self) -> &str {
        &self.place.prefix
    }

    /// Whether a word of its prefix marks it as a copy that follows another encoder.
    fn is_copy(&self) -> bool {
        self.place.words().any(|word| COPIES.contains(&word))
    }

    /// Whether `part` is the outermost part of its prefix.
    fn is_under(&self, part: &str) -> bool {
        self.prefix().split('.').next() == Some(part)
    }
}

/// The encoders of a checkpoint with the arrays `all`.
pub(super) fn candidates(all: &Arrays) -> Vec<Candidate> {
    let mut found = Vec::new();
    for name in all.keys().filter(|name| !name.starts_with(OPTIMIZER)) {
        for family in FAMILIES {
            found.extend((family.find)(name, all).map(|place| Candidate { place, family }));
        }
    }
    found
}

/// Words in a name that mark a copy that follows the encoder: a key encoder, a target, a teacher.
const COPIES: [&str; 9] =
    ["k", "t", "key", "target", "teacher", "momentum", "ema", "averaged", "slow"];

/// A search criterion.
type Test<'t, T> = dyn Fn(&T) -> bool + 't;

/// The encoder that its tool evaluates.
///
/// # Errors
/// A message if there is no encoder, or if there are several and no convention decides.
pub(super) fn choose(mut all: Vec<Candidate>) -> Result<Choice, String> {
    let any = |is: fn(&Candidate) -> bool| all.iter().any(is);
    let (is, reason): (fn(&Candidate) -> bool, _) = if all.len() == 1 {
        (|_| true, "")
    } else if any(|one| one.place.has("student")) && any(|one| one.place.has("teacher")) {
        (|one| one.place.has("teacher"), "the teacher, which DINO and iBOT evaluate")
    } else if any(|one| one.is_under("encoder")) && any(|one| one.is_under("target_encoder")) {
        (|one| one.is_under("target_encoder"), "the target encoder, which MSN and I-JEPA evaluate")
    } else if any(|one| one.place.has("ema")) {
        (|one| !one.is_copy(), "the trained network, not its moving average (EMA)")
    } else {
        (|one| !one.is_copy(), "the trained network, not its momentum copy")
    };
    let places: Vec<usize> = (0..all.len()).filter(|&at| is(&all[at])).collect();
    let [at] = places[..] else { return Err(none_or_several(&all)) };
    let taken = all.remove(at);
    Ok(Choice { taken, left: prefixes(&all), reason })
}

/// The reason why none of `all` is chosen.
fn none_or_several(all: &[Candidate]) -> String {
    if !all.is_empty() {
        return format!("contains several encoders: choose one by its prefix, of {}", quoted(all));
    }
    let known: Vec<String> =
        FAMILIES.iter().map(|family| format!("{} ({})", family.anchor, family.noun)).collect();
    format!("contains no known encoder: no array's name ends in {}", known.join(" or "))
}

/// The encoder that the user selects by `prefix`, the beginning of its names. The last dot, `module.` and outer
/// tables such as `state_dict.` are optional.
///
/// # Errors
/// A message that lists the encoders, if none or several match.
pub(super) fn named(mut all: Vec<Candidate>, prefix: &str) -> Result<Choice, String> {
    let parts = |text: &str| -> Vec<String> {
        text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let bare = |parts: &[String]| -> Vec<String> {
        parts.iter().filter(|part| *part != "module").cloned().collect()
    };
    let wanted = parts(prefix);
    let bare_wanted = bare(&wanted);
    let tests: [&Test<'_, [String]>; 6] = [
        &|found| found == wanted,
        &|found| bare(found) == bare_wanted,
        &|found| found.ends_with(&wanted),
        &|found| bare(found).ends_with(&bare_wanted),
        &|found| bare(found).starts_with(&bare_wanted),
        &|found| {
            let found = bare(found);
            found.windows(bare_wanted.len()).any(|part| part == bare_wanted)
        },
    ];
    for test in tests {
        let places: Vec<usize> =
            (0..all.len()).filter(|&at| test(&parts(all[at].prefix()))).collect();
        match places[..] {
            [] => {}
            [at] => {
                let taken = all.remove(at);
                return Ok(Choice { taken, left: prefixes(&all), reason: "" });
            }
            // An empty prefix would match every other.
            _ if wanted.is_empty() => break,
            _ => {
                let several = places.iter().map(|&at| &all[at]);
                return Err(format!("has several encoders under {prefix:?}: {}", quoted(several)));
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    Err(match all[..] {
        [] => format!("has no encoder under {prefix:?}, and none elsewhere"),
        _ => format!("has no encoder under {prefix:?}; it has one under {}", quoted(&all)),
    })
}

fn prefixes(all: &[Candidate]) -> Vec<String> {
    all.iter().map(|one| one.prefix().to_owned()).collect()
}

fn quoted<'a>(all: impl IntoIterator<Item = &'a Candidate>) -> String {
    let quoted: Vec<String> = all.into_iter().map(|one| format!("{:?}", one.prefix())).collect();
    quoted.join(", ")
}
