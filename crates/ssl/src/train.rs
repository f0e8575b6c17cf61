//! The one training loop.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_data::{Draws, EpochPlan, SampleSet, ViewLoader};
use ssl_backdoor_model::Encoder;

use crate::canary::{Canaries, Shadow};
use crate::checkpoint::{self, Saved};
use crate::config::TrainConfig;
use crate::ema::EmaTiming;
use crate::error::PretrainError;
use crate::feed::{Fed, Feed};
use crate::first_look::FirstLook;
use crate::hook::TrainingHook;
use crate::meter::{EpochEnd, Meter};
use crate::method::{Batch, Method, Progress, Step};
use crate::observer::{StepReport, TrainObserver, TrainState};
use crate::parts::Pass;
use crate::weight_decay::DecaySchedule;

/// Images, seed and device of a training. Start from [`Training::new`] and change fields with struct update syntax.
#[derive(Clone)]
pub struct Training {
    /// The training images, as the victim finds them.
    pub set: SampleSet,
    /// Seed of initial weights, order and views.
    pub seed: u64,
    /// Purpose of the draws of order and views: a defender who trains on with the same seed sees other crops.
    pub draws: Draws,
    /// The device that it runs on.
    pub device: Device,
    /// Threads that prepare batches; they do not change a byte of the results.
    pub workers: usize,
    /// Changes the views and the loss in every step, if given.
    pub hook: Option<Arc<dyn TrainingHook>>,
}

impl Training {
    /// A victim's training on `set`, with one worker.
    pub fn new(set: SampleSet, seed: u64, device: &Device) -> Self {
        let (draws, device) = (Draws::PRETRAIN, device.clone());
        Self { set, seed, draws, device, workers: 1, hook: None }
    }

    /// The device with autodiff, on which methods are built for training.
    pub fn autodiff_device(&self) -> Device {
        self.device.clone().without_autodiff().autodiff()
    }
}

/// Trains `method`, which must be on [`Training::autodiff_device`], on `views` of the images, or resumes from the
/// checkpoint that `observer` returns. Returns the encoder in evaluation mode.
///
/// # Errors
/// - [`PretrainError::Range`] for a config that does not fit the training set or the device
/// - [`PretrainError::Interrupted`] if the observer asked for it
/// - a loss that is not finite, a canary that fails, an image that cannot be read, a checkpoint of another method
/// - any error of `observer` or `method`
pub fn train<M: Method>(
    training: &Training,
    config: &TrainConfig,
    views: Arc<dyn Views>,
    method: M,
    observer: &mut dyn TrainObserver,
) -> Result<Encoder, PretrainError> {
    config.check(Some(training.set.len()))?;
    config.precision.check(&training.device)?;
    let (mut run, mut method, start) = Run::begin(training, config, method, observer)?;
    let steps = start..run.rates.len();
    let set = training.set.clone();
    let views = match &training.hook {
        Some(hook) => hook.augment(views)?,
        None => views,
    };
    if start == 0 {
        run.look_first(&mut method, &views)?;
    }
    let loader = ViewLoader::start(set, views, run.plan, steps.clone(), training.workers);
    let dtype = config.precision.of_images(&run.device);
    let mut feed = Feed::new(loader, run.device.clone(), dtype, config.accumulate);
    for step in steps {
        let Some(batch) = feed.next() else { break };
        let progress = run.progress(step);
        method = run.step(method, batch?, &mut feed, &progress)?;
        if (step + 1).is_multiple_of(run.plan.steps_per_epoch()) {
            run.end_epoch(&method, &progress)?;
        }
        run.end_step(&method, &progress)?;
    }
    Ok(method.encoder().valid())
}

/// A training in progress, except for the method, which each step takes and returns.
struct Run<'a> {
    training: &'a Training,
    config: &'a TrainConfig,
    plan: EpochPlan,
    /// Learning rate of each step; its length is the number of steps.
    rates: Vec<f64>,
    /// With autodiff.
    device: Device,
    optimizer: ModuleOptimizer,
    /// Schedule of the weight decay, if it changes.
    decay: Option<DecaySchedule>,
    canaries: Canaries,
    meter: Meter,
    observer: &'a mut dyn TrainObserver,
}

