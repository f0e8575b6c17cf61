//! The small set of operations that all view chains are made of, and the chains of the six methods.
//!
//! Crops are resized on bytes as PIL does; everything after works on planar `f32` images
//! `[3, height, width]` in 0 to 1, with torchvision's tensor semantics. Every view also records its
//! crop ([`Geometry`]), so that a trigger can be followed into it.

mod blur;
mod chain;
mod color;
mod crop;
mod crop_box;
mod crop_views;
mod geometry;
#[cfg(test)]
mod golden;
mod jigsaw;
mod localized;
mod mae;
mod multi_crop;
mod rotnet;
mod views;

pub use blur::{gaussian_blur, gaussian_blur_within};
pub use chain::{Chain, ChainViews, Jitter};
pub use color::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale, project_color,
    solarize,
};
pub(crate) use crop::{central, resize_square, resize_whole_by};
pub use crop::{resize_center_crop, resize_crop_box, resize_shorter, resized, shorter_side};
pub use crop_box::{CropBox, one_draw_crop_box, random_resized_crop_box};
pub use crop_views::CropViews;
pub use geometry::Geometry;
pub use jigsaw::JigsawViews;
pub use localized::LocalizedViews;
pub use mae::MaeViews;
pub use multi_crop::SmallCrops;
pub use rotnet::RotNetViews;
pub use ssl_backdoor_images::Filter;
pub(crate) use views::to_planes;
pub use views::{MEAN, STD, Scratch, ViewKey, Views, normalize, normalize_by};
