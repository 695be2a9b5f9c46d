//! The middle line of a lane: straight pieces, and arcs that round the corners between them.

/// Where one is on a path, and which way it goes there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Place {
    /// x and y, metres.
    pub at: [f64; 2],
    /// Counter-clockwise from the x axis, radians.
    pub heading: f64,
    /// Its change per metre, 1/m: positive to the left.
    pub curvature: f64,
}

impl Place {
    /// A place beside it, `left` metres to the left.
    pub fn beside(&self, left: f64) -> [f64; 2] {
        let (sin, cos) = self.heading.sin_cos();
        [self.at[0] - sin * left, self.at[1] + cos * left]
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    /// Where on the path it begins, metres.
    from: f64,
    length: f64,
    begin: Place,
    /// Sine and cosine of its first heading: the ground asks for every pixel.
    sin_cos: (f64, f64),
}

impl Piece {
    /// `along` metres from its beginning, which may lie outside: then it goes on as it is.
    fn place(&self, along: f64) -> Place {
        let Place { at: [x, y], heading, curvature } = self.begin;
        let to = heading + curvature * along;
        let (sin, cos) = self.sin_cos;
        let at = if curvature == 0.0 {
            [x + along * cos, y + along * sin]
        } else {
            [x + (to.sin() - sin) / curvature, y - (to.cos() - cos) / curvature]
        };
        Place { at, heading: to, curvature }
    }

    /// The nearest place of the endless line or circle that it lies on: metres from its beginning, metres to the left.
    fn project(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let Place { at, curvature, .. } = self.begin;
        let (sin, cos) = self.sin_cos;
        let (dx, dy) = (x - at[0], y - at[1]);
        let (ahead, left) = (dx * cos + dy * sin, dy * cos - dx * sin);
        if curvature == 0.0 {
            return [ahead, left];
        }
        let radius = 1.0 / curvature;
        // Seen from the middle of the circle, which lies `radius` to the left.
        let turn = ahead.atan2((radius - left) * radius.signum());
        [turn * radius.abs(), radius - radius.signum() * ahead.hypot(radius - left)]
    }
}

/// A path with an arc length from 0 to its length; before and behind it goes on straight.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::simulate) struct Path {
    pieces: Vec<Piece>,
    length: f64,
}

impl Path {
    /// Through the points, whose corners are cut by arcs of this radius, or a smaller one where a neighbour is near.
    pub fn new(points: &[[f64; 2]], radius: f64) -> Self {
        let headings: Vec<f64> = points
            .windows(2)
            .map(|pair| if let [a, b] = pair { (b[1] - a[1]).atan2(b[0] - a[0]) } else { 0.0 })
            .collect();
        let mut path = Self { pieces: Vec::new(), length: 0.0 };
        let mut from = points.first().copied().unwrap_or_default();
        for (number, &heading) in headings.iter().enumerate() {
            let corner = points.get(number + 1).copied().unwrap_or_default();
            let to_corner = distance(from, corner);
            let turn = headings.get(number + 1).map_or(0.0, |next| wrapped(next - heading));
            // Half of each side at most belongs to a corner.
            let next = points.get(number + 2).copied().unwrap_or(corner);
            let side = distance(points.get(number).copied().unwrap_or(from), corner);
            let half = side.min(distance(corner, next)) / 2.0;
            let tan = (turn.abs() / 2.0).tan();
            let cut = if tan < 1e-9 { 0.0 } else { (radius * tan).min(half) };
            path.push(Place { at: from, heading, curvature: 0.0 }, (to_corner - cut).max(0.0));
            if cut > 0.0 {
                let radius = cut / tan;
                let begin = [corner[0] - cut * heading.cos(), corner[1] - cut * heading.sin()];
                let curvature = turn.signum() / radius;
                path.push(Place { at: begin, heading, curvature }, radius * turn.abs());
                from = path.pieces.last().map_or(corner, |piece| piece.place(piece.length).at);
            } else {
                from = corner;
            }
        }
        path
    }

    fn push(&mut self, begin: Place, length: f64) {
        self.pieces.push(Piece { from: self.length, length, begin, sin_cos: begin.heading.sin_cos() });
        self.length += length;
    }

    pub const fn length(&self) -> f64 {
        self.length
    }

    /// Whether it has no bend.
    pub fn is_straight(&self) -> bool {
        self.pieces.iter().all(|piece| piece.begin.curvature == 0.0)
    }

