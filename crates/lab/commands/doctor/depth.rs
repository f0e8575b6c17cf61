//! How thoroughly a device is compared.

/// The size of the shapes at which a device is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Depth {
    /// Tiny shapes, for a software device.
    Small,
    /// The shapes of real trainings.
    Full,
}
