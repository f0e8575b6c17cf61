//! The text of a config to start from.

use std::path::{Path, PathBuf};

use ssl_backdoor_data::Survey;

use super::lists::Written;
use crate::shell::path_word;

/// The images that a config is for.
pub(super) enum Images {
    /// The drawn set.
    Drawn,
    /// The images of a folder, with the number of training images of each class.
    Found { folder: PathBuf, survey: Survey, counts: Vec<usize>, lists: Option<Written> },
}

/// Images of each class of the drawn set.
const DRAWN: usize = 500;

impl Images {
    /// One line for the terminal and the head of the config.
    pub fn in_words(&self) -> String {
        match self {
            Self::Drawn => format!("Drawn images: {DRAWN} of each of ten classes"),
            Self::Found { folder, survey, counts, .. } => {
                let (least, most) =
                    (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
                let each =
                    if least == most { format!("{most}") } else { format!("{least} to {most}") };
                let (width, height) = survey.median_size().unwrap_or_default();
                format!(
                    "{}: {} classes with {each} training images each, {} in total, of about {width} × {height} pixels",
                    folder.display(),
                    counts.len(),
                    counts.iter().sum::<usize>()
                )
            }
        }
    }

    fn counts(&self) -> Vec<usize> {
        match self {
            Self::Drawn => vec![DRAWN; 10],
            Self::Found { counts, .. } => counts.clone(),
        }
    }

    /// The shorter side of the median image, in pixels.
    fn side(&self) -> u32 {
        match self {
            Self::Drawn => 28,
            Self::Found { survey, .. } => {
                survey.median_size().map_or(28, |(width, height)| width.min(height))
            }
        }
    }
}

/// Settings that follow from the images.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub size: u32,
    /// Index of the class with the most images.
    pub target: usize,
    pub batch: usize,
    pub queue: usize,
    pub epochs: usize,
    pub labels: f64,
}

/// Largest side of a view, and number of training steps, that a CPU handles in minutes.
const LARGEST: u32 = 64;
const STEPS: usize = 2000;
/// Fewest labelled images of a class.
const LABELLED: f64 = 10.0;

impl Choice {
    pub fn of(images: &Images) -> Self {
        let counts = images.counts();
        let all: usize = counts.iter().sum();
        let most = counts.iter().copied().max().unwrap_or(0);
        let least = counts.iter().copied().min().unwrap_or(1).max(1);
        let batch = match all {
            ..256 => 16,
            256..20_000 => 32,
            _ => 64,
        };
        // A quarter of the images, rounded down to a power of two, and so a multiple of the batch.
        let queue = (all / 4).max(batch).ilog2();
        Self {
            size: images.side().clamp(16, LARGEST) / 4 * 4,
            target: counts.iter().position(|count| *count == most).unwrap_or(0),
            batch,
            queue: (1 << queue).clamp(batch, 4096),
            epochs: (STEPS * batch).div_ceil(all.max(1)).clamp(12, 200),
            labels: [0.01, 0.1, 0.2, 0.5]
                .into_iter()
                .find(|share| share * least as f64 >= LABELLED)
                .unwrap_or(1.0),
        }
    }
}

/// A config.
pub(super) struct Template<'a> {
    pub name: &'a str,
    pub images: &'a Images,
    pub choice: Choice,
}

