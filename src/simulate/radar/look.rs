//! What the radar's waves meet: rays over things that move, and over what stands.

use std::collections::BTreeMap;

use nalgebra::{Isometry3, Vector3};
use parry3d::math::Vector;

use super::super::caster::Caster;
use super::super::solid::{ObjectId, Solid, Surface};
use super::super::{direction, place};

/// A patch of a surface, as one ray meets it.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// From the radar, metres.
    pub range: f64,
    /// Length 1, in the unit frame.
    pub ray: Vector,
    /// In the unit frame, metres.
    pub point: Vector,
    /// Of this place of it, m/s.
    pub velocity: Vector,
    /// Radar cross section, m²; of a thing that moves, before all of its patches are brought to that of its class.
    pub section: f64,
}

/// A radar in its place.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint {
    /// In the unit frame, metres.
    pub origin: Vector,
    mount: Isometry3<f64>,
}

impl Viewpoint {
    /// With x right, y along boresight and z up.
    pub fn new(mount: &Isometry3<f64>) -> Self {
        Self { origin: place(&mount.translation.vector.into()), mount: *mount }
    }

    /// A direction (length 1) of the unit frame in the mount: right, forward, up.
    pub fn seen(&self, ray: Vector) -> Vector3<f64> {
        self.mount.rotation.inverse() * Vector3::new(f64::from(ray.x), f64::from(ray.y), f64::from(ray.z))
    }

    /// Azimuth and elevation of a direction of the unit frame, radians.
    pub fn angles(&self, ray: Vector) -> [f64; 2] {
        let seen = self.seen(ray);
        [seen.x.atan2(seen.y), seen.z.clamp(-1.0, 1.0).asin()]
    }

    /// A direction of the unit frame, from azimuth and elevation in radians.
    pub fn ray(&self, [azimuth, elevation]: [f64; 2]) -> Vector {
        direction(&self.mount, azimuth, elevation)
    }
}

/// How densely rays cover an object that moves: at most so far apart across and up, degrees, and at least and at most so
/// many.
#[derive(Clone, Copy, Debug)]
pub struct Density {
    /// Degrees.
    pub step_deg: [f64; 2],
    /// Rays.
    pub across: [f64; 2],
    /// Rays.
    pub upwards: [f64; 2],
}

/// On a street, where what counts is how many range bins an object fills.
pub const STREET: Density = Density { step_deg: [0.5, 0.7], across: [6.0, 24.0], upwards: [5.0, 10.0] };
/// In a room, where limbs are told apart.
pub const ROOM: Density = Density { step_deg: [0.8, 1.0], across: [8.0, 40.0], upwards: [12.0, 60.0] };

/// The patches of every object that moves and can be seen, each with the share of it that no other thing hides.
pub fn movers(
    caster: &Caster,
    view: &Viewpoint,
    reach: f64,
    density: Density,
) -> Vec<(Vec<Solid>, Vec<Patch>, f64)> {
    let mut objects: BTreeMap<ObjectId, Vec<Solid>> = BTreeMap::new();
    for solid in caster.moving() {
        objects.entry(solid.object).or_default().push(*solid);
    }
    let look = |solids: Vec<Solid>| {
        let (patches, share) = patches(caster, view, &solids, reach, density)?;
        Some((solids, patches, share))
    };
    objects.into_values().filter_map(look).collect()
}

