//! Threads and memory of the process, set up so that training steps neither wait for a thread to wake
//! nor fetch fresh pages: each costs a small network about five percent.

#[cfg(feature = "flex")]
use std::panic::resume_unwind;

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
