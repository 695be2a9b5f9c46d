//! What ground a thing stands on: a rectangle, turned.

/// A rectangle of the ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Footprint {
    /// Its middle, metres.
    pub at: [f64; 2],
    /// Along its direction and across it, metres.
    pub size: [f64; 2],
    /// Its direction, counter-clockwise from the x axis, radians.
    pub yaw: f64,
}

impl Footprint {
    /// From, to along a direction.
    fn span(&self, heading: f64) -> [f64; 2] {
        let (sin, cos) = heading.sin_cos();
        let middle = self.at[0] * cos + self.at[1] * sin;
        let (sin, cos) = (self.yaw - heading).sin_cos();
        let reach = (self.size[0] * cos.abs() + self.size[1] * sin.abs()) / 2.0;
        [middle - reach, middle + reach]
    }

    /// Whether two lie on each other: none of their sides separates them.
    pub fn overlaps(&self, other: &Self) -> bool {
        let quarter = std::f64::consts::FRAC_PI_2;
        [self.yaw, self.yaw + quarter, other.yaw, other.yaw + quarter].into_iter().all(|heading| {
            let ([from, to], [other_from, other_to]) = (self.span(heading), other.span(heading));
            to > other_from && other_to > from
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_rectangles_overlap_where_they_do() {
        let square = |x: f64, y: f64, yaw: f64| Footprint { at: [x, y], size: [2.0, 2.0], yaw };
        let middle = square(0.0, 0.0, 0.0);
        assert!(middle.overlaps(&square(1.9, 0.0, 0.0)) && !middle.overlaps(&square(2.1, 0.0, 0.0)));
        // Turned by 45° it reaches √2 to the sides, and less to the corners.
        let turned = |x: f64, y: f64| square(x, y, std::f64::consts::FRAC_PI_4);
        assert!(middle.overlaps(&turned(2.3, 0.0)) && !middle.overlaps(&turned(2.5, 0.0)));
        assert!(!middle.overlaps(&turned(1.8, 1.8)) && middle.overlaps(&turned(1.6, 1.6)));
    }
}
