//! Builds the splits of a set from its parts: the scored half, the hashes, and the prepared images.

use std::path::Path;
use std::sync::Arc;

use crate::augment::shorter_side;
use crate::cache::Cache;
use crate::file_parts::FileParts;
use crate::halves::{Order, halves};
use crate::left_out::Tally;
use crate::preparation::Preparation;
use crate::sets::files::Files;
use crate::sets::small::Held;
use crate::{DataError, Eval, Fingerprint, SampleSet, Splits, Watch};

/// The parts of a set that fits in memory.
pub(crate) struct MemoryParts {
    /// The training images, and the dev and test halves of the evaluation images.
    pub sets: [Held; 3],
    pub classes: Vec<String>,
    /// Name for provenance.
    pub name: String,
}

impl Splits {
    /// A set in memory with views of `size` pixels, scored on `part`.
    pub(crate) fn of_memory(parts: MemoryParts, size: u32, part: Eval) -> Self {
        let MemoryParts { sets: [train, dev, test], classes, name } = parts;
        let fingerprint = Fingerprint {
            labelled: train.hash.clone(),
            train: train.hash,
            eval: match part {
                Eval::Dev => dev.hash.clone(),
                Eval::Test => test.hash,
                Eval::All => format!("{}+{}", dev.hash, test.hash),
            },
            dev: dev.hash,
        };
        let (train, dev, test) = (train.split, dev.split, test.split);
        let preparation = Preparation { size, whole: true };
        Self {
            labelled_prepared: preparation.of(train.set.clone()),
            labelled: train.clone(),
            train,
            cached: None,
            eval: match part {
                Eval::Dev => dev.clone(),
                Eval::Test => test,
                Eval::All => dev.followed_by(&test),
            },
            dev,
            classes,
            name,
            fingerprint,
            left_out: Vec::new(),
            skipped: Vec::new(),
            preparation,
            outlines: None,
        }
    }

    /// A set in image files with views of `size` pixels, scored on `part`; `seed` halves its evaluation images.
    ///
    /// # Errors
    /// A file that cannot be read, or the cache cannot be written.
    pub(crate) fn of_files(
        parts: FileParts,
        size: u32,
        seed: u64,
        part: Eval,
        watch: &Watch<'_>,
    ) -> Result<Self, DataError> {
        let FileParts { train, val, labelled, classes, cache, mut tally } = parts;
        let val = readable(val, &mut tally, watch)?;
        let labelled = labelled.map(|files| readable(files, &mut tally, watch)).transpose()?;
        let (train, cached) = match cache {
            None => (readable(train, &mut tally, watch)?, None),
            Some(folder) => in_cache(&folder, train, shorter_side(size), &mut tally, watch)?,
        };
        let order = Order::Ranked { classes: classes.len() as u32, seed };
        let halves = halves(&val.labels(), order);
        let fingerprint = fingerprint(&train, labelled.as_ref(), &val, &halves, part)?;
        let (train, val) = (train.into_split(), val.into_split());
        let [dev, test] = halves.map(|at| val.at(at));
        let plain = match (&labelled, &cached) {
            (Some(_), _) => None,
            (None, Some((set, _))) => Some(set.clone()),
            (None, None) => Some(train.set.clone()),
        };
        let labelled = labelled.map_or_else(|| train.clone(), Files::into_split);
        let (left_out, skipped) = tally.finish();
        let preparation = Preparation { size, whole: false };
        Ok(Self {
            train,
            cached,
            labelled_prepared: preparation.of(plain.unwrap_or_else(|| labelled.set.clone())),
            labelled,
            eval: match part {
                Eval::Dev => dev.clone(),
                Eval::Test => test,
                Eval::All => val,
            },
            dev,
            classes,
            name: "files".into(),
            fingerprint,
            left_out,
            skipped,
            preparation,
            outlines: None,
        })
    }
}

/// `files` without those that cannot be decoded, if the config skips them; otherwise all of them, unchecked.
fn readable(files: Files, tally: &mut Tally, watch: &Watch<'_>) -> Result<Files, DataError> {
    if !tally.skips() {
        return Ok(files);
    }
    let bad = files.corrupt(watch);
    files.without(bad, tally)
}

/// The training images from their cache, and the length of their shorter side there.
type Cached = Option<(SampleSet, u32)>;

/// The training images that can be decoded, and the cache of them in `folder`.
fn in_cache(
    folder: &Path,
    train: Files,
    shorter: u32,
    tally: &mut Tally,
    watch: &Watch<'_>,
) -> Result<(Files, Cached), DataError> {
    let stamp = train.stamp()?;
    let (cache, bad) = Cache::open(folder, &train, &stamp, shorter, tally.skips(), watch)?;
    let set: SampleSet = Arc::new(cache);
    Ok((train.without(bad, tally)?, Some((set, shorter))))
}

/// The hashes of a set in files; `halves` are the positions of the dev and the test half in `val`.
fn fingerprint(
    train: &Files,
    labelled: Option<&Files>,
    val: &Files,
    halves: &[Vec<usize>; 2],
    part: Eval,
) -> Result<Fingerprint, DataError> {
    let [dev, test] = halves;
    let (train, dev) = (train.fingerprint()?, val.at(dev).fingerprint()?);
    Ok(Fingerprint {
        labelled: labelled.map_or_else(|| Ok(train.clone()), Files::fingerprint)?,
        train,
        eval: match part {
            Eval::Dev => dev.clone(),
            Eval::Test => val.at(test).fingerprint()?,
            Eval::All => val.fingerprint()?,
        },
        dev,
    })
}
