//! What no sensor says: `truth.jsonl`, one JSON object per row. Tests and plots use it; no model reads it.
//!
//! ```json
//! {"row":1,"sequence":1,"frame":0,
//!  "captures_s":{"camera":0.0,"radar":0.0,"lidar":null,"link":0.0,"position":0.0},
//!  "ues":[{"unit":2,"object":1000000,"position_m":[..],"velocity_mps":[..],"line_of_sight":true,"blocked":false,
//!          "excess_db":0.1,"next_blockage_s":1.2,"best_beam":31,
//!          "useful":{"camera":true,"radar":true,"lidar":false,"position":true}}],
//!  "objects":[{"id":1000000,"kind":"car","centre":[..],"yaw":0.0,"size":[..],"velocity":[..],"moves":true,
//!              "image_box":[102.0,200.5,180.2,240.0]}]}
//! ```
//!
//! Places are in the unit frame, metres; an `image_box` is left, top, right, bottom in pixels, `null` out of sight;
//! `best_beam` is that of the powers without measurement noise, from 0; `next_blockage_s` is the time to the next row
//! whose line of sight is blocked, 0 while it is, `null` where the sequence ends before.
//!
//! A modality is *useful* for a UE when it has a sample in this row, something of what carries the UE is seen by it (rays
//! from the sensor to [`PROBES`]³ places of its box), and the weather leaves enough of it:
//!
//! * camera: at least [`LEAST_PIXELS`] pixels wide in the image, contrast above [`LEAST_CONTRAST`] after the haze
//!   (Koschmieder), and by night a lamp of its own or a street lamp within [`LAMP_REACH_M`];
//! * radar: in front of it and within the range of the cube, and no interference burst in this frame;
//! * LiDAR: at least [`LEAST_RETURNS`] beams on what is seen of it, and a surface of 20 % gives an echo through that air;
//! * position: a report.

use parry3d::math::{Pose, Rotation, Vector};
use serde::Serialize;

use super::camera;
use super::caster::Caster;
use super::channel::LinkState;
use super::plan::{Captures, Instance};
use super::scene::{Scene, VehicleKind};
use super::world::{Antenna, ObjectState, World};
use super::{lidar, place, radar};
use crate::space;

/// Rays along each side of an object's box.
pub const PROBES: usize = 3;
/// Of an object that a camera can tell.
pub const LEAST_PIXELS: f64 = 8.0;
/// Visual threshold of contrast, twice that of Koschmieder's law.
pub const LEAST_CONTRAST: f64 = 0.1;
/// How far a street lamp lights a person, metres.
pub const LAMP_REACH_M: f32 = 20.0;
/// Of an object that a LiDAR can tell.
pub const LEAST_RETURNS: f64 = 5.0;

/// A line of the file.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// As in the index, from 1.
    pub row: usize,
    /// As in the index, from 1.
    pub sequence: usize,
    /// Row of its sequence, from 0.
    pub frame: usize,
    /// When each stream looked, seconds since the sequence began; `null` without a sample.
    pub captures_s: Captures,
    /// The served users who are there.
    pub ues: Vec<Ue>,
    /// Everyone.
    pub objects: Vec<Seen>,
}

/// A served user.
#[derive(Clone, Debug, Serialize)]
pub struct Ue {
    /// As in the index: 2 is the first.
    pub unit: usize,
    /// What carries it.
    pub object: u32,
    /// Of its antenna.
    pub position_m: [f32; 3],
    /// Of its antenna.
    pub velocity_mps: [f32; 3],
    /// Whether nothing opaque cuts the straight line to it.
    pub line_of_sight: bool,
    /// Whether the excess loss reaches the scene's `link.blocked_db`.
    pub blocked: bool,
    /// Loss of the line of sight beyond free space and air, dB.
    pub excess_db: f64,
    /// Time to the next blocked row.
    pub next_blockage_s: Option<f64>,
    /// Strongest beam without measurement noise.
    pub best_beam: usize,
    /// Which sensors can tell it.
    pub useful: Useful,
}

/// Which modalities can tell a UE in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Useful {
    /// The camera.
    pub camera: bool,
    /// The radar.
    pub radar: bool,
    /// The LiDAR.
    pub lidar: bool,
    /// The UE's own report.
    pub position: bool,
}

/// An object, and where it is in the image.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// What and where it is.
    #[serde(flatten)]
    pub state: ObjectState,
    /// Left, top, right, bottom, pixels.
    pub image_box: Option<[f64; 4]>,
}

/// What is known of a row.
pub(super) struct Row<'a> {
    pub number: usize,
    pub at: Instance,
    pub captures: Captures,
    /// Of the UEs, in their order; empty for one who is not there.
    pub links: &'a [Option<LinkState>],
    /// Of the UEs, in their order.
    pub next_blockage_s: &'a [Option<f64>],
}

