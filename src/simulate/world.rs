//! The world: what stands on the street, and who moves on it.
//!
//! [`World`] is built once per scene. [`World::at`] gives the world of a sequence at an instant: the traffic of a
//! sequence is simulated when it is first asked for, and kept. The unit frame has x to the right along the street, y
//! across it, z up, 0 on the ground; metres.

use std::sync::{Arc, OnceLock};

use parry3d::math::{Pose, Rotation, Vector};
use serde::Serialize;

use super::caster::{Caster, Solids};
use super::random::{Purpose, Random, mix};
use super::scene::{Footprint, Scene, Vehicle, VehicleKind};
use super::solid::{ObjectId, Shape, Solid, Surface};
use super::traffic::{Run, Sample, Track, tracks};

mod parts;
mod site;

use site::Site;

/// A flat upright piece that mirrors waves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reflector {
    /// Its middle, metres.
    pub centre: Vector,
    /// Away from what it belongs to, horizontal, length 1.
    pub normal: Vector,
    /// Along it, horizontal, length 1.
    pub along: Vector,
    /// Half its width, metres.
    pub half_width: f32,
    /// Half its height, metres.
    pub half_height: f32,
    /// What it belongs to.
    pub object: ObjectId,
    /// What it is made of.
    pub surface: Surface,
}

impl Reflector {
    /// The four sides of an upright box.
    fn sides(pose: Pose, half: Vector, object: ObjectId, surface: Surface) -> [Self; 4] {
        let side = |normal: Vector, off: f32, along: Vector, half_width: f32| {
            let normal = pose.transform_vector(normal);
            Self {
                centre: pose.translation + normal * off,
                normal,
                along: pose.transform_vector(along),
                half_width,
                half_height: half.z,
                object,
                surface,
            }
        };
        [
            side(-Vector::Y, half.y, Vector::X, half.x),
            side(Vector::X, half.x, Vector::Y, half.y),
            side(Vector::Y, half.y, -Vector::X, half.x),
            side(-Vector::X, half.x, -Vector::Y, half.y),
        ]
    }

    /// The flat sides of a part of a large vehicle; none of a car, whose sides are low and round.
    fn of_vehicle(solid: &Solid) -> Vec<Self> {
        match (solid.shape, solid.surface) {
            (Shape::Cuboid(half), Surface::Paint(_) | Surface::Windows { .. })
                if half.x >= 1.0 && half.z >= 0.7 =>
            {
                Self::sides(solid.pose, half, solid.object, solid.surface).to_vec()
            }
            _ => Vec::new(),
        }
    }
}

/// The antenna of a served user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Antenna {
    /// Whose, by its place in the scene file.
    pub ue: usize,
    /// Metres.
    pub position: Vector,
    /// m/s.
    pub velocity: Vector,
    /// Who carries it.
    pub object: ObjectId,
}

/// A vehicle or a person at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ObjectState {
    /// Its number.
    #[serde(serialize_with = "number")]
    pub id: ObjectId,
    /// What it is.
    pub kind: VehicleKind,
    /// Middle of its box, metres.
    pub centre: [f32; 3],
    /// Where it looks, counter-clockwise from the x axis, radians.
    pub yaw: f32,
    /// Length, width and height of its box, metres.
    pub size: [f32; 3],
    /// m/s.
    pub velocity: [f32; 3],
    /// Whether it moves at more than 0.1 m/s.
    pub moves: bool,
}

fn number<S: serde::Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(id.0)
}

/// What stands, and the traffic of each sequence.
#[derive(Clone, Debug)]
pub struct World {
    scene: Arc<Scene>,
    tracks: Arc<Vec<Track>>,
    still: Arc<Solids>,
    site: Arc<Site>,
    runs: Arc<Vec<OnceLock<Run>>>,
}

/// Height of a UE's antenna above what carries it, where none is stated, metres.
const ANTENNA_M: f64 = 0.15;
/// A person holds an antenna that is not on the head this far before the body, metres.
const HELD_M: f32 = 0.35;
/// Beyond this distance from the unit nothing that moves is built, metres.
const REACH_M: f64 = 170.0;

