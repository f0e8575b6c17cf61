//! Jigsaw's tiles (docs/protocol.md, 2.4): nine jittered tiles of one crop, grey or projected in colour.

use image::RgbImage;
use rand::RngExt;

use super::views::{normalize, to_planes};
use super::{Geometry, Scratch, ViewKey, Views, color, crop};

/// Cells along a side of the crop.
const CELLS: u32 = 3;

/// Nine tiles, row by row; the method assigns them to slots.
///
/// The shorter side is resized to `resize`, and a square of three times three cells is cut out at random. With
/// probability ½ it is made grey, else with probability ½ projected in colour. It is normalised as a whole, and from
/// each cell a tile is cut at a random offset. The largest offset, 85 − 64 = 21, is never drawn, as in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JigsawViews {
    /// Shorter side of the resized image in pixels (256); the crop is the largest multiple of three
    /// below it (255).
    pub resize: u32,
    /// Side of a tile in pixels (64), at most a third of the crop.
    pub tile: u32,
}

impl JigsawViews {
    fn cell(&self) -> u32 {
        ((self.resize - 1) / CELLS).max(1)
    }
}

impl Views for JigsawViews {
    fn count(&self) -> usize {
        (CELLS * CELLS) as usize
    }

    fn size(&self) -> u32 {
        self.tile
    }

    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    ) {
        let rng = &mut key.rng(0);
        let (cell, tile) = (self.cell(), self.tile as usize);
        let side = CELLS * cell;
        let (width, height) = crop::resized(image.dimensions(), self.resize);
        let corner = [width, height].map(|length| rng.random_range(0..=length - side));
        scratch.square(side);
        let Scratch { resizer, bytes, planes, .. } = scratch;
        let whole = crop::resize_crop(image, self.resize, corner, resizer, bytes);
        let side = side as usize;
        planes.resize(3 * side * side, 0.0);
        to_planes(bytes, planes);
        if rng.random_bool(0.5) {
            color::grayscale(planes);
        } else if rng.random_bool(0.5) {
            color::project_color(planes);
        }
        normalize(planes);
        let scale = whole.extent.map(|e| e / side as f64);
        for (k, (out, geometry)) in (0..).zip(out.iter_mut().zip(geometry.iter_mut())) {
            let room = cell.saturating_sub(self.tile).max(1);
            let at = [k % CELLS, k / CELLS].map(|c| c * cell + rng.random_range(0..room));
            let [x, y] = at.map(|v| v as usize);
            for (plane, to) in
                planes.chunks_exact(side * side).zip(out.chunks_exact_mut(tile * tile))
            {
                for (row, to) in to.chunks_exact_mut(tile).enumerate() {
                    to.copy_from_slice(&plane[(y + row) * side + x..][..tile]);
                }
            }
            *geometry = Geometry {
                corner: [0, 1].map(|i| whole.corner[i] + f64::from(at[i]) * scale[i]),
                extent: scale.map(|s| s * f64::from(self.tile)),
                ..whole
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;

    fn tiles(id: u64, views: JigsawViews) -> (Vec<Vec<f32>>, Vec<Geometry>) {
        let image =
            RgbImage::from_fn(320, 300, |x, y| image::Rgb([(x / 2) as u8, (y / 2) as u8, 0]));
        let len = (3 * views.tile * views.tile) as usize;
        let mut out = vec![vec![0.0; len]; 9];
        let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let mut geometry = vec![Geometry::default(); 9];
        let key = ViewKey { seed: 2, purpose: purpose::VIEW, epoch: 0, id };
        views.write(&image, &key, &mut Scratch::default(), &mut slices, &mut geometry);
        (out, geometry)
    }

    #[test]
    fn tiles_lie_in_their_cells_with_offsets_0_to_20() {
        let views = JigsawViews { resize: 256, tile: 64 };
        let mut seen = std::collections::BTreeSet::new();
        for id in 0..60 {
            let (_, geometry) = tiles(id, views);
            // The shorter side, 300 pixels, became 256; the longer one int(320 · 256 / 300) = 273.
            let scale = [320.0 / 273.0, 300.0 / 256.0];
            let first = geometry[0];
            for (k, g) in geometry.iter().enumerate() {
                let cell = [k % 3, k / 3];
                for axis in 0..2 {
                    let apart = (g.corner[axis] - first.corner[axis]) / scale[axis];
                    let jitter = apart - 85.0 * cell[axis] as f64;
                    assert!(jitter.abs() < 20.5, "tile {k}: {jitter}");
                    assert!((g.extent[axis] / scale[axis] - 64.0).abs() < 1e-9);
                    seen.insert(jitter.round() as i64);
                }
            }
        }
        assert!(seen.contains(&-20) && seen.contains(&20) && !seen.contains(&21), "{seen:?}");
    }

    #[test]
    fn a_tile_shows_what_its_geometry_says() {
        // Red is half of x in the image; a tile that is neither grey nor projected shows it.
        let mut plain = 0;
        for id in 0..40 {
            let (out, geometry) = tiles(id, JigsawViews { resize: 256, tile: 64 });
            let value = |v: f32, channel: usize| {
                v * super::super::STD[channel] + super::super::MEAN[channel]
            };
            let [red, blue] =
                [value(out[4][64 * 32 + 32], 0), value(out[4][2 * 4096 + 64 * 32 + 32], 2)];
            if blue.abs() > 1e-3 {
                continue;
            }
            plain += 1;
            let x = geometry[4].corner[0] + geometry[4].extent[0] * 32.5 / 64.0;
            let expected = (x as f32 / 2.0) / 255.0;
            assert!((red - expected).abs() < 0.006, "{id}: {red} {expected}");
        }
        assert!((3..=20).contains(&plain), "{plain}");
    }

    #[test]
    fn small_tiles_fit_small_images() {
        let (out, _) = tiles(1, JigsawViews { resize: 37, tile: 10 });
        assert!(out.iter().flatten().all(|v| v.is_finite()));
    }
}
