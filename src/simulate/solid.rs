//! What the world is made of: simple shapes, each with a place, a motion and a surface.

use parry3d::bounding_volume::Aabb;
use parry3d::math::{Pose, Rotation, Vector};

/// A thing of the world; what moves keeps its number through its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u32);

impl ObjectId {
    /// The ground.
    pub const GROUND: Self = Self(0);
    /// Who carries the first UE's antenna.
    pub const UE: Self = Self(1_000_000);
    /// The first of those who come by themselves; they are numbered on.
    pub const FLOW: Self = Self(2_000_000);

    /// Who carries a UE's antenna, by its place in the scene file.
    #[must_use]
    pub const fn ue(place: usize) -> Self {
        Self(Self::UE.0 - place as u32)
    }

    /// A vehicle by its place in [`Traffic::vehicles`](super::scene::Traffic::vehicles).
    #[must_use]
    pub const fn vehicle(place: usize) -> Self {
        Self(Self::UE.0 + 1 + place as u32)
    }
}

/// What a part is made of; the observers know what that looks like to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surface {
    /// Asphalt, lane markings, kerbs and pavement, by place.
    Ground,
    /// A building: colour of its plaster, and the number that its windows are drawn from.
    Facade {
        /// Reflectance, red, green, blue.
        colour: [f32; 3],
        /// Of the building.
        number: u32,
    },
    /// Sheet metal.
    Paint([f32; 3]),
    /// Sheet metal with a band of windows along the sides (bus), above this height over the middle of the part, metres.
    Windows {
        /// Reflectance of the paint.
        colour: [f32; 3],
        /// Lower edge of the band, metres above the lower edge of the part.
        from_z: f32,
    },
    /// Window panes.
    Glass,
    /// A wheel: a disc in the middle of the box, dark around it.
    Wheel,
    /// What lies under a vehicle.
    Chassis,
    /// Head lights.
    Lamp,
    /// Tail lights.
    TailLamp,
    /// A trunk.
    Bark,
    /// A crown.
    Leaves,
    /// A lamp post.
    Pole,
    /// The head of a street lamp.
    StreetLamp,
    /// Clothes, of this reflectance.
    Cloth([f32; 3]),
    /// Face and hands, of this reflectance.
    Skin([f32; 3]),
    /// Hair, of this reflectance.
    Hair([f32; 3]),
}

/// A shape in its own axes, its middle at their origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A box of these half sides, metres.
    Cuboid(Vector),
    /// An ellipsoid of these radii, metres.
    Ellipsoid(Vector),
    /// A cylinder along z with half balls on its ends.
    Capsule {
        /// Half the distance between the middles of the balls, metres.
        half_length: f32,
        /// Metres.
        radius: f32,
    },
    /// A cylinder along z with flat ends.
    Cylinder {
        /// Half its height, metres.
        half_length: f32,
        /// Metres.
        radius: f32,
    },
}

impl Shape {
    /// Half sides of the box around it, in its own axes, metres.
    #[must_use]
    pub const fn half(&self) -> Vector {
        match *self {
            Self::Cuboid(half) | Self::Ellipsoid(half) => half,
            Self::Capsule { half_length, radius } => Vector::new(radius, radius, half_length + radius),
            Self::Cylinder { half_length, radius } => Vector::new(radius, radius, half_length),
        }
    }

    /// Distance along a ray (of any length of direction, in units of it) to the shape; 0 from within.
    #[inline]
    pub(super) fn cast(&self, origin: Vector, direction: Vector, max: f32) -> Option<f32> {
        let inside_or = |enter: f32, leave: f32| {
            let enter = enter.max(0.0);
            (enter <= leave && enter <= max).then_some(enter)
        };
        match *self {
            Self::Cuboid(half) => {
                let (enter, leave) = slabs(origin, direction, half);
                inside_or(enter, leave)
            }
            Self::Ellipsoid(radii) => {
                let (enter, leave) = ball(origin / radii, direction / radii, 1.0)?;
                inside_or(enter, leave)
            }
            Self::Cylinder { half_length, radius } => {
                let (enter, leave) = tube(origin, direction, radius)?;
                let (bottom, top) = slab(origin.z, direction.z, half_length);
                inside_or(enter.max(bottom), leave.min(top))
            }
            Self::Capsule { half_length, radius } => {
                let side = tube(origin, direction, radius).and_then(|(enter, leave)| {
                    let (bottom, top) = slab(origin.z, direction.z, half_length);
                    inside_or(enter.max(bottom), leave.min(top))
                });
                let cap = |z: f32| {
                    let (enter, leave) = ball(origin - Vector::Z * z, direction, radius)?;
                    inside_or(enter, leave)
                };
                [side, cap(half_length), cap(-half_length)].into_iter().flatten().reduce(f32::min)
            }
        }
    }