impl World {
    /// Builds what stands.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let tracks = tracks(scene);
        let mut site = Site::new(scene, &tracks);
        let still = Solids::new(std::mem::take(&mut site.solids));
        Self {
            scene: Arc::new(scene.clone()),
            tracks: Arc::new(tracks),
            still: Arc::new(still),
            site: Arc::new(site),
            runs: Arc::new((0..scene.sequences()).map(|_| OnceLock::new()).collect()),
        }
    }

    /// The heads of the street lamps, metres.
    #[must_use]
    pub fn lamps(&self) -> &[Vector] {
        &self.site.lamps
    }

    /// Everyone of a sequence, `seconds` after its beginning.
    fn samples(&self, sequence: usize, seconds: f64) -> impl Iterator<Item = Sample> + '_ {
        let run = self
            .runs
            .get(sequence)
            .map(|run| run.get_or_init(|| Run::new(&self.scene, &self.tracks, sequence)));
        let is_near = |sample: &Sample| sample.at[0].hypot(sample.at[1]) < REACH_M;
        run.into_iter().flat_map(move |run| run.at(&self.tracks, seconds)).filter(is_near)
    }

    /// The world of a sequence, `seconds` after its beginning.
    #[must_use]
    pub fn at(&self, scene: &Scene, sequence: usize, seconds: f64) -> Caster {
        let mut moving = Vec::new();
        for sample in self.samples(sequence, seconds) {
            solids(&sample, scene.seed, sequence, &mut moving);
        }
        Caster::new(self.still.clone(), Solids::new(moving))
    }

    /// The world without traffic.
    #[must_use]
    pub fn empty(&self) -> Caster {
        Caster::new(self.still.clone(), Solids::new(Vec::new()))
    }

    /// The antennas of the served users who are there, in their order.
    #[must_use]
    pub fn antennas(&self, sequence: usize, seconds: f64) -> Vec<Antenna> {
        let ues = self.scene.traffic(sequence).map(|traffic| self.scene.ues(traffic)).unwrap_or_default();
        let mut found: Vec<Antenna> = self
            .samples(sequence, seconds)
            .filter_map(|sample| {
                let ue = (0..ues.len()).find(|&ue| ObjectId::ue(ue) == sample.who.id)?;
                Some(antenna(&sample, ue, ues.get(ue)?))
            })
            .collect();
        found.sort_by_key(|antenna| antenna.ue);
        found
    }

    /// What mirrors waves in the world at an instant: sides of buildings and of large vehicles.
    #[must_use]
    pub fn reflectors(&self, caster: &Caster) -> Vec<Reflector> {
        let moving = caster.moving().iter().flat_map(Reflector::of_vehicle);
        self.site.reflectors.iter().copied().chain(moving).collect()
    }

    /// Every vehicle and person of a sequence at an instant, those who are parked for ever included.
    #[must_use]
    pub fn objects(&self, sequence: usize, seconds: f64) -> Vec<ObjectState> {
        self.site.parked.iter().copied().chain(self.traffic(sequence, seconds)).collect()
    }

    /// The vehicles and people of a sequence at an instant, those included who stand for a while or are served where they
    /// stand.
    pub fn traffic(&self, sequence: usize, seconds: f64) -> impl Iterator<Item = ObjectState> {
        self.samples(sequence, seconds).map(|sample| state(&sample))
    }
}

/// What stands for ever and takes ground, and what a message calls it.
pub(super) fn standing(scene: &Scene, tracks: &[Track]) -> Vec<(String, Footprint)> {
    let buildings = scene.building.iter().enumerate().map(|(number, building)| {
        let [width, depth, _] = building.size_m;
        let yaw = building.yaw_deg.to_radians();
        (format!("building.{number}"), Footprint { at: building.at_m, size: [width, depth], yaw })
    });
    let site = Site::new(scene, tracks);
    let row = site.row.iter().map(|&[from, to, front, back]| {
        let at = [from + to, front + back].map(|sum| f64::from(sum) / 2.0);
        let size = [to - from, back - front].map(f64::from);
        ("a building of the street".to_owned(), Footprint { at, size, yaw: 0.0 })
    });
    let parked = site.parked.iter().map(|state| {
        let [x, y, _] = state.centre.map(f64::from);
        let [length, width, _] = state.size.map(f64::from);
        let footprint = Footprint { at: [x, y], size: [length, width], yaw: f64::from(state.yaw) };
        (format!("a parked {}", state.kind.name()), footprint)
    });
    let stems = site.stems().map(|(name, bounds)| {
        let (middle, size) = (bounds.center(), bounds.extents());
        let [at, size] = [middle, size].map(|vector| [f64::from(vector.x), f64::from(vector.y)]);
        (name.to_owned(), Footprint { at, size, yaw: 0.0 })
    });
    buildings.chain(row).chain(parked).chain(stems).collect()
}

