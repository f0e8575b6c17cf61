//! The gather: each output pixel sums, over the rows of a kernel, runs of inputs at fixed offsets from
//! its base times a block of weights.
//!
//! In channels-last layout the taps of one kernel row lie side by side, so a 3×3 kernel is three runs
//! of 3 × channels floats. A tile of output pixels × output channels stays in registers over a slab of
//! weights small enough for the L1 cache; the slab serves all pixels of a group of images
//! before the next one is read.

mod axis;
mod plan;
mod tile;

pub(crate) use self::axis::{Axis, Padded};
pub(crate) use self::plan::{Gather, Inputs, Weights, lanes};
pub(crate) use self::tile::{load, store};
use crate::fill::{Slot, places, zeros};
use crate::path::Path;

impl Gather {
    /// Writes (or with `add`, adds to) the outputs of this gather for `images` images.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(&self, path: Path, inputs: Inputs, output: &mut [f32], images: usize, add: bool) {
        let count = images * self.pixels;
        if self.slabs.is_empty() {
            // No kernel position reaches these pixels.
            for &out in self.outs[..count].iter().filter(|_| !add) {
                output[out..out + self.out_channels].fill(0.0);
            }
            return;
        }
        self.check(inputs, count);
        // SAFETY: `check` has verified what the tiles read; they store floats, and `output` already holds floats.
        unsafe { tile::gather(path, self, inputs, places(output), count, add) };
    }

    /// Initialises `output`, which holds `images` images: the outputs of this gather, and zeros elsewhere.
    ///
    /// # Panics
    /// If a buffer is too short, or `output` has another length.
    pub fn begin<'a>(
        &self,
        path: Path,
        inputs: Inputs,
        output: &'a mut [Slot],
        images: usize,
    ) -> &'a mut [f32] {
        if !self.whole || self.slabs.is_empty() {
            let output = zeros(output);
            self.run(path, inputs, output, images, false);
            return output;
        }
        let count = images * self.pixels;
        assert_eq!(output.len(), count * self.out_channels, "other images than the output's");
        self.check(inputs, count);
        // SAFETY: `check` has verified what the tiles read, and without `add` they do not read `output`.
        unsafe { tile::gather(path, self, inputs, output, count, false) };
        // SAFETY: the tiles have stored all channels of each of the first `count` pixels, which are contiguous
        // (`whole`): exactly as many floats as `output` has.
        unsafe { output.assume_init_mut() }
    }
}