impl<'a> Run<'a> {
    /// The training with its method, and the number of steps done: zero, or those before the checkpoint.
    fn begin<M: Method>(
        training: &'a Training,
        config: &'a TrainConfig,
        mut method: M,
        observer: &'a mut dyn TrainObserver,
    ) -> Result<(Self, M, usize), PretrainError> {
        let TrainConfig { optimizer, weight_decay, decayed, .. } = *config;
        let plan = config.plan(training.seed, training.set.len());
        let plan = EpochPlan { draws: training.draws, ..plan };
        let rates = config.rates(plan.steps_per_epoch());
        let mut shadow = Shadow::new(optimizer, weight_decay, decayed);
        method = method.prepare(&plan)?;
        let decay = config.decay_schedule(rates.len());
        let mut optimizer = match &decay {
            Some(schedule) => optimizer.build_decaying(schedule, decayed, &method),
            None => optimizer.build(weight_decay, decayed, &method),
        };
        let (mut meter, mut start) = (Meter::new(), 0);
        let observed = |e| PretrainError::observed("before the first step", e);
        if let Some(last) = observer.resume_from().map_err(observed)? {
            let state;
            (method, state) = checkpoint::read(&last.folder, method, optimizer)?;
            Saved { optimizer, shadow, meter } = state;
            start = last.step;
        }
        observer.on_start(start, rates.len()).map_err(observed)?;
        let canaries = Canaries::new(config.canaries, rates.len(), shadow);
        let device = training.autodiff_device();
        let run = Self {
            training,
            config,
            plan,
            rates,
            device,
            optimizer,
            decay,
            canaries,
            meter,
            observer,
        };
        Ok((run, method, start))
    }

    /// Shows the method all images before the first step, if it looks first.
    fn look_first<M: Method>(
        &mut self,
        method: &mut M,
        views: &Arc<dyn Views>,
    ) -> Result<(), PretrainError> {
        let Some(count) = method.looks_first() else { return Ok(()) };
        let Self { training, config, plan, device, observer, .. } = self;
        let TrainConfig { epochs, precision, .. } = **config;
        let (set, workers) = (&training.set, training.workers);
        let look = FirstLook { set, views, count, plan: *plan, epochs, workers, precision };
        match look.at(method, device, &mut || observer.interrupted())? {
            true => Ok(()),
            false => Err(self.interrupted(0)),
        }
    }

    fn progress(&self, step: usize) -> Progress {
        let (seed, epochs, epoch) =
            (self.training.seed, self.config.epochs, self.plan.epoch_of(step));
        let (steps, seen) = (self.rates.len(), self.plan.images_before(step));
        Progress { seed, step, steps, epoch, epochs, seen }
    }

    /// One step: EMA, forward, backward, optimiser, queue, with all canaries in between.
    fn step<M: Method>(
        &mut self,
        mut method: M,
        batch: Fed,
        feed: &mut Feed,
        progress: &Progress,
    ) -> Result<M, PretrainError> {
        let (step, lr) = (progress.step, self.rates[progress.step]);
        let images = batch.images;
        self.meter.fed(&batch);

        let before = |method: M| method.before_step(progress);
        method = self.canaries.follow(EmaTiming::BeforeStep, method, progress, before)?;
        self.canaries.prototypes(&method, progress)?;
        let Pass { loss, grads, keys, negatives, embeddings, accuracy, busy } =
            self.pass(&mut method, batch, feed, progress)?;
        let Self { canaries, optimizer, meter, .. } = self;
        // Moved, not cloned: while another tensor holds the queue's rows, new ones cannot be written in place.
        canaries.negatives(&keys, negatives, progress)?;
        let norm = canaries.gradients(&method, &grads, progress)?;
        let grads = method.gradients(grads, progress);
        if let Some(decay) = &self.decay {
            canaries.decay(decay.move_to(step));
        }
        let update = |method, grads| optimizer.step(lr, method, grads);
        method = canaries.update(lr, method, grads, progress, update)?;
        let after = |method: M| method.after_step(keys, progress);
        method = canaries.follow(EmaTiming::AfterStep, method, progress, after)?;
        canaries.queues(&method, images, progress)?;

        meter.busy += busy;
        meter.losses.push(loss);
        meter.norms.extend(norm);
        meter.accuracy.extend(accuracy);
        // A smaller last batch spreads differently, so the last whole batch is measured.
        let done = step + 1;
        if images == self.plan.batch && self.plan.images_in(done) < self.plan.batch
            || done.is_multiple_of(self.plan.steps_per_epoch()) && meter.spread.is_none()
        {
            meter.spread = canaries.spread(embeddings);
        }
        let (steps, epoch) = (self.rates.len(), progress.epoch);
        self.observer.on_step(&StepReport { done, steps, epoch, images, loss, lr });
        Ok(method)
    }

    /// Forward and backward passes of a step, part by part. While the device computes a part, the next one is copied to
    /// it, after the last part that of the next step.
    fn pass<M: Method>(
        &self,
        method: &mut M,
        batch: Fed,
        feed: &mut Feed,
        progress: &Progress,
    ) -> Result<Pass, PretrainError> {
        self.survey(method, &batch, feed, progress)?;
        let Fed { first: mut part, rest, images, .. } = batch;
        let mut rest = rest.into_iter();
        let mut before: Option<Pass> = None;
        loop {
            let mut next = None;
            let pass = self.part(method, part, images, progress, || match rest.next() {
                Some(host) => next = Some(feed.copy(host)),
                None => feed.fetch(),
            })?;
            let pass = match before {
                Some(before) => before.and(pass, method),
                None => pass,
            };
            let Some(next) = next else { return Ok(pass) };
            (before, part) = (Some(pass), next);
        }
    }

