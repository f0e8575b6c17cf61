//! New buffers of floats that tasks fill in parallel. Clearing them first would cost another pass over memory, so
//! they start uninitialised, and only the places that have been written count as floats.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// The place of a float that may still be uninitialised.
pub(crate) type Slot = MaybeUninit<f32>;

/// A vector of `len` floats, filled in pieces of `chunk` (the last may be shorter), each with the next of `with`.
/// Also returns the results of `fill` for each piece, in order.
///
/// # Panics
/// If `chunk` is 0, `with` has too few items, or `fill` leaves part of its piece uninitialised.
pub(crate) fn fill<I, T>(
    len: usize,
    chunk: usize,
    with: I,
    fill: impl Fn(I::Item, &mut Filling<'_>) -> T + Sync,
) -> (Vec<f32>, Vec<T>)
where
    I: IntoParallelIterator<Iter: IndexedParallelIterator>,
    T: Send,
{
    fill_init(len, chunk, with, || (), |(), item, filling| fill(item, filling))
}

/// As [`fill`], with a state from `init` that a thread reuses for many pieces.
pub(crate) fn fill_init<I, S, T>(
    len: usize,
    chunk: usize,
    with: I,
    init: impl Fn() -> S + Sync,
    fill: impl Fn(&mut S, I::Item, &mut Filling<'_>) -> T + Sync,
) -> (Vec<f32>, Vec<T>)
where
    I: IntoParallelIterator<Iter: IndexedParallelIterator>,
    T: Send,
{
    let mut values = Vec::with_capacity(len);
    let found = in_pieces(&mut values.spare_capacity_mut()[..len], chunk, with, init, fill);
    // SAFETY: `in_pieces` returns only once each of the `len` floats is initialised.
    unsafe { values.set_len(len) };
    (values, found)
}

/// Two vectors of `len` floats, each as from [`fill`]; their pieces are filled together.
pub(crate) fn fill_two<I>(
    len: usize,
    chunk: usize,
    with: I,
    fill_both: impl Fn(I::Item, &mut Filling<'_>, &mut Filling<'_>) + Sync,
) -> [Vec<f32>; 2]
where
    I: IntoParallelIterator<Iter: IndexedParallelIterator>,
{
    let mut first = Vec::with_capacity(len);
    let pieces = first.spare_capacity_mut()[..len].par_chunks_mut(chunk);
    let (second, _) = fill(len, chunk, pieces.zip(with), |(slots, item), second| {
        let mut first = Filling { slots, done: 0 };
        fill_both(item, &mut first, second);
        assert_eq!(first.left(), 0, "the end of a piece has no values");
    });
    // SAFETY: `fill` returns only once `fill_both` received each piece of the `len` floats and initialised all of it.
    unsafe { first.set_len(len) };
    [first, second]
}

/// Initialises all of `slots`; otherwise as [`fill_init`].
pub(crate) fn in_pieces<I, S, T>(
    slots: &mut [Slot],
    chunk: usize,
    with: I,
    init: impl Fn() -> S + Sync,
    fill: impl Fn(&mut S, I::Item, &mut Filling<'_>) -> T + Sync,
) -> Vec<T>
where
    I: IntoParallelIterator<Iter: IndexedParallelIterator>,
    T: Send,
{
    let pieces = slots.len().div_ceil(chunk);
    let found: Vec<T> = slots
        .par_chunks_mut(chunk)
        .zip(with)
        .map_init(&init, |state, (slots, item)| {
            let mut filling = Filling { slots, done: 0 };
            let found = fill(state, item, &mut filling);
            assert_eq!(filling.left(), 0, "the end of a piece has no values");
            found
        })
        .collect();
    assert_eq!(found.len(), pieces, "some pieces have no values");
    found
}

/// A piece of memory that is initialised from the front.
pub(crate) struct Filling<'a> {
    slots: &'a mut [Slot],
    /// Initialised floats at the front.
    done: usize,
}

impl Filling<'_> {
    /// Number of floats that are still uninitialised.
    pub fn left(&self) -> usize {
        self.slots.len() - self.done
    }

    /// The next `len` floats, which `fill` initialises: it returns all the slots it was given, as floats.
    ///
    /// # Panics
    /// If fewer than `len` floats are left, or `fill` returns other floats.
    pub fn next(&mut self, len: usize, fill: impl FnOnce(&mut [Slot]) -> &mut [f32]) -> &mut [f32] {
        let place = &mut self.slots[self.done..self.done + len];
        let wanted = place.as_ptr_range();
        let filled = fill(place);
        let got = filled.as_ptr_range();
        // A slice of floats at exactly this place proves that they are initialised: `done` may count them.
        assert!(
            (wanted.start.cast(), wanted.end.cast()) == (got.start, got.end),
            "other floats than those to be filled"
        );
        self.done += len;
        filled
    }

    /// As [`next`](Self::next), for all floats that are left.
    pub fn rest(&mut self, fill: impl FnOnce(&mut [Slot]) -> &mut [f32]) -> &mut [f32] {
        self.next(self.left(), fill)
    }

    /// The last `len` initialised floats.
    ///
    /// # Panics
    /// If fewer are initialised.
    pub fn last(&mut self, len: usize) -> &mut [f32] {
        let filled = &mut self.slots[self.done - len..self.done];
        // SAFETY: `next` counted only initialised floats.
        unsafe { filled.assume_init_mut() }
    }
}

/// Zeros. A piece is cleared just before it is computed, and it fits in the cache: clearing costs a few percent of an
/// operation that computes little, and nothing measurable of a convolution.
pub(crate) fn zeros(slots: &mut [Slot]) -> &mut [f32] {
    slots.fill(Slot::new(0.0));
    // SAFETY: all of them were just set.
    unsafe { slots.assume_init_mut() }
}

/// Writes the next of `values` to each slot.
///
/// # Panics
/// If there are too few values.
#[inline(always)]
pub(crate) fn write(slots: &mut [Slot], values: impl Iterator<Item = f32>) -> &mut [f32] {
    let mut count = 0;
    for (slot, value) in slots.iter_mut().zip(values) {
        slot.write(value);
        count += 1;
    }
    assert_eq!(count, slots.len(), "too few values");
    // SAFETY: as many values were written as there are slots, each to the next slot.
    unsafe { slots.assume_init_mut() }
}

/// The same floats as slots.
///
/// # Safety
/// Only initialised floats may be written to them.
pub(crate) unsafe fn places(values: &mut [f32]) -> &mut [Slot] {
    // SAFETY: a slot has the layout of a float, and by this function's contract the floats stay initialised.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_filled_in_their_order() {
        let (values, found) = fill(7, 3, 0..3, |i, piece| {
            let first = piece.next(1, |slots| write(slots, std::iter::once(i as f32)))[0];
            piece.rest(zeros);
            piece.last(1)[0] += 10.0;
            first
        });
        assert_eq!(values, [0.0, 0.0, 10.0, 1.0, 0.0, 10.0, 12.0]);
        assert_eq!(found, [0.0, 1.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "the end of a piece has no values")]
    fn review_2_05_a_piece_that_is_not_filled_never_becomes_floats() {
        fill(4, 2, 0..2, |i, piece| piece.next(2 - i, zeros)[0]);
    }

    #[test]
    #[should_panic(expected = "some pieces have no values")]
    fn review_2_05_nor_one_that_no_task_was_given() {
        fill(4, 2, 0..1, |_, piece| piece.rest(zeros)[0]);
    }

    #[test]
    #[should_panic(expected = "other floats")]
    fn review_2_05_nor_one_that_another_is_returned_for() {
        fill(4, 4, 0..1, |_, piece| piece.next(4, |_| vec![0.0; 4].leak())[0]);
    }

    #[test]
    #[should_panic(expected = "too few values")]
    fn review_2_05_nor_one_for_which_there_are_too_few_values() {
        fill(4, 4, 0..1, |_, piece| piece.rest(|slots| write(slots, [1.0; 3].into_iter()))[0]);
    }
}
