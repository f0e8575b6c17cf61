//! The tables of the page, row by row.

use std::fmt::Display;

use anyhow::Result;

/// The tables so far.
pub struct Tables<'a> {
    /// The page as it was.
    old: &'a str,
    /// Only rows whose name contains this are measured, and new ones.
    only: Option<&'a str>,
    /// The last cell of each measured row.
    machine: String,
    pub text: String,
    /// The rows that could not be measured, with the reason.
    pub failed: Vec<String>,
}

impl<'a> Tables<'a> {
    pub fn new(old: &'a str, only: Option<&'a str>, machine: String) -> Self {
        Self { old, only, machine, text: String::new(), failed: Vec::new() }
    }

    /// Begins a table with these columns.
    pub fn head(&mut self, columns: &[&str]) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(columns);
        self.line(&vec!["---"; columns.len()]);
    }

    /// The row `name` with the cells that `measure` returns, or as it was if it is not to be measured. A row that cannot
    /// be measured stays as it was.
    pub fn row(&mut self, name: &str, measure: impl FnOnce() -> Result<Vec<String>>) {
        let old = self.old.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let wanted = self.only.is_none_or(|only| name.contains(only));
        if let Some(old) = old.filter(|_| !wanted) {
            self.text += &format!("{old}\n");
            return;
        }
        let before = self.text.len();
        match measure() {
            Ok(cells) => {
                let machine = [self.machine.clone()];
                self.line(&[&[name.to_owned()], &cells[..], &machine].concat());
            }
            Err(error) => {
                self.failed.push(format!("{name}: {error:#}"));
                self.text.extend(old.map(|old| format!("{old}\n")));
                eprintln!("{name}: {error:#}");
            }
        }
        eprint!("{}", &self.text[before..]);
    }

    /// Adds a row with these cells.
    pub fn line(&mut self, cells: &[impl Display]) {
        let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
        self.text += &format!("| {} |\n", cells.join(" | "));
    }

    /// Adds the table of the old page whose first column is `title`.
    pub fn keep(&mut self, title: &str) {
        let start = format!("| {title} |");
        let kept = self.old.lines().skip_while(|line| !line.starts_with(&start));
        self.text.push('\n');
        for line in kept.take_while(|line| line.starts_with('|')) {
            self.text += &format!("{line}\n");
        }
    }
}
