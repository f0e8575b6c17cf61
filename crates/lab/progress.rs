//! Progress of long work on a terminal: what, a bar, the rate and the time left; nothing elsewhere.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use ssl_backdoor_data::LeftOut;

/// A watcher for work that tells its name, how much is done, and of how much.
pub(crate) fn watch() -> impl Fn(&str, usize, usize) + Sync {
    let bar: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    move |what, done, total| {
        // A watcher that panicked elsewhere leaves a bar that still counts.
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if bar.as_ref().is_none_or(|(name, _)| name != what) {
            *bar = Some((what.to_owned(), start(what, total)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        }
    }
}

fn start(what: &str, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let template = "{prefix:>16} {wide_bar} {pos}/{len}  {per_sec}  ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar
}

/// Says what was left out of a data set: a line for each kind, and one for each file that should have been an image.
pub(crate) fn say_left_out(left_out: &[LeftOut], skipped: &[String]) {
    for left_out in left_out {
        eprintln!("{left_out}");
    }
    for skipped in skipped {
        eprintln!("left out: {skipped}");
    }
}
