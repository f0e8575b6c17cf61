//! The small set of operations that all view chains are made of, and the chains themselves.
//!
//! Crops are resized on bytes as PIL does; everything after works on planar `f32` images
//! `[3, height, width]` in 0 to 1, with torchvision's tensor semantics.

mod blur;
mod color;
mod crop;
#[cfg(test)]
mod golden;
mod views;

pub use blur::gaussian_blur;
pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
pub use crop::{CropBox, random_resized_crop_box};
pub(crate) use views::to_planes;
pub use views::{MEAN, MocoViews, STD, Scratch, Views, WeakViews, normalize};
