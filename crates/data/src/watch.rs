//! Progress callbacks.

/// Told of the progress of what may take long: what is done, how much of it, of how much.
pub type Watch<'a> = dyn Fn(&str, usize, usize) + Sync + 'a;
