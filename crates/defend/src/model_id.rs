//! The names of the models of a run: a role and, if any, the share of images that the defender holds and the share of
//! those that is poisoned.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// The role of a model in an experiment. The set of roles is open: a new defence adds its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role<'a>(&'a str);

impl<'a> Role<'a> {
    /// The encoder before any training.
    pub const UNTRAINED: Role<'static> = Role("untrained");
    /// The twin trained on clean images.
    pub const CLEAN: Role<'static> = Role("clean");
    /// The model trained on the poisoned set.
    pub const BACKDOORED: Role<'static> = Role("backdoored");
    /// A CompReSS student of the backdoored model.
    pub const DISTILLED: Role<'static> = Role("distilled");
    /// The backdoored model, trained further by its own method.
    pub const FINE_TUNED: Role<'static> = Role("fine-tuned");
    /// A new encoder, trained by the victim's method on the images that the defender holds.
    pub const SCRATCH: Role<'static> = Role("scratch");
    /// A CompReSS student of the clean twin.
    pub const CLEAN_TEACHER: Role<'static> = Role("clean-teacher");

    /// The role called `name`.
    pub const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether every run has a model of this role, defended or not.
    pub fn is_basic(self) -> bool {
        [Self::UNTRAINED, Self::CLEAN, Self::BACKDOORED].contains(&self)
    }

    /// Whether models with this role are controls. Tables show them after the defended models.
    pub fn is_control(self) -> bool {
        [Self::FINE_TUNED, Self::SCRATCH, Self::CLEAN_TEACHER].contains(&self)
    }
}

impl fmt::Display for Role<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The name of a model in scores, folders and tables, with its parts: `distilled-0.25-poisoned-0.05` is of the role
/// `distilled`, its defender holds 25 % of the training images, and 5 % of those are poisoned.
///
/// Any text is a name. Two ids are equal if their names are, and they are ordered as their names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ModelId {
    name: String,
    /// Bytes of `name` that are the role.
    role: usize,
    share: Option<f64>,
    contamination: Option<f64>,
}

/// The text between the share and the contamination.
const POISONED: &str = "-poisoned";

impl ModelId {
    /// The one model of `role`.
    pub fn new(role: Role<'_>) -> Self {
        role.as_str().into()
    }

    /// A model of `role` whose defender holds `share` of the training images.
    pub fn on_share(role: Role<'_>, share: f64) -> Self {
        format!("{role}-{share}").into()
    }

    /// The same model with a share `contamination` of its defender's images poisoned; 0 changes nothing.
    pub fn contaminated(self, contamination: f64) -> Self {
        if contamination == 0.0 {
            return self;
        }
        format!("{}{POISONED}-{contamination}", self.name).into()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Its role in the experiment.
    pub fn role(&self) -> Role<'_> {
        Role(&self.name[..self.role])
    }

    /// Share of the training images that its defender holds, if there is one.
    pub fn share(&self) -> Option<f64> {
        self.share
    }

    /// Share of those images that is poisoned, if any is.
    pub fn contamination(&self) -> Option<f64> {
        self.contamination
    }

    /// The series of models that it belongs to, and its place in it: the name without its last share, and that share,
    /// or 0 without one.
    pub fn series(&self) -> (&str, f64) {
        match split(&self.name) {
            (name, Some(share)) => (name, share),
            (name, None) => (name, 0.0),
        }
    }
}

/// Splits `NAME-0.25` into `NAME` and 0.25; returns any other text as it is.
fn split(name: &str) -> (&str, Option<f64>) {
    let parts = name.rsplit_once('-').and_then(|(name, share)| Some((name, share.parse().ok()?)));
    match parts {
        Some((rest, share)) if f64::is_finite(share) => (rest, Some(share)),
        _ => (name, None),
    }
}

impl From<Role<'_>> for ModelId {
    fn from(role: Role<'_>) -> Self {
        Self::new(role)
    }
}

impl From<&str> for ModelId {
    fn from(name: &str) -> Self {
        name.to_owned().into()
    }
}

impl From<String> for ModelId {
    fn from(name: String) -> Self {
        let (rest, last) = split(&name);
        let (rest, contamination, share) = match rest.strip_suffix(POISONED) {
            Some(rest) if last.is_some() => {
                let (rest, share) = split(rest);
                (rest, last, share)
            }
            _ => (rest, None, last),
        };
        let role = rest.len();
        Self { name, role, share, contamination }
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.name
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl Borrow<str> for ModelId {
    fn borrow(&self) -> &str {
        &self.name
    }
}

impl PartialEq for ModelId {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ModelId {}

impl PartialOrd for ModelId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ModelId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl Hash for ModelId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_finished_runs_have_their_parts() {
        for (name, role, share, contamination, series) in [
            ("untrained", "untrained", None, None, ("untrained", 0.0)),
            ("distilled-0.25", "distilled", Some(0.25), None, ("distilled", 0.25)),
            ("clean-teacher-0.05", "clean-teacher", Some(0.05), None, ("clean-teacher", 0.05)),
            ("fine-tuned-1", "fine-tuned", Some(1.0), None, ("fine-tuned", 1.0)),
            (
                "distilled-0.25-poisoned-0.05",
                "distilled",
                Some(0.25),
                Some(0.05),
                ("distilled-0.25-poisoned", 0.05),
            ),
            // Names that no version has written count as roles.
            ("filtered", "filtered", None, None, ("filtered", 0.0)),
            ("x-poisoned", "x-poisoned", None, None, ("x-poisoned", 0.0)),
            ("a-nan", "a-nan", None, None, ("a-nan", 0.0)),
            ("", "", None, None, ("", 0.0)),
        ] {
            let id = ModelId::from(name);
            assert_eq!((id.as_str(), id.role().as_str()), (name, role));
            assert_eq!((id.share(), id.contamination()), (share, contamination), "{name}");
            assert_eq!(id.series(), series, "{name}");
            let text = serde_json::to_string(&id).unwrap();
            assert_eq!(text, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<ModelId>(&text).unwrap(), id);
        }
    }

    #[test]
    fn an_id_that_is_made_of_parts_has_them() {
        let id = ModelId::on_share(Role::DISTILLED, 0.1);
        assert_eq!((id.as_str(), id.share()), ("distilled-0.1", Some(0.1)));
        assert_eq!(id.clone().contaminated(0.0), id);
        let id = id.contaminated(0.05);
        assert_eq!(id.as_str(), "distilled-0.1-poisoned-0.05");
        assert_eq!((id.role(), id.contamination()), (Role::DISTILLED, Some(0.05)));
        assert!(Role::SCRATCH.is_control() && !Role::new("filtered").is_control());
        assert!(Role::CLEAN.is_basic() && !Role::CLEAN_TEACHER.is_basic());
    }
}
