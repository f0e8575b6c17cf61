//! Reasons why a checkpoint holds no known encoder, or an incomplete one.

use crate::checkpoint::StateDict;
use crate::encoder::FAMILIES;

/// Explains the `message` that there is no known encoder by what the file holds instead.
pub(super) fn with_hint(message: String, file: &StateDict) -> String {
    if let Some(miss) = FAMILIES.iter().find_map(|family| (family.near_miss)(&file.shapes)) {
        return miss;
    }
    if file.numpy && file.shapes.is_empty() {
        return format!("{message}; it contains NumPy arrays, but only PyTorch tensors are read");
    }
    match file.unreadable.iter().find(|(name, _)| !is_counter(name)) {
        Some((name, reason)) if file.shapes.is_empty() => format!("{message}; {name}: {reason}"),
        _ => message,
    }
}

/// Replaces the `message` that an array is missing, if the array is there but cannot be read.
pub(super) fn with_reasons(
    message: String,
    file: &StateDict,
    inner: impl Fn(&str) -> Option<String>,
) -> String {
    let cause = file.unreadable.iter().find(|(name, _)| {
        !is_counter(name)
            && inner(name).is_some_and(|inner| message.split([' ', ',']).any(|word| word == inner))
    });
    match cause {
        Some((name, reason)) => format!("cannot read {name}: {reason}"),
        None => message,
    }
}

/// Whether this is a batch norm's counter of batches, which is an integer and not part of the network.
pub(super) fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}
