//! Threads and memory of the process, set up so that training steps neither wait for a thread to wake
//! nor fetch fresh pages: each costs a small network about five percent.

#[cfg(feature = "flex")]
use std::panic::resume_unwind;
#[cfg(feature = "flex")]
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Device;

/// Runs `work` on a thread of the pool that the kernels use: its parallel parts then start at once
/// instead of being handed over from a thread outside the pool.
///
/// # Panics
/// If `work` panics.
pub fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    #[cfg(feature = "flex")]
    return rayon::scope(|_| work());
    #[cfg(not(feature = "flex"))]
    work()
}

/// Runs two closures at once, each on a pool of half as many threads, or one after the other if the pool has a single
/// thread. A small network keeps half the cores busier than all of them.
///
/// # Panics
/// If one of the two panics.
pub fn side_by_side<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    #[cfg(feature = "flex")]
    {
        let threads = rayon::current_num_threads();
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        if threads > 1
            && let (Ok(half), Ok(other)) = (pool(threads - threads / 2), pool(threads / 2))
        {
            // Two pools, not one for both: a thread waiting for part of its work must not take on all of the other's.
            return std::thread::scope(|scope| {
                let first = scope.spawn(|| half.install(first));
                let second = other.install(second);
                (first.join().unwrap_or_else(|panic| resume_unwind(panic)), second)
            });
        }
    }
    (first(), second())
}

/// Number of threads that compute on `device`: those of the current pool for the CPU, 1 for others.
pub fn cpu_threads(device: &Device) -> usize {
    #[cfg(feature = "flex")]
    if crate::extension::takes(device) {
        return rayon::current_num_threads();
    }
    let _ = device;
    1
}

/// `work` on each of the numbers `0..count`, which `workers` share: each takes the next number when it has finished one,
/// on a pool of its own with an equal share of the threads. The results are in the order of the numbers. A small network
/// keeps one core busier than several.
///
/// # Panics
/// If `work` panics, or if there is no worker.
pub fn share_out<W: Send, T: Send>(
    mut workers: Vec<W>,
    count: usize,
    work: impl Fn(&mut W, usize) -> T + Sync,
) -> Vec<T> {
    assert!(!workers.is_empty(), "there must be at least one worker");
    #[cfg(feature = "flex")]
    if workers.len() > 1 {
        let each = (rayon::current_num_threads() / workers.len()).max(1);
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(each).build();
        if let Ok(pools) = workers.iter().map(pool).collect::<Result<Vec<_>, _>>() {
            let next = AtomicUsize::new(0);
            let all = |worker: &mut W| {
                let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                let own = numbers.take_while(|&number| number < count);
                own.map(|number| (number, work(worker, number))).collect::<Vec<_>>()
            };
            let (all, workers) = (&all, &mut workers);
            let mut found: Vec<(usize, T)> = std::thread::scope(|scope| {
                let started: Vec<_> = workers
                    .iter_mut()
                    .zip(&pools)
                    .map(|(worker, pool)| scope.spawn(|| pool.install(|| all(worker))))
                    .collect();
                let ended =
                    started.into_iter().map(|one| one.join().unwrap_or_else(|e| resume_unwind(e)));
                ended.flatten().collect()
            });
            found.sort_by_key(|(number, _)| *number);
            return found.into_iter().map(|(_, found)| found).collect();
        }
    }
    (0..count).map(|number| work(&mut workers[0], number)).collect()
}

/// Tells the C library's allocator to keep freed memory for the next step instead of giving it back
/// to the system, which would clear every page again. Does nothing without glibc.
#[allow(unsafe_code, reason = "a setting of the C library")]
pub fn keep_freed_memory() {
    #[cfg(all(feature = "flex", target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes two limits of the allocator, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whatever_the_workers() {
        for workers in 1..5 {
            let names: Vec<usize> = (0..workers).collect();
            let found = share_out(names, 40, |worker, number| {
                assert!(*worker < workers);
                number * number
            });
            assert_eq!(found, (0..40).map(|n| n * n).collect::<Vec<_>>());
        }
        assert_eq!(share_out(vec![()], 0, |(), n| n), Vec::<usize>::new());
    }
}
