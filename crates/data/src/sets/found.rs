//! Data sets found on this machine.

use super::mnist::FASHION_MNIST;

/// The data sets that a config can name without a path: where each is, or how to get it.
pub fn data_sets_found() -> [(&'static str, Result<&'static str, &'static str>); 2] {
    [("shapes", Ok("drawn from a seed")), ("fashion-mnist", FASHION_MNIST.found())]
}
