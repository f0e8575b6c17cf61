//! The poisoned images of an export, and their ledger.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;
use rayon::prelude::*;
use ssl_backdoor_trigger::{Ledger, LedgerHead, LedgerRow, Phase, Rates};

use super::job::ExportJob;
use super::partial::{make, write_new};
use crate::jpeg::encode;
use crate::survival::jpeg_energy;
use crate::wrappers::keeps_size;
use crate::{DataError, Watch};

/// Number of poisoned images on which the energy that JPEG keeps is measured.
const MEASURED: usize = 64;

impl ExportJob {
    /// Poisons image `index`. Its row does not contain the exported file yet.
    fn poisoned(&self, phase: Phase, index: usize) -> Result<(RgbImage, LedgerRow), DataError> {
        let split = self.split(phase);
        let id = split.labels[index].0;
        let mut image = self.image(phase, index)?;
        let before = image.dimensions();
        let source = split.source(&self.splits.name, index);
        let row = LedgerRow::poison(self.attack.poison(phase), id, source, &mut image)?;
        if phase == Phase::Evaluation {
            keeps_size(id, &image, before)?;
        }
        Ok((image, row))
    }

    /// The share of the trigger's energy that JPEG keeps; `None` unless the trigger covers the whole image.
    pub fn jpeg_energy(&self) -> Result<Option<f64>, DataError> {
        let size = self.export.data.size();
        if self.attack.train.perturbation.width((size, size)).is_some() {
            return Ok(None);
        }
        let labels = self.splits.train.labels.iter().enumerate();
        let poisoned = labels.filter(|(_, (id, _))| self.attack.plan.contains(*id));
        let positions: Vec<usize> = poisoned.map(|(i, _)| i).take(MEASURED).collect();
        jpeg_energy(&*self.splits.train.set, &positions, &self.attack.train)
    }

    pub fn ledger(
        &self,
        phase: Phase,
        folder: &Path,
        watch: &Watch<'_>,
    ) -> Result<Ledger, DataError> {
        let split = self.split(phase);
        let all = phase == Phase::Evaluation;
        let chosen: Vec<usize> = (0..split.labels.len())
            .filter(|&i| all || self.attack.plan.contains(split.labels[i].0))
            .collect();
        let mut made = HashSet::new();
        for &index in &chosen {
            if let Some(inside) = folder.join(self.file(phase, index)).parent()
                && made.insert(inside.to_owned())
            {
                make(inside)?;
            }
        }
        let done = AtomicUsize::new(0);
        let work = |&index: &usize| -> Result<LedgerRow, DataError> {
            let (image, mut row) = self.poisoned(phase, index)?;
            row.file = self.file(phase, index);
            let path = folder.join(&row.file);
            let bytes = encode(&image, &row.file, self.format())
                .map_err(|reason| DataError::Format { path: path.clone(), reason })?;
            row.file_hash = blake3::hash(&bytes).to_hex().to_string();
            write_new(&path, &bytes)?;
            watch(Self::part(phase), done.fetch_add(1, Ordering::Relaxed) + 1, chosen.len());
            Ok(row)
        };
        let rows: Result<Vec<LedgerRow>, DataError> = chosen.par_iter().map(work).collect();
        let mut rows = rows?;
        rows.sort_by_key(|row| row.image_id);
        let rates = match phase {
            Phase::Training => self.attack.plan.rates(),
            Phase::Evaluation => Rates { rate: None, dataset_rate: 1.0, count: rows.len() },
        };
        let (recipe, poison) = (self.export.poison.recipe(phase), self.attack.poison(phase));
        let head = LedgerHead {
            recompress: self.attack.recompress,
            left_out: self.splits.skipped.len(),
            selected: self.attack.selected.clone().filter(|_| !all),
            ..LedgerHead::new(rates, self.attack.target, recipe, poison)
        };
        Ok(Ledger { head, rows })
    }
}
