//! Shadows of the sun: what lies nearest to it, on a grid across its rays.

use parry3d::math::Vector;

use super::objects::Part;

/// Most cells of a map.
const CELLS: f32 = 1_500_000.0;
/// A surface is in the shadow of what is this much nearer to the sun, metres.
const BIAS_M: f32 = 0.06;

/// A part of the plane across the sun's rays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    low: [f32; 2],
    high: [f32; 2],
}

/// How near to the sun things are, by place across its rays.
#[derive(Clone, Debug)]
pub(super) struct SunMap {
    axes: [Vector; 3],
    low: [f32; 2],
    per_metre: f32,
    size: [usize; 2],
    /// Metres towards the sun from the origin of the unit frame.
    nearest: Vec<f32>,
}

/// Two axes across the sun's rays and one towards it.
fn axes(to_sun: Vector) -> [Vector; 3] {
    let across = Vector::new(to_sun.y, -to_sun.x, 0.0).normalize_or(Vector::X);
    [across, to_sun.cross(across), to_sun]
}

impl Bounds {
    /// Around points; `None` without one.
    pub fn around(to_sun: Vector, points: impl Iterator<Item = Vector>) -> Option<Self> {
        let [u, v, _] = axes(to_sun);
        points.map(|point| [u.dot(point), v.dot(point)]).fold(None, |sum: Option<Self>, at| {
            Some(sum.map_or(Self { low: at, high: at }, |sum| Self {
                low: [sum.low[0].min(at[0]), sum.low[1].min(at[1])],
                high: [sum.high[0].max(at[0]), sum.high[1].max(at[1])],
            }))
        })
    }
}

impl SunMap {
    /// Of these parts, with cells of `cell` metres or, over large bounds, larger.
    pub fn new<'a>(to_sun: Vector, bounds: Bounds, cell: f32, parts: impl Iterator<Item = &'a Part>) -> Self {
        let span = [bounds.high[0] - bounds.low[0], bounds.high[1] - bounds.low[1]];
        let cell = cell.max((span[0] * span[1] / CELLS).sqrt());
        let low = bounds.low.map(|low| low - 2.0 * cell);
        let size = span.map(|span| (span / cell) as usize + 5);
        let mut map = Self {
            axes: axes(to_sun),
            low,
            per_metre: 1.0 / cell,
            size,
            nearest: vec![f32::NEG_INFINITY; size[0] * size[1]],
        };
        for part in parts {
            map.add(part);
        }
        map
    }

    fn add(&mut self, part: &Part) {
        let [u, v, sun] = self.axes;
        let range = |at: usize, axis: Vector| {
            let (middle, reach) = (axis.dot(part.middle()), part.reach(axis));
            let from = ((middle - reach - self.low[at]) * self.per_metre).max(0.0) as usize;
            let to = ((middle + reach - self.low[at]) * self.per_metre + 1.0).max(0.0) as usize;
            from..to.min(self.size[at])
        };
        let (top, direction) = (sun.dot(part.middle()) + part.reach(sun) + 1.0, part.turned(-sun));
        let cell = 1.0 / self.per_metre;
        for row in range(1, v) {
            for column in range(0, u) {
                let at = |index: usize, low: f32| low + (index as f32 + 0.5) * cell;
                let from = u * at(column, self.low[0]) + v * at(row, self.low[1]) + sun * top;
                if let Some(distance) = part.shape().cast(part.local(from), direction, f32::MAX) {
                    let nearest = &mut self.nearest[row * self.size[0] + column];
                    *nearest = nearest.max(top - distance);
                }
            }
        }
    }

    /// The share of the sun's light that gets to a place: four cells, weighed by distance, make a soft edge.
    pub fn lit(&self, point: Vector) -> f32 {
        let [u, v, sun] = self.axes;
        let x = (u.dot(point) - self.low[0]) * self.per_metre - 0.5;
        let y = (v.dot(point) - self.low[1]) * self.per_metre - 0.5;
        // Written so that what is no number is outside.
        if !(x >= 0.0 && y >= 0.0 && x < (self.size[0] - 1) as f32 && y < (self.size[1] - 1) as f32) {
            return 1.0;
        }
        let (column, row) = (x as usize, y as usize);
        let (right, down) = (x - column as f32, y - row as f32);
        let level = sun.dot(point) + BIAS_M;
        let at = row * self.size[0] + column;
        let [a, b, c, d] = [at, at + 1, at + self.size[0], at + self.size[0] + 1]
            .map(|at| if self.nearest[at] > level { 0.0f32 } else { 1.0 });
        (a + (b - a) * right) * (1.0 - down) + (c + (d - c) * right) * down
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::solid::{ObjectId, Shape, Solid, Surface};
    use parry3d::math::Pose;

    #[test]
    fn a_box_throws_the_shadow_of_a_box() {
        let pose = Pose::from_translation(Vector::new(0.0, 0.0, 3.0));
        let solid = Solid::still(Shape::Cuboid(Vector::splat(0.5)), pose, ObjectId(1), Surface::Chassis);
        let part = Part::new(&solid);
        // The sun stands at 45° over +x: the middle of the shadow is 3 m to −x.
        let to_sun = Vector::new(1.0, 0.0, 1.0).normalize();
        let points = [Vector::new(-6.0, -6.0, 0.0), Vector::new(6.0, 6.0, 0.0)];
        let bounds = Bounds::around(to_sun, points.into_iter()).unwrap();
        let map = SunMap::new(to_sun, bounds, 0.05, std::iter::once(&part));
        let lit = |x: f32, y: f32, z: f32| map.lit(Vector::new(x, y, z));
        assert_eq!((lit(-3.0, 0.0, 0.0), lit(-3.0, 0.4, 0.0), lit(-3.9, 0.0, 0.0)), (0.0, 0.0, 0.0));
        assert_eq!((lit(-3.0, 0.6, 0.0), lit(0.0, 0.0, 0.0), lit(-4.2, 0.0, 0.0)), (1.0, 1.0, 1.0));
        assert_eq!(lit(0.0, 0.0, 3.5), 1.0, "its own top is lit");
        assert_eq!(lit(1.0, 0.0, 4.0), 1.0, "between it and the sun");
        let edge = lit(-3.0, 0.5, 0.0);
        assert!((0.0..=1.0).contains(&edge));
        assert_eq!(lit(100.0, 0.0, 0.0), 1.0, "outside");
    }
}
