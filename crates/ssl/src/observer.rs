//! Callbacks from a training to its caller.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use ssl_backdoor_data::TriggerVisibility;
use ssl_backdoor_model::Encoder;

use crate::canary::Spread;
use crate::error::{ObserverError, PretrainError};

/// Watches a training: progress, figures, checkpoints, interruption and warnings. Every method has a default that
/// does nothing, so an observer implements only what it needs. `()` is the observer of a training that runs in
/// memory, prints nothing and writes nothing.
///
/// An observer never changes the result of a training. An error that it returns ends the training: a
/// [`PretrainError`] as is, any other as [`PretrainError::Observer`].
pub trait TrainObserver {
    /// Called once, before the first step. Returns the checkpoint to resume from, which must be of the same training.
    ///
    /// # Errors
    /// Any error ends the training.
    fn resume_from(&mut self) -> Result<Option<Checkpoint>, ObserverError> {
        Ok(None)
    }

    /// Called once, before the first step and after the checkpoint is read: `done` of `steps` steps are already done.
    ///
    /// # Errors
    /// Any error ends the training.
    fn on_start(&mut self, _done: usize, _steps: usize) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Called after each step.
    fn on_step(&mut self, _step: &StepReport) {}

    /// Called after each epoch; the encoder is in evaluation mode. Figures of observers go to [`EpochReport::extra`].
    ///
    /// # Errors
    /// Any error ends the training.
    fn on_epoch(
        &mut self,
        _epoch: &mut EpochReport,
        _encoder: &Encoder,
    ) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Called when a checkpoint is due: at the end of every `checkpoint_every`th epoch and of the training, and
    /// before an interrupted training ends.
    ///
    /// # Errors
    /// Any error ends the training.
    fn on_checkpoint(&mut self, _state: &TrainState<'_>) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Whether [`on_checkpoint`](Self::on_checkpoint) stores the state, so that an interrupted training can resume. Its error
    /// says so.
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    /// Whether to end the training with [`PretrainError::Interrupted`]. Asked after each step except the last, and
    /// before each batch of [`Method::look`](crate::Method::look).
    fn interrupted(&mut self) -> bool {
        false
    }

    /// Called for a problem that does not stop the training: a failed canary in warning mode.
    fn on_warning(&mut self, _warning: &PretrainError) {}
}

impl TrainObserver for () {}

/// An observer that calls `work` after each epoch and does nothing else.
pub fn after_each_epoch(
    work: impl FnMut(&mut EpochReport, &Encoder) -> Result<(), ObserverError>,
) -> impl TrainObserver {
    struct AfterEach<F>(F);
    impl<F: FnMut(&mut EpochReport, &Encoder) -> Result<(), ObserverError>> TrainObserver
        for AfterEach<F>
    {
        fn on_epoch(
            &mut self,
            epoch: &mut EpochReport,
            encoder: &Encoder,
        ) -> Result<(), ObserverError> {
            self.0(epoch, encoder)
        }
    }
    AfterEach(work)
}

/// A finished step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, including those before a checkpoint.
    pub done: usize,
    /// Steps in all.
    pub steps: usize,
    /// The epoch, from 0.
    pub epoch: usize,
    /// Images of the step.
    pub images: usize,
    /// Its loss.
    pub loss: f32,
    /// Its learning rate.
    pub lr: f64,
}

/// A finished epoch.
#[derive(Debug, Clone)]
pub struct EpochReport {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Steps done, counted from the start of training.
    pub step: usize,
    /// Mean loss over the epoch's images.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean norm of all gradients; `None` if the canaries are off.
    pub grad_norm: Option<f64>,
    /// Correct answers in a pretext task in percent, if the method has one.
    pub pretext_acc: Option<f64>,
    /// Spread of the embeddings of the last whole batch; `None` if the canaries are off.
    pub spread: Option<Spread>,
    /// How the views of the poisoned images show the trigger.
    pub visibility: TriggerVisibility,
    /// How long it took: the only part that the seed does not determine.
    pub timing: EpochTiming,
    /// Figures that observers add to [`figures`](Self::figures).
    pub extra: Map<String, Value>,
}

