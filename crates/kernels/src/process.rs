//! What a program does once, so that its training steps neither wait for a thread to wake nor fetch
//! fresh pages: each costs a small network some five percent.

/// Runs `work` on a thread of the pool that the kernels use: its parallel parts then start at once,
/// instead of being handed over from a thread outside.
pub fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    #[cfg(feature = "flex")]
    return rayon::scope(|_| work());
    #[cfg(not(feature = "flex"))]
    work()
}

/// Tells the C library's allocator to keep freed memory for the next step instead of giving it back
/// to the system, which would clear every page again. Does nothing elsewhere than with glibc.
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
