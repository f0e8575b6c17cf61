//! The findings of a scan.

use std::collections::BTreeMap;

use image::RgbImage;

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// Scores, the most suspicious first.
    pub scores: Vec<Score>,
    /// Evidence for a person to look at, the strongest first.
    pub evidence: Vec<Evidence>,
    /// The ids of the images of a set that the scan flags, ascending; empty for a scan of encoders.
    pub accused: Vec<u64>,
    /// For a scan of sets: the ids of some images of each cluster, those nearest to its centre first.
    pub typical: BTreeMap<u32, Vec<u64>>,
    /// Other measurements, by name.
    pub figures: BTreeMap<&'static str, f64>,
    /// Notes on these findings, in sentences.
    pub notes: Vec<String>,
}

impl Findings {
    /// The score of the whole subject, if the scan gives one.
    pub fn of_subject(&self) -> Option<f64> {
        self.scores.iter().find(|score| score.of == Scored::Subject).map(|score| score.value)
    }

    /// The ids of the images that have a score, the most suspicious first.
    pub fn ranked_images(&self) -> Vec<u64> {
        let image = |score: &Score| match score.of {
            Scored::Image(id) => Some(id),
            _ => None,
        };
        self.scores.iter().filter_map(image).collect()
    }
}

/// How suspicious something is; larger is more suspicious. Only the scores of the same scan are comparable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// What the score is for.
    pub of: Scored,
    /// The score, finite.
    pub value: f64,
}

/// What a score is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scored {
    /// The whole encoder or set.
    Subject,
    /// An image of a set, by its id.
    Image(u64),
    /// A cluster of images.
    Cluster(u32),
}

/// A piece of evidence for a person to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What it shows, in a sentence.
    pub caption: String,
    /// How strong it is, in the unit of the scan.
    pub value: f64,
    /// The image that it comes from, if any.
    pub image: Option<u64>,
    /// The cluster that it is about, if any.
    pub cluster: Option<u32>,
    /// The ids of some of the images that it moves into the cluster.
    pub taken: Vec<u64>,
    /// The picture: an image, or a reconstructed trigger.
    pub picture: RgbImage,
    /// The position of the suspected patch in the picture.
    pub patch: Option<Patch>,
}

impl Evidence {
    /// Evidence that consists only of a picture.
    pub fn new(caption: String, value: f64, picture: RgbImage) -> Self {
        let (image, cluster, patch) = (None, None, None);
        Self { caption, value, image, cluster, taken: Vec::new(), picture, patch }
    }
}

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}
