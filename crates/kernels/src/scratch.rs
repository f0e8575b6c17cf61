//! Buffers aligned to cache lines, and scratch buffers that a thread reuses, so that training allocates
//! nothing large per group.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::fill::{Filling, Slot, in_pieces, zeros};

/// Floats in a cache line, and in the widest vector.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(dead_code, reason = "read as part of a slice of floats")]
struct Line([f32; LINE]);

/// Floats that start at a cache line: no vector of them straddles two lines.
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

    /// `len` floats, filled in parallel in pieces of `chunk`, by `fill(index, piece)`; see [`crate::fill::fill`].
    ///
    /// # Panics
    /// If `chunk` is 0, or `fill` leaves part of its piece uninitialised.
    pub fn filled(len: usize, chunk: usize, fill: impl Fn(usize, &mut Filling<'_>) + Sync) -> Self {
        let count = len.div_ceil(LINE);
        let mut lines: Vec<Line> = Vec::with_capacity(count);
        let space = &mut lines.spare_capacity_mut()[..count];
        // SAFETY: a `Line` is `LINE` floats without gaps (its size equals its alignment), and so is a line that is
        // not yet initialised.
        let slots: &mut [Slot] =
            unsafe { std::slice::from_raw_parts_mut(space.as_mut_ptr().cast(), count * LINE) };
        let (slots, beyond) = slots.split_at_mut(len);
        zeros(beyond);
        in_pieces(slots, chunk, 0..len.div_ceil(chunk), || (), |(), i, piece| fill(i, piece));
        // SAFETY: `in_pieces` initialised the first `len` floats, `zeros` the others.
        unsafe { lines.set_len(count) };
        Self { lines, len }
    }

    /// Floats for which it has memory.
    fn room(&self) -> usize {
        self.lines.len() * LINE
    }

    /// Changes the length and keeps the contents, even past the end: growing again clears nothing.
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
        // SAFETY: `lines` holds at least `len` initialised floats, without gaps (the size of a `Line`
        // equals its alignment).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

thread_local! {
    static FREE: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that, if made by [`scratch`], returns to the thread's free list when dropped.
pub(crate) struct Scratch {
    buffer: Aligned,
    returns: bool,
}

/// `len` floats with arbitrary values.
pub(crate) fn scratch(len: usize) -> Scratch {
    // The smallest free buffer with enough room, or if none has it the largest, so that not every buffer grows to the
    // largest length.
    let free = FREE.with_borrow_mut(|free| {
        let rooms = || free.iter().enumerate().map(|(i, buffer)| (buffer.room(), i));
        let fits = rooms().filter(|&(room, _)| room >= len).min();
        let (_, i) = fits.or_else(|| rooms().max())?;
        Some(free.swap_remove(i))
    });
    let mut buffer = free.unwrap_or_default();
    buffer.resize(len);
    Scratch { buffer, returns: true }
}

impl Scratch {
    /// `len` zeros that outlive the task: separate memory, freed when dropped.
    pub fn kept(len: usize) -> Self {
        Self { buffer: Aligned::zeros(len), returns: false }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.returns {
            let buffer = std::mem::take(&mut self.buffer);
            // At the end of a thread the list no longer exists: then the buffer is simply freed.
            let _ = FREE.try_with(|free| free.borrow_mut().push(buffer));
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer
    }
}
