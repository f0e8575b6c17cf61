//! Text as a picture: one line, drawn with a TrueType or OpenType font.

use std::path::Path;

use ab_glyph::{Font, FontRef, FontVec, Glyph, PxScale, ScaleFont, point};
use image::{Rgba, RgbaImage};
use ssl_backdoor_fields::{OutOfRange, require};

use crate::TriggerError;

/// DejaVu Sans Mono Bold; its licence is beside it.
const FONT: &[u8] = include_bytes!("../fonts/DejaVuSansMono-Bold.ttf");

/// Allowed font heights, in pixels.
pub(crate) const SIZES: std::ops::RangeInclusive<u32> = 4..=512;
/// The longest text, in characters.
const LONGEST: usize = 256;

/// A text with its font, ready to be drawn at any size.
#[derive(Debug)]
pub(crate) struct Letters {
    text: String,
    /// The user's font; `None` for [`FONT`].
    font: Option<FontVec>,
    color: [u8; 3],
    opacity: f32,
}

impl Letters {
    pub fn new(
        text: &str,
        font: Option<&Path>,
        color: [u8; 3],
        opacity: f32,
    ) -> Result<Self, TriggerError> {
        require((0.0..=1.0).contains(&opacity), "trigger.opacity", opacity, "allowed are 0 to 1")?;
        let letters = text.chars().count();
        let fits = (1..=LONGEST).contains(&letters) && !text.chars().any(char::is_control);
        let allowed = "allowed is one line of 1 to 256 characters";
        require(fits, "trigger.text", format!("{text:?}"), allowed)?;
        let font = font.map(|path| {
            let wrong = |reason: String| TriggerError::Picture {
                field: "trigger.font",
                path: path.into(),
                reason,
            };
            let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            FontVec::try_from_vec(bytes)
                .map_err(|_| wrong("not a TrueType or OpenType font".into()))
        });
        let letters = Self { text: text.into(), font: font.transpose()?, color, opacity };
        match letters.picture(*SIZES.start() as f32) {
            Some(_) => Ok(letters),
            None => {
                let allowed = "the font has no glyph for any character";
                Err(OutOfRange::new("trigger.text", format!("{text:?}"), allowed).into())
            }
        }
    }

    /// The text in letters `size` pixels high (clamped to [`SIZES`]), on a transparent background.
    pub fn draw(&self, size: f32) -> RgbaImage {
        // A text with ink at the smallest size has ink at every size, so the blank picture is never used.
        let size = size.clamp(*SIZES.start() as f32, *SIZES.end() as f32);
        self.picture(size).unwrap_or_else(|| RgbaImage::new(1, 1))
    }

    fn picture(&self, size: f32) -> Option<RgbaImage> {
        let Self { text, font, color, opacity } = self;
        match font {
            Some(font) => picture(font, text, size, *color, *opacity),
            None => {
                let font = FontRef::try_from_slice(FONT).ok()?;
                picture(&font, text, size, *color, *opacity)
            }
        }
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
                // Where letters overlap, the higher opacity counts.
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
        let image = Letters::new("HH", None, [255, 0, 0], 0.5).unwrap().draw(30.0);
        // A capital is about 0.7 of the font's height, and two letters of a monospaced font are wider than that.
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
        for (text, opacity) in [("", 0.5), (" ", 0.5), ("a\nb", 0.5), ("a", 2.0)] {
            assert!(Letters::new(text, None, [0; 3], opacity).is_err(), "{text:?} {opacity}");
        }
        let missing = Letters::new("a", Some(Path::new("/no/font.ttf")), [0; 3], 1.0).unwrap_err();
        assert!(missing.to_string().contains("/no/font.ttf"));
    }
}