impl Template<'_> {
    /// The text of the file `out`.
    pub fn text(&self, out: &Path) -> String {
        let Choice { target, batch, queue, epochs, labels, .. } = self.choice;
        let counts = self.images.counts();
        let steps = epochs * (counts.iter().sum::<usize>() / batch);
        let (poisoned, labelled) = (counts[target] / 2, (labels * counts[target] as f64).round());
        let (named, others) = self.target();
        format!(
            r#"# {words}.
#
#   ssl-backdoor run {file}        # the report: runs/{name}/report.html
#
# Every key: docs/configuration.md, or `ssl-backdoor schema --markdown`. Change one for a run: --set pretrain.epochs=100
name = "{name}"
seed = 1

[data]
{data}
[poison]
target = {named}
# Half of the images of the target class get the trigger: {poisoned} images.{others}
rate = 0.5
# One of the ten triggers of the paper (10 to 19), a quarter of the image's shorter side wide.
trigger = {{ kind = "htba", id = 12, width = {{ share = 0.25 }} }}

[pretrain]
# The queue is smaller and the momentum lower than published (65536, 0.999): there are fewer images and steps here.
method = {{ kind = "moco-v2", queue = {queue}, momentum = 0.99, dim = 64, bn_groups = 1 }}
# A quarter of the standard network's width (64), for a CPU. On a GPU: --features cuda and device = "cuda".
encoder = {{ kind = "resnet18", width = 16, stem = "small" }}
# {steps} steps. More epochs learn better features; the attack needs them, too.
epochs = {epochs}
batch = {batch}
lr = {lr}
crop = [0.35, 1.0]

[probe]
# Share of the training images of each class that have labels: {labelled} images of the target class.
labels = [{labels}]
batch = 64
"#,
            words = self.images.in_words(),
            file = path_word(out),
            name = self.name,
            data = self.data(),
            lr = 0.03 * batch as f64 / 32.0,
        )
    }

    /// The target as a TOML value, and a comment that lists other classes.
    fn target(&self) -> (String, String) {
        match self.images {
            Images::Drawn => ("8".into(), " Classes are 0 to 9; 8 is the anchor.".into()),
            Images::Found { survey, lists, .. } => {
                let target = self.choice.target;
                let name = &survey.classes[target].name;
                let others =
                    survey.classes.iter().enumerate().filter(|(i, _)| *i != target).take(5);
                let known = |(i, name): (usize, &str)| match lists {
                    Some(_) => format!("{i} ({name})"),
                    None => format!("{name:?}"),
                };
                let others: Vec<String> =
                    others.map(|(i, class)| known((i, class.name.as_str()))).collect();
                let more = if survey.classes.len() > 6 { ", …" } else { "" };
                let others = format!("\n# Other classes: {}{more}", others.join(", "));
                match lists {
                    Some(_) => (format!("{target} # {name}"), others),
                    None => (toml::Value::from(name.as_str()).to_string(), others),
                }
            }
        }
    }

    /// The keys of `[data]`.
    fn data(&self) -> String {
        let size = self.choice.size;
        let path = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref()).to_string();
        let views = "# Side of the views in pixels. Larger ones show more and cost more: 224 is usual on a GPU.";
        match self.images {
            Images::Drawn => format!(
                "# Ten classes of shapes, drawn from a seed. Your own images: ssl-backdoor init --data DIR\n\
                 kind = \"shapes\"\nsize = {size}\nper_class = {DRAWN}\n"
            ),
            Images::Found { folder, survey, lists: None, .. } => {
                let few = survey.classes.iter().any(|class| class.evaluation.len() < 20);
                let eval = if few {
                    "# Halves of so few evaluation images would give no meaningful scores.\neval = \"all\"\n"
                } else {
                    ""
                };
                format!(
                    "# DIR/train/CLASS/* and DIR/val/CLASS/*\nkind = \"folder\"\npath = {}\n{views}\nsize = {size}\n{eval}",
                    path(folder)
                )
            }
            Images::Found { lists: Some(lists), .. } => format!(
                "# Every fifth image of a class, {} in all, is scored; the others are trained on.\n\
                 kind = \"file-list\"\ntrain = {}\nval = {}\n{views}\nsize = {size}\n\
                 # The scored images, both halves. \"dev\" is the half to choose settings on, \"test\" the other.\neval = \"all\"\n",
                lists.scored,
                path(&lists.train),
                path(&lists.val)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_data::SurveyedClass;

    fn found(counts: &[usize], side: u32) -> Images {
        let class = |(i, count): (usize, &usize)| SurveyedClass {
            name: format!("c{i}"),
            images: vec![PathBuf::from("x"); *count],
            evaluation: Vec::new(),
        };
        let classes = counts.iter().enumerate().map(class).collect();
        let survey = Survey { classes, split: true, sizes: vec![(side + 9, side)] };
        Images::Found { folder: "/d".into(), survey, counts: counts.to_vec(), lists: None }
    }

    #[test]
    fn settings_follow_the_images() {
        let few = Choice::of(&found(&[30, 50, 40], 375));
        let expected =
            Choice { size: 64, target: 1, batch: 16, queue: 16, epochs: 200, labels: 0.5 };
        assert_eq!(few, expected);
        let many = Choice::of(&found(&[1300; 100], 21));
        let expected =
            Choice { size: 20, target: 0, batch: 64, queue: 4096, epochs: 12, labels: 0.01 };
        assert_eq!(many, expected);
        let drawn = Choice::of(&Images::Drawn);
        assert_eq!((drawn.queue, drawn.epochs, drawn.labels), (1024, 13, 0.1));
    }
}
