//! An export together with its original images.

use std::collections::HashMap;

use image::RgbImage;
use ssl_backdoor_trigger::{Attack, Phase, Setup};

use super::Export;
use super::names::Names;
use crate::jpeg::Format;
use crate::{DataConfig, DataError, Eval, Split, Splits, Watch};

/// An export with all of its inputs read.
pub(crate) struct ExportJob {
    pub export: Export,
    pub splits: Splits,
    pub attack: Attack,
    pub setup: Setup,
    pub saved_from_jpeg: bool,
    /// Positions of the training and of the evaluation images, by image id.
    pub positions: [HashMap<u64, usize>; 2],
    /// File names of both.
    pub names: [Names; 2],
}

impl ExportJob {
    pub fn new(mut export: Export, watch: &Watch<'_>) -> Result<Self, DataError> {
        export.data.check_poison(&export.poison)?;
        // Images are exported from the originals: a cache of resized ones would be useless.
        leave_cache_out(&mut export.data);
        // Every evaluation image is patched, whichever part a run would score.
        let splits = export.data.load_part(Eval::All, watch)?;
        let attack = splits.attack(&export.poison, export.seed)?;
        let setup = splits.setup(&export.poison)?;
        let lossless = export.lossless || !attack.survives_jpeg();
        let saved_from_jpeg = lossless && !export.lossless && splits.exports_jpegs();
        export.lossless = lossless;
        let positions = [&splits.train, &splits.eval]
            .map(|split| split.labels.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect());
        let names = [&splits.train, &splits.eval]
            .map(|split| Names::new(split, &splits.classes, export.lossless));
        Ok(Self { export, splits, attack, setup, saved_from_jpeg, positions, names })
    }

    /// The format in which its files are written.
    pub fn format(&self) -> Format {
        match self.export.format {
            1 => Format::First,
            2 => Format::Second,
            _ => Format::Present,
        }
    }

    pub fn split(&self, phase: Phase) -> &Split {
        match phase {
            Phase::Training => &self.splits.train,
            Phase::Evaluation => &self.splits.eval,
        }
    }

    /// Image `index` before it is poisoned. Evaluation images are prepared for the network.
    pub fn image(&self, phase: Phase, index: usize) -> Result<RgbImage, DataError> {
        let image = self.split(phase).set.get(index)?.image;
        Ok(match phase {
            Phase::Training => image,
            Phase::Evaluation => self.splits.preparation.image(image),
        })
    }
}

fn leave_cache_out(data: &mut DataConfig) {
    match data {
        DataConfig::Folder(set) | DataConfig::Imagenet100(set) | DataConfig::TinyImagenet(set) => {
            set.cache = None;
        }
        DataConfig::FileList(set) => set.cache = None,
        DataConfig::Shapes(_)
        | DataConfig::Mnist(_)
        | DataConfig::FashionMnist(_)
        | DataConfig::Kmnist(_)
        | DataConfig::Cifar10(_)
        | DataConfig::Cifar100(_)
        | DataConfig::Stl10(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_set_is_exported_from_its_cache() {
        let folder = |kind: &str| {
            format!(r#"{{ "kind": "{kind}", "path": "d", "size": 32, "cache": "c" }}"#)
        };
        let list = r#"{ "kind": "file-list", "train": "t", "val": "v", "size": 32, "cache": "c" }"#;
        let folders = ["folder", "imagenet100", "tiny-imagenet"].map(folder);
        for text in folders.into_iter().chain([list.to_owned()]) {
            let mut data: DataConfig = serde_json::from_str(&text).unwrap();
            leave_cache_out(&mut data);
            let left = serde_json::to_value(&data).unwrap();
            assert!(left.get("cache").is_none_or(|cache| cache.is_null()), "{left}");
        }
    }
}
