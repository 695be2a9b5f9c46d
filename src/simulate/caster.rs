//! The one ray caster: every observer asks it what lies in a direction, or between two places.
//!
//! The world is a plane (the ground) and simple shapes ([`Solid`]). What stands still and what moves lie in two bounding
//! volume hierarchies of `parry3d`; the first is built once per scene.

use std::sync::Arc;

use parry3d::bounding_volume::Aabb;
use parry3d::math::Vector;
use parry3d::partitioning::{Bvh, BvhBuildStrategy};
use parry3d::query::Ray;

use super::solid::{ObjectId, Solid, Surface};

/// What a ray met first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// From the origin, metres (the direction has length 1).
    pub distance: f32,
    /// Where, in the unit frame, metres.
    pub point: Vector,
    /// Away from the surface, length 1.
    pub normal: Vector,
    /// The object that was hit.
    pub object: ObjectId,
    /// What it is made of.
    pub surface: Surface,
    /// Its velocity, m/s.
    pub velocity: Vector,
    /// Where on the shape that was hit, in its own axes from its middle, metres; on the ground the point itself.
    pub local: Vector,
    /// The normal in the shape's own axes.
    pub local_normal: Vector,
    /// Half sides of the shape that was hit, metres; 0 for the ground.
    pub half: Vector,
}

/// Shapes in a bounding volume hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Solids {
    solids: Vec<Solid>,
    tree: Bvh,
}

impl Solids {
    /// Builds the hierarchy.
    #[must_use]
    pub fn new(solids: Vec<Solid>) -> Self {
        let leaves: Vec<Aabb> = solids.iter().map(Solid::bounds).collect();
        Self { tree: Bvh::from_leaves(BvhBuildStrategy::Binned, &leaves), solids }
    }

    /// The shapes.
    #[must_use]
    pub fn solids(&self) -> &[Solid] {
        &self.solids
    }

    fn nearest(&self, ray: &Ray, max: f32) -> Option<(&Solid, f32)> {
        let check = |leaf: u32, best: f32| self.solids.get(leaf as usize)?.cast(ray.origin, ray.dir, best);
        let (leaf, distance) = self.tree.cast_ray(ray, max, check)?;
        Some((self.solids.get(leaf as usize)?, distance))
    }
}

/// The world at one instant, ready to be looked at.
#[derive(Clone, Debug)]
pub struct Caster {
    still: Arc<Solids>,
    moving: Solids,
}

impl Caster {
    /// What stands and what moves, over ground at z = 0.
    #[must_use]
    pub const fn new(still: Arc<Solids>, moving: Solids) -> Self {
        Self { still, moving }
    }

    /// The shapes of what stands.
    #[must_use]
    pub fn still(&self) -> &[Solid] {
        self.still.solids()
    }

    /// What stands, shared.
    #[must_use]
    pub fn still_solids(&self) -> Arc<Solids> {
        self.still.clone()
    }

    /// The shapes of what moves.
    #[must_use]
    pub fn moving(&self) -> &[Solid] {
        self.moving.solids()
    }

    /// The first thing within `max` metres along `direction` (length 1).
    #[must_use]
    pub fn cast(&self, origin: Vector, direction: Vector, max: f32) -> Option<Hit> {
        let still = self.cast_still(origin, direction, max);
        let nearer = still.map_or(max, |hit| hit.distance);
        self.cast_moving(origin, direction, nearer).or(still)
    }

    /// The same among what stands still, the ground included.
    #[must_use]
    pub fn cast_still(&self, origin: Vector, direction: Vector, max: f32) -> Option<Hit> {
        let ray = Ray::new(origin, direction);
        let to_ground = -origin.z / direction.z;
        let ground = (direction.z < 0.0 && origin.z > 0.0 && to_ground < max).then(|| Hit {
            distance: to_ground,
            point: ray.point_at(to_ground),
            normal: Vector::Z,
            object: ObjectId::GROUND,
            surface: Surface::Ground,
            velocity: Vector::ZERO,
            local: ray.point_at(to_ground),
            local_normal: Vector::Z,
            half: Vector::ZERO,
        });
        let limit = ground.map_or(max, |hit| hit.distance);
        self.still.nearest(&ray, limit).map(|(solid, distance)| hit(&ray, solid, distance)).or(ground)
    }

    /// The same among what moves.
    #[must_use]
    pub fn cast_moving(&self, origin: Vector, direction: Vector, max: f32) -> Option<Hit> {
        let ray = Ray::new(origin, direction);
        self.moving.nearest(&ray, max).map(|(solid, distance)| hit(&ray, solid, distance))
    }

    /// Whether something that moves lies within `max` metres along `direction`.
    #[must_use]
    pub fn is_shaded_by_moving(&self, origin: Vector, direction: Vector, max: f32) -> bool {
        self.moving.nearest(&Ray::new(origin, direction), max).is_some()
    }

    /// Whether something that stands lies within `max` metres along `direction`.
    #[must_use]
    pub fn is_shaded_by_still(&self, origin: Vector, direction: Vector, max: f32) -> bool {
        self.still.nearest(&Ray::new(origin, direction), max).is_some()
    }