    /// Outward normal at a point of the surface, length 1.
    pub(super) fn normal(&self, point: Vector) -> Vector {
        match *self {
            Self::Cuboid(half) => {
                let share = point / half;
                let depth = share.abs();
                if depth.x >= depth.y && depth.x >= depth.z {
                    Vector::X * share.x.signum()
                } else if depth.y >= depth.z {
                    Vector::Y * share.y.signum()
                } else {
                    Vector::Z * share.z.signum()
                }
            }
            Self::Ellipsoid(radii) => (point / (radii * radii)).normalize_or(Vector::Z),
            Self::Capsule { half_length, .. } => {
                let middle = Vector::Z * point.z.clamp(-half_length, half_length);
                (point - middle).normalize_or(Vector::Z)
            }
            Self::Cylinder { half_length, radius } => {
                let side = point.x.hypot(point.y) / radius;
                if point.z.abs() / half_length > side {
                    Vector::Z * point.z.signum()
                } else {
                    Vector::new(point.x, point.y, 0.0).normalize_or(Vector::X)
                }
            }
        }
    }
}

/// Where a line is within −half…half along one axis.
fn slab(origin: f32, direction: f32, half: f32) -> (f32, f32) {
    if direction == 0.0 {
        return if origin.abs() <= half {
            (f32::NEG_INFINITY, f32::INFINITY)
        } else {
            (f32::INFINITY, f32::NEG_INFINITY)
        };
    }
    let (a, b) = ((-half - origin) / direction, (half - origin) / direction);
    (a.min(b), a.max(b))
}

fn slabs(origin: Vector, direction: Vector, half: Vector) -> (f32, f32) {
    let x = slab(origin.x, direction.x, half.x);
    let y = slab(origin.y, direction.y, half.y);
    let z = slab(origin.z, direction.z, half.z);
    (x.0.max(y.0).max(z.0), x.1.min(y.1).min(z.1))
}

fn ball(origin: Vector, direction: Vector, radius: f32) -> Option<(f32, f32)> {
    roots(direction.length_squared(), origin.dot(direction), origin.length_squared() - radius * radius)
}

/// An endless cylinder along z.
fn tube(origin: Vector, direction: Vector, radius: f32) -> Option<(f32, f32)> {
    let a = direction.x * direction.x + direction.y * direction.y;
    let c = origin.x * origin.x + origin.y * origin.y - radius * radius;
    if a < 1e-12 {
        return (c <= 0.0).then_some((f32::NEG_INFINITY, f32::INFINITY));
    }
    roots(a, origin.x * direction.x + origin.y * direction.y, c)
}

/// Of a·t² + 2·b·t + c = 0.
fn roots(a: f32, b: f32, c: f32) -> Option<(f32, f32)> {
    let inner = b * b - a * c;
    (inner >= 0.0).then(|| {
        let root = inner.sqrt();
        ((-b - root) / a, (-b + root) / a)
    })
}

/// A shape of the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solid {
    /// Its form.
    pub shape: Shape,
    /// Its middle and its axes in the unit frame, metres.
    pub pose: Pose,
    /// The object that it is a part of.
    pub object: ObjectId,
    /// What it is made of.
    pub surface: Surface,
    /// Velocity of its middle, m/s.
    pub velocity: Vector,
    /// Angular velocity about its middle, rad/s.
    pub spin: Vector,
}

impl Solid {
    /// A box along the axes of the unit frame that stands still.
    #[must_use]
    pub fn upright(bounds: Aabb, object: ObjectId, surface: Surface) -> Self {
        Self::still(
            Shape::Cuboid(bounds.half_extents()),
            Pose::from_translation(bounds.center()),
            object,
            surface,
        )
    }

    /// A shape that stands still.
    #[must_use]
    pub const fn still(shape: Shape, pose: Pose, object: ObjectId, surface: Surface) -> Self {
        Self { shape, pose, object, surface, velocity: Vector::ZERO, spin: Vector::ZERO }
    }

    /// A capsule between two places of the unit frame: a limb, a pole that leans.
    #[must_use]
    pub fn between(from: Vector, to: Vector, radius: f32, object: ObjectId, surface: Surface) -> Self {
        let along = to - from;
        let rotation = Rotation::from_rotation_arc(Vector::Z, along.normalize_or(Vector::Z));
        let shape = Shape::Capsule { half_length: along.length() / 2.0, radius };
        Self::still(shape, Pose::from_parts((from + to) / 2.0, rotation), object, surface)
    }

    /// The box along the axes of the unit frame around it.
    #[must_use]
    pub fn bounds(&self) -> Aabb {
        let half = self.shape.half();
        let turned = |axis: Vector, by: f32| (self.pose.rotation * axis * by).abs();
        let reach = turned(Vector::X, half.x) + turned(Vector::Y, half.y) + turned(Vector::Z, half.z);
        Aabb::new(self.pose.translation - reach, self.pose.translation + reach)
    }

    /// Distance to it along a direction of length 1, at most `max`, metres; 0 from within.
    #[must_use]
    pub fn cast(&self, origin: Vector, direction: Vector, max: f32) -> Option<f32> {
        let origin = self.pose.inverse_transform_point(origin);
        self.shape.cast(origin, self.pose.inverse_transform_vector(direction), max)
    }