/// How long an epoch took; if training resumed in the middle of it, only the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochTiming {
    /// From the end of the previous epoch, or the start, to the last step; includes a checkpoint or first look.
    pub elapsed: Duration,
    /// The part of it that the network waited for views.
    pub waited: Duration,
    /// The part of it that the program spent on copies of batches to the device. All but the first of a training go
    /// while the device computes the step before.
    pub copied: Duration,
    /// The part of it that the device still computed after the next step's batch had been copied; nearly zero on a CPU,
    /// which has computed all before.
    pub busy: Duration,
    /// Images in that time.
    pub images: usize,
    /// Threads that prepared views.
    pub workers: usize,
}

impl EpochReport {
    /// All figures that the seed determines, by name, and those of [`extra`](Self::extra): `grad_norm` is the mean
    /// norm of all gradients, `pretext_acc` the percentage of correct answers; `embedding_std` and `embedding_rank`
    /// measure the spread of the last whole batch's embeddings. For poisoned images, `trigger_views` counts them by
    /// the number of views in which the trigger survives (first: in none), `trigger_visible` is the mean visible
    /// share of its area, `trigger_covered` the mean share of a view that it covers, `trigger_in_one_of_pair` the
    /// share of positive pairs in which it survives in one view only, `trigger_hidden` the share of its patches that
    /// MAE hides. Missing values are absent.
    pub fn figures(&self) -> Map<String, Value> {
        let mut line = Map::from_iter([
            ("epoch".into(), self.epoch.into()),
            ("step".into(), self.step.into()),
            ("loss".into(), self.loss.into()),
            ("lr".into(), self.lr.into()),
        ]);
        let optional = [("grad_norm", self.grad_norm), ("pretext_acc", self.pretext_acc)];
        for (name, value) in optional {
            line.extend(value.map(|value| (name.into(), value.into())));
        }
        if let Some(Spread { std, rank, .. }) = self.spread {
            line.insert("embedding_std".into(), std.into());
            line.insert("embedding_rank".into(), rank.into());
        }
        let seen = &self.visibility;
        if !seen.is_empty() {
            line.insert("trigger_views".into(), seen.by_views.clone().into());
            line.insert("trigger_visible".into(), seen.mean_visible().into());
            line.insert("trigger_covered".into(), seen.mean_covered().into());
        }
        if let Some(share) = seen.in_one_of_pair() {
            line.insert("trigger_in_one_of_pair".into(), share.into());
        }
        if let Some(hidden) = seen.hidden_share() {
            line.insert("trigger_hidden".into(), hidden.into());
        }
        line.extend(self.extra.clone());
        line
    }

    /// Values that depend on the machine, by name: seconds, images per second, the shares of the time that the network
    /// waited for views (`wait_share`), that copies to the device took (`copy_share`), and that a GPU still computed after
    /// the copy of the next batch (`busy_share`), and the number of threads that prepared views.
    pub fn times(&self) -> Map<String, Value> {
        let EpochTiming { elapsed, waited, copied, busy, images, workers } = self.timing;
        let seconds = elapsed.as_secs_f64();
        let share = |part: Duration| Value::from(part.as_secs_f64() / seconds);
        Map::from_iter([
            ("step".into(), self.step.into()),
            ("seconds".into(), seconds.into()),
            ("images_per_s".into(), (images as f64 / seconds).into()),
            ("wait_share".into(), share(waited)),
            ("copy_share".into(), share(copied)),
            ("busy_share".into(), share(busy)),
            ("workers".into(), workers.into()),
        ])
    }
}

/// A checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Steps done when it was saved.
    pub step: usize,
    /// The folder that [`TrainState::save`] wrote to.
    pub folder: PathBuf,
}

/// Everything that determines the rest of a training: the method's parameters, buffers and queues, the optimiser's
/// state, and the measurements of the epoch so far.
pub struct TrainState<'a> {
    pub(crate) step: usize,
    pub(crate) keep: usize,
    pub(crate) save: &'a dyn Fn(&Path) -> Result<(), PretrainError>,
}

impl TrainState<'_> {
    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Number of checkpoints that the config keeps, at least one.
    pub fn keep(&self) -> usize {
        self.keep.max(1)
    }

    /// Writes the state to the existing `folder`, file by file. To be safe from a kill, rename the folder afterwards.
    ///
    /// # Errors
    /// [`PretrainError::File`].
    pub fn save(&self, folder: &Path) -> Result<(), PretrainError> {
        (self.save)(folder)
    }
}
