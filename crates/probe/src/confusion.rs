//! The confusion matrix, and its file in the reference's format.

use std::fmt::Write as _;

use crate::ProbeError;
use crate::features::check_labels;
use crate::scores::check_predictions;

/// Counts of images by true class (row) and predicted class (column).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Counts `predicted` against `truth`; classes are 0 to `classes` − 1.
    ///
    /// # Errors
    /// [`ProbeError::Empty`] without images, [`ProbeError::Count`] if there are not as many predictions as images,
    /// and [`ProbeError::Label`] for a class out of range.
    pub fn of(truth: &[u32], predicted: &[u32], classes: usize) -> Result<Self, ProbeError> {
        check_predictions(truth, &[predicted])?;
        check_labels(truth, classes)?;
        check_labels(predicted, classes)?;
        let mut counts = vec![vec![0; classes]; classes];
        for (&truth, &predicted) in truth.iter().zip(predicted) {
            counts[truth as usize][predicted as usize] += 1;
        }
        Ok(Self { counts })
    }

    /// Images of `class` that are predicted correctly.
    pub fn true_positives(&self, class: usize) -> usize {
        self.counts.get(class).and_then(|row| row.get(class)).copied().unwrap_or(0)
    }

    /// Images of other classes predicted as `class`: its column without the diagonal (docs/protocol.md, 4).
    pub fn false_positives(&self, class: usize) -> usize {
        let column: usize = self.counts.iter().filter_map(|row| row.get(class)).sum();
        column - self.true_positives(class)
    }

    /// Top-1 accuracy in percent.
    pub fn accuracy(&self) -> f64 {
        let all: usize = self.counts.iter().flatten().sum();
        let right: usize = (0..self.counts.len()).map(|class| self.true_positives(class)).sum();
        100.0 * right as f64 / all.max(1) as f64
    }

    /// The matrix as CSV: a row per true class, a column per predicted class, and a header with the class names.
    pub fn to_csv(&self, classes: &[String]) -> String {
        let names: Vec<String> = classes.iter().map(|name| plain(name)).collect();
        let mut text = format!("true class,{}\n", names.join(","));
        for (name, row) in names.iter().zip(&self.counts) {
            let cells: Vec<String> = row.iter().map(usize::to_string).collect();
            let _ = writeln!(text, "{name},{}", cells.join(","));
        }
        text
    }
}

/// The reference's `conf_matrix.csv`, byte for byte as its MoCo script writes it (docs/protocol.md, 4): the accuracy
/// of `model` on the clean and the patched images of `data`, and each class's TP and FP on both. Counts are floats,
/// because the reference counts in a float matrix. The patched title and accuracy stand above the patched FP (column
/// 6, from 0). Commas in `model` and in class names become semicolons; in `data` they stay, as in the reference.
pub fn reference_csv(
    model: &str,
    data: &str,
    classes: &[String],
    clean: &Confusion,
    patched: &Confusion,
) -> String {
    let mut text = format!("Model {},,Clean val,,,,Pois. val,,\n", plain(model));
    let _ = writeln!(text, "Data {data},,acc1,,,,acc1,,");
    let _ = writeln!(text, ",,{:.2},,,,{:.2},,", clean.accuracy(), patched.accuracy());
    text += "class name,class id,TP,FP,,TP,FP\n";
    for (class, name) in classes.iter().enumerate() {
        let [c, p] = [clean, patched].map(|m| (m.true_positives(class), m.false_positives(class)));
        let name = plain(name);
        let _ = writeln!(text, "{name},{class},{}.0,{}.0,,{}.0,{}.0", c.0, c.1, p.0, p.1);
    }
    text
}

/// A name without commas, because the format has no quoting.
fn plain(name: &str) -> String {
    name.replace(',', ";")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["goose", "tabby, tabby cat", "laptop"].map(String::from).to_vec()
    }

    #[test]
    fn counts_worked_by_hand() {
        let truth = [0, 0, 0, 1, 1, 2, 2, 2];
        let predicted = [0, 1, 1, 1, 2, 2, 1, 0];
        let confusion = Confusion::of(&truth, &predicted, 3).unwrap();
        assert_eq!(confusion.counts, [[1, 2, 0], [0, 1, 1], [1, 1, 1]]);
        assert_eq!([0, 1, 2].map(|c| confusion.true_positives(c)), [1, 1, 1]);
        assert_eq!([0, 1, 2].map(|c| confusion.false_positives(c)), [1, 3, 1]);
        assert_eq!(confusion.accuracy(), 37.5);
        let csv = confusion.to_csv(&names());
        assert_eq!(csv.lines().next(), Some("true class,goose,tabby; tabby cat,laptop"));
        assert_eq!(csv.lines().nth(2), Some("tabby; tabby cat,0,1,1"));
    }

    #[test]
    fn review_2_06_what_cannot_be_counted_is_an_error() {
        let message = |truth: &[u32], predicted: &[u32]| {
            Confusion::of(truth, predicted, 3).unwrap_err().to_string()
        };
        assert!(message(&[], &[]).contains("no images to score"));
        assert!(message(&[0, 1], &[0]).contains("1 predictions, expected 2"));
        assert!(message(&[0, 3], &[0, 0]).contains("image 1 has label 3"));
        assert!(message(&[0, 0], &[7, 0]).contains("image 0 has label 7"));
    }

    /// `tests/fixtures/conf_matrix.py` writes the file from the same predictions.
    #[test]
    fn review_1_10_the_file_is_the_references_byte_for_byte() {
        let names = [
            "goose",
            "tabby, tabby cat",
            "laptop, laptop computer",
            "maillot",
            "crane",
            "maillot, tank suit",
            "Öre",
        ]
        .map(String::from);
        let of = |right: u32| {
            let truth: Vec<u32> = (0..800).map(|i| i % 7).collect();
            let wrong = |i: u32| (i % 7 + 1 + i % 3) % 7;
            let predicted: Vec<u32> =
                (0..800).map(|i| if i < right { i % 7 } else { wrong(i) }).collect();
            Confusion::of(&truth, &predicted, 7).unwrap()
        };
        let (model, data) = (
            "exp, one/moco/clean/checkpoint_0199.pth.tar",
            "data/HTBA, 10/val_poisoned/filelist.txt",
        );
        let text = reference_csv(model, data, &names, &of(265), &of(97));
        assert_eq!(text, include_str!("../tests/fixtures/conf_matrix.csv"));
    }
}
