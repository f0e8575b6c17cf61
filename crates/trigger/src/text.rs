//! Text as a picture: one line, drawn with a TrueType or OpenType font.

use std::path::Path;

use ab_glyph::{Font, FontRef, FontVec, Glyph, PxScale, ScaleFont, point};
use image::{Rgba, RgbaImage};

use crate::TriggerError;

/// DejaVu Sans Mono Bold; its licence lies beside it.
const FONT: &[u8] = include_bytes!("../fonts/DejaVuSansMono-Bold.ttf");

/// Font heights that make sense, in pixels.
const SIZES: std::ops::RangeInclusive<f32> = 4.0..=512.0;
/// The longest text, in characters.
const LONGEST: usize = 256;

/// Draws `text` in letters `size` pixels high, transparent around.
pub(crate) fn draw(
    text: &str,
    size: f32,
    font: Option<&Path>,
    color: [u8; 3],
    opacity: f32,
) -> Result<RgbaImage, TriggerError> {
    let range = |key, value: String, allowed: &str| {
        Err(TriggerError::Range { key, value, allowed: allowed.into() })
    };
    if !SIZES.contains(&size) {
        return range("poison.trigger.size", size.to_string(), "allowed are 4 to 512 pixels");
    }
    if !(0.0..=1.0).contains(&opacity) {
        return range("poison.trigger.opacity", opacity.to_string(), "allowed are 0 to 1");
    }
    let letters = text.chars().count();
    if !(1..=LONGEST).contains(&letters) || text.chars().any(char::is_control) {
        let allowed = "allowed is one line of 1 to 256 characters";
        return range("poison.trigger.text", format!("{text:?}"), allowed);
    }
    let drawn = match font {
        None => {
            FontRef::try_from_slice(FONT).map(|font| picture(&font, text, size, color, opacity))
        }
        Some(path) => {
            let wrong =
                |reason: String| TriggerError::Picture { key: "font", path: path.into(), reason };
            let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            let font = FontVec::try_from_vec(bytes).map_err(|e| wrong(format!("no font: {e}")))?;
            Ok(picture(&font, text, size, color, opacity))
        }
    };
    match drawn.ok().flatten() {
        Some(picture) => Ok(picture),
        None => range("poison.trigger.text", format!("{text:?}"), "the font draws none of it"),
    }
}

/// The inked part of the text; `None` if there is none.
fn picture(
    font: &impl Font,
    text: &str,
    size: f32,
    color: [u8; 3],
    opacity: f32,
) -> Option<RgbaImage> {
    let scaled = font.as_scaled(PxScale::from(size));
    let mut glyphs: Vec<Glyph> = Vec::new();
    let mut x = 0.0;
    for letter in text.chars() {
        let mut glyph = scaled.scaled_glyph(letter);
        if let Some(last) = glyphs.last() {
            x += scaled.kern(last.id, glyph.id);
        }
        glyph.position = point(x, scaled.ascent());
        x += scaled.h_advance(glyph.id);
        glyphs.push(glyph);
    }
    let outlines: Vec<_> = glyphs.into_iter().filter_map(|g| font.outline_glyph(g)).collect();
    let bounds = outlines.iter().map(|o| o.px_bounds()).reduce(|mut all, one| {
        all.min.x = all.min.x.min(one.min.x);
        all.min.y = all.min.y.min(one.min.y);
        all.max.x = all.max.x.max(one.max.x);
        all.max.y = all.max.y.max(one.max.y);
        all
    })?;
    let (width, height) = (bounds.width().ceil() as u32, bounds.height().ceil() as u32);
    let mut image = RgbaImage::new(width.max(1), height.max(1));
    for outline in outlines {
        let min = outline.px_bounds().min;
        let (left, top) = ((min.x - bounds.min.x) as u32, (min.y - bounds.min.y) as u32);
        outline.draw(|x, y, coverage| {
            if let Some(pixel) = image.get_pixel_mut_checked(left + x, top + y) {
                let alpha = (255.0 * opacity * coverage.clamp(0.0, 1.0)).round() as u8;
                // Where letters touch, the stronger counts.
                let [r, g, b] = color;
                *pixel = Rgba([r, g, b, alpha.max(pixel[3])]);
            }
        });
    }
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_the_height_and_opacity_asked_for() {
        let image = draw("HH", 30.0, None, [255, 0, 0], 0.5).unwrap();
        // A capital is about 0.7 of the font's height, and two letters of a mono font are wider.
        assert!((18..27).contains(&image.height()), "{:?}", image.dimensions());
        assert!(image.width() > image.height());
        let strongest = image.pixels().map(|p| p[3]).max();
        assert_eq!(strongest, Some(128));
        assert!(image.pixels().all(|p| p[3] == 0 || p.0[..3] == [255, 0, 0]));
        let inked = image.pixels().filter(|p| p[3] > 64).count();
        assert!(inked > 50 && inked < (image.width() * image.height()) as usize);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        for (text, size, opacity) in [
            ("", 20.0, 0.5),
            (" ", 20.0, 0.5),
            ("a\nb", 20.0, 0.5),
            ("a", 0.0, 0.5),
            ("a", 20.0, 2.0),
        ] {
            assert!(draw(text, size, None, [0; 3], opacity).is_err(), "{text:?} {size} {opacity}");
        }
        let missing = draw("a", 20.0, Some(Path::new("/no/font.ttf")), [0; 3], 1.0).unwrap_err();
        assert!(missing.to_string().contains("/no/font.ttf"));
    }
}
