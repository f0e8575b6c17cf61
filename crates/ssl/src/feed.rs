//! Batches on their way to the device: while it computes a step, the next batch is copied to it.

use std::time::{Duration, Instant};

use burn::tensor::{DType, Device};
use ssl_backdoor_data::{DataError, TriggerVisibility, ViewBatch, ViewLoader};

use crate::method::Batch;
use crate::parts::HostBatch;

/// A batch whose first part is on the device.
pub(crate) struct Fed {
    pub first: Batch,
    /// The other parts, of a batch that is processed in parts.
    pub rest: Vec<HostBatch>,
    /// Images in all parts.
    pub images: usize,
    pub visibility: TriggerVisibility,
    /// Time that the loop waited for the views.
    pub waited: Duration,
    /// Time of the copy of the first part.
    pub copied: Duration,
}

/// Takes the batches of a loader in their order and copies them to a device.
pub(crate) struct Feed {
    loader: ViewLoader,
    device: Device,
    dtype: DType,
    /// Parts of a batch.
    parts: usize,
    /// The batch that came ahead of its step.
    ahead: Option<Result<Fed, DataError>>,
}

impl Feed {
    pub fn new(loader: ViewLoader, device: Device, dtype: DType, parts: usize) -> Self {
        Self { loader, device, dtype, parts, ahead: None }
    }

    /// The batch of the next step, `None` after the last.
    pub fn next(&mut self) -> Option<Result<Fed, DataError>> {
        self.ahead.take().or_else(|| self.take())
    }

    /// Copies the batch of the next step, for [`next`](Self::next): to be called while the device computes.
    pub fn fetch(&mut self) {
        if self.ahead.is_none() {
            self.ahead = self.take();
        }
    }

    /// Copies a part to the device.
    pub fn copy(&self, part: HostBatch) -> Batch {
        part.on(&self.device, self.dtype)
    }

    fn take(&mut self) -> Option<Result<Fed, DataError>> {
        let start = Instant::now();
        let batch = self.loader.next()?;
        let waited = start.elapsed();
        Some(batch.map(|batch| self.feed(batch, waited)))
    }

    fn feed(&self, batch: ViewBatch, waited: Duration) -> Fed {
        let ViewBatch { views, ids, hidden, visibility, .. } = batch;
        let images = ids.len();
        let mut rest = HostBatch { views, ids, hidden }.parts(self.parts);
        let others = rest.split_off(1);
        let start = Instant::now();
        let first = self.copy(rest.remove(0));
        Fed { first, rest: others, images, visibility, waited, copied: start.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ssl_backdoor_data::augment::{ChainViews, Views};
    use ssl_backdoor_data::{Draws, EpochPlan, SampleSet};

    use super::*;
    use crate::small_runs::drawn;

    fn loader(set: &SampleSet) -> ViewLoader {
        let views: Arc<dyn Views> = Arc::new(ChainViews::moco(8, (0.2, 1.0), false));
        let images = set.len();
        let plan = EpochPlan { seed: 3, images, batch: 4, drop_last: true, draws: Draws::PRETRAIN };
        ViewLoader::start(set.clone(), views, plan, 0..5, 2)
    }

    /// The batches are those of the loader, whether they are fetched ahead, twice, or not at all.
    #[test]
    fn every_batch_arrives_once_and_in_order() {
        let set = drawn(8, 2);
        let host: Vec<ViewBatch> = loader(&set).map(Result::unwrap).collect();
        for parts in [1, 2] {
            let mut feed = Feed::new(loader(&set), Device::flex(), DType::F32, parts);
            for (step, expected) in host.iter().enumerate() {
                let fed = feed.next().unwrap().unwrap();
                assert_eq!((fed.images, fed.rest.len()), (4, parts - 1));
                let mut ids = fed.first.ids.clone();
                ids.extend(fed.rest.iter().flat_map(|part| part.ids.clone()));
                assert_eq!(ids, expected.ids);
                let pixels = fed.first.views[0].to_data().iter::<f32>().collect::<Vec<_>>();
                assert_eq!(pixels, expected.views[0].values[..pixels.len()]);
                (0..step % 3).for_each(|_| feed.fetch());
            }
            feed.fetch();
            assert!(feed.next().is_none());
        }
    }
}
