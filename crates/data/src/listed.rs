//! The images of a set that a file list names.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::inside::whole;
use crate::sets::file_list;
use crate::{DataError, Split, UNLABELLED};

/// The ids of the images of `split` that the file list `list` names, in its order; `none` describes an unknown image.
/// A label in the list must equal that of the image, if both have one.
pub(crate) fn named_ids(split: &Split, list: &Path, none: &str) -> Result<Vec<u64>, DataError> {
    let wrong = |reason| DataError::Format { path: list.into(), reason };
    let Split { labels, files, .. } = split;
    // Files are identified by their location, however it is written; ids are not paths.
    let place = |path: &Path| if files.is_some() { whole(path) } else { path.to_owned() };
    let known: HashMap<PathBuf, (u64, u32)> = match files {
        Some(files) => files.iter().map(|path| place(path)).zip(labels.iter().copied()).collect(),
        None => labels.iter().map(|&(id, label)| (id.to_string().into(), (id, label))).collect(),
    };
    let root = files.is_none().then_some(Path::new(""));
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    for entry in file_list::load(list, root)? {
        let shown = entry.path.display();
        let Some(&(id, label)) = known.get(&place(&entry.path)) else {
            let such = match files {
                Some(files) => files.first().map(|path| path.display().to_string()),
                None => labels.first().map(|(id, _)| format!("{id}, the id of an image")),
            };
            let such = such
                .map_or(String::new(), |such| format!("; a line of the list is such as {such}"));
            return Err(wrong(format!("{shown} is {none}{such}")));
        };
        if ![label, UNLABELLED].contains(&entry.label) && label != UNLABELLED {
            let listed = entry.label;
            return Err(wrong(format!("{shown} is of class {label}, it is listed as {listed}")));
        }
        if !seen.insert(id) {
            return Err(wrong(format!("{shown} is listed twice")));
        }
        ids.push(id);
    }
    Ok(ids)
}
