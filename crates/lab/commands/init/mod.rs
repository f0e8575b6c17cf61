//! The command `init`: a config to start from.

mod free;
mod lists;
mod template;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ssl_backdoor_data::Survey;

use self::free::free;
use self::lists::Lists;
use self::template::{Choice, Images, Template};
use super::shared::{computing, existing, path};
use crate::Experiment;
use crate::config::{ConfigError, check_name};
use crate::record::write_whole;
use crate::shell::path_word;
use crate::sweep::seconds_of_training;

/// Fewest training images per class and in all: with fewer, scores are meaningless.
const FEWEST: usize = 8;
const FEWEST_IN_ALL: usize = 64;

/// Write a config for your images, ready to run.
///
/// Looks at a folder of images (CLASS/*, or train/CLASS/* and val/CLASS/*): number, classes and sizes. Then writes a
/// commented config that attacks the largest class. A folder without train and val is split by two file lists, which are
/// written next to the config; nothing is copied. Without --data the config is for drawn images, which need no files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ssl-backdoor init\n  \
    ssl-backdoor init --data ~/photos --out photos.toml\n  \
    ssl-backdoor run photos.toml")]
pub struct InitArgs {
    /// A folder with a folder of images for each class.
    #[arg(long, value_name = "DIR", value_parser = existing())]
    data: Option<PathBuf>,
    /// The config to write; its stem names the run.
    #[arg(long, value_name = "FILE", default_value = "experiment.toml", value_parser = path())]
    out: PathBuf,
    /// Do not time the training.
    #[arg(long)]
    no_timing: bool,
}

impl InitArgs {
    /// Writes the config.
    ///
    /// # Errors
    /// A file exists already, or there are no usable images.
    pub fn run(self) -> Result<()> {
        let name = self.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        check_name(&name).map_err(|wrong| {
            ConfigError(format!(
                "--out {}: the run is named after this file: {wrong}",
                self.out.display()
            ))
        })?;
        free(&self.out)?;
        let images = match &self.data {
            None => Images::Drawn,
            Some(folder) => found(folder, &self.out, &name)?,
        };
        let template = Template { name: &name, images: &images, choice: Choice::of(&images) };
        write_whole(&self.out, template.text(&self.out).as_bytes())?;
        let experiment = Experiment::read(&self.out, &[])?;
        println!("{}", images.in_words());
        println!("Config: {}", self.out.display());
        if !self.no_timing {
            computing(|| {
                say_time(&experiment);
                Ok(())
            })?;
        }
        println!("Next: ssl-backdoor run {}", path_word(&self.out));
        Ok(())
    }
}

/// The images of `folder`. If it is not split, lists of them are written beside the config `out`.
fn found(folder: &Path, out: &Path, name: &str) -> Result<Images> {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    let survey = Survey::of(&whole).map_err(|e| ConfigError(format!("--data: {e}")))?;
    let shown = folder.display();
    let wrong = |reason: String| ConfigError(format!("--data {shown}: {reason}"));
    let [first, _, ..] = &survey.classes[..] else {
        let one = survey.classes.first().map_or("", |class| &class.name);
        return Err(wrong(format!("one class only, {one}: an attack needs two or more")).into());
    };
    if survey.sizes.is_empty() {
        let path = first.images.first().map_or(String::new(), |path| path.display().to_string());
        return Err(wrong(format!("no image can be read, for example {path}")).into());
    }
    let lists = (!survey.split).then(|| Lists::of(&survey));
    let counts = match &lists {
        Some(lists) => lists.train.iter().map(Vec::len).collect(),
        None => survey.classes.iter().map(|class| class.images.len()).collect::<Vec<_>>(),
    };
    for (class, count) in survey.classes.iter().zip(&counts) {
        if *count < FEWEST {
            let name = &class.name;
            let least = format!("{FEWEST} training images a class, {FEWEST_IN_ALL} in all");
            return Err(
                wrong(format!("class {name} has {count}, too few: needed are {least}")).into()
            );
        }
    }
    let all: usize = counts.iter().sum();
    if all < FEWEST_IN_ALL {
        return Err(
            wrong(format!("{all} training images, too few: needed are {FEWEST_IN_ALL}")).into()
        );
    }
    let lists = lists.map(|lists| lists.write(out, name)).transpose()?;
    let survey = Survey { sizes: survey.sizes.clone(), ..survey };
    Ok(Images::Found { folder: whole, survey, counts, lists })
}

/// Prints how long the two trainings of `experiment` take, or why they cannot be timed.
fn say_time(experiment: &Experiment) {
    match seconds_of_training(experiment).context("not timed") {
        Ok(seconds) => {
            let minutes = 2.0 * seconds / 60.0;
            let time = match minutes {
                ..1.0 => "less than a minute".to_owned(),
                ..100.0 => format!("about {minutes:.0} minutes"),
                _ => format!("about {:.1} hours", minutes / 60.0),
            };
            println!(
                "Training two models: {time} on this machine; features and probes take additional time"
            );
        }
        Err(error) => eprintln!("note: {error:#}"),
    }
}
