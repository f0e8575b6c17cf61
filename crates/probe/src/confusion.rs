//! The confusion matrix, and the reference's file of it.

use std::fmt::Write as _;

/// Counts of images by true class (row) and predicted class (column).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Counts `predicted` against `truth`; classes are 0 to `classes` − 1, others are not counted.
    pub fn of(truth: &[u32], predicted: &[u32], classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (&truth, &predicted) in truth.iter().zip(predicted) {
            let cell =
                counts.get_mut(truth as usize).and_then(|row| row.get_mut(predicted as usize));
            if let Some(cell) = cell {
                *cell += 1;
            }
        }
        Self { counts }
    }

    /// Images of `class` predicted as such.
    pub fn true_positives(&self, class: usize) -> usize {
        self.counts.get(class).and_then(|row| row.get(class)).copied().unwrap_or(0)
    }

    /// Images of other classes predicted as `class`: its column without the diagonal (protocol 4).
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

    /// The matrix as CSV: a line per true class, a column per predicted one, names in the head.
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

/// The reference's `conf_matrix.csv` (protocol 4): accuracy of `model` on the clean and on the patched images
/// of `data`, and TP and FP of each class on both.
pub fn reference_csv(
    model: &str,
    data: &str,
    classes: &[String],
    clean: &Confusion,
    patched: &Confusion,
) -> String {
    let mut text = format!("{},,Clean val,,,Pois. val,\n", plain(model));
    let _ = writeln!(text, "{},,acc1,,,acc1,", plain(data));
    let _ = writeln!(text, ",,{:.2},,,{:.2},", clean.accuracy(), patched.accuracy());
    text += "class name,class id,TP,FP,,TP,FP\n";
    for (class, name) in classes.iter().enumerate() {
        let [c, p] = [clean, patched].map(|m| (m.true_positives(class), m.false_positives(class)));
        let _ = writeln!(text, "{},{class},{},{},,{},{}", plain(name), c.0, c.1, p.0, p.1);
    }
    text
}

/// A name without commas, which the format has no quotes for.
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
        let confusion = Confusion::of(&truth, &predicted, 3);
        assert_eq!(confusion.counts, [[1, 2, 0], [0, 1, 1], [1, 1, 1]]);
        assert_eq!([0, 1, 2].map(|c| confusion.true_positives(c)), [1, 1, 1]);
        assert_eq!([0, 1, 2].map(|c| confusion.false_positives(c)), [1, 3, 1]);
        assert_eq!(confusion.accuracy(), 37.5);
        let csv = confusion.to_csv(&names());
        assert_eq!(csv.lines().next(), Some("true class,goose,tabby; tabby cat,laptop"));
        assert_eq!(csv.lines().nth(2), Some("tabby; tabby cat,0,1,1"));
    }

    #[test]
    fn the_references_file_has_its_lines() {
        let clean = Confusion::of(&[0, 1, 2], &[0, 1, 1], 3);
        let patched = Confusion::of(&[0, 1, 2], &[0, 0, 0], 3);
        let text = reference_csv("runs/x/clean", "shapes", &names(), &clean, &patched);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], ",,66.67,,,33.33,");
        assert_eq!(lines[3], "class name,class id,TP,FP,,TP,FP");
        assert_eq!(lines[4], "goose,0,1,0,,1,2");
        assert_eq!(lines[5], "tabby; tabby cat,1,1,1,,0,0");
        assert_eq!(lines.len(), 7);
    }
}
