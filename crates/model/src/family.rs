//! The traits of a family of encoders. Only the registry in `encoder.rs` knows all families.

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

/// Borrowed [`Arrays`].
pub(crate) type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// A network of a family by its sizes: its properties before it is built.
pub(crate) trait Architecture {
    /// `kind` in a config.
    fn kind(&self) -> &'static str;

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`ModelError::Range`] with the field of the config.
    fn check(&self) -> Result<(), ModelError>;

    /// Checks that images of `size` pixels a side fit.
    ///
    /// # Errors
    /// [`ModelError::Range`] with the field of the config.
    fn check_size(&self, _size: u32) -> Result<(), ModelError> {
        Ok(())
    }

    /// Length of a feature.
    fn dim(&self) -> usize;

    /// Number of stages that [`Network::stages`] returns.
    fn stage_count(&self) -> usize;

    /// Whether [`Network::maps`] returns maps.
    fn has_maps(&self) -> bool {
        false
    }

    /// Side of a patch in pixels, for a network that makes a token of each patch.
    fn patch(&self) -> Option<usize> {
        None
    }

    /// The arrays in an encoder file. They are named after the fields of the network.
    fn arrays(&self) -> Arrays;

    /// Whether an array of this name belongs to the network rather than lies beside it, like a head. If it belongs
    /// but is not one of [`arrays`](Self::arrays), the network is a different one.
    fn inside(&self, name: &str) -> bool {
        parts::of_backbones(name)
    }

    /// An array that this network computes but other tools store.
    fn computed(&self) -> Option<Computed> {
        None
    }

    /// Properties that the arrays do not show, as import options.
    fn hidden(&self) -> ImportOptions {
        ImportOptions::default()
    }
}

/// An array that is written only for other tools.
pub(crate) struct Computed {
    pub name: &'static str,
    /// The array for images with this side in pixels.
    pub array: Box<dyn Fn(usize) -> Array>,
}

/// How to build the networks of a family, and how to find them in checkpoints.
pub(crate) trait Family: Architecture + Sized {
    type Network: Network;

    /// The name of its networks, with an article.
    const NOUN: &'static str;

    /// The end of an array name that every network of this family has and no other family has.
    const ANCHOR: &'static str;

    /// Import options for properties that the arrays do not show.
    const OPTIONS: &'static [&'static str] = &[];

    /// Draws initial weights.
    fn init(&self, rng: &mut impl Rng, device: &Device) -> Self::Network;

    /// The place of the network that the array `name`, one of `all` arrays of a checkpoint, reveals.
    fn find(name: &str, _all: &Arrays) -> Option<Place> {
        Place::before(name, Self::ANCHOR)
    }

    /// The name in an encoder file of the array that a checkpoint calls `inner` after the prefix.
    fn common(_naming: Naming, inner: &str) -> Cow<'_, str> {
        Cow::Borrowed(inner)
    }

    /// The sizes and properties of the network that was found.
    ///
    /// # Errors
    /// The arrays are not a network of this family, or an option must set a property that they do not show.
    fn read(found: &Found<'_>) -> Result<Detected<Self>, ModelError>;

    /// Why arrays without a supported network resemble one of this family.
    fn near_miss(_all: &Arrays) -> Option<String> {
        None
    }
}

/// A network that a family found in a checkpoint.
pub(crate) struct Detected<S> {
    pub sizes: S,
    /// Side of the images that it expects, if its arrays show it.
    pub images: Option<u32>,
    /// Properties that the arrays do not show, each with its basis.
    pub findings: Vec<Finding>,
}

impl<S> Detected<S> {
    /// Replaces the sizes.
    pub fn map<T>(self, sizes: impl FnOnce(S) -> T) -> Detected<T> {
        let Self { images, findings, .. } = self;
        Detected { sizes: sizes(self.sizes), images, findings }
    }
}

/// A callback that takes a map and returns the map that the network continues with.
pub(crate) type MapHook<'a> = dyn FnMut(Tensor<4>) -> Tensor<4> + 'a;

/// A network.
pub(crate) trait Network: Stored {
    /// Features of normalised images, `[batch, 3, height, width]` to `[batch, dim]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;

    /// Like `forward`, with the last spatial map passed through `map`, `[batch, height, width, channels]`: for a
    /// ResNet, RegNet or Conv-4 the map to average, for a transformer the patch tokens before the last attention.
    fn through(&self, images: Tensor<4>, map: &mut MapHook<'_>) -> Tensor<2>;

    /// Features after each stage, `[batch, channels]` each. The last equal those of [`forward`](Self::forward).
    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>>;

    /// The five maps that the reference probes, `[batch, channels, height, width]` each.
    fn maps(&self, _images: Tensor<4>) -> Option<[Tensor<4>; 5]> {
        None
    }

    /// Renaming between its fields and files, if the names differ.
    fn names(&self) -> Option<Names> {
        None
    }
}

/// Renaming between paths of fields and names in files: a regular expression and its replacement, for each direction.
pub(crate) struct Names {
    pub to_file: [&'static str; 2],
    pub from_file: [&'static str; 2],
}

/// Any module that a file can store.
pub(crate) trait Stored {
    /// Writes the arrays.
    fn collect_into(&self, store: SafetensorsStore) -> Result<(), SafetensorsStoreError>;

    /// Loads the arrays of a file.
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