/// The line of a row.
pub(super) fn line(scene: &Scene, world: &World, row: &Row<'_>) -> Line {
    let sequence = row.at.sequence;
    let seconds = row.at.frame as f64 / scene.rate_hz;
    let caster = world.at(scene, sequence, seconds);
    let states = world.objects(sequence, seconds);
    let ues = world.antennas(sequence, seconds).into_iter().filter_map(|antenna| {
        let link = row.links.get(antenna.ue)?.as_ref()?;
        let carrier = states.iter().find(|state| state.id == antenna.object);
        Some(Ue {
            unit: antenna.ue + 2,
            object: antenna.object.0,
            position_m: antenna.position.to_array(),
            velocity_mps: antenna.velocity.to_array(),
            line_of_sight: link.is_line_of_sight,
            blocked: link.is_blocked,
            excess_db: (link.excess_db * 100.0).round() / 100.0,
            next_blockage_s: row.next_blockage_s.get(antenna.ue).copied().flatten(),
            best_beam: link.best_clean.0,
            useful: useful(scene, world, &caster, row, &antenna, carrier),
        })
    });
    let ues = ues.collect();
    let seen = |state: &ObjectState| Seen { state: *state, image_box: image_box(scene, state) };
    Line {
        row: row.number + 1,
        sequence: sequence + 1,
        frame: row.at.frame,
        captures_s: row.captures,
        ues,
        objects: states.iter().map(seen).collect(),
    }
}

/// Places of an object's box, `across` of them along each side.
fn places(state: &ObjectState, across: usize, reach: f32) -> impl Iterator<Item = Vector> + use<> {
    let pose = Pose::from_parts(Vector::from(state.centre), Rotation::from_rotation_z(state.yaw));
    let half = Vector::from(state.size) / 2.0 * reach;
    let share = move |at: usize| 2.0 * at as f32 / (across - 1) as f32 - 1.0;
    (0..across * across * across).map(move |at| {
        let (i, j, k) = (at % across, at / across % across, at / across / across);
        pose.transform_point(half * Vector::new(share(i), share(j), share(k)))
    })
}

/// The box around an object in the image, as far as it lies within.
#[must_use]
pub fn image_box(scene: &Scene, state: &ObjectState) -> Option<[f64; 4]> {
    let corners: Option<Vec<[f64; 2]>> =
        places(state, 2, 1.0).map(|at| camera::project(scene, at.to_array().map(f64::from))).collect();
    let corners = corners?;
    let span = |axis: usize, most: f64| {
        let values = corners.iter().map(|corner| corner[axis]);
        let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
        (low < most && high > 0.0).then_some((low.max(0.0), high.min(most)))
    };
    let (left, right) = span(0, f64::from(scene.camera.width))?;
    let (top, bottom) = span(1, f64::from(scene.camera.height))?;
    Some([left, top, right, bottom].map(|pixels| (pixels * 10.0).round() / 10.0))
}

/// Share of an object's box that is seen from a place.
fn seen_from(caster: &Caster, from: Vector, state: &ObjectState) -> f64 {
    let is_seen = |to: Vector| {
        let way = to - from;
        let length = way.length();
        caster.cast(from, way / length, length).is_none_or(|hit| hit.object == state.id)
    };
    let seen = places(state, PROBES, 0.9).filter(|&to| is_seen(to)).count();
    seen as f64 / (PROBES * PROBES * PROBES) as f64
}

fn useful(
    scene: &Scene,
    world: &World,
    caster: &Caster,
    row: &Row<'_>,
    antenna: &Antenna,
    carrier: Option<&ObjectState>,
) -> Useful {
    let position = row.captures.position.is_some();
    let Some(state) = carrier else {
        return Useful { camera: false, radar: false, lidar: false, position };
    };
    let weather = scene.weather(row.at.sequence);
    let place_of = |pose| place(&space::mount_to_unit(pose).translation.vector.into());
    let (eye, dish, head) =
        (place_of(&scene.pose.camera), place_of(&scene.pose.radar), place_of(&scene.pose.lidar));
    let middle = Vector::from(state.centre);
    let camera = || {
        let Some([left, _, right, _]) = image_box(scene, state) else { return false };
        let contrast = (-weather.extinction() * f64::from((middle - eye).length())).exp();
        let is_lit = !weather.lamps_burn()
            || !matches!(state.kind, VehicleKind::Pedestrian)
            || world.lamps().iter().any(|lamp| (*lamp - antenna.position).length() < LAMP_REACH_M);
        right - left >= LEAST_PIXELS
            && contrast > LEAST_CONTRAST
            && is_lit
            && seen_from(caster, eye, state) > 0.0
    };
    let lidar = || {
        let (beams, passes) = lidar::beams_on(&scene.lidar, weather, middle - head, state.size);
        passes && beams * seen_from(caster, head, state) >= LEAST_RETURNS
    };
    let radar = || {
        radar::covers(scene, middle)
            && !radar::is_disturbed(scene, row.at.sequence, row.at.frame, scene.interference(row.at.sequence))
            && seen_from(caster, dish, state) > 0.0
    };
    Useful {
        camera: row.captures.camera.is_some() && camera(),
        radar: row.captures.radar.is_some() && radar(),
        lidar: row.captures.lidar.is_some() && lidar(),
        position,
    }
}
