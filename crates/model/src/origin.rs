//! Findings about a checkpoint, each with its basis. An encoder file records them, so a guess stays a guess.

use std::fmt;

use serde::{Deserialize, Serialize};

/// On what basis something is held to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The checkpoint says so.
    Stated,
    /// The user said so.
    Given,
    /// The tool that wrote the checkpoint always does it so.
    Known,
    /// It is usual, and the checkpoint could be otherwise.
    Assumed,
    /// Nothing speaks for it but its likelihood.
    Guess,
}

/// Something about a checkpoint that its arrays do not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about: `heads`, `stem`, `network`.
    pub of: String,
    /// What is held to be so.
    pub value: String,
    /// On what basis.
    pub basis: Basis,
    /// Why.
    pub reason: String,
}

impl Finding {
    pub(crate) fn new(of: &str, value: impl ToString, basis: Basis, reason: &str) -> Self {
        Self { of: of.into(), value: value.to_string(), basis, reason: reason.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, basis, reason, .. } = self;
        let basis = match basis {
            Basis::Stated => "stated by the checkpoint",
            Basis::Given => "given",
            Basis::Known => "known",
            Basis::Assumed => "assumed",
            Basis::Guess => "a guess",
        };
        match reason.as_str() {
            "" => write!(f, "{value} ({basis})"),
            reason => write!(f, "{value} ({basis}: {reason})"),
        }
    }
}