    /// Shows all parts to a method that surveys them, if there are several.
    fn survey<M: Method>(
        &self,
        method: &mut M,
        Fed { first, rest, .. }: &Fed,
        feed: &Feed,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        if rest.is_empty() || !method.surveys() {
            return Ok(());
        }
        let rest = rest.iter().map(|part| feed.copy(part.clone()));
        for mut part in std::iter::once(first.clone()).chain(rest) {
            if let Some(hook) = self.training.hook.as_deref() {
                part.views = hook.views(part.views, progress);
            }
            self.config.precision.run(|| method.survey(part))?;
        }
        Ok(())
    }

    /// Forward and backward pass of a part of `images` images; `meanwhile` runs while the device computes them.
    fn part<M: Method>(
        &self,
        method: &mut M,
        part: Batch,
        images: usize,
        progress: &Progress,
        meanwhile: impl FnOnce(),
    ) -> Result<Pass, PretrainError> {
        let share = part.ids.len() as f32 / images as f32;
        let hook = self.training.hook.as_deref();
        let out = self.config.precision.run(|| forward(method, part, hook, progress))?;
        let pass = Pass::of(method, out, share, meanwhile);
        if !pass.loss.is_finite() {
            let Progress { step, epoch, .. } = *progress;
            let (loss, lr) = (pass.loss, self.rates[step]);
            return Err(PretrainError::Loss { loss, step, epoch, lr });
        }
        Ok(pass)
    }

    /// Reports the epoch that ends with the step of `progress`, and begins to measure the next one.
    fn end_epoch<M: Method>(
        &mut self,
        method: &M,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        let Progress { step, epoch, .. } = *progress;
        let end = EpochEnd {
            epoch,
            step: step + 1,
            lr: self.rates[step],
            last: self.plan.images_in(step) as f64 / self.plan.batch as f64,
            workers: self.training.workers,
        };
        let mut report = std::mem::replace(&mut self.meter, Meter::new()).report(&end);
        self.canaries.epoch(report.spread, report.loss, method, progress)?;
        self.observer
            .on_epoch(&mut report, &method.encoder().valid())
            .map_err(|e| PretrainError::observed(format!("after epoch {epoch}"), e))?;
        // The time that `on_epoch` took does not count towards the next epoch.
        self.meter = Meter::new();
        Ok(())
    }

    /// Passes on warnings, requests a checkpoint if one is due, and ends the training if it was interrupted.
    fn end_step<M: Method>(
        &mut self,
        method: &M,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        for warning in self.canaries.take_warnings() {
            self.observer.on_warning(&warning);
        }
        let Self { config, plan, optimizer, canaries, meter, .. } = self;
        let (done, steps) = (progress.step + 1, self.rates.len());
        let due = done.is_multiple_of(plan.steps_per_epoch())
            && (progress.epoch + 1).is_multiple_of(config.checkpoint_every);
        let interrupted = done < steps && self.observer.interrupted();
        if due || interrupted || done == steps {
            let save = |folder: &std::path::Path| {
                checkpoint::write(folder, method, optimizer, canaries.shadow(), meter)
            };
            let state = TrainState { step: done, keep: config.keep, save: &save };
            self.observer.on_checkpoint(&state).map_err(|e| {
                PretrainError::observed(format!("at the checkpoint after step {done}"), e)
            })?;
        }
        if interrupted {
            return Err(self.interrupted(done));
        }
        Ok(())
    }

    /// The error of a training that was interrupted after `step` steps.
    fn interrupted(&self, step: usize) -> PretrainError {
        let kept = self.observer.keeps_checkpoints();
        PretrainError::Interrupted { step, steps: self.rates.len(), kept }
    }
}

/// The forward pass, with the changes of `hook` to views and loss.
fn forward<M: Method>(
    method: &mut M,
    mut batch: Batch,
    hook: Option<&dyn TrainingHook>,
    progress: &Progress,
) -> Result<Step, PretrainError> {
    let Some(hook) = hook else { return method.forward(batch, progress) };
    batch.views = hook.views(batch.views, progress);
    let out = match hook.mix(&batch.views, progress) {
        Some(mixes) => method.forward_mixed(batch, &mixes, progress)?,
        None => method.forward(batch, progress)?,
    };
    Ok(Step { loss: hook.loss(out.loss.clone(), progress), ..out })
}