    /// Whether nothing cuts the straight line from one place to another, both ends included to within 1 cm.
    #[must_use]
    pub fn is_free(&self, from: Vector, to: Vector) -> bool {
        self.first_between(from, to).is_none()
    }

    /// The objects that cut the straight line from one place to another, nearest first, each once.
    #[must_use]
    pub fn between(&self, from: Vector, to: Vector) -> Vec<ObjectId> {
        let Some(line) = Line::new(from, to) else { return Vec::new() };
        let ray = Ray::new(from, line.direction);
        let cut = |solid: &Solid| {
            let distance = solid.cast(ray.origin, ray.dir, line.length - END)?;
            Some((distance, solid.object))
        };
        let mut found: Vec<(f32, ObjectId)> =
            self.still.solids.iter().chain(&self.moving.solids).filter_map(cut).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut objects: Vec<ObjectId> = Vec::new();
        for (_, object) in found {
            if !objects.contains(&object) {
                objects.push(object);
            }
        }
        objects
    }

    /// The box around all parts of an object.
    #[must_use]
    pub fn bounds(&self, object: ObjectId) -> Option<Aabb> {
        let all = self.moving.solids.iter().chain(&self.still.solids);
        let parts = all.filter(|solid| solid.object == object).map(Solid::bounds);
        parts.reduce(|a, b| Aabb::new(a.mins.min(b.mins), a.maxs.max(b.maxs)))
    }

    fn first_between(&self, from: Vector, to: Vector) -> Option<Hit> {
        let line = Line::new(from, to)?;
        self.cast(from, line.direction, line.length - END)
    }
}

/// A line of sight ends this far before its end, so that it does not hit what it ends on, metres.
const END: f32 = 0.01;

struct Line {
    direction: Vector,
    length: f32,
}

impl Line {
    fn new(from: Vector, to: Vector) -> Option<Self> {
        let length = (to - from).length();
        (length > END).then(|| Self { direction: (to - from) / length, length })
    }
}

fn hit(ray: &Ray, solid: &Solid, distance: f32) -> Hit {
    let point = ray.point_at(distance);
    let normal = solid.normal(point);
    Hit {
        distance,
        point,
        normal,
        object: solid.object,
        surface: solid.surface,
        velocity: solid.velocity_at(point),
        local: solid.local(point),
        local_normal: solid.pose.inverse_transform_vector(normal),
        half: solid.shape.half(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solid(object: u32, mins: [f32; 3], maxs: [f32; 3], velocity: Vector) -> Solid {
        let bounds = Aabb::new(Vector::from(mins), Vector::from(maxs));
        Solid { velocity, ..Solid::upright(bounds, ObjectId(object), Surface::Chassis) }
    }

    fn caster() -> Caster {
        let wall = solid(1, [-5.0, 20.0, 0.0], [5.0, 21.0, 10.0], Vector::ZERO);
        let near = solid(7, [-1.0, 5.0, 0.5], [1.0, 7.0, 2.0], Vector::X);
        let far = solid(8, [-1.0, 9.0, 0.5], [1.0, 11.0, 2.0], Vector::X);
        Caster::new(Arc::new(Solids::new(vec![wall])), Solids::new(vec![near, far]))
    }

    #[test]
    fn the_nearest_thing_is_hit_where_it_is() {
        let caster = caster();
        let seen = |z: f32, y: f32, down: f32| {
            caster.cast(Vector::new(0.0, y, z), Vector::new(0.0, 1.0, -down).normalize(), 100.0)
        };
        let hit = seen(1.0, 0.0, 0.0).unwrap();
        assert_eq!((hit.object, hit.distance, hit.normal), (ObjectId(7), 5.0, -Vector::Y));
        assert_eq!((hit.velocity, hit.point), (Vector::X, Vector::new(0.0, 5.0, 1.0)));
        assert_eq!(seen(1.0, 8.0, 0.0).unwrap().object, ObjectId(8));
        assert_eq!(seen(3.0, 0.0, 0.0).unwrap().object, ObjectId(1));
        assert_eq!(seen(3.0, 0.0, 1.0).unwrap().object, ObjectId::GROUND);
        assert!((seen(3.0, 0.0, 1.0).unwrap().distance - 18f32.sqrt()).abs() < 1e-5);
        assert!(seen(30.0, 0.0, -1.0).is_none());
    }

    #[test]
    fn what_stands_between_is_told_in_order() {
        let caster = caster();
        let (from, to) = (Vector::new(0.0, 0.0, 1.0), Vector::new(0.0, 15.0, 1.0));
        assert_eq!(caster.between(from, to), [ObjectId(7), ObjectId(8)]);
        assert_eq!(caster.between(from, Vector::new(0.0, 8.0, 1.0)), [ObjectId(7)]);
        assert!(!caster.is_free(from, to));
        assert!(caster.is_free(Vector::new(0.0, 0.0, 3.0), Vector::new(0.0, 15.0, 3.0)));
        // It ends on the wall, which does not cut it.
        assert!(caster.is_free(Vector::new(0.0, 0.0, 3.0), Vector::new(0.0, 20.0, 3.0)));
    }
}
