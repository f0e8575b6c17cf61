//! The number format that the CPU's kernels multiply in.

#[cfg(feature = "flex")]
use std::cell::Cell;

#[cfg(feature = "flex")]
use crate::pairs::Format;

/// Does [`multiply_in_bf16`] have an effect on `device`? It does on the CPU, unless the kernels are switched off.
pub fn multiplies_in_bf16(device: &burn::tensor::Device) -> bool {
    #[cfg(feature = "flex")]
    return crate::extension::takes(device);
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

#[cfg(feature = "flex")]
thread_local! {
    static FORMAT: Cell<Format> = const { Cell::new(Format::Floats) };
}

/// The format of operations that this thread starts now. An operation keeps it for its way back.
#[cfg(feature = "flex")]
pub(crate) fn format() -> Format {
    FORMAT.get()
}

/// Runs `work`, in which stems, basic blocks and linear layers on the CPU multiply in bf16, and so do their gradients: the
/// factors of each product are rounded to bf16, the products are summed in 32 bits. Tensors, statistics and all other
/// operations stay in 32 bits. Only operations that this thread calls are meant; on other devices, nothing changes.
pub fn multiply_in_bf16<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "flex")]
    {
        /// Puts the format back, also when `work` panics.
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
