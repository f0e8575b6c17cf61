//! The traits of a family of encoders. Only the registry `encoder.rs` knows all families.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::module::Module;
use burn::store::{ModuleStore, SafetensorsStore, SafetensorsStoreError};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use crate::checkpoint::Array;
use crate::found::{Found, Naming, Place};
use crate::{Finding, ImportOptions, ModelError, parts};

/// Shapes of arrays by name.
pub(crate) type Arrays = BTreeMap<String, Vec<usize>>;

/// The same, borrowed.
pub(crate) type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// One network of a family, by its sizes: what is known of it before it is built.
pub(crate) trait Architecture {
    /// `kind` in a config.
    fn kind(&self) -> &'static str;

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`ModelError::Range`] that names the field of the config.
    fn check(&self) -> Result<(), ModelError>;

    /// Checks that images of `size` pixels a side fit.
    ///
    /// # Errors
    /// [`ModelError::Range`] that names the field of the config.
    fn check_size(&self, _size: u32) -> Result<(), ModelError> {
        Ok(())
    }

    /// Length of a feature.
    fn dim(&self) -> usize;

    /// Number of stages that [`Network::stages`] gives.
    fn stage_count(&self) -> usize;

    /// Does [`Network::maps`] give maps?
    fn has_maps(&self) -> bool {
        false
    }

    /// Side of the patches in pixels, of a network that makes a token of each patch.
    fn patch(&self) -> Option<usize> {
        None
    }

    /// The arrays in an encoder file. They are named after the fields of the network.
    fn arrays(&self) -> Arrays;

    /// Whether an array of this name is a part of the network and not beside it, as a head is. A part that is none of
    /// [`arrays`](Self::arrays) makes another network of it.
    fn inside(&self, name: &str) -> bool {
        parts::of_backbones(name)
    }

    /// An array that other tools store and this network computes.
    fn computed(&self) -> Option<Computed> {
        None
    }

    /// Properties that the arrays do not show, as import options.
    fn hidden(&self) -> ImportOptions {
        ImportOptions::default()
    }
}

/// An array that is written for the sake of other tools.
pub(crate) struct Computed {
    pub name: &'static str,
    /// Its values for images of so many pixels a side.
    pub array: Box<dyn Fn(usize) -> Array>,
}

/// How the networks of a family are built, and how they are found in checkpoints.
pub(crate) trait Family: Architecture + Sized {
    type Network: Network;

    /// What its networks are, with an article.
    const NOUN: &'static str;

    /// The end of a name that each of its networks has and those of other families have not.
    const ANCHOR: &'static str;

    /// Import options for properties that the arrays do not show.
    const OPTIONS: &'static [&'static str] = &[];

    /// Draws initial weights.
    fn init(&self, rng: &mut impl Rng, device: &Device) -> Self::Network;

    /// The network that the array `name`, one of the arrays `all` of a checkpoint, tells of.
    fn find(name: &str, _all: &Arrays) -> Option<Place> {
        Place::before(name, Self::ANCHOR)
    }

    /// The name in an encoder file of the array that is called `inner` in a checkpoint, behind the prefix.
    fn common(_naming: Naming, inner: &str) -> Cow<'_, str> {
        Cow::Borrowed(inner)
    }

    /// The network that was found.
    ///
    /// # Errors
    /// The arrays are not a network of this family, or an option is needed for what they do not show.
    fn read(found: &Found<'_>) -> Result<Detected<Self>, ModelError>;

    /// Why arrays in which no network was found look like one of this family.
    fn near_miss(_all: &Arrays) -> Option<String> {
        None
    }
}

/// What a family sees in a checkpoint.
pub(crate) struct Detected<S> {
    pub sizes: S,
    /// Side of the images that it is for, as far as its arrays tell.
    pub images: Option<u32>,
    /// What is not shown by the arrays, and on what basis it is held to be so.
    pub findings: Vec<Finding>,
}

impl<S> Detected<S> {
    /// The same with other sizes.
    pub fn map<T>(self, sizes: impl FnOnce(S) -> T) -> Detected<T> {
        let Self { images, findings, .. } = self;
        Detected { sizes: sizes(self.sizes), images, findings }
    }
}

/// A callback that gets a map and returns the one with which the network continues.
pub(crate) type MapHook<'a> = dyn FnMut(Tensor<4>) -> Tensor<4> + 'a;

/// A network.
pub(crate) trait Network: Stored {
    /// Features of normalised images, `[batch, 3, height, width]` to `[batch, dim]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;

    /// The same, with the last map that has places handed through `map`, `[batch, height, width, channels]`: of a
    /// ResNet and Conv-4 what is averaged, of a transformer the tokens of the patches before the last attention.
    fn through(&self, images: Tensor<4>, map: &mut MapHook<'_>) -> Tensor<2>;

    /// Features after each stage, `[batch, channels]` each. The last are those of [`forward`](Self::forward).
    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>>;

    /// The five maps that the probes of the reference read, `[batch, channels, height, width]` each.
    fn maps(&self, _images: Tensor<4>) -> Option<[Tensor<4>; 5]> {
        None
    }

    /// Names of its fields in files, if they differ.
    fn names(&self) -> Option<Names> {
        None
    }
}

/// Paths of fields and names in files that differ: a regular expression and what stands in its place, for either way.
pub(crate) struct Names {
    pub to_file: [&'static str; 2],
    pub from_file: [&'static str; 2],
}

/// What any module can do with a file.
pub(crate) trait Stored {
    /// Writes the arrays.
    fn collect_into(&self, store: SafetensorsStore) -> Result<(), SafetensorsStoreError>;

    /// Takes the arrays of a file.
    fn apply_from(&mut self, store: SafetensorsStore) -> Result<(), SafetensorsStoreError>;
}

impl<M: Module> Stored for M {
    fn collect_into(&self, mut store: SafetensorsStore) -> Result<(), SafetensorsStoreError> {
        store.collect_from(self)
    }

    fn apply_from(&mut self, mut store: SafetensorsStore) -> Result<(), SafetensorsStoreError> {
        store.apply_to(self).map(|_| ())
    }
}
