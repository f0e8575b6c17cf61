//! The scores of encoders and their p-values.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ssl_backdoor::{EncoderScanOptions, scan_encoder};
use ssl_backdoor_model::EncoderHeader;
use ssl_backdoor_scan::{EncoderScans, NullScore, Nulls, PValue, ScanError};

use crate::runs::Run;

/// Seed of the scans, the same as in `scan nulls`.
const SEED: u64 = 1;

/// A scored encoder whose ground truth is known.
pub struct Scored {
    pub name: String,
    pub method: String,
    pub backdoored: bool,
    pub net_asr: Option<f64>,
    pub score: NullScore,
}

/// A scored encoder with its p-values.
pub struct Judged {
    pub encoder: Scored,
    /// The p-value of each scan.
    pub p: BTreeMap<String, PValue>,
    pub together: Option<PValue>,
}

/// An encoder on which no scan had a result.
pub struct Refused {
    pub name: String,
    pub reason: String,
}

/// The scores of all encoders of `runs`, each scanned once, and those of the clean encoders in `more`; and the encoders
/// on which no scan had a result.
pub fn scored(
    runs: &[Run],
    more: Vec<(PathBuf, NullScore)>,
    scans: &EncoderScans,
    out: &Path,
) -> Result<(Vec<Scored>, Vec<Refused>)> {
    let (mut all, mut refused, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (run, model) in runs.iter().flat_map(|run| [(run, "clean"), (run, "backdoored")]) {
        let Some(file) = run.encoder(model) else { continue };
        let name = format!("{}-{model}", run.name);
        let backdoored = model == "backdoored";
        let score = match score(run, &file, scans, &out.join("encoders").join(&name)) {
            Ok(score) => score,
            Err(error) if error.downcast_ref::<ScanError>().is_some() => {
                refused.push(Refused { name, reason: format!("{:#}", error.root_cause()) });
                continue;
            }
            Err(error) => return Err(error),
        };
        // Runs share twins; each counts once.
        if seen.insert(score.hash.clone()) {
            let (method, net_asr) = (run.method.clone(), run.net_asr.filter(|_| backdoored));
            all.push(Scored { name, method, backdoored, net_asr, score });
        }
    }
    for (path, score) in more {
        let shown = path.display();
        let training = score.training.as_ref();
        let training = training.with_context(|| format!("{shown} does not say its training"))?;
        let (name, method) = (format!("seed-{}", training.seed), training.method.clone());
        if seen.insert(score.hash.clone()) {
            all.push(Scored { name, method, backdoored: false, net_asr: None, score });
        }
    }
    Ok((all, refused))
}

/// The score of an encoder, from an earlier scan of the same file with the same settings in `out` or, without one, from a
/// new scan.
fn score(run: &Run, encoder: &Path, scans: &EncoderScans, out: &Path) -> Result<NullScore> {
    let file = out.join("scan.json");
    let header = EncoderHeader::read(encoder)?;
    let header = header.with_context(|| format!("{} has no header", encoder.display()))?;
    let hash = blake3::hash(&std::fs::read(encoder)?).to_hex().to_string();
    let fits = |score: &NullScore| {
        let wanted = scans.expected(&header, (hash.clone(), SEED), &score.images, None);
        NullScore { scores: score.scores.clone(), ..wanted } == *score
    };
    if !kept(&file).is_ok_and(|score| fits(&score)) {
        let options = EncoderScanOptions {
            encoder: encoder.to_owned(),
            images: run.config(),
            out: Some(out.to_owned()),
            seed: SEED,
            scans: scans.clone(),
            ..EncoderScanOptions::default()
        };
        scan_encoder(&options).with_context(|| format!("cannot scan {}", encoder.display()))?;
    }
    kept(&file)
}

/// The score in a `scan.json`.
fn kept(file: &Path) -> Result<NullScore> {
    let text = std::fs::read_to_string(file)?;
    let scan: Value = serde_json::from_str(&text)?;
    let broken = || format!("{} holds no scan of an encoder", file.display());
    serde_json::from_value(scan["score"].clone()).with_context(broken)
}

/// The p-values of `scored` among the `nulls` of the same method, of which each needs `least`. No encoder may be both.
pub fn judged(scored: Vec<Scored>, nulls: Vec<NullScore>, least: usize) -> Result<Vec<Judged>> {
    one_training_each(&nulls)?;
    let hashes: HashSet<&str> = nulls.iter().map(|null| null.hash.as_str()).collect();
    if let Some(both) = scored.iter().find(|one| hashes.contains(one.score.hash.as_str())) {
        bail!("{} is scored and is one of the nulls: they must be different encoders", both.name);
    }
    let judge = |encoder: Scored| {
        let mut reason = format!("no null was trained with {}", encoder.method);
        let method = |null: &&NullScore| {
            null.training.as_ref().is_some_and(|training| training.method == encoder.method)
        };
        let mut scores = Vec::new();
        for null in nulls.iter().filter(method) {
            match encoder.score.differs(null) {
                None => scores.push(null.clone()),
                Some(why) => reason = why,
            }
        }
        // A null on which a scan had no result counts in no p-value of that scan.
        let of_scan = |scan: &String| {
            scores.iter().filter(|null: &&NullScore| null.scores.contains_key(scan)).count()
        };
        let fewest = encoder.score.scores.keys().map(of_scan).min().unwrap_or_default();
        if fewest < least {
            bail!(
                "{} has {fewest} nulls, --least asks for {least}; of the last other one: {reason}",
                encoder.name
            );
        }
        let own = Nulls { scores, left_out: Vec::new() };
        let p = |(scan, score): (&String, &f64)| Some((scan.clone(), own.p_value(scan, *score)?));
        let p = encoder.score.scores.iter().filter_map(p).collect();
        Ok(Judged { p, together: own.together(&encoder.score), encoder })
    };
    scored.into_iter().map(judge).collect()
}

/// Checks that the nulls of a method were trained alike.
fn one_training_each(nulls: &[NullScore]) -> Result<()> {
    let mut settings: BTreeMap<&str, &str> = BTreeMap::new();
    for training in nulls.iter().filter_map(|null| null.training.as_ref()) {
        let first = settings.entry(&training.method).or_insert(&training.settings);
        if *first != training.settings {
            bail!(
                "the nulls of {} were trained with different settings or on different images",
                training.method
            );
        }
    }
    Ok(())
}
