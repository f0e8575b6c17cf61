//! Errors of scans.

use std::path::PathBuf;

use ssl_backdoor_data::DataError;
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_probe::ProbeError;
use ssl_backdoor_ssl::PretrainError;

/// An error of this crate. Fields are those of the config of a scan.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A field of the config has a value out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A set of images is too small to be scanned.
    #[error("{images} images are too few for {scan}: it needs {needed} or more")]
    TooFew {
        /// The scan.
        scan: &'static str,
        /// How many images there are.
        images: usize,
        /// How many it needs.
        needed: usize,
    },
    /// All features are alike: the encoder is constant, or collapsed.
    #[error(
        "the features of the images are almost the same (mean cosine {cosine:.4}, {scan} needs less than {most}): the encoder is \
         constant or hardly trained, or does not fit these images"
    )]
    Alike {
        /// The scan.
        scan: &'static str,
        /// Mean cosine of the features of two images.
        cosine: f64,
        /// The mean cosine from which the scan is meaningless.
        most: f64,
    },
    /// There are fewer different features than clusters.
    #[error("the images have {distinct} different features, too few for {clusters} clusters")]
    Distinct {
        /// How many different features there are.
        distinct: usize,
        /// The requested number of clusters.
        clusters: usize,
    },
    /// Images of the set are not squares of one size.
    #[error("image {id} is {} × {} pixels, expected are squares of {size}", found.0, found.1)]
    Size {
        /// Id of the image.
        id: u64,
        /// Its width and height.
        found: (u32, u32),
        /// The expected side.
        size: u32,
    },
    /// A scan of encoders was given a set, or the reverse.
    #[error("{scan} is a scan of {what}")]
    Subject {
        /// The scan.
        scan: &'static str,
        /// What it scans.
        what: &'static str,
    },
    /// A file of null scores cannot be read or written, or does not contain a null score.
    #[error("{}: {reason}", path.display())]
    Null {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Features could not be computed.
    #[error(transparent)]
    Features(#[from] ProbeError),
    /// A training failed.
    #[error(transparent)]
    Pretrain(#[from] PretrainError),
}

impl ScanError {
    /// Whether the only problem is that nothing can be said about the subject.
    pub fn says_nothing(&self) -> bool {
        matches!(self, Self::Alike { .. } | Self::Distinct { .. } | Self::TooFew { .. })
    }

    /// The field of the scan's config that the error is about; the message begins with it.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Range(range) => Some(&range.field),
            _ => None,
        }
    }
}
