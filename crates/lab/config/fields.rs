//! Finds the key of a config that an error of a library is about. Libraries name fields of their own configs, and
//! each of these configs is a table of the file; the error's type determines which one.

use std::error::Error;
use std::fmt;
use std::path::Path;

use ssl_backdoor_data::DataError;
use ssl_backdoor_defend::DefendError;
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_probe::ProbeError;
use ssl_backdoor_scan::ScanError;
use ssl_backdoor_ssl::PretrainError;
use ssl_backdoor_trigger::TriggerError;

use super::nearest::meant;
use crate::device::DeviceError;

/// An error in a config: its key and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key at fault, if there is one.
    pub key: Option<String>,
    /// The message, which begins with the key, if any.
    pub message: String,
    /// Whether the message suggests a path.
    suggests: bool,
}

impl Wrong {
    /// An error about `key`; `message` begins with the key.
    pub(crate) fn about(key: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { key: Some(key.into()), ..Self::general(message) }
    }

    /// An error about no key.
    fn general(message: impl fmt::Display) -> Self {
        Self { key: None, message: message.to_string(), suggests: false }
    }

    /// The `error` of a library about `field` of the config in `table`. The text of `error` begins with the field, or
    /// if that is empty, with a verb whose subject is the table.
    pub(crate) fn in_table(table: &str, field: Option<&str>, error: impl fmt::Display) -> Self {
        match field {
            None => Self::general(error),
            Some("") => Self::about(table, format!("{table} {error}")),
            Some(field) => Self::about(format!("{table}.{field}"), format!("{table}.{error}")),
        }
    }

    /// The config error in the chain of `error`, if it is about a key or about a path with a similar one beside it,
    /// and the number of errors before it.
    pub(crate) fn in_chain(error: &anyhow::Error) -> Option<(usize, Self)> {
        error.chain().enumerate().find_map(|(before, cause)| {
            let wrong = of_cause(cause)?;
            (wrong.key.is_some() || wrong.suggests).then_some((before, wrong))
        })
    }

