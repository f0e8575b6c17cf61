//! Names of probes in scores and tables.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a probe learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeHow {
    /// A linear classifier by the unified rules.
    Linear,
    /// The method's own probe.
    Own,
    /// A classifier that is fine-tuned together with the encoder.
    FineTuned,
    /// The vote of the `k` nearest neighbours.
    Knn { k: usize, weighted: bool },
    /// A probe of another version, by its name.
    Other(String),
}

/// The part of the encoder that a probe reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbePart {
    /// The output.
    Output,
    /// This stage, from 1.
    Stage(usize),
    /// This map of the paper's probes, from 1.
    Map(usize),
}

/// The name of a probe with its parts: `linear`, `paper, map 3`, `knn-20-weighted, stage 2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ProbeId {
    pub(crate) how: ProbeHow,
    pub(crate) part: ProbePart,
}

impl ProbeId {
    /// In words: `Vote of the 20 nearest neighbours of stage 2`.
    pub(crate) fn in_words(&self) -> String {
        let how = match &self.how {
            ProbeHow::Linear => "Linear probe".to_owned(),
            ProbeHow::Own => "The method's own probe".to_owned(),
            ProbeHow::FineTuned => "Fine-tuned network".to_owned(),
            ProbeHow::Knn { k, weighted } => {
                let vote = if *weighted { "Weighted vote" } else { "Vote" };
                match k {
                    1 => format!("{vote} of the nearest neighbour"),
                    k => format!("{vote} of the {k} nearest neighbours"),
                }
            }
            ProbeHow::Other(name) => format!("Probe “{name}”"),
        };
        match self.part {
            ProbePart::Output => how,
            ProbePart::Stage(stage) => format!("{how} of stage {stage}"),
            ProbePart::Map(map) => format!("{how} of map {map}"),
        }
    }
}

impl fmt::Display for ProbeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            ProbeHow::Linear => f.write_str("linear")?,
            ProbeHow::Own => f.write_str("paper")?,
            ProbeHow::FineTuned => f.write_str("fine-tuned")?,
            ProbeHow::Knn { k, weighted } => {
                write!(f, "knn-{k}{}", if *weighted { "-weighted" } else { "" })?;
            }
            ProbeHow::Other(name) => f.write_str(name)?,
        }
        match self.part {
            ProbePart::Output => Ok(()),
            ProbePart::Stage(stage) => write!(f, ", stage {stage}"),
            ProbePart::Map(map) => write!(f, ", map {map}"),
        }
    }
}

impl FromStr for ProbeId {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        let other = || Self { how: ProbeHow::Other(name.into()), part: ProbePart::Output };
        let (how, part) = match name.split_once(", ") {
            None => (name, Some(ProbePart::Output)),
            Some((how, part)) => {
                let number = |prefix| part.strip_prefix(prefix).and_then(|n: &str| n.parse().ok());
                let stage = number("stage ").map(ProbePart::Stage);
                (how, stage.or_else(|| number("map ").map(ProbePart::Map)))
            }
        };
        let how = match how {
            "linear" => Some(ProbeHow::Linear),
            "paper" => Some(ProbeHow::Own),
            "fine-tuned" => Some(ProbeHow::FineTuned),
            _ => how.strip_prefix("knn-").and_then(|k| {
                let plain = k.strip_suffix("-weighted");
                let k = plain.unwrap_or(k).parse().ok()?;
                Some(ProbeHow::Knn { k, weighted: plain.is_some() })
            }),
        };
        Ok(how.zip(part).map_or_else(other, |(how, part)| Self { how, part }))
    }
}

impl From<String> for ProbeId {
    fn from(name: String) -> Self {
        let Ok(id) = name.parse();
        id
    }
}

impl From<ProbeId> for String {
    fn from(id: ProbeId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_2_02_a_name_has_its_parts_and_is_read_back() {
        for (name, words) in [
            ("linear", "Linear probe"),
            ("linear, stage 2", "Linear probe of stage 2"),
            ("paper", "The method's own probe"),
            ("paper, map 3", "The method's own probe of map 3"),
            ("fine-tuned", "Fine-tuned network"),
            ("knn-1", "Vote of the nearest neighbour"),
            ("knn-20", "Vote of the 20 nearest neighbours"),
            ("knn-5-weighted", "Weighted vote of the 5 nearest neighbours"),
            ("knn-5, stage 4", "Vote of the 5 nearest neighbours of stage 4"),
            // Names of later versions are kept.
            ("mlp, layer 2", "Probe “mlp, layer 2”"),
            ("knn-x", "Probe “knn-x”"),
            ("", "Probe “”"),
        ] {
            let id = ProbeId::from(name.to_owned());
            assert_eq!((id.to_string().as_str(), id.in_words().as_str()), (name, words));
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("{name:?}"));
            let other = matches!(id.how, ProbeHow::Other(_));
            assert_eq!(other, words.starts_with("Probe “"));
        }
    }
}
