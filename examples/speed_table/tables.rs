//! The tables of the page, row by row.

use std::fmt::Display;

use anyhow::Result;

/// The tables so far.
pub struct Tables<'a> {
    /// The page as it was.
    old: &'a str,
    /// Only rows whose name contains this are measured.
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
        if !self.only.is_none_or(|only| name.contains(only)) {
            self.old_row(name);
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
                eprintln!("{name}: {error:#}");
                self.old_row(name);
            }
        }
        eprint!("{}", &self.text[before..]);
    }

    /// The row `name`, which this machine cannot measure because it needs `what`: as it was, or without figures in `cells`
    /// cells.
    pub fn not_here(&mut self, name: &str, what: &str, cells: usize) {
        if !self.old_row(name) {
            let none = vec!["-".to_owned(); cells];
            self.line(&[&[name.to_owned()], &none[..], &[format!("needs {what}")]].concat());
        }
    }

    /// The row `name` as it was. Returns whether there was one.
    pub fn old_row(&mut self, name: &str) -> bool {
        let old = self.old.lines().find(|line| line.starts_with(&format!("| {name} |")));
        self.text.extend(old.map(|old| format!("{old}\n")));
        old.is_some()
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