    /// A point of the unit frame in the shape's own axes.
    #[must_use]
    pub fn local(&self, point: Vector) -> Vector {
        self.pose.inverse_transform_point(point)
    }

    /// Outward normal at a point of its surface, both in the unit frame.
    #[must_use]
    pub fn normal(&self, point: Vector) -> Vector {
        self.pose.transform_vector(self.shape.normal(self.local(point)))
    }

    /// Velocity of a point of it, m/s.
    #[must_use]
    pub fn velocity_at(&self, point: Vector) -> Vector {
        self.velocity + self.spin.cross(point - self.pose.translation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solid(shape: Shape, pose: Pose) -> Solid {
        Solid::still(shape, pose, ObjectId(1), Surface::Chassis)
    }

    #[test]
    fn rays_meet_shapes_where_geometry_says() {
        let at = Pose::from_translation(Vector::new(0.0, 10.0, 0.0));
        let cast = |shape, x: f32, z: f32| solid(shape, at).cast(Vector::new(x, 0.0, z), Vector::Y, 100.0);
        let near = |found: Option<f32>, expected: f32| {
            assert!(
                found.is_some_and(|found| (found - expected).abs() < 1e-4),
                "{found:?} is not {expected}"
            );
        };
        near(cast(Shape::Cuboid(Vector::new(1.0, 2.0, 3.0)), 0.9, 2.9), 8.0);
        assert_eq!(cast(Shape::Cuboid(Vector::new(1.0, 2.0, 3.0)), 1.1, 0.0), None);
        near(cast(Shape::Ellipsoid(Vector::new(2.0, 1.0, 1.0)), 1.0, 0.0), 10.0 - 0.75f32.sqrt());
        let capsule = Shape::Capsule { half_length: 1.0, radius: 0.5 };
        near(cast(capsule, 0.3, 0.9), 9.6);
        near(cast(capsule, 0.0, 1.3), 10.0 - 0.4);
        assert_eq!(cast(capsule, 0.0, 1.6), None);
        let cylinder = Shape::Cylinder { half_length: 1.0, radius: 0.5 };
        near(cast(cylinder, 0.3, 0.9), 9.6);
        assert_eq!(cast(cylinder, 0.0, 1.3), None);
        let above = solid(cylinder, at).cast(Vector::new(0.2, 10.0, 5.0), -Vector::Z, 100.0);
        near(above, 4.0);
        assert_eq!(
            solid(cylinder, at).cast(Vector::new(0.0, 10.0, 0.0), Vector::Y, 100.0),
            Some(0.0),
            "from within"
        );
        assert_eq!(solid(cylinder, at).cast(Vector::new(0.0, 20.0, 0.0), Vector::Y, 100.0), None, "behind");
    }

    #[test]
    fn a_turned_box_has_turned_sides_and_bounds() {
        let turned = Pose::new(Vector::new(0.0, 10.0, 0.0), Vector::Z * std::f32::consts::FRAC_PI_4);
        let one = solid(Shape::Cuboid(Vector::splat(1.0)), turned);
        let reach = 2f32.sqrt();
        let distance = one.cast(Vector::new(0.5, 0.0, 0.0), Vector::Y, 100.0).unwrap();
        assert!((distance - (10.0 - reach + 0.5)).abs() < 1e-5, "{distance}");
        let normal = one.normal(Vector::new(0.5, distance, 0.0));
        assert!((normal - Vector::new(1.0, -1.0, 0.0).normalize()).length() < 1e-5, "{normal}");
        let bounds = one.bounds();
        assert!((bounds.maxs - Vector::new(reach, 10.0 + reach, 1.0)).length() < 1e-5, "{bounds:?}");
    }

    #[test]
    fn normals_look_outwards_and_a_limb_joins_its_ends() {
        let (from, to) = (Vector::new(1.0, 2.0, 3.0), Vector::new(2.0, 2.5, 3.5));
        let limb = Solid::between(from, to, 0.1, ObjectId(1), Surface::Cloth([0.5; 3]));
        let top = limb.cast((from + to) / 2.0 + Vector::Z * 5.0, -Vector::Z, 100.0).unwrap();
        let point = (from + to) / 2.0 + Vector::Z * (5.0 - top);
        assert!((limb.normal(point).dot(to - from)).abs() < 1e-5 && limb.normal(point).z > 0.0);
        let beyond = limb.cast(to + (to - from), (from - to).normalize(), 100.0).unwrap();
        assert!((beyond - ((to - from).length() - 0.1)).abs() < 1e-4, "{beyond}");
        let egg = solid(Shape::Ellipsoid(Vector::new(2.0, 1.0, 1.0)), Pose::IDENTITY);
        assert_eq!(egg.normal(Vector::new(2.0, 0.0, 0.0)), Vector::X);
        let spun = Solid { spin: Vector::Z, velocity: Vector::Y, ..egg };
        assert_eq!(spun.velocity_at(Vector::X), Vector::new(0.0, 2.0, 0.0));
    }
}