    /// The place at an arc length, which may lie outside.
    pub fn place(&self, along: f64) -> Place {
        let number = self.pieces.partition_point(|piece| piece.from <= along).saturating_sub(1);
        let Some(piece) = self.pieces.get(number) else {
            return Place { at: [0.0; 2], heading: 0.0, curvature: 0.0 };
        };
        piece.place(along - piece.from)
    }

    /// The nearest place of it: its arc length (which may lie outside, at the ends), and metres to the left of it.
    pub fn project(&self, point: [f64; 2]) -> [f64; 2] {
        let last = self.pieces.len().saturating_sub(1);
        let mut best = ([0.0, f64::MAX], f64::MAX);
        for (number, piece) in self.pieces.iter().enumerate() {
            let [along, left] = piece.project(point);
            let low = if number == 0 { f64::MIN } else { 0.0 };
            let high = if number == last { f64::MAX } else { piece.length };
            let held = along.clamp(low, high);
            // Past its end, the nearest point of a piece is its end.
            let off = if held == along { left.abs() } else { distance(piece.place(held).at, point) };
            if off < best.1 {
                let left = if held == along { left } else { off.copysign(left) };
                best = ([piece.from + held, left], off);
            }
        }
        best.0
    }

    /// Places at most `step` metres apart, both ends included, with their arc lengths.
    pub fn walk(&self, step: f64) -> impl Iterator<Item = (f64, Place)> + '_ {
        let count = (self.length / step).ceil().max(1.0);
        (0..=count as usize).map(move |number| {
            let along = self.length * number as f64 / count;
            (along, self.place(along))
        })
    }
}

pub(in crate::simulate) fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// An angle in (−π, π].
fn wrapped(angle: f64) -> f64 {
    let turned = angle.rem_euclid(std::f64::consts::TAU);
    if turned > std::f64::consts::PI { turned - std::f64::consts::TAU } else { turned }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
    }

    /// 20 m east, then 20 m north, the corner cut by a quarter of a circle of 5 m.
    fn corner() -> Path {
        Path::new(&[[0.0, 0.0], [20.0, 0.0], [20.0, 20.0]], 5.0)
    }

    #[test]
    fn a_corner_is_a_quarter_of_a_circle() {
        let path = corner();
        let arc = 5.0 * std::f64::consts::FRAC_PI_2;
        near(path.length(), 30.0 + arc);
        let middle = path.place(15.0 + arc / 2.0);
        near(middle.heading, std::f64::consts::FRAC_PI_4);
        near(middle.at[0], 15.0 + 5.0 * 0.5f64.sqrt());
        near(middle.at[1], 5.0 - 5.0 * 0.5f64.sqrt());
        let end = path.place(path.length() + 3.0);
        near(end.at[0], 20.0);
        near(end.at[1], 23.0);
        near(path.place(-4.0).at[0], -4.0);
    }

    #[test]
    fn a_corner_to_the_right_bends_the_other_way_and_radii_shrink() {
        let path = Path::new(&[[0.0, 0.0], [4.0, 0.0], [4.0, -20.0]], 50.0);
        near(path.length(), 2.0 * std::f64::consts::FRAC_PI_2 + 2.0 + 18.0);
        let middle = path.place(2.0 + std::f64::consts::FRAC_PI_2);
        near(middle.curvature, -0.5);
        near(middle.heading, -std::f64::consts::FRAC_PI_4);
        near(path.place(path.length()).at[1], -20.0);
    }

    #[test]
    fn what_is_projected_comes_back() {
        let path = corner();
        for along in [-3.0, 0.5, 14.9, 17.0, 20.0, 24.0, 40.0] {
            for left in [-2.0, 0.0, 1.5] {
                let [found, side] = path.project(path.place(along).beside(left));
                near(found, along);
                near(side, left);
            }
        }
    }

    #[test]
    fn heading_and_curvature_are_the_derivatives_of_the_place() {
        let path = corner();
        let h = 1e-5;
        for along in [3.0, 16.0, 20.0, 30.0] {
            let (before, here, after) = (path.place(along - h), path.place(along), path.place(along + h));
            let [dx, dy] = [0, 1].map(|axis| (after.at[axis] - before.at[axis]) / (2.0 * h));
            assert!((dx - here.heading.cos()).abs() < 1e-6 && (dy - here.heading.sin()).abs() < 1e-6);
            assert!(((after.heading - before.heading) / (2.0 * h) - here.curvature).abs() < 1e-6);
        }
    }
}
