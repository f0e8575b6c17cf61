//! Paths and file lists of an export, as the reference lays them out (docs/protocol.md, 1.5).

use std::collections::HashMap;
use std::path::PathBuf;

use ssl_backdoor_rng::ranked;
use ssl_backdoor_trigger::purpose;
use ssl_backdoor_trigger::{LedgerRow, Phase};

use super::job::ExportJob;
use super::names::file_name;
use crate::{DataError, Split, Splits, UNLABELLED, list_text};

impl ExportJob {
    fn id(&self) -> String {
        let Self { export, attack, splits, .. } = self;
        export.id.clone().unwrap_or_else(|| {
            let trigger = attack.train.perturbation.name();
            let name = match trigger.strip_prefix("htba-") {
                Some(number) => format!("HTBA_trigger_{number}"),
                None => file_name(trigger),
            };
            match attack.target {
                Some(target) => format!("{name}_targeted_{}", splits.classes[target as usize]),
                None => format!("{name}_untargeted"),
            }
        })
    }

    /// The settings of one part as a name, in the reference's form for a patch.
    fn stem(&self, phase: Phase) -> String {
        let head = file_name(&self.attack.poison(phase).perturbation.stem(phase));
        if phase == Phase::Evaluation {
            return head;
        }
        let rates = self.attack.plan.rates();
        let rate = rates.rate.unwrap_or(rates.dataset_rate);
        let targeted = if self.attack.target.is_some() { "True" } else { "False" };
        let patch = if self.export.patch_params { "_w-patch-parameters" } else { "" };
        format!("{head}_rate_{rate:.2}_targeted_{targeted}{patch}")
    }

    pub fn part(phase: Phase) -> &'static str {
        match phase {
            Phase::Training => "train",
            Phase::Evaluation => "val_poisoned",
        }
    }

    /// Path of the poisoned copy of image `index`, relative to the folder.
    pub fn file(&self, phase: Phase, index: usize) -> String {
        let name = &self.names[phase as usize].of[index];
        format!("{}/{}/{name}", Self::part(phase), self.stem(phase))
    }

    /// Path of the clean copy of training image `index`, for a set that is not in image files.
    fn clean_file(&self, index: usize) -> String {
        format!("clean/{}", self.names[Phase::Training as usize].of[index])
    }

    pub fn list_file(&self, phase: Phase) -> PathBuf {
        let (part, stem) = (Self::part(phase), self.stem(phase));
        PathBuf::from("data").join(self.id()).join(part).join(format!("{stem}_filelist.txt"))
    }

    /// The list of one part, and whether a path in it contains a blank. `rows` are its poisoned images.
    pub fn list(&self, phase: Phase, rows: &[LedgerRow]) -> Result<(String, bool), DataError> {
        let lines = match phase {
            Phase::Training => self.train_lines(rows),
            Phase::Evaluation => self.val_lines(rows),
        };
        let lines = lines.iter().map(|(path, class, patch)| (path.as_str(), *class, *patch));
        let (mut text, blanks) = list_text(lines)
            .map_err(|reason| DataError::Format { path: self.list_file(phase), reason })?;
        if self.export.format == 1 {
            for blank in [' ', '\t'] {
                text = text.replace(&format!("{blank}-1\n"), &format!("{blank}{UNLABELLED}\n"));
            }
        }
        Ok((text, blanks))
    }

    /// The training set. With a target, its class comes last, in rank order (a random sample to poison comes first);
    /// otherwise all images are in rank order. Without `rows`, the lines name the clean originals.
    fn train_lines(&self, rows: &[LedgerRow]) -> Vec<(String, u32, Option<[u32; 4]>)> {
        let Splits { train, .. } = &self.splits;
        let seed = self.export.seed;
        let ranked = |ids: &[u64]| ranked(ids, seed, purpose::PLAN, 0);
        let aimed = |class: u32| self.attack.target.is_none_or(|target| class == target);
        let of = |chosen: bool| -> Vec<u64> {
            train.labels.iter().filter(|(_, c)| aimed(*c) == chosen).map(|(id, _)| *id).collect()
        };
        let order = of(false).into_iter().chain(ranked(&of(true)));
        let poisoned: HashMap<u64, &LedgerRow> =
            rows.iter().map(|row| (row.image_id, row)).collect();
        let perturbation = &self.attack.train.perturbation;
        let line = |id: u64| {
            let index = self.positions[Phase::Training as usize][&id];
            let (path, patch) = match (poisoned.get(&id), &train.files) {
                (Some(row), _) => (self.rooted(&row.file), perturbation.listed_box(&row.record)),
                (None, Some(files)) => (files[index].to_string_lossy().into_owned(), None),
                (None, None) => (self.rooted(&self.clean_file(index)), None),
            };
            (path, train.labels[index].1, patch.filter(|_| self.export.patch_params))
        };
        order.map(line).collect()
    }

    /// Every patched evaluation image, in the order of the set.
    fn val_lines(&self, rows: &[LedgerRow]) -> Vec<(String, u32, Option<[u32; 4]>)> {
        let files: HashMap<u64, &str> =
            rows.iter().map(|row| (row.image_id, row.file.as_str())).collect();
        let labels = self.splits.eval.labels.iter();
        labels.filter_map(|(id, class)| Some((self.rooted(files.get(id)?), *class, None))).collect()
    }

    fn rooted(&self, file: &str) -> String {
        let root = self.export.root.clone().unwrap_or_default();
        root.join(file).to_string_lossy().into_owned()
    }

    /// The clean copies of a set that is not in image files: file and position of each training image.
    pub fn clean_copies(&self) -> Vec<(String, usize)> {
        let Split { labels, files, .. } = &self.splits.train;
        match files {
            Some(_) => Vec::new(),
            None => (0..labels.len()).map(|i| (self.clean_file(i), i)).collect(),
        }
    }
}
