//! Buffers at the start of a cache line, and some that a thread uses again and again, so that training
//! allocates nothing large per group.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Floats in a cache line, and in the widest vector.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(dead_code, reason = "read as part of a slice of floats")]
struct Line([f32; LINE]);

/// Floats that start at a cache line: a vector of them never lies across two.
#[derive(Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)], len }
    }

    /// `len` floats that the caller overwrites before anyone reads them.
    pub fn unset(len: usize) -> Self {
        let count = len.div_ceil(LINE);
        let mut lines: Vec<Line> = Vec::with_capacity(count);
        // SAFETY: as in `unset`.
        #[allow(clippy::uninit_vec, reason = "overwritten before it is read")]
        unsafe {
            lines.set_len(count);
        }
        Self { lines, len }
    }

    /// Changes the length; what was there stays, also behind the end: growing again clears nothing.
    fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; LINE]));
        }
        self.len = len;
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` initialised floats, without gaps (a `Line` is as large
        // as its alignment).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// `len` floats that the caller overwrites before anyone reads them: clearing them first would be a
/// pass over memory of its own, on one thread.
pub(crate) fn unset(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, every bit pattern is a float, and each caller fills the whole
    // vector before it hands it on.
    #[allow(clippy::uninit_vec, reason = "overwritten before it is read")]
    unsafe {
        values.set_len(len);
    }
    values
}

thread_local! {
    static FREE: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that returns to its thread when dropped.
pub(crate) struct Scratch(Aligned);

/// `len` floats of any value.
pub(crate) fn scratch(len: usize) -> Scratch {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.resize(len);
    Scratch(buffer)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // At the end of a thread there is no list any more: then the buffer is just freed.
        let _ = FREE.try_with(|free| free.borrow_mut().push(buffer));
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