fn patches(
    caster: &Caster,
    view: &Viewpoint,
    solids: &[Solid],
    reach: f64,
    density: Density,
) -> Option<(Vec<Patch>, f64)> {
    let [azimuths, elevations] = extent(view, solids)?;
    let count = |[from, to]: [f64; 2], step: f64, [least, most]: [f64; 2]| {
        ((to - from).to_degrees() / step).ceil().clamp(least, most)
    };
    let [step_across, step_up] = density.step_deg;
    let across = count(azimuths, step_across, density.across);
    let upwards = count(elevations, step_up, density.upwards);
    let cell = |[from, to]: [f64; 2], count: f64, at: usize| from + (to - from) * (at as f64 + 0.5) / count;
    let solid_angle = (azimuths[1] - azimuths[0]) / across * (elevations[1] - elevations[0]) / upwards;
    let mut patches = Vec::new();
    let mut own = 0.0;
    for row in 0..upwards as usize {
        let elevation = cell(elevations, upwards, row);
        for column in 0..across as usize {
            let ray = view.ray([cell(azimuths, across, column), elevation]);
            let nearest = solids
                .iter()
                .filter_map(|solid| Some((solid.cast(view.origin, ray, reach as f32)?, solid)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((distance, solid)) = nearest else { continue };
            let point = view.origin + ray * distance;
            let normal = solid.normal(point);
            let range = f64::from(distance);
            let section =
                backscatter(solid.surface, normal.dot(-ray)) * range.powi(2) * solid_angle * elevation.cos();
            own += section;
            if distance > HIDES_M && caster.cast(view.origin, ray, distance - HIDES_M).is_none() {
                let velocity = solid.velocity_at(point);
                patches.push(Patch { range, ray, point, velocity, section });
            }
        }
    }
    let seen: f64 = patches.iter().map(|patch| patch.section).sum();
    (seen > 0.0).then(|| (patches, seen / own))
}

/// What stands this far in front of a place hides it, metres.
const HIDES_M: f32 = 0.02;

/// Azimuths and elevations that hold an object that lies in front of the radar.
fn extent(view: &Viewpoint, solids: &[Solid]) -> Option<[[f64; 2]; 2]> {
    let mut found = [[f64::MAX, f64::MIN]; 2];
    for solid in solids {
        let bounds = solid.bounds();
        for corner in 0..8 {
            let pick = |bit: usize, low: f32, high: f32| if corner & bit == 0 { low } else { high };
            let point = Vector::new(
                pick(1, bounds.mins.x, bounds.maxs.x),
                pick(2, bounds.mins.y, bounds.maxs.y),
                pick(4, bounds.mins.z, bounds.maxs.z),
            );
            let ray = (point - view.origin).normalize_or(Vector::Y);
            if view.seen(ray).y <= 0.05 {
                return None;
            }
            for ([low, high], angle) in found.iter_mut().zip(view.angles(ray)) {
                (*low, *high) = (low.min(angle), high.max(angle));
            }
        }
    }
    Some(found)
}

/// Backscatter per area across the ray at 77 GHz, from cos of the incidence: metal throws back much, straight on most of
/// all. The ground is that of a γ model, σ⁰ = γ·cos θ, with γ = −20 dB for asphalt (Ulaby and Dobson 1989).
pub fn backscatter(surface: Surface, cosine: f32) -> f64 {
    let (rough, mirror) = match surface {
        Surface::Ground => return 0.01,
        Surface::Facade { .. } => (0.12, 0.4),
        Surface::Paint(_) | Surface::Windows { .. } => (0.8, 3.0),
        Surface::Glass => (0.15, 0.5),
        Surface::Lamp | Surface::TailLamp | Surface::StreetLamp | Surface::Wheel | Surface::Chassis => {
            (0.8, 0.5)
        }
        Surface::Bark | Surface::Leaves => (0.08, 0.0),
        Surface::Pole => (1.0, 3.0),
        Surface::Cloth(_) | Surface::Skin(_) | Surface::Hair(_) => (0.3, 0.3),
    };
    let cosine = f64::from(cosine.clamp(0.0, 1.0));
    rough * cosine + mirror * cosine.powi(40)
}

/// Radar cross section at 77 GHz of what moves, and how it depends on the side that is seen.
///
/// The order of published values at 76 to 81 GHz: cars some 10 dBsm between the sides and 10 dB more broadside (Schipper et
/// al. 2011), people −3 dBsm (Fortuny-Guasch and Chareau 2013), cyclists 0 dBsm and more from the side. A tripod is an
/// upright metal rod: the place at which it would mirror the radar is as high as the radar, above its top, at whatever
/// range. What legs, hub and antenna leave is taken to be −10 dBsm, an estimate: no measurement of one was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Between the sides, dBsm.
    oblique_dbsm: f64,
    /// More than that straight on its long side, and on its ends, dB.
    side_db: f64,
    end_db: f64,
}

impl Class {
    /// By what it is made of and how large it is.
    pub fn of(solids: &[Solid]) -> Self {
        let has = |is: fn(&Surface) -> bool| solids.iter().any(|solid| is(&solid.surface));
        let wears = has(|surface| matches!(surface, Surface::Cloth(_) | Surface::Skin(_)));
        let is_rod = solids.iter().all(|solid| solid.surface == Surface::Pole);
        let rolls = has(|surface| matches!(surface, Surface::Wheel));
        let size = |axis: fn(Vector) -> f32| {
            let half = solids.iter().map(|solid| axis(solid.shape.half()));
            half.fold(0.0, f32::max)
        };
        let (half_length, top) = (size(|half| half.x), top(solids));
        let class = |oblique_dbsm, side_db, end_db| Self { oblique_dbsm, side_db, end_db };
        match (wears, rolls) {
            (true, false) => class(-3.0, 0.0, 0.0),
            (true, true) => class(0.0, 5.0, 0.0),
            _ if is_rod => class(-10.0, 0.0, 0.0),
            _ if half_length > 3.5 => class(18.0, 12.0, 4.0),
            _ if top > 1.9 => class(12.0, 12.0, 4.0),
            _ => class(10.0, 10.0, 3.0),
        }
    }

    /// Seen along a direction, whole, m².
    pub fn section(&self, solids: &[Solid], ray: Vector) -> f64 {
        let body = solids.iter().max_by(|a, b| a.shape.half().x.total_cmp(&b.shape.half().x));
        let along = body.map_or(Vector::X, |body| body.pose.transform_vector(Vector::X));
        let level = |vector: Vector| Vector::new(vector.x, vector.y, 0.0).normalize_or(Vector::X);
        let aspect = f64::from(level(along).dot(level(ray)).abs().min(1.0)).acos().to_degrees();
        let lobe = |off: f64, width: f64| (-(off / width).powi(2) / 2.0).exp();
        let db =
            self.oblique_dbsm + self.side_db * lobe(90.0 - aspect, 5.0) + self.end_db * lobe(aspect, 10.0);
        10f64.powf(db / 10.0)
    }
}

fn top(solids: &[Solid]) -> f32 {
    solids.iter().map(|solid| solid.bounds().maxs.z).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Scene;
    use crate::simulate::scene::{Traffic, Vehicle, VehicleKind};
    use crate::simulate::world::World;
    use crate::space::mount_to_unit;

    fn seen(vehicles: Vec<Vehicle>) -> Vec<(Vec<Solid>, Vec<Patch>, f64)> {
        let ue = Vehicle { lane: 3, at_m: 60.0, ..Vehicle::default() };
        let traffic = Traffic { seconds: 1.0, ue: vec![ue], vehicles, ..Traffic::default() };
        let scene = Scene { sequence: vec![traffic], ..Scene::default() };
        movers(
            &World::new(&scene).at(&scene, 0, 0.0),
            &Viewpoint::new(&mount_to_unit(&scene.pose.radar)),
            50.0,
            STREET,
        )
    }

    #[test]
    fn what_stands_in_front_hides_what_stands_behind() {
        let car = Vehicle { lane: 1, ..Vehicle::default() };
        let alone = seen(vec![car.clone()]);
        assert!(alone.len() == 1 && alone[0].2 == 1.0 && alone[0].1.len() > 20, "{}", alone.len());
        let van = Vehicle { kind: VehicleKind::Van, lane: 0, at_m: 2.4, ..Vehicle::default() };
        let both = seen(vec![car.clone(), van]);
        assert!(both.len() == 2 && (0.05..0.95).contains(&both[0].2) && both[1].2 == 1.0, "{}", both[0].2);
        let truck = Vehicle { kind: VehicleKind::Truck, lane: 0, ..Vehicle::default() };
        assert_eq!(seen(vec![car, truck]).len(), 1);
    }

    #[test]
    fn classes_have_the_sections_of_the_literature() {
        let solids = |kind: VehicleKind| {
            let found = seen(vec![Vehicle { kind, lane: 1, ..Vehicle::default() }]);
            found.into_iter().next().unwrap().0
        };
        let dbsm = |kind: VehicleKind, degrees: f32| {
            let ray = Vector::new(degrees.to_radians().sin(), degrees.to_radians().cos(), 0.0);
            let solids = solids(kind);
            10.0 * Class::of(&solids).section(&solids, ray).log10()
        };
        // It drives along x: seen along y it shows its side.
        for (kind, degrees, expected) in [
            (VehicleKind::Car, 45.0, 10.0),
            (VehicleKind::Car, 0.0, 20.0),
            (VehicleKind::Car, 90.0, 13.0),
            (VehicleKind::Van, 45.0, 12.0),
            (VehicleKind::Truck, -45.0, 18.0),
        ] {
            assert!(
                (dbsm(kind, degrees) - expected).abs() < 0.1,
                "{kind:?} {degrees}: {}",
                dbsm(kind, degrees)
            );
        }
        let rod = |from: Vector| {
            Solid::between(from, Vector::new(0.0, 5.0, 0.9), 0.015, ObjectId(9), Surface::Pole)
        };
        let tripod = [Vector::new(0.3, 5.0, 0.0), Vector::new(-0.1, 5.2, 0.0)].map(rod);
        assert!((Class::of(&tripod).section(&tripod, Vector::Y) - 0.1).abs() < 1e-3);
        let person = Solid::between(
            Vector::new(0.0, 5.0, 0.2),
            Vector::new(0.0, 5.0, 1.7),
            0.2,
            ObjectId(9),
            Surface::Cloth([0.5; 3]),
        );
        assert!((Class::of(&[person]).section(&[person], Vector::Y) - 0.501).abs() < 1e-3);
    }
}
