//! The world: a straight street along x with buildings behind it, and the vehicles on it.
//!
//! [`World`] is what stands; [`World::at`] adds the vehicles of a sequence at an instant. Everything is a box along the
//! axes of the unit frame (x right, along the street; y across it; z up, 0 on the ground; metres).

use std::sync::Arc;

use parry3d::bounding_volume::Aabb;
use parry3d::math::Vector;

use super::caster::{Caster, Solids};
use super::random::{Purpose, Random};
use super::scene::{Scene, Street, Traffic, Vehicle, VehicleKind};
use super::solid::{ObjectId, Solid, Surface};

/// The front of a building, which reflects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facade {
    /// From, along x, metres.
    pub from_x: f32,
    /// To, along x, metres.
    pub to_x: f32,
    /// Where its front is, along y, metres.
    pub y: f32,
    /// Its height, metres.
    pub height: f32,
}

/// What stands on the street.
#[derive(Clone, Debug)]
pub struct World {
    still: Arc<Solids>,
    facades: Vec<Facade>,
}

/// Height of the UE's antenna above the roof of its car, metres.
const ANTENNA_M: f32 = 0.15;

impl World {
    /// Builds the street of a scene.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let mut builder = Builder { next: 1, solids: Vec::new() };
        let facades = builder.buildings(&scene.street, scene.seed);
        builder.trees_and_poles(&scene.street, scene.seed);
        Self { still: Arc::new(Solids::new(builder.solids)), facades }
    }

    /// The fronts of the buildings.
    #[must_use]
    pub fn facades(&self) -> &[Facade] {
        &self.facades
    }

    /// The street with a sequence's vehicles, `seconds` after its beginning.
    #[must_use]
    pub fn at(&self, scene: &Scene, sequence: usize, seconds: f64) -> Caster {
        let mut solids = Vec::new();
        if let Some(traffic) = scene.sequence.get(sequence) {
            let others = traffic.vehicles.iter().enumerate();
            let others = others.map(|(place, vehicle)| (ObjectId::vehicle(place), vehicle));
            for (object, vehicle) in std::iter::once((ObjectId::UE, &traffic.ue)).chain(others) {
                let mut random = Random::new(scene.seed, sequence, object.0 as usize, Purpose::Paint);
                park(&mut solids, scene, object, vehicle, seconds, &mut random);
            }
        }
        Caster::new(self.still.clone(), Solids::new(solids))
    }

    /// The world without traffic.
    #[must_use]
    pub fn empty(&self) -> Caster {
        Caster::new(self.still.clone(), Solids::new(Vec::new()))
    }
}

/// Where the UE's antenna is, `seconds` after the beginning of its sequence: on the roof, in the middle.
#[must_use]
pub fn antenna(scene: &Scene, traffic: &Traffic, seconds: f64) -> Vector {
    let ue = &traffic.ue;
    let y = scene.street.lanes_y_m.get(ue.lane).copied().unwrap_or(0.0);
    let [_, _, height] = ue.kind.size_m();
    Vector::new((ue.at_m + ue.speed_mps * seconds) as f32, y as f32, height as f32 + ANTENNA_M)
}

/// When two vehicles of one lane touch, seconds from the beginning; `None` when they stay apart for `seconds`.
pub(super) fn meeting(one: &Vehicle, other: &Vehicle, seconds: f64) -> Option<f64> {
    let reach = (one.kind.size_m()[0] + other.kind.size_m()[0]) / 2.0;
    let (gap, closing) = (one.at_m - other.at_m, one.speed_mps - other.speed_mps);
    if gap.abs() <= reach {
        return Some(0.0);
    }
    let second = (gap - reach * gap.signum()) / -closing;
    (0.0..=seconds).contains(&second).then_some(second)
}

