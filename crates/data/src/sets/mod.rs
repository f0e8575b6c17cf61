//! The data sets, one module each: from files (or a seed) to samples.

pub(crate) mod cifar;
pub(crate) mod file_list;
pub(crate) mod files;
pub(crate) mod folder;
mod found;
pub(crate) mod idx;
pub(crate) mod imagenet100;
pub(crate) mod input;
pub(crate) mod mnist;
pub(crate) mod pickle;
mod places;
pub(crate) mod shapes;
pub(crate) mod small;
pub(crate) mod stl10;
pub(crate) mod tiny_imagenet;

pub use found::data_sets_found;
