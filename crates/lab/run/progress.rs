//! Progress of long work on a terminal: name, bar, rate and remaining time. Nothing is shown without a terminal.

use std::sync::{LazyLock, Mutex};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ssl_backdoor_data::LeftOut;
use ssl_backdoor_ssl::StepReport;

/// A watcher that is called with the name of the work, the number of finished items, and their total.
pub(crate) fn watch() -> impl Fn(&str, usize, usize) + Sync {
    let bar: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    move |what, done, total| {
        // The bar is usable even if another watcher panicked.
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if bar.as_ref().is_none_or(|(name, _)| name != what) {
            *bar = Some((what.to_owned(), start(what, total)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set_position(done as u64);
        }
        // The same work may begin again.
        if let Some((_, done)) = bar.take_if(|_| done == total) {
            done.finish_and_clear();
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

/// The bars of all trainings in progress; two may share the terminal.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The bar of a training. When dropped, it disappears if all steps are done, and remains otherwise.
pub(crate) struct TrainingBar {
    label: String,
    bar: Option<ProgressBar>,
}

impl TrainingBar {
    /// A bar with the name `label` that is not shown yet.
    pub fn new(label: &str) -> Self {
        Self { label: label.to_owned(), bar: None }
    }

    /// Shows the bar, at `done` of `steps` steps; says so if the training resumes.
    pub fn start(&mut self, done: usize, steps: usize) {
        if done > 0 {
            say_beside_bars(&format!("{}: resumes after step {done} of {steps}", self.label));
        }
        let bar = BARS.add(ProgressBar::new(steps as u64).with_position(done as u64));
        let template = "{prefix:>12} {wide_bar} {pos}/{len} steps  {per_sec}  ETA {eta}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(self.label.clone());
        bar.reset_eta();
        self.bar = Some(bar);
    }

    /// Moves the bar to a finished step.
    pub fn step(&self, step: &StepReport) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("loss {:.3}", step.loss));
            bar.set_position(step.done as u64);
        }
    }
}

impl Drop for TrainingBar {
    fn drop(&mut self) {
        let Some(bar) = self.bar.take() else { return };
        if Some(bar.position()) == bar.length() {
            bar.finish_and_clear();
            BARS.remove(&bar);
        } else {
            bar.abandon();
        }
    }
}

/// Prints `message` without disturbing the bars of trainings.
pub(crate) fn say_beside_bars(message: &str) {
    BARS.suspend(|| eprintln!("{message}"));
}

/// Prints what was left out of a data set: a line for each kind, and one for each file that should have been an image.
pub(crate) fn say_left_out(left_out: &[LeftOut], skipped: &[String]) {
    for left_out in left_out {
        eprintln!("{left_out}");
    }
    for skipped in skipped {
        eprintln!("left out: {skipped}");
    }
}