/// Colours of cars as they are on the road: mostly white, grey, black; some blue and red.
const PAINTS: [[f32; 3]; 9] = [
    [0.80, 0.80, 0.78],
    [0.55, 0.56, 0.58],
    [0.30, 0.31, 0.33],
    [0.06, 0.06, 0.07],
    [0.08, 0.15, 0.42],
    [0.50, 0.05, 0.05],
    [0.62, 0.55, 0.40],
    [0.10, 0.28, 0.20],
    [0.75, 0.36, 0.05],
];

/// A part of a vehicle that drives to the right, its middle at x = 0: from, to along x; half width; from, to along z.
struct Part(f32, f32, f32, f32, f32, Surface);

fn park(
    solids: &mut Vec<Solid>,
    scene: &Scene,
    object: ObjectId,
    vehicle: &Vehicle,
    seconds: f64,
    random: &mut Random,
) {
    let picked = PAINTS.get((random.uniform() * PAINTS.len() as f32) as usize).copied().unwrap_or([0.5; 3]);
    // 8-bit colours are in sRGB, reflectances are linear.
    let paint = vehicle.colour.map_or(picked, |rgb| rgb.map(|value| (f32::from(value) / 255.0).powf(2.2)));
    let x = (vehicle.at_m + vehicle.speed_mps * seconds) as f32;
    let y = scene.street.lanes_y_m.get(vehicle.lane).copied().unwrap_or(0.0) as f32;
    // A parked vehicle looks where its lane goes: the near half to the right.
    let rightwards = match vehicle.speed_mps {
        0.0 => vehicle.lane < scene.street.lanes_y_m.len().div_ceil(2),
        speed => speed > 0.0,
    };
    let velocity = Vector::new(vehicle.speed_mps as f32, 0.0, 0.0);
    for Part(from, to, half, low, high, surface) in parts(vehicle.kind, paint) {
        let (from, to) = if rightwards { (from, to) } else { (-to, -from) };
        let bounds = Aabb::new(Vector::new(x + from, y - half, low), Vector::new(x + to, y + half, high));
        solids.push(Solid { velocity, ..Solid::upright(bounds, object, surface) });
    }
}

fn parts(kind: VehicleKind, paint: [f32; 3]) -> Vec<Part> {
    let [length, width, height] = kind.size_m().map(|metres| metres as f32);
    let (front, half) = (length / 2.0, width / 2.0);
    let body = Surface::Paint(paint);
    let mut parts = Vec::new();
    // A wheel stands 2 cm out of the body, so that it is what is seen.
    let mut wheels = |places: &[f32], radius: f32| {
        for place in places {
            parts.push(Part(place - radius, place + radius, half + 0.02, 0.0, 2.0 * radius, Surface::Wheel));
        }
    };
    match kind {
        VehicleKind::Car => {
            wheels(&[-1.35, 1.35], 0.33);
            parts.push(Part(-front, front, half, 0.28, 0.88, body));
            parts.push(Part(-front + 0.25, 0.95, half - 0.12, 0.88, height - 0.1, Surface::Glass));
            parts.push(Part(-front + 0.45, 0.45, half - 0.12, height - 0.1, height, body));
            // The pillars between the windows.
            parts.push(Part(-0.35, -0.22, half - 0.11, 0.88, height - 0.1, body));
            parts.push(Part(front - 0.06, front + 0.02, half - 0.1, 0.6, 0.74, Surface::Lamp));
            parts.push(Part(-front - 0.02, -front + 0.06, half - 0.1, 0.62, 0.78, Surface::TailLamp));
        }
        VehicleKind::Van => {
            wheels(&[-1.7, 1.7], 0.36);
            parts.push(Part(-front, front - 1.0, half, 0.32, height, body));
            parts.push(Part(front - 1.0, front, half, 0.32, 1.25, body));
            parts.push(Part(front - 1.0, front - 0.55, half - 0.1, 1.25, height - 0.25, Surface::Glass));
            parts.push(Part(front - 1.9, front - 1.0, half + 0.01, 1.3, height - 0.35, Surface::Glass));
            parts.push(Part(front - 0.05, front + 0.02, half - 0.1, 0.7, 0.9, Surface::Lamp));
            parts.push(Part(-front - 0.02, -front + 0.05, half - 0.02, 0.8, 1.2, Surface::TailLamp));
        }
        VehicleKind::Truck => {
            wheels(&[-front + 1.2, -front + 2.5, front - 1.4], 0.5);
            let cab = front - 2.2;
            parts.push(Part(-front, cab - 0.5, half, 1.05, height, body));
            parts.push(Part(-front, front - 0.2, half - 0.2, 0.5, 1.05, Surface::Chassis));
            parts.push(Part(cab, front, half - 0.05, 0.5, 3.0, Surface::Paint([0.42, 0.04, 0.03])));
            parts.push(Part(cab + 0.9, front - 0.25, half - 0.03, 1.7, 2.6, Surface::Glass));
            parts.push(Part(front - 0.2, front + 0.02, half - 0.2, 1.7, 2.7, Surface::Glass));
            parts.push(Part(front - 0.05, front + 0.03, half - 0.2, 0.75, 0.95, Surface::Lamp));
            parts.push(Part(-front - 0.02, -front + 0.05, half - 0.1, 0.85, 1.05, Surface::TailLamp));
        }
        VehicleKind::Bus => {
            wheels(&[-front + 3.0, front - 2.6], 0.48);
            let band = Surface::Windows { colour: paint, from_z: 1.05 };
            parts.push(Part(-front, front, half, 0.3, height, band));
            parts.push(Part(front - 0.05, front + 0.02, half - 0.15, 0.6, 0.85, Surface::Lamp));
            parts.push(Part(-front - 0.02, -front + 0.05, half - 0.1, 0.8, 1.1, Surface::TailLamp));
        }
    }
    parts
}

