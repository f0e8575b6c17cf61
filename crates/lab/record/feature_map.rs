//! `maps.json`: the features of a model in two dimensions.

use serde::{Deserialize, Serialize};

/// A point of a map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub x: f32,
    pub y: f32,
    pub class: u32,
    pub patched: bool,
}

/// The map of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FeatureMap {
    pub points: Vec<Point>,
}
