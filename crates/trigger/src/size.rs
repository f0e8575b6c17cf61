//! How large a trigger is: in pixels of the image it is pasted on, in pixels of a view, or as a share of the image.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use ssl_backdoor_fields::OutOfRange;

use crate::TriggerError;

/// The width of a trigger (of a text: the height of its font).
///
/// Photographs of 500 × 375 pixels and views of 32 pixels differ in scale by a factor of ten, so a patch of 8 pixels
/// is tiny on the one and large on the other. [`View`](Self::View) and [`Share`](Self::Share) give a patch of the
/// same relative size on both.
///
/// In a config: `width = 50`, `width = { view = 8 }` or `width = { share = 0.25 }`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// Pixels of the image that the trigger is pasted on, as in the reference (protocol 1.2).
    Pixels(f64),
    /// Pixels of a view: on an image whose shorter side is k times that of a view, k times as many.
    View(f64),
    /// Share of the image's shorter side, above 0 to 1.
    Share(f64),
}

impl Size {
    /// Pixels on an image whose shorter side is `shorter` pixels, where views are `view` pixels a side.
    pub fn on(&self, shorter: u32, view: u32) -> f64 {
        match *self {
            Self::Pixels(pixels) => pixels,
            Self::View(pixels) => pixels * f64::from(shorter) / f64::from(view.max(1)),
            Self::Share(share) => share * f64::from(shorter),
        }
    }

    /// Checks the value; `field` names it, `pixels` are the allowed sizes in pixels.
    ///
    /// # Errors
    /// [`TriggerError::Range`]: not in `pixels`, or a share that is not above 0 and at most 1.
    pub(crate) fn check(
        &self,
        field: &str,
        pixels: std::ops::RangeInclusive<u32>,
    ) -> Result<(), TriggerError> {
        let allowed = match *self {
            Self::Share(share) if share > 0.0 && share <= 1.0 => return Ok(()),
            Self::Share(_) => "allowed is 0 < share <= 1 (of the shorter side)".to_owned(),
            Self::Pixels(n) | Self::View(n)
                if n >= f64::from(*pixels.start()) && n <= f64::from(*pixels.end()) =>
            {
                return Ok(());
            }
            _ => format!("allowed are {} to {} pixels", pixels.start(), pixels.end()),
        };
        Err(OutOfRange::new(field, self, allowed).into())
    }
}

impl From<u32> for Size {
    fn from(pixels: u32) -> Self {
        Self::Pixels(pixels.into())
    }
}

/// `8`, `8 px of a view` or `25 % of the shorter side`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(pixels) => write!(f, "{pixels}"),
            Self::View(pixels) => write!(f, "{pixels} px of a view"),
            Self::Share(share) => write!(f, "{} % of the shorter side", 100.0 * share),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match *self {
            Self::Pixels(n) if n.fract() == 0.0 && (0.0..4_294_967_296.0).contains(&n) => {
                return to.serialize_u32(n as u32);
            }
            Self::Pixels(n) => return to.serialize_f64(n),
            Self::View(n) => ("view", n),
            Self::Share(share) => ("share", share),
        };
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry(key, &value)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pixels = |description: &str| json_schema!({ "type": "number", "minimum": 1, "maximum": 4096, "description": description });
        let share = json_schema!({
            "type": "number", "exclusiveMinimum": 0, "maximum": 1,
            "description": "Share of the shorter side of the image."
        });
        let table = |key: &str, value: Schema| {
            json_schema!({
                "type": "object", "properties": { key: value }, "required": [key],
                "additionalProperties": false
            })
        };
        let view = "Pixels of a view: on an image whose shorter side is k times that of a view, k times as many.";
        json_schema!({
            "anyOf": [
                pixels("Pixels of the image on which the trigger is pasted."),
                table("view", pixels(view)),
                table("share", share),
            ]
        })
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of pixels, { view = PIXELS } or { share = FRACTION }")
    }

    fn visit_u64<E: de::Error>(self, pixels: u64) -> Result<Size, E> {
        Ok(Size::Pixels(pixels as f64))
    }

    fn visit_i64<E: de::Error>(self, pixels: i64) -> Result<Size, E> {
        Ok(Size::Pixels(pixels as f64))
    }

    fn visit_f64<E: de::Error>(self, pixels: f64) -> Result<Size, E> {
        Ok(Size::Pixels(pixels))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Size, A::Error> {
        let wrong = || de::Error::invalid_value(de::Unexpected::Map, &self);
        let size = match map.next_entry::<String, f64>()?.ok_or_else(wrong)? {
            (key, pixels) if key == "view" => Size::View(pixels),
            (key, share) if key == "share" => Size::Share(share),
            (key, _) => return Err(de::Error::unknown_field(&key, &["view", "share"])),
        };
        match map.next_key::<String>()? {
            None => Ok(size),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Size, String> {
        let table: Result<toml::Table, _> = toml::from_str(&format!("width = {text}"));
        table.unwrap()["width"].clone().try_into().map_err(|e: toml::de::Error| e.to_string())
    }

    #[test]
    fn three_ways_to_say_a_size_read_back_as_written() {
        for (text, size) in [
            ("8", Size::Pixels(8.0)),
            ("20.5", Size::Pixels(20.5)),
            ("{ view = 8.0 }", Size::View(8.0)),
            ("{ share = 0.25 }", Size::Share(0.25)),
        ] {
            assert_eq!(read(text).unwrap(), size);
            let written = toml::Value::try_from(size).unwrap().to_string();
            assert_eq!(read(&written).unwrap(), size, "{written}");
        }
        assert_eq!(toml::Value::try_from(Size::from(8)).unwrap().to_string(), "8");
        for wrong in ["\"8\"", "{}", "{ side = 3 }", "{ view = 8, share = 0.1 }", "[8]", "true"] {
            let reason = read(wrong).unwrap_err();
            assert!(reason.contains("share"), "{wrong}: {reason}");
        }
    }

    #[test]
    fn a_view_and_a_share_follow_the_image() {
        // 8 of 32 pixels are a quarter of a view, so the patch is also a quarter of a photograph.
        for size in [Size::View(8.0), Size::Share(0.25)] {
            assert_eq!((size.on(32, 32), size.on(375, 32)), (8.0, 93.75));
        }
        assert_eq!(Size::from(8).on(375, 32), 8.0);
    }

    #[test]
    fn sizes_are_checked() {
        let good = [Size::Pixels(1.0), Size::View(4096.0), Size::Share(1.0)];
        let bad = [
            Size::Pixels(0.0),
            Size::Pixels(f64::NAN),
            Size::View(-1.0),
            Size::View(4097.0),
            Size::Share(0.0),
            Size::Share(1.01),
            Size::Share(f64::INFINITY),
        ];
        assert!(good.iter().all(|size| size.check("width", 1..=4096).is_ok()));
        assert!(bad.iter().all(|size| size.check("width", 1..=4096).is_err()));
    }
}