/// Plaster and brick.
const PLASTERS: [[f32; 3]; 6] = [
    [0.62, 0.55, 0.42],
    [0.50, 0.24, 0.16],
    [0.66, 0.64, 0.60],
    [0.55, 0.42, 0.30],
    [0.40, 0.45, 0.48],
    [0.68, 0.58, 0.36],
];

struct Builder {
    next: u32,
    solids: Vec<Solid>,
}

impl Builder {
    fn object(&mut self) -> ObjectId {
        self.next += 1;
        ObjectId(self.next - 1)
    }

    fn push(&mut self, object: ObjectId, mins: [f32; 3], maxs: [f32; 3], surface: Surface) {
        let bounds = Aabb::new(Vector::from(mins), Vector::from(maxs));
        self.solids.push(Solid::upright(bounds, object, surface));
    }

    /// A row of houses, wall to wall but for an alley now and then.
    fn buildings(&mut self, street: &Street, seed: u64) -> Vec<Facade> {
        let mut random = Random::new(seed, 0, 0, Purpose::Buildings);
        let (end, front) = (street.half_length_m as f32, street.facade_y_m as f32);
        let mut facades = Vec::new();
        let (mut x, mut last) = (-end, usize::MAX);
        while x < end {
            let to = x + random.between(9.0, 17.0);
            let height = 3.2 * random.between(2.0, 5.0).floor() + 1.6;
            let mut style = (random.uniform() * PLASTERS.len() as f32) as usize;
            if style == last {
                style = (style + 1) % PLASTERS.len();
            }
            last = style;
            let colour = PLASTERS.get(style).copied().unwrap_or([0.5; 3]);
            let y = front + if random.uniform() < 0.3 { 1.0 } else { 0.0 };
            let object = self.object();
            let surface = Surface::Facade { colour, number: object.0 };
            self.push(object, [x, y, 0.0], [to, y + 12.0, height], surface);
            // The cornice.
            let trim = Surface::Paint(colour.map(|part| part * 0.7));
            self.push(object, [x, y - 0.25, height], [to, y + 12.0, height + 0.35], trim);
            facades.push(Facade { from_x: x, to_x: to, y, height });
            x = to + if random.uniform() < 0.25 { random.between(2.0, 4.0) } else { 0.0 };
        }
        facades
    }

