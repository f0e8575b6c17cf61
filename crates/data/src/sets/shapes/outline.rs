//! The outlines of the ten classes. Every class has an upright pose, and none maps to itself or to its mirror image under
//! a rotation by 90° or 180°, so predicting rotations is well posed even with random flips.

/// Class names by label.
pub(crate) const CLASSES: [&str; 10] =
    ["arrow", "house", "heart", "table", "key", "flag", "goblet", "boot", "anchor", "crown"];

/// Whether (u, v) is part of the shape; u points right and v down, each in −1 to 1.
pub(super) fn inside(label: u32, u: f32, v: f32) -> bool {
    let a = u.abs();
    let disc = |x: f32, y: f32, r: f32| (u - x).powi(2) + (v - y).powi(2) <= r * r;
    let ring = |x: f32, y: f32, inner: f32, outer: f32| disc(x, y, outer) && !disc(x, y, inner);
    let band = |top: f32, bottom: f32| (top..=bottom).contains(&v);
    match label {
        // arrow: head over shaft
        0 => (band(-0.9, 0.0) && a <= 0.8 * (v + 0.9) / 0.9) || (band(0.0, 0.9) && a <= 0.24),
        // house: the outline of a roof and walls, with a chimney
        1 => {
            let roof = |top: f32, side: f32| v >= top && a <= side * (v - top);
            let room = roof(-0.45, 1.0) && a <= 0.45 && v <= 0.62;
            (roof(-0.9, 1.15) && band(-0.9, 0.85) && a <= 0.72 && !room)
                || ((0.4..=0.65).contains(&u) && band(-0.85, -0.3))
        }
        // heart: two discs over a point
        2 => {
            disc(-0.42, -0.35, 0.47)
                || disc(0.42, -0.35, 0.47)
                || (band(-0.25, 0.9) && a <= 0.86 * (0.9 - v) / 1.1)
        }
        // table: a board on two legs
        3 => (band(-0.55, -0.2) && a <= 0.9) || (band(-0.2, 0.75) && (0.5..=0.75).contains(&a)),
        // key: ring, shaft, two teeth
        4 => {
            ring(0.0, -0.5, 0.2, 0.44)
                || (band(-0.1, 0.9) && a <= 0.12)
                || ((band(0.4, 0.56) || band(0.74, 0.9)) && (0.0..=0.5).contains(&u))
        }
        // flag: cloth at the top of a pole
        5 => {
            ((u + 0.6).abs() <= 0.1 && band(-0.9, 0.9))
                || ((-0.6..=0.8).contains(&u) && band(-0.9, -0.05))
        }
        // goblet: bowl, stem, foot
        6 => {
            (band(-0.85, 0.2) && a <= 0.1 + 0.68 * (0.2 - v) / 1.05)
                || (band(0.2, 0.7) && a <= 0.1)
                || (band(0.7, 0.9) && a <= 0.5)
        }
        // boot: leg and foot
        7 => {
            ((-0.55..=0.0).contains(&u) && band(-0.9, 0.9))
                || ((-0.55..=0.8).contains(&u) && band(0.4, 0.9))
        }
        // anchor: ring, shaft, bar, arc
        8 => {
            ring(0.0, -0.7, 0.08, 0.25)
                || (band(-0.5, 0.85) && a <= 0.11)
                || (band(-0.32, -0.12) && a <= 0.5)
                || (v >= 0.25 && ring(0.0, 0.0, 0.62, 0.9))
        }
        // crown: three spikes over a band
        _ => {
            let spike = |x: f32| (u - x).abs() <= 0.3 * (v + 0.75) / 1.0;
            (band(0.25, 0.75) && a <= 0.85)
                || (band(-0.75, 0.25) && (spike(-0.55) || spike(0.0) || spike(0.55)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Intersection over union of two shapes on a fine grid, the second turned and maybe mirrored.
    fn overlap(a: u32, b: u32, turn: impl Fn(f32, f32) -> (f32, f32)) -> f32 {
        let n = 60;
        let at = |i: u32| 2.0 * (i as f32 + 0.5) / n as f32 - 1.0;
        let (mut both, mut any) = (0u32, 0u32);
        for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let (x, y) = (inside(a, at(i), at(j)), {
                let (u, v) = turn(at(i), at(j));
                inside(b, u, v)
            });
            both += u32::from(x && y);
            any += u32::from(x || y);
        }
        both as f32 / any as f32
    }

    #[test]
    fn no_class_is_its_own_rotation_even_when_mirrored() {
        for label in 0..10 {
            assert_eq!(overlap(label, label, |u, v| (u, v)), 1.0);
            for mirror in [1.0, -1.0] {
                let half = overlap(label, label, |u, v| (-u * mirror, -v));
                let left = overlap(label, label, |u, v| (v * mirror, -u));
                let right = overlap(label, label, |u, v| (-v * mirror, u));
                for o in [half, left, right] {
                    assert!(o < 0.75, "{}: {half} {left} {right}", CLASSES[label as usize]);
                }
            }
        }
    }

    #[test]
    fn classes_differ() {
        for a in 0..10 {
            for b in 0..a {
                for mirror in [1.0, -1.0] {
                    assert!(overlap(a, b, |u, v| (u * mirror, v)) < 0.75, "{a} {b}");
                }
            }
        }
    }
}
