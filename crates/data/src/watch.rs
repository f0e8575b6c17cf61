//! Progress callbacks.

/// Called with the progress of long work: its name, the number of finished items, and their total.
pub type Watch<'a> = dyn Fn(&str, usize, usize) + Sync + 'a;
