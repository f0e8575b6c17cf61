//! The findings of the scans of a run, compared with the truth.

use ssl_backdoor_defend::ModelId;
use ssl_backdoor_scan::{AtK, EncoderScans, PValue, PatchSearch};

use crate::record::{BACKDOORED, DataScan, EncoderScan, RunScans, RunScores};

/// The section of the report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScanTable {
    /// Columns of the table of encoders.
    pub head: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
    /// The basis of the p-values.
    pub nulls: String,
    /// The scan of the training images, in sentences.
    pub data: String,
    /// What the scans cannot detect.
    pub blind: String,
    /// The strongest reconstructed triggers: in words, and as a picture if there is one.
    pub triggers: Vec<(String, Option<String>)>,
}

impl ScanTable {
    /// The scans of the run with these `scores`; `picture` is that of the strongest trigger which a scan reconstructed for a
    /// model.
    pub fn of(
        scans: &RunScans,
        scores: &RunScores,
        picture: impl Fn(&ModelId, &str) -> Option<String>,
    ) -> Self {
        let mut names: Vec<&String> =
            scans.encoders.values().flat_map(|one| one.scans.keys()).collect();
        names.sort();
        names.dedup();
        let mut head = vec!["Encoder".to_owned(), "Truth".to_owned()];
        head.extend(names.iter().map(|name| format!("{name}, score (p)")));
        head.push("p together".to_owned());
        let row = |(model, one): (&ModelId, &EncoderScan)| {
            let mut row = vec![model.to_string(), truth(model.as_str(), scores)];
            row.extend(names.iter().map(|name| match one.scans.get(*name) {
                Some(scan) => format!("{:.3} ({})", scan.score, p_cell(scan.p_value)),
                None => "no result".to_owned(),
            }));
            row.push(p_cell(one.p_value));
            row
        };
        let p_value = scans.encoders.values().find_map(|one| one.p_value);
        let nulls = match p_value {
            Some(p_value) => format!(
                "p-values are ranks among the scores of {} clean encoders with the same training; none can be below {:.3}.",
                p_value.nulls,
                p_value.least()
            ),
            None => "Without scores of clean encoders (scan.null) there are no p-values; a score alone says little.".to_owned(),
        };
        let blind = format!("{} {}", EncoderScans::BLIND, PatchSearch::BLIND.join(" "));
        let found = scans.encoders.iter().flat_map(|(model, one)| {
            one.scans.iter().map(move |(name, scan)| (model, name, scan.evidence.first()))
        });
        let triggers = found.filter_map(|(model, name, caption)| {
            let words = format!("{model}, strongest trigger of {name}: {}", caption?);
            Some((words, picture(model, name)))
        });
        let triggers = triggers.collect();
        Self {
            head,
            rows: scans.encoders.iter().map(row).collect(),
            nulls,
            data: match (&scans.data, &scans.data_refused) {
                (Some(scan), _) => data(scan),
                (None, reason) => format!(
                    "PatchSearch has no result for the training images: {}.",
                    reason.as_deref().unwrap_or_default()
                ),
            },
            blind,
            triggers,
        }
    }

    /// The section in Markdown, without its heading.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = self.head.iter().map(|_| "---".to_owned()).collect();
        let mut text = line(&self.head) + &line(&rule);
        text.extend(self.rows.iter().map(|row| line(row)));
        text.push('\n');
        text.extend(self.triggers.iter().map(|(words, _)| format!("- {words}\n")));
        text + &format!("\n{}\n\n{}\n\n{}\n", self.nulls, self.data, self.blind)
    }
}

/// What the encoder really is.
fn truth(model: &str, scores: &RunScores) -> String {
    match (model == BACKDOORED, scores.net_asr) {
        (true, Some(net)) => format!("backdoored, net ASR {net:.1} points"),
        (true, None) => {
            format!("backdoored, patched accuracy {:.1} points lower", scores.patched_drop)
        }
        (false, _) => "clean".to_owned(),
    }
}

fn p_cell(p_value: Option<PValue>) -> String {
    p_value.map_or("-".to_owned(), |p_value| format!("{:.3}", p_value.p))
}

