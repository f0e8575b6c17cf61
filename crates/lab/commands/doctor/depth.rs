//! How deep a device is looked into.

/// How large the shapes are that a device is compared at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Depth {
    /// Tiny ones, for a software device.
    Small,
    /// Those of real trainings.
    Full,
}
