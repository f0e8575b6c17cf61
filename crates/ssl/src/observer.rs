//! Callbacks from a training to its caller.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use ssl_backdoor_data::TriggerVisibility;
use ssl_backdoor_model::Encoder;

use crate::canary::Spread;
use crate::error::{ObserverError, PretrainError};

/// Watches a training: progress, figures, checkpoints, interruption and warnings. Every method has a default that does
/// nothing, so an observer implements what it needs, and `()` is the observer of a training that runs in memory, prints
/// nothing and writes nothing.
///
/// An observer never changes what is trained. An error that it returns ends the training: a [`PretrainError`] as it is,
/// any other as [`PretrainError::Observer`].
pub trait TrainObserver {
    /// Called once, before the first step: returns the checkpoint to resume from, which must belong to the same training.
    ///
    /// # Errors
    /// What ends the training.
    fn resume_from(&mut self) -> Result<Option<Checkpoint>, ObserverError> {
        Ok(None)
    }

    /// Told once, before the first step and after the checkpoint was read: `done` of `steps` steps were done before.
    ///
    /// # Errors
    /// What ends the training.
    fn on_start(&mut self, _done: usize, _steps: usize) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Told after each step.
    fn on_step(&mut self, _step: &StepReport) {}

    /// Called after each epoch, with the encoder in evaluation mode. Its own figures go to [`EpochReport::extra`].
    ///
    /// # Errors
    /// What ends the training.
    fn on_epoch(
        &mut self,
        _epoch: &mut EpochReport,
        _encoder: &Encoder,
    ) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Told when a checkpoint is due: at the end of every `checkpoint_every`th epoch and of the training, and before an
    /// interrupted training ends.
    ///
    /// # Errors
    /// What ends the training.
    fn on_checkpoint(&mut self, _state: &TrainState<'_>) -> Result<(), ObserverError> {
        Ok(())
    }

    /// Asked after each step: is the training to end? It ends with [`PretrainError::Interrupted`].
    fn interrupted(&mut self) -> bool {
        false
    }

    /// Told what is wrong but does not stop the training: a canary whose mode is to warn.
    fn on_warning(&mut self, _warning: &PretrainError) {}
}

impl TrainObserver for () {}

/// An observer that does `work` after each epoch and nothing else.
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

/// A step that is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, those before a checkpoint included.
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

/// An epoch that is done.
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
    /// Right answers of a pretext task in percent, if the method has one.
    pub pretext_acc: Option<f64>,
    /// How the embeddings of the last whole batch spread; `None` if the canaries are off.
    pub spread: Option<Spread>,
    /// How the views of the poisoned images show the trigger.
    pub visibility: TriggerVisibility,
    /// How long it took: the only part that the seed does not decide.
    pub timing: EpochTiming,
    /// Figures that observers add to [`figures`](Self::figures).
    pub extra: Map<String, Value>,
}

/// How long an epoch took; after a checkpoint in its midst, what was left of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochTiming {
    /// From its first step to its last.
    pub elapsed: Duration,
    /// Of that, what the network waited for views.
    pub waited: Duration,
    /// Images in that time.
    pub images: usize,
    /// Threads that prepared views.
    pub workers: usize,
}

impl EpochReport {
    /// All figures that the seed decides, by name, and those of [`extra`](Self::extra). `grad_norm` is the mean norm of
    /// all gradients, `pretext_acc` the share of right answers in percent, `embedding_std` and `embedding_rank` tell how
    /// the embeddings of the last whole batch spread. Of the poisoned images: `trigger_views` counts them by the number
    /// of views in which the trigger survives (first: in none), `trigger_visible` is the mean visible share of its area,
    /// `trigger_covered` the mean share of a view that it covers, `trigger_in_one_of_pair` the share of the positive
    /// pairs of views in which it survives in exactly one, `trigger_hidden` the share of its patches that MAE hides. What there is none of is absent.
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

    /// What the machine decides, by name: seconds, images a second, the share of the time that the network waited for
    /// views, and the threads that prepared them.
    pub fn times(&self) -> Map<String, Value> {
        let EpochTiming { elapsed, waited, images, workers } = self.timing;
        let seconds = elapsed.as_secs_f64();
        Map::from_iter([
            ("step".into(), self.step.into()),
            ("seconds".into(), seconds.into()),
            ("images_per_s".into(), (images as f64 / seconds).into()),
            ("wait_share".into(), (waited.as_secs_f64() / seconds).into()),
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

/// Everything that decides the rest of a training: the method's parameters, buffers and queues, the optimiser's state,
/// what was measured of the epoch so far.
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

    /// How many checkpoints the config wants to be kept, at least one.
    pub fn keep(&self) -> usize {
        self.keep.max(1)
    }

    /// Writes the state into `folder`, which exists, file by file: to be safe from a kill, rename the folder afterwards.
    ///
    /// # Errors
    /// [`PretrainError::File`].
    pub fn save(&self, folder: &Path) -> Result<(), PretrainError> {
        (self.save)(folder)
    }
}