    /// Adds the nearest name for the first of `paths` that does not exist and has a similar one beside it.
    fn with_meant<'a>(self, paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let Some(hint) = paths.into_iter().find_map(meant) else { return self };
        // After a full stop, the hint becomes a sentence.
        let message = match (self.message.strip_suffix('.'), hint.strip_prefix(", d")) {
            (Some(_), Some(hint)) => format!("{} D{hint}", self.message),
            _ => format!("{}{hint}", self.message),
        };
        Self { message, suggests: true, ..self }
    }

    /// Whether the message shows the value of the key.
    pub(crate) fn shows_value(&self) -> bool {
        let key = self.key.as_deref();
        key.and_then(|key| self.message.strip_prefix(key))
            .is_some_and(|rest| rest.starts_with(" = "))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error that may be about a value of a config.
pub(crate) trait OfConfig {
    /// The config error, with the key in the file.
    fn wrong(&self) -> Wrong;
}

impl<E: OfConfig> From<E> for Wrong {
    fn from(error: E) -> Self {
        error.wrong()
    }
}

/// The field is a top-level key, or includes its table.
impl OfConfig for OutOfRange {
    fn wrong(&self) -> Wrong {
        Wrong::about(&self.field, self)
    }
}

impl OfConfig for DeviceError {
    fn wrong(&self) -> Wrong {
        Wrong::about("device", self)
    }
}

impl OfConfig for TriggerError {
    fn wrong(&self) -> Wrong {
        let path = match self {
            Self::Picture { path, .. } | Self::Ledger { path, .. } => Some(path.as_path()),
            _ => None,
        };
        Wrong::in_table("poison", self.field(), self).with_meant(path)
    }
}

impl OfConfig for DataError {
    fn wrong(&self) -> Wrong {
        let wrong = Wrong::in_table("data", self.field(), self);
        match self {
            Self::Trigger(error) => error.wrong(),
            Self::Read { path, .. } => wrong.with_meant([path.as_path()]),
            Self::Missing { looked, .. } => {
                wrong.with_meant(looked.iter().map(|path| path.as_path()))
            }
            _ => wrong,
        }
    }
}

impl OfConfig for PretrainError {
    fn wrong(&self) -> Wrong {
        match self {
            Self::Data(error) => error.wrong(),
            _ => Wrong::in_table("pretrain", self.field(), self),
        }
    }
}

impl OfConfig for ProbeError {
    fn wrong(&self) -> Wrong {
        match self {
            Self::Data(error) => error.wrong(),
            _ => Wrong::in_table("probe", self.field(), self),
        }
    }
}

/// A scan has no table: its options are named like its fields.
impl OfConfig for ScanError {
    fn wrong(&self) -> Wrong {
        match self {
            Self::Data(error) => error.wrong(),
            Self::Features(error) => error.wrong(),
            Self::Pretrain(error) => error.wrong(),
            _ => Wrong::general(self),
        }
    }
}

impl OfConfig for DefendError {
    fn wrong(&self) -> Wrong {
        of_defence("defend", self)
    }
}

/// The config error of the defence in `table`: `defend`, or `defend[1]` in a list.
pub(crate) fn of_defence(table: &str, error: &DefendError) -> Wrong {
    match error {
        DefendError::Pretrain(error) => error.wrong(),
        DefendError::Data(error) => error.wrong(),
        DefendError::Scan(error) if error.field().is_none() => error.wrong(),
        // Two tables together cause the error.
        DefendError::Training { field, what, cause } => {
            let key = format!("{table}.{field}");
            Wrong::about(&key, format!("{key}: {what}: {}", cause.wrong()))
        }
        DefendError::Twice { .. } => Wrong::about("defend", format!("defend: {error}")),
        _ => Wrong::in_table(table, error.field(), error),
    }
}

/// The config error that `cause` stands for, if it is an error of a library.
fn of_cause(cause: &(dyn Error + 'static)) -> Option<Wrong> {
    fn of<E: OfConfig + Error + 'static>(cause: &(dyn Error + 'static)) -> Option<Wrong> {
        cause.downcast_ref::<E>().map(OfConfig::wrong)
    }
    of::<TriggerError>(cause)
        .or_else(|| of::<DataError>(cause))
        .or_else(|| of::<PretrainError>(cause))
        .or_else(|| of::<ProbeError>(cause))
        .or_else(|| of::<DefendError>(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn range() -> OutOfRange {
        OutOfRange::new("lr", 0, "above 0")
    }

    #[test]
    fn the_type_of_an_error_says_the_table() {
        for (wrong, key) in [
            (PretrainError::Range(range()).wrong(), Some("pretrain.lr")),
            (ProbeError::Range(range()).wrong(), Some("probe.lr")),
            (DataError::Range(range()).wrong(), Some("data.lr")),
            (DataError::Trigger(range().into()).wrong(), Some("poison.lr")),
            (PretrainError::Data(DataError::Range(range())).wrong(), Some("data.lr")),
            (DefendError::Range(range()).wrong(), Some("defend.lr")),
            (DefendError::Pretrain(range().into()).wrong(), Some("pretrain.lr")),
            (of_defence("defend[2]", &range().into()), Some("defend[2].lr")),
            (of_defence("defend[2]", &DefendError::Data(range().into())), Some("data.lr")),
            (range().wrong(), Some("lr")),
            (ProbeError::NoMaps.wrong(), None),
        ] {
            assert_eq!(wrong.key.as_deref(), key, "{wrong}");
            let begin = key.map(|key| format!("{key} = 0 is out of range"));
            assert!(begin.is_none_or(|begin| wrong.message.starts_with(&begin)), "{wrong}");
        }
    }

    #[test]
    fn two_tables_are_both_named() {
        let (field, what, cause) = ("controls", "a control cannot train", Box::new(range().into()));
        let wrong = of_defence("defend[1]", &DefendError::Training { field, what, cause });
        let message =
            "defend[1].controls: a control cannot train: pretrain.lr = 0 is out of range: above 0";
        assert_eq!(wrong, Wrong::about("defend[1].controls", message));
        let whole = TriggerError::Amount { found: "none".into() }.wrong();
        assert!(whole.message.starts_with("poison needs exactly one of rate, "), "{whole}");
        assert_eq!(whole.key.as_deref(), Some("poison"));
    }

    #[test]
    fn the_error_of_a_library_is_found_in_a_chain() {
        let error = Err::<(), _>(PretrainError::Range(range())).context("twin").context("stage");
        let (before, wrong) = Wrong::in_chain(&error.unwrap_err()).unwrap();
        assert_eq!((before, wrong.key.as_deref()), (2, Some("pretrain.lr")));
        assert!(Wrong::in_chain(&anyhow::anyhow!("pretrain.lr = 0 is text")).is_none());
    }
}
