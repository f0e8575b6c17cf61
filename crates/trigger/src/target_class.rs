//! The target class of a config.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TriggerError;

/// The target class as a config names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "allowed are the index of a class, 0 or more, and its name")]
pub enum TargetClass {
    /// The index of the class, 0 to classes - 1.
    Index(u32),
    /// The name of the class, of its folder, or its WordNet id.
    Name(String),
}

impl TargetClass {
    /// The class's index among `classes`.
    ///
    /// # Errors
    /// [`TriggerError::Target`] if there is none.
    pub fn index(&self, classes: &[String]) -> Result<u32, TriggerError> {
        let wrong = |target: String, allowed| Err(TriggerError::Target { target, allowed });
        match self {
            Self::Index(index) if (*index as usize) < classes.len() => Ok(*index),
            Self::Index(index) => wrong(
                index.to_string(),
                format!(
                    "the data set has {} classes, allowed are 0 to {}",
                    classes.len(),
                    classes.len().saturating_sub(1)
                ),
            ),
            Self::Name(name) => match classes.iter().position(|class| class == name) {
                Some(index) => Ok(index as u32),
                None => {
                    let some: Vec<&str> = classes.iter().take(10).map(String::as_str).collect();
                    let more = if classes.len() > some.len() { ", …" } else { "" };
                    wrong(name.clone(), format!("the classes are {}{more}", some.join(", ")))
                }
            },
        }
    }
}
