//! The common interface of the configs of all defences.

use std::path::PathBuf;

use ssl_backdoor_ssl::PretrainConfig;

use crate::{Defence, DefendError};

/// The config of one kind of defence.
pub trait DefenceSettings {
    /// Checks every value, for a `victim` with images of `size` pixels; `images` is the size of its training set (`None`
    /// if that is not known yet).
    ///
    /// # Errors
    /// It names the field, its value and what is allowed.
    fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError>;

    /// Its defences, each of which makes one model, in the order of their training.
    fn defences(&self) -> Vec<Box<dyn Defence + '_>>;

    /// Length of its trainings, in words for tables.
    fn training(&self) -> &'static str;

    /// Removes the seed, by which repetitions of one defence differ.
    fn forget_seed(&mut self) {}

    /// The paths that it contains.
    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }
}
