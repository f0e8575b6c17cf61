//! The first frame of a GIF as Pillow shows it: pixels that the frame does not cover have the colour of the
//! transparent index, or else of index 0.

use gif::{ColorOutput, DecodeOptions, DecodingError, Frame, MemoryLimit};
use image::{Rgb, RgbImage};

use super::reasons::{MAX_BYTES, NO_PIXELS, broken, too_large};

/// Decodes the first frame.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn first_frame(bytes: &[u8]) -> Result<RgbImage, String> {
    let wrong = |error: DecodingError| broken("GIF", &error);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Ok(limit) = MAX_BYTES.try_into() {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(bytes).map_err(wrong)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.read_next_frame().map_err(wrong)?.ok_or(NO_PIXELS)?;
    let colours = palette(frame.palette.as_ref().or(global.as_ref()));
    let right = frame.left.saturating_add(frame.width);
    let below = frame.top.saturating_add(frame.height);
    let (width, height) = (u32::from(screen.0.max(right)), u32::from(screen.1.max(below)));
    if width == 0 || height == 0 {
        return Err(NO_PIXELS.into());
    }
    if u64::from(width) * u64::from(height) * 3 > MAX_BYTES {
        return Err(too_large("GIF"));
    }
    let back = colours[usize::from(frame.transparent.unwrap_or(0))];
    let mut image = RgbImage::from_pixel(width, height, back);
    paste(frame, &colours, &mut image);
    Ok(image)
}

/// The colours of all indices: those that the palette lacks are grey.
fn palette(bytes: Option<&Vec<u8>>) -> [Rgb<u8>; 256] {
    let mut colours = std::array::from_fn(|i| Rgb([i as u8; 3]));
    let given = bytes.map_or(&[][..], |bytes| bytes).as_chunks::<3>().0;
    colours.iter_mut().zip(given).for_each(|(colour, given)| colour.0 = *given);
    colours
}

fn paste(frame: &Frame<'_>, colours: &[Rgb<u8>; 256], image: &mut RgbImage) {
    let rows = frame.buffer.chunks_exact(usize::from(frame.width.max(1)));
    for (y, row) in (u32::from(frame.top)..).zip(rows) {
        for (x, &index) in (u32::from(frame.left)..).zip(row) {
            if let Some(pixel) = image.get_pixel_mut_checked(x, y) {
                *pixel = colours[usize::from(index)];
            }
        }
    }
}
