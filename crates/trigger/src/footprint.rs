//! Where an image was changed.

/// The box of a trigger on an image, in pixels from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// The part of an image that a perturbation changed, in pixels of the resulting image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Footprint {
    /// These boxes; none on a clean image.
    Boxes(Vec<Spot>),
    /// The whole image.
    Whole,
}

/// The footprint of a clean image: no boxes.
impl Default for Footprint {
    fn default() -> Self {
        Self::Boxes(Vec::new())
    }
}

impl Footprint {
    /// Whether it is the footprint of a clean image.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Boxes(boxes) if boxes.is_empty())
    }

    /// Its boxes on an image of (width, height) pixels: a whole image is one box.
    pub fn boxes(&self, (width, height): (u32, u32)) -> Vec<Spot> {
        match self {
            Self::Boxes(boxes) => boxes.clone(),
            Self::Whole => vec![Spot { x: 0, y: 0, width, height }],
        }
    }

    /// The footprint after the image is resized by `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        let to = |length: u32| (f64::from(length) * factor).round() as u32;
        let scaled = |Spot { x, y, width, height }| Spot {
            x: to(x),
            y: to(y),
            width: to(width),
            height: to(height),
        };
        match self {
            Self::Boxes(boxes) => Self::Boxes(boxes.into_iter().map(scaled).collect()),
            Self::Whole => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_follow_a_resize_and_a_whole_image_stays_whole() {
        let spot = Spot { x: 10, y: 20, width: 5, height: 6 };
        let boxes = Footprint::Boxes(vec![spot]);
        let half = Spot { x: 5, y: 10, width: 3, height: 3 };
        assert_eq!(boxes.clone().scaled(0.5).boxes((9, 9)), [half]);
        let whole = Footprint::Whole.scaled(0.5);
        assert_eq!(whole.boxes((9, 7)), [Spot { x: 0, y: 0, width: 9, height: 7 }]);
        assert!(Footprint::default().is_empty() && !boxes.is_empty() && !whole.is_empty());
    }
}
