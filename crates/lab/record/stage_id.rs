//! Names of the stages in a manifest.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use ssl_backdoor_defend::{ModelId, Role};

/// A stage of a run, or of one of its models. Ids are ordered by their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum StageId {
    Poison,
    CheckImages,
    TriggerSize,
    PretrainClean,
    PretrainBackdoored,
    Defend(ModelId),
    Baseline,
    Features(ModelId),
    Probe,
    Scan,
    FeatureMaps,
    Report,
    /// A stage of another version, by its name.
    Other(String),
}

/// The kind of cost of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A training that several runs may share.
    Twin,
    /// A training of one run.
    Training,
    /// Anything else.
    Rest,
}

impl StageId {
    /// Stages that do not depend on a model.
    const SINGLE: [(Self, &'static str); 10] = [
        (Self::Poison, "poison"),
        (Self::CheckImages, "check images"),
        (Self::TriggerSize, "trigger size"),
        (Self::PretrainClean, "pretrain clean"),
        (Self::PretrainBackdoored, "pretrain backdoored"),
        (Self::Baseline, "floor"),
        (Self::Probe, "probe"),
        (Self::Scan, "scan"),
        (Self::FeatureMaps, "feature maps"),
        (Self::Report, "report"),
    ];

    /// The training of the victim with this role.
    pub(crate) fn pretrain(role: Role<'_>) -> Self {
        if role == Role::CLEAN { Self::PretrainClean } else { Self::PretrainBackdoored }
    }

    /// Its kind of cost.
    pub(crate) fn cost(&self) -> Cost {
        match self {
            Self::PretrainClean => Cost::Twin,
            Self::PretrainBackdoored | Self::Defend(_) => Cost::Training,
            _ => Cost::Rest,
        }
    }

    /// Whether the scores depend on it.
    pub(crate) fn is_before_the_scores(&self) -> bool {
        !matches!(self, Self::Probe | Self::Scan | Self::FeatureMaps | Self::Report)
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defend(model) => write!(f, "defend {model}"),
            Self::Features(model) => write!(f, "features {model}"),
            Self::Other(name) => f.write_str(name),
            single => {
                let name = Self::SINGLE.iter().find(|(id, _)| id == single);
                f.write_str(name.map_or("", |(_, name)| name))
            }
        }
    }
}

impl From<String> for StageId {
    fn from(name: String) -> Self {
        if let Some((id, _)) = Self::SINGLE.into_iter().find(|(_, single)| *single == name) {
            return id;
        }
        match name.split_once(' ') {
            Some(("defend", model)) => Self::Defend(model.into()),
            Some(("features", model)) => Self::Features(model.into()),
            _ => Self::Other(name),
        }
    }
}

impl From<StageId> for String {
    fn from(id: StageId) -> Self {
        id.to_string()
    }
}

impl PartialOrd for StageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StageId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_manifests_are_read_back() {
        for (name, id, cost) in [
            ("poison", StageId::Poison, Cost::Rest),
            ("pretrain clean", StageId::PretrainClean, Cost::Twin),
            ("pretrain backdoored", StageId::PretrainBackdoored, Cost::Training),
            ("defend distilled-0.1", StageId::Defend("distilled-0.1".into()), Cost::Training),
            ("features clean", StageId::Features("clean".into()), Cost::Rest),
            ("floor", StageId::Baseline, Cost::Rest),
            ("feature maps", StageId::FeatureMaps, Cost::Rest),
            ("scan patch", StageId::Other("scan patch".into()), Cost::Rest),
        ] {
            assert_eq!(StageId::from(name.to_owned()), id);
            assert_eq!((id.to_string().as_str(), id.cost()), (name, cost));
        }
        assert!(StageId::FeatureMaps < StageId::Features("clean".into()));
        assert!(StageId::Features("clean".into()) < StageId::Baseline);
    }
}
