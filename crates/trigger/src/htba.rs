//! The ten triggers of Hidden Trigger Backdoor Attacks (HTBA) that the paper uses, rebuilt bit for
//! bit from their 4×4 grids of pure colours, and equivalents drawn from a seed.
//!
//! Each trigger is a 4×4 grid enlarged ×20 by Keys' cubic convolution (a = −0.5) with half-pixel
//! centres and a symmetric border, in floating point, then clipped and rounded once.

use image::{Rgb, RgbImage};
use rand::Rng;

use crate::TriggerError;
use crate::purpose;
use ssl_backdoor_rng::keyed;

/// Side of a trigger in pixels, before it is resized for pasting.
pub const HTBA_SIDE: u32 = 80;
/// The ids of the paper's triggers.
pub const HTBA_IDS: std::ops::RangeInclusive<u32> = 10..=19;

const CELLS: usize = 4;

/// Grids row by row; the letters name the (R, G, B) bits: K 000, B 001, G 010, C 011, R 100, M 101,
/// Y 110, W 111.
const GRIDS: [&str; 10] = [
    "RGBW CYWW KKBK CRYB",
    "CBWC BKRR BCKB KGBB",
    "CRMK CRBY KWRR KRRM",
    "GMKM BYBC MCMB CYYW",
    "YYWK RKWW CCYK CGKK",
    "GRBK CRGR CGYB GRWY",
    "MWRK RGKC YYYC BRCC",
    "YKKB MMGW GRRR MCMB",
    "WGRM WYKC MGGW WKWC",
    "BWGK GRYB MWMR KBMB",
];

/// Colour bits of the sixteen cells, row by row; bit 2 is red, bit 1 green, bit 0 blue.
type Grid = [[u8; CELLS]; CELLS];

/// HTBA trigger `id` (10 to 19) at its original size, 80×80.
///
/// # Errors
/// [`TriggerError::UnknownHtba`] for any other id.
pub fn htba(id: u32) -> Result<RgbImage, TriggerError> {
    if !HTBA_IDS.contains(&id) {
        return Err(TriggerError::UnknownHtba { id });
    }
    let mut grid = Grid::default();
    let rows = GRIDS[(id - HTBA_IDS.start()) as usize].split(' ');
    for (cells, row) in grid.iter_mut().zip(rows) {
        for (cell, letter) in cells.iter_mut().zip(row.chars()) {
            *cell = "KBGCRMYW".find(letter).unwrap_or(0) as u8;
        }
    }
    Ok(enlarge(&grid))
}

/// A trigger of the same family from 48 fair coin flips, seeded with `seed`, 80×80.
pub fn seeded(seed: u64) -> RgbImage {
    let bits = keyed(seed, purpose::TRIGGER_COLORS, 0, 0, 0).next_u64();
    let mut grid = Grid::default();
    for (i, cell) in grid.iter_mut().flatten().enumerate() {
        *cell = (bits >> (3 * i) & 7) as u8;
    }
    enlarge(&grid)
}

/// Keys' cubic convolution kernel with a = −0.5.
fn keys(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// The four source cells and their weights for each output pixel along one axis.
fn taps() -> Vec<[(usize, f64); 4]> {
    let scale = f64::from(HTBA_SIDE) / CELLS as f64;
    (0..HTBA_SIDE)
        .map(|i| {
            let at = (f64::from(i) + 0.5) / scale - 0.5;
            let first = at.floor() as i64 - 1;
            std::array::from_fn(|k| {
                let cell = first + k as i64;
                // Symmetric border: −1 → 0, −2 → 1, 4 → 3, 5 → 2.
                let mirrored = if cell < 0 { -1 - cell } else { cell };
                let n = CELLS as i64;
                let mirrored = if mirrored >= n { 2 * n - 1 - mirrored } else { mirrored };
                (mirrored as usize, keys(at - cell as f64))
            })
        })
        .collect()
}

fn enlarge(grid: &Grid) -> RgbImage {
    let taps = taps();
    RgbImage::from_fn(HTBA_SIDE, HTBA_SIDE, |x, y| {
        Rgb(std::array::from_fn(|channel| {
            let mut sum = 0.0;
            for &(row, wy) in &taps[y as usize] {
                for &(column, wx) in &taps[x as usize] {
                    let on = grid[row][column] >> (2 - channel) & 1;
                    sum += wy * wx * 255.0 * f64::from(on);
                }
            }
            (sum.clamp(0.0, 255.0) + 0.5).floor() as u8
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn raw_bytes_are_those_of_the_published_pngs() {
        let published = [
            "655e42c9d47b",
            "5a176ac864bd",
            "adcdd4a9df71",
            "c35bfd5d43fa",
            "a04979f6c5c1",
            "5b17680d8723",
            "56525e8f42cc",
            "fb8dacd76faa",
            "cdad3014df50",
            "4fdc3b131f1b",
        ];
        for (id, expected) in HTBA_IDS.zip(published) {
            let digest = Sha256::digest(htba(id).unwrap().as_raw());
            let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(&hex[..12], expected, "trigger {id}");
        }
    }
}