/// PatchSearch compared with the ledger, in sentences.
fn data(scan: &DataScan) -> String {
    let DataScan { images, suspected, strongest, truth, .. } = scan;
    let mut text = format!(
        "PatchSearch with the features of the backdoored model suspects {suspected} of the {images} training images."
    );
    if let Some(truth) = truth {
        text += &format!(
            " {} of them are poisoned; the set contains {} poisoned images.",
            truth.suspected, truth.poisoned
        );
        let at = |all: &[AtK]| all.iter().find(|at| at.k == 20).map(|at| at.poisoned);
        if let (Some(ranking), Some(patches)) = (at(&truth.ranking), at(&truth.patches)) {
            text += &format!(
                " Of the 20 most suspicious images, {ranking} are poisoned; of the 20 images with the strongest patches, {patches}."
            );
        }
    }
    if let Some(strongest) = strongest {
        text += &format!(" Its strongest patch: {strongest}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scans(nulls: bool) -> RunScans {
        let p = |p: f64| if nulls { json!({ "p": p, "nulls": 39 }) } else { json!(null) };
        let score = json!({ "schema": 1, "encoder": { "kind": "resnet18", "width": 4, "stem": "small" }, "size": 16,
            "settings": {}, "seed": 1, "images": "", "hash": "", "scores": {} });
        let scan = |value: f64| json!({ "score": value, "p_value": p(0.025), "figures": {}, "evidence": ["a patch"] });
        let at = |k: usize, poisoned: usize| json!({ "k": k, "poisoned": poisoned, "precision": 0.5, "recall": 0.1 });
        serde_json::from_value(json!({
            "data": { "images": 320, "suspected": 12, "strongest": "It takes 9", "figures": {},
                "truth": { "poisoned": 16, "suspected": 7, "ranking": [at(20, 8)], "patches": [at(20, 3)] } },
            "encoders": {
                "backdoored": { "scans": { "decree": scan(0.9), "ssl-cleanse": scan(4.0) }, "p_value": p(0.025),
                    "score": score },
                "clean": { "scans": { "ssl-cleanse": scan(1.0) }, "p_value": p(0.5), "refused": ["alike"],
                    "score": score },
            },
        }))
        .unwrap()
    }

    #[test]
    fn scans_stand_beside_the_truth() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let mut folders = vec![path];
        let scores = loop {
            let folder = folders.pop().unwrap();
            let path = folder.join("scores.json");
            let scores = RunScores::read(&path).ok().filter(|scores| scores.net_asr.is_some());
            if let Some(scores) = scores {
                break scores;
            }
            let inner = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(inner.filter(|path| path.is_dir()));
        };
        let picture =
            |model: &ModelId, scan: &str| (scan == "decree").then(|| format!("{model}.png"));
        let table = ScanTable::of(&scans(true), &scores, picture);
        assert_eq!(
            table.head,
            ["Encoder", "Truth", "decree, score (p)", "ssl-cleanse, score (p)", "p together"]
        );
        assert!(table.rows[0][1].starts_with("backdoored, net ASR"), "{table:?}");
        assert_eq!(table.rows[0][2..], ["0.900 (0.025)", "4.000 (0.025)", "0.025"]);
        assert_eq!(table.rows[1][1..], ["clean", "no result", "1.000 (0.025)", "0.500"]);
        assert!(table.nulls.contains("39 clean encoders") && table.nulls.contains("0.025"));
        let of_decree = (
            "backdoored, strongest trigger of decree: a patch".to_owned(),
            Some("backdoored.png".to_owned()),
        );
        assert_eq!((&table.triggers[0], table.triggers.len()), (&of_decree, 3));
        let markdown = table.markdown();
        for words in [
            "suspects 12 of the 320",
            "7 of them",
            "8 are poisoned",
            "strongest patches, 3",
            "- clean, strongest trigger of ssl-cleanse: a patch\n",
            "not detect",
        ] {
            assert!(markdown.contains(words), "{words}: {markdown}");
        }
        let alone = ScanTable::of(&scans(false), &scores, |_, _| None);
        assert!(alone.nulls.contains("no p-values"), "{}", alone.nulls);
        assert_eq!(alone.rows[0][4], "-");
    }
}
