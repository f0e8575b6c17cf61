//! Names of the files of an export.

use std::collections::HashMap;

use crate::Split;
use crate::jpeg::{has_extension, is_jpeg};

/// The file names of a split's images, `CLASS/NAME`: unique, and in the order of the split.
pub(super) struct Names {
    pub of: Vec<String>,
}

impl Names {
    /// Names of the images of `split`, all PNG if `lossless`. Names that images would share end with their ids.
    pub fn new(split: &Split, classes: &[String], lossless: bool) -> Self {
        let folders = class_folders(classes);
        let name = |index: usize| {
            let name = split.file_name(index);
            let keeps = has_extension(&name, &["png"]) || (is_jpeg(&name) && !lossless);
            if keeps { name } else { format!("{name}.png") }
        };
        let folder = |class: u32| folders.get(class as usize).unwrap_or(&folders[classes.len()]);
        let labels = || split.labels.iter().enumerate();
        let mut of: Vec<String> =
            labels().map(|(i, (_, class))| format!("{}/{}", folder(*class), name(i))).collect();
        let mut counts: HashMap<&str, u32> = HashMap::new();
        of.iter().for_each(|name| *counts.entry(name).or_default() += 1);
        let shared: Vec<usize> = (0..of.len()).filter(|&i| counts[of[i].as_str()] > 1).collect();
        for i in shared {
            let (stem, extension) = of[i].rsplit_once('.').unwrap_or((&of[i], "png"));
            of[i] = format!("{stem}-{:016x}.{extension}", split.labels[i].0);
        }
        Self { of }
    }
}

/// The folder of each class, then that of unlabelled images. Names that classes would share end with their numbers.
fn class_folders(classes: &[String]) -> Vec<String> {
    let mut folders: Vec<String> = classes.iter().map(|class| file_name(class)).collect();
    folders.push("unlabelled".into());
    let mut counts: HashMap<String, u32> = HashMap::new();
    folders.iter().for_each(|folder| *counts.entry(folder.clone()).or_default() += 1);
    for (class, folder) in folders.iter_mut().enumerate() {
        if counts[folder.as_str()] > 1 {
            *folder = format!("{folder}_{class}");
        }
    }
    folders
}

/// `name` with everything replaced that could lead out of its folder.
pub(super) fn file_name(name: &str) -> String {
    let safe = name.replace(['/', '\\'], "_");
    if safe.starts_with('.') { format!("_{safe}") } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_classes_are_theirs_alone_and_lie_in_the_export() {
        let of = |classes: &[&str]| {
            class_folders(&classes.iter().map(|c| c.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["ant", "a bee"]), ["ant", "a bee", "unlabelled"]);
        assert_eq!(of(&["a/b", "a_b", "..", "c"]), ["a_b_0", "a_b_1", "_..", "c", "unlabelled"]);
        assert_eq!(of(&["ant", "unlabelled"]), ["ant", "unlabelled_1", "unlabelled_2"]);
    }
}
