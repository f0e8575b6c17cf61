//! Which of the encoders of a checkpoint is taken: the one that its tool evaluates, or the one that the user names.

use super::{Candidate, RESNET, VIT, has, words};

/// Which encoder is taken, and why; the places of the others.
#[derive(Debug)]
pub(crate) struct Choice {
    pub taken: Candidate,
    pub left: Vec<String>,
    pub reason: &'static str,
}

/// Words in a name that tell a copy of the encoder that follows it: a key encoder, a target, a teacher.
const COPIES: [&str; 9] =
    ["k", "t", "key", "target", "teacher", "momentum", "ema", "averaged", "slow"];

/// Whether something is what one looks for.
type Test<'t, T> = dyn Fn(&T) -> bool + 't;

/// The encoder that its tool evaluates.
///
/// # Errors
/// A message if there is none, or several and no convention decides.
pub(crate) fn choose(mut all: Vec<Candidate>) -> Result<Choice, String> {
    let first =
        |candidate: &Candidate, part: &str| candidate.prefix.split('.').next() == Some(part);
    let copy = |candidate: &Candidate| words(&candidate.prefix).any(|word| COPIES.contains(&word));
    let having = |word: &str| all.iter().filter(|one| has(&one.prefix, word)).count();
    let (is, reason): (Box<Test<'_, Candidate>>, _) = if all.len() == 1 {
        (Box::new(|_| true), "")
    } else if having("student") > 0 && having("teacher") > 0 {
        (
            Box::new(|one: &Candidate| has(&one.prefix, "teacher")),
            "the teacher, which DINO and iBOT evaluate",
        )
    } else if all.iter().any(|one| first(one, "encoder"))
        && all.iter().any(|one| first(one, "target_encoder"))
    {
        (
            Box::new(move |one: &Candidate| first(one, "target_encoder")),
            "the target encoder, which MSN and I-JEPA evaluate",
        )
    } else if all.iter().any(|one| has(&one.prefix, "ema")) {
        (
            Box::new(move |one: &Candidate| !copy(one)),
            "the trained network, not its moving average (EMA)",
        )
    } else {
        (Box::new(move |one: &Candidate| !copy(one)), "the trained network, not its momentum copy")
    };
    let places: Vec<usize> = (0..all.len()).filter(|&at| is(&all[at])).collect();
    drop(is);
    let [at] = places[..] else {
        let all: Vec<&str> = all.iter().map(|one| one.prefix.as_str()).collect();
        return Err(match all.is_empty() {
            true => format!(
                "holds no known encoder: no array's name ends in {RESNET} (a ResNet) or {VIT} (a vision transformer)"
            ),
            false => {
                format!("holds several encoders: choose one by its prefix, of {}", quoted(&all))
            }
        });
    };
    let taken = all.remove(at);
    Ok(Choice { taken, left: all.into_iter().map(|one| one.prefix).collect(), reason })
}

/// The encoder that a user names by `prefix`: what its names begin with, the last dot, `module.` and outer tables such
/// as `state_dict.` being optional.
///
/// # Errors
/// A message that lists the encoders if there is none of this name, or several.
pub(crate) fn named(mut all: Vec<Candidate>, prefix: &str) -> Result<Choice, String> {
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
            (0..all.len()).filter(|&at| test(&parts(&all[at].prefix))).collect();
        match places[..] {
            [] => {}
            [at] => {
                let taken = all.remove(at);
                let left = all.into_iter().map(|one| one.prefix).collect();
                return Ok(Choice { taken, left, reason: "" });
            }
            // An empty prefix is the end and the beginning of every other.
            _ if wanted.is_empty() => break,
            _ => {
                let several: Vec<&str> = places.iter().map(|&at| all[at].prefix.as_str()).collect();
                return Err(format!("has several encoders under {prefix:?}: {}", quoted(&several)));
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    let all: Vec<&str> = all.iter().map(|one| one.prefix.as_str()).collect();
    Err(match all[..] {
        [] => format!("has no encoder under {prefix:?}, and none elsewhere"),
        _ => format!("has no encoder under {prefix:?}; it has one under {}", quoted(&all)),
    })
}

fn quoted(prefixes: &[&str]) -> String {
    let quoted: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix:?}")).collect();
    quoted.join(", ")
}