    fn trees_and_poles(&mut self, street: &Street, seed: u64) {
        let mut random = Random::new(seed, 1, 0, Purpose::Buildings);
        let kerb = street.lanes_y_m.last().map_or(0.0, |y| y + street.lane_width_m / 2.0) as f32;
        let (end, spacing) = (street.half_length_m as f32, street.tree_spacing_m as f32);
        let y = kerb + 1.3;
        let mut x = -end;
        while spacing > 0.0 && x < end {
            let place = x + random.between(-1.0, 1.0);
            let (trunk, crown) = (random.between(2.4, 3.0), random.between(1.2, 1.6));
            let tree = self.object();
            self.push(
                tree,
                [place - 0.13, y - 0.13, 0.0],
                [place + 0.13, y + 0.13, trunk + 0.5],
                Surface::Bark,
            );
            // A crown in three sizes of boxes looks rounder than one.
            for (wide, low, high) in [(0.75, 0.0, 0.7), (1.0, 0.5, 1.9), (0.65, 1.7, 2.6)] {
                let half = crown * wide;
                self.push(
                    tree,
                    [place - half, y - half, trunk + low],
                    [place + half, y + half, trunk + high],
                    Surface::Leaves,
                );
            }
            let (pole, post) = (self.object(), place + spacing / 2.0);
            self.push(pole, [post - 0.07, y - 0.57, 0.0], [post + 0.07, y - 0.43, 6.5], Surface::Pole);
            self.push(pole, [post - 0.1, y - 1.9, 6.4], [post + 0.1, y - 0.4, 6.55], Surface::Pole);
            x += spacing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        let truck = Vehicle { kind: VehicleKind::Truck, at_m: -3.0, speed_mps: 10.0, ..Vehicle::default() };
        let traffic = Traffic {
            seconds: 5.0,
            ue: Vehicle { lane: 3, at_m: 5.0, speed_mps: -2.0, ..Vehicle::default() },
            vehicles: vec![truck],
            weather: None,
        };
        Scene { sequence: vec![traffic], ..Scene::default() }
    }

    #[test]
    fn a_vehicle_drives_and_keeps_its_size() {
        let scene = scene();
        let bounds = World::new(&scene).at(&scene, 0, 0.5).bounds(ObjectId::vehicle(0)).unwrap();
        let size = bounds.maxs - bounds.mins;
        assert!((bounds.center().x - 2.0).abs() < 0.05, "{bounds:?}");
        assert!(
            (size.x - 11.0).abs() < 0.1 && (size.y - 2.54).abs() < 0.1 && (size.z - 3.8).abs() < 1e-4,
            "{size}"
        );
        assert_eq!(bounds.mins.z, 0.0);
    }

    #[test]
    fn the_antenna_stands_clear_of_its_own_roof() {
        let scene = scene();
        let caster = World::new(&scene).at(&scene, 0, 4.0);
        let antenna = antenna(&scene, &scene.sequence[0], 4.0);
        assert_eq!(antenna.x, -3.0);
        assert!(caster.is_free(Vector::new(0.0, 0.0, 3.5), antenna));
        assert!(!caster.is_free(Vector::new(0.0, 0.0, 3.5), antenna - Vector::Z * 0.5));
    }

    #[test]
    fn vehicles_of_a_lane_meet_or_do_not() {
        let car = |at_m: f64, speed_mps: f64| Vehicle { at_m, speed_mps, ..Vehicle::default() };
        assert_eq!(meeting(&car(0.0, 1.0), &car(10.0, 1.0), 100.0), None);
        assert_eq!(meeting(&car(0.0, 2.0), &car(14.4, 1.0), 20.0), Some(10.0));
        assert_eq!(meeting(&car(14.4, 1.0), &car(0.0, 2.0), 20.0), Some(10.0));
        assert_eq!(meeting(&car(0.0, 2.0), &car(14.4, 1.0), 9.0), None);
        assert_eq!(meeting(&car(0.0, 0.0), &car(4.0, 0.0), 1.0), Some(0.0));
    }
}
