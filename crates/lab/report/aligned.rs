//! Tables for a terminal: Markdown whose columns are as wide as their widest cell.

/// The table with this head and these rows, each as long as the head.
pub(crate) fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: [usize; N] = std::array::from_fn(|i| {
        let cells = rows.iter().map(|row| width(&row[i]));
        cells.chain([width(head[i])]).max().unwrap_or_default()
    });
    let line = |cells: [&str; N]| {
        let padded: [String; N] = std::array::from_fn(|i| {
            format!("{}{}", cells[i], " ".repeat(widths[i] - width(cells[i])))
        });
        format!("| {} |\n", padded.join(" | "))
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut text = line(head) + &line(std::array::from_fn(|i| rule[i].as_str()));
    rows.iter().for_each(|row| text += &line(std::array::from_fn(|i| row[i].as_str())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".into(), "größer".into()], ["long name".into(), String::new()]];
        let expected = "| run       | x      |\n| --------- | ------ |\n| a         | größer |\n| long name |        |\n";
        assert_eq!(aligned(["run", "x"], &rows), expected);
    }
}