/// 8-bit colours are in sRGB, reflectances are linear.
fn linear(rgb: [u8; 3]) -> [f32; 3] {
    rgb.map(|value| (f32::from(value) / 255.0).powf(2.2))
}

/// Where one is, as a pose that takes its own axes into the unit frame.
fn pose(sample: &Sample) -> Pose {
    let [x, y] = sample.at.map(|metres| metres as f32);
    Pose::from_parts(Vector::new(x, y, 0.0), Rotation::from_rotation_z(sample.heading as f32))
}

fn velocity(sample: &Sample) -> Vector {
    let [x, y] = sample.velocity.map(|speed| speed as f32);
    Vector::new(x, y, 0.0)
}

fn antenna(sample: &Sample, ue: usize, vehicle: &Vehicle) -> Antenna {
    let top = f64::from(sample.who.size[2]);
    let height = vehicle.antenna_m.unwrap_or(top + ANTENNA_M);
    let is_held = sample.who.kind == VehicleKind::Pedestrian && height < top;
    let place = Vector::new(if is_held { HELD_M } else { 0.0 }, 0.0, height as f32);
    let pose = pose(sample);
    let turning = Vector::Z * sample.turning as f32;
    Antenna {
        ue,
        position: pose.transform_point(place),
        velocity: velocity(sample) + turning.cross(pose.transform_vector(place)),
        object: sample.who.id,
    }
}

fn state(sample: &Sample) -> ObjectState {
    let size = sample.who.size;
    let [x, y] = sample.at.map(|metres| metres as f32);
    let velocity = velocity(sample);
    ObjectState {
        id: sample.who.id,
        kind: sample.who.kind,
        centre: [x, y, size[2] / 2.0],
        yaw: sample.heading as f32,
        size,
        velocity: velocity.to_array(),
        moves: velocity.length() > 0.1,
    }
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

/// Of vans, trucks and buses.
const LIVERIES: [[f32; 3]; 7] = [
    [0.78, 0.78, 0.76],
    [0.75, 0.75, 0.72],
    [0.60, 0.38, 0.05],
    [0.05, 0.16, 0.38],
    [0.45, 0.05, 0.04],
    [0.08, 0.26, 0.12],
    [0.42, 0.44, 0.46],
];

/// Of coats.
const COATS: [[f32; 3]; 8] = [
    [0.05, 0.05, 0.06],
    [0.35, 0.05, 0.05],
    [0.06, 0.12, 0.30],
    [0.55, 0.54, 0.50],
    [0.50, 0.40, 0.05],
    [0.08, 0.22, 0.10],
    [0.22, 0.20, 0.18],
    [0.45, 0.20, 0.30],
];

/// The shapes of one, where it is.
fn solids(sample: &Sample, seed: u64, sequence: usize, into: &mut Vec<Solid>) {
    let mut random = Random::new(seed, sequence, sample.who.id.0 as usize, Purpose::Paint);
    let paints: &[[f32; 3]] = match sample.who.kind {
        VehicleKind::Car => &PAINTS,
        VehicleKind::Van | VehicleKind::Truck | VehicleKind::Bus => &LIVERIES,
        VehicleKind::Cyclist | VehicleKind::Pedestrian | VehicleKind::Tripod => &COATS,
    };
    let drawn = paints.get((random.uniform() * paints.len() as f32) as usize).copied().unwrap_or([0.5; 3]);
    let paint = sample.who.colour.map_or(drawn, linear);
    let salt = (mix(u64::from(sample.who.id.0) ^ (seed << 32)) >> 48) as u32;
    let pose = pose(sample);
    let (velocity, turning) = (velocity(sample), Vector::Z * sample.turning as f32);
    into.extend(parts::parts(sample, paint, salt).into_iter().map(|part| {
        let from_middle = pose.transform_vector(part.pose.translation);
        Solid {
            shape: part.shape,
            pose: pose * part.pose,
            object: sample.who.id,
            surface: part.surface,
            velocity: velocity + turning.cross(from_middle) + pose.transform_vector(part.velocity),
            spin: turning + pose.transform_vector(part.spin),
        }
    }));
}

#[cfg(test)]
mod tests;
