//! The last stage of a run.

use clap::ValueEnum;

/// The stages after which a run may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// Choose the poisoned images, write the ledger.
    Poison,
    /// Train the clean twin, or check that of `--twin`.
    Twin,
    /// Train the backdoored model.
    Pretrain,
    /// Make the defended models, if the config has defences.
    Defend,
    /// Probe all models and the untrained encoder; write the scores.
    Probe,
    /// Scan the training images and both models, if the config has a scan.
    Scan,
    /// Draw the feature maps of both models.
    Maps,
    /// Write the report.
    Report,
}
