//! Files that a set of image files does not use, counted by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataError, OnCorrupt};

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOutKind {
    /// An evaluation image, or one of `labelled`, of a class that has no training images.
    UntrainedClass,
    /// A class that has no evaluation images: it is trained on, but not scored.
    ClassNotInVal,
    /// A class folder that is not of the set (ImageNet's other 900 classes).
    OtherClass,
    /// An image beside the class folders.
    BesideClasses,
    /// An image of an unsupported format, by its extension.
    Format,
    /// A file that is not an image, by its extension.
    Other,
    /// A file or folder whose name starts with a dot.
    Hidden,
    /// A link to a folder that contains it.
    Loop,
    /// A link that leads nowhere, or a listed file that does not exist.
    Missing,
    /// An empty file.
    Empty,
    /// A name that is not UTF-8.
    Name,
    /// A file or folder that cannot be read.
    Unreadable,
    /// A file that cannot be decoded.
    Corrupt,
}

impl LeftOutKind {
    /// Singular and plural in words.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::UntrainedClass => [
                "image of a class without training images",
                "images of classes without training images",
            ],
            Self::ClassNotInVal => {
                ["class without evaluation images", "classes without evaluation images"]
            }
            Self::OtherClass => [
                "class folder that does not belong to this set",
                "class folders that do not belong to this set",
            ],
            Self::BesideClasses => {
                ["image beside the class folders", "images beside the class folders"]
            }
            Self::Format => ["image of an unsupported format", "images of unsupported formats"],
            Self::Other => ["file that is not an image", "files that are not images"],
            Self::Hidden => ["hidden file or folder", "hidden files and folders"],
            Self::Loop => {
                ["link to a folder that contains it", "links to folders that contain them"]
            }
            Self::Missing => ["missing file or broken link", "missing files and broken links"],
            Self::Empty => ["empty file", "empty files"],
            Self::Name => ["name that is not UTF-8", "names that are not UTF-8"],
            Self::Unreadable => ["unreadable file or folder", "unreadable files and folders"],
            Self::Corrupt => ["corrupt file", "corrupt files"],
        }
    }
}

/// How much was left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The reason.
    pub kind: LeftOutKind,
    /// How many: images, unless the kind says otherwise.
    pub count: usize,
    /// The first of them.
    pub example: PathBuf,
}

impl fmt::Display for LeftOut {
    /// One line: what happens to them, their number and kind, and an example.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, count, example } = self;
        let effect = if *kind == LeftOutKind::ClassNotInVal { "not scored" } else { "left out" };
        let [one, several] = kind.words();
        let example = example.display();
        match count {
            1 => write!(f, "{effect}: 1 {one}, {example}"),
            _ => write!(f, "{effect}: {count} {several}, for example {example}"),
        }
    }
}

/// Counts what is left out.
#[derive(Debug)]
pub(crate) struct Tally {
    on_corrupt: OnCorrupt,
    kinds: BTreeMap<LeftOutKind, (usize, PathBuf)>,
    skipped: Vec<String>,
}

impl Tally {
    pub fn new(on_corrupt: OnCorrupt) -> Self {
        Self { on_corrupt, kinds: BTreeMap::new(), skipped: Vec::new() }
    }

    /// Whether a file that should have been an image is left out, rather than an error.
    pub fn skips(&self) -> bool {
        self.on_corrupt == OnCorrupt::Skip
    }

    /// Counts a file that is not an image of the set.
    pub fn add(&mut self, kind: LeftOutKind, path: &Path) {
        self.add_many(kind, 1, path);
    }

    pub fn add_many(&mut self, kind: LeftOutKind, count: usize, example: &Path) {
        if count > 0 {
            self.kinds.entry(kind).or_insert_with(|| (0, example.into())).0 += count;
        }
    }

    /// Counts a file that should have been an image: an error, unless the config leaves such files out.
    ///
    /// # Errors
    /// `error`.
    pub fn add_bad(
        &mut self,
        kind: LeftOutKind,
        path: &Path,
        error: DataError,
    ) -> Result<(), DataError> {
        if !self.skips() {
            return Err(error);
        }
        self.skipped.push(error.to_string());
        self.add(kind, path);
        Ok(())
    }

    /// Everything by kind, and a line for each file that should have been an image.
    pub fn finish(self) -> (Vec<LeftOut>, Vec<String>) {
        let of = |(kind, (count, example))| LeftOut { kind, count, example };
        (self.kinds.into_iter().map(of).collect(), self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_f08_a_line_says_how_many_of_what_and_names_one() {
        let mut tally = Tally::new(OnCorrupt::Skip);
        tally.add(LeftOutKind::Hidden, Path::new("a/.x"));
        tally.add(LeftOutKind::Hidden, Path::new("a/.y"));
        tally.add_many(LeftOutKind::ClassNotInVal, 1, Path::new("train/ant"));
        tally.add_many(LeftOutKind::Other, 0, Path::new("z"));
        let error = DataError::Format { path: "e.png".into(), reason: "empty".into() };
        tally.add_bad(LeftOutKind::Empty, Path::new("e.png"), error).unwrap();
        let (left_out, skipped) = tally.finish();
        let lines: Vec<String> = left_out.iter().map(LeftOut::to_string).collect();
        let expected = [
            "not scored: 1 class without evaluation images, train/ant",
            "left out: 2 hidden files and folders, for example a/.x",
            "left out: 1 empty file, e.png",
        ];
        assert_eq!(lines, expected);
        assert_eq!(skipped, ["e.png: empty"]);
        let json = serde_json::to_string(&left_out[1]).unwrap();
        assert_eq!(json, r#"{"kind":"hidden","count":2,"example":"a/.x"}"#);
        assert_eq!(serde_json::from_str::<LeftOut>(&json).unwrap(), left_out[1]);
    }

    #[test]
    fn what_should_have_been_an_image_stops_the_run_unless_the_config_says_otherwise() {
        let error = DataError::Format { path: "e.png".into(), reason: "empty".into() };
        let mut tally = Tally::new(OnCorrupt::Stop);
        let error = tally.add_bad(LeftOutKind::Empty, Path::new("e.png"), error).unwrap_err();
        assert_eq!(error.to_string(), "e.png: empty");
    }
}
