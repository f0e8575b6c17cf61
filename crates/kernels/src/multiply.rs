//! The number format that the CPU's kernels multiply in.

#[cfg(feature = "flex")]
use std::cell::Cell;

#[cfg(feature = "flex")]
use crate::pairs::Format;

#[cfg(feature = "flex")]
thread_local! {
    static FORMAT: Cell<Format> = const { Cell::new(Format::Floats) };
}

/// The format of operations that this thread starts now. An operation keeps it for its backward pass.
#[cfg(feature = "flex")]
pub(crate) fn format() -> Format {
    FORMAT.get()
}

/// Runs `work` with stems, basic blocks and linear layers on the CPU, and their gradients, multiplying in bf16: the
/// factors of each product are rounded to bf16, and the products are summed in 32 bits. Tensors, statistics and all
/// other operations stay in 32 bits. It affects only operations that this thread calls, and only on the CPU.
pub fn multiply_in_bf16<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "flex")]
    {
        /// Restores the format, even if `work` panics.
        struct Before(Format);
        impl Drop for Before {
            fn drop(&mut self) {
                FORMAT.set(self.0);
            }
        }
        let _before = Before(FORMAT.replace(Format::Pairs));
        work()
    }
    #[cfg(not(feature = "flex"))]
    work()
}
