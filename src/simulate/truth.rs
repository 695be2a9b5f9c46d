//! What no sensor says: `truth.jsonl`, one JSON object per row. Tests and plots use it; no model reads it.
//!
//! ```json
//! {"row":1,"sequence":1,"frame":0,
//!  "captures_s":{"camera":0.0,"radar":0.0,"lidar":null,"link":0.0,"position":0.0},
//!  "ues":[{"unit":2,"object":1000000,"position_m":[..],"velocity_mps":[..],"line_of_sight":true,"blocked":false,
//!          "excess_db":0.1,"next_blockage_s":1.2,"best_beam":31,
//!          "useful":{"camera":true,"radar":true,"lidar":false,"link":true,"position":true}}],
//!  "objects":[{"id":1000000,"kind":"car","centre":[..],"yaw":0.0,"size":[..],"velocity":[..],"moves":true,
//!              "image_box":[102.0,200.5,180.2,240.0]}]}
//! ```
//!
//! Places are in the unit frame, metres; an `image_box` is left, top, right, bottom in pixels, `null` out of sight;
//! `best_beam` is that of the powers without measurement noise, from 0; `next_blockage_s` is the time to the next row
//! whose line of sight is blocked, 0 while it is, `null` where the sequence ends before.
//!
//! A modality is *useful* for a UE when it has a sample in this row, and that sample tells what carries the UE. Each is
//! judged at the time at which it looks (`captures_s`), where everything else in a line is as it is at the row's time:
//!
//! * camera: at least [`LEAST_PIXELS`] pixels of the image see it and differ from what is behind it, by 10 of 255 and by two
//!   standard deviations of the noise. The picture is made coarsely for that, with it and without it, of the same light,
//!   air, lens, dirt and exposure: night, lamps, fog, the veil of the sun, a soiled window, other things before it and its
//!   size all count. Where few tell it, every one is counted. 10, two and 64 are choices;
//! * radar: it is before the radar and within the range of the cube, a ray to one of [`PROBES`]³ places of its box gets
//!   there, and no interference burst is in this frame;
//! * LiDAR: at least [`LEAST_RETURNS`] returns of the cloud come from it, of the very beams of the scan: weather, a soiled
//!   window, losses and other things before it count;
//! * link: a report of powers;
//! * position: a report.

use std::sync::Arc;

use parry3d::math::{Pose, Rotation, Vector};
use serde::Serialize;

use super::camera::{self, Background};
use super::caster::Caster;
use super::channel::LinkState;
use super::plan::{Captures, Instance};
use super::scene::Scene;
use super::solid::ObjectId;
use super::world::{ObjectState, World};
use super::{lidar, place, radar};
use crate::space;

/// Rays along each side of an object's box.
pub const PROBES: usize = 3;
/// Of an object that a camera can tell.
pub const LEAST_PIXELS: usize = 64;
/// Of an object that a LiDAR can tell.
pub const LEAST_RETURNS: usize = 5;

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
    /// The UE's report of powers.
    pub link: bool,
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
pub(super) fn line(scene: &Scene, world: &World, background: &Background, row: &Row<'_>) -> Line {
    let sequence = row.at.sequence;
    let seconds = row.at.frame as f64 / scene.rate_hz;
    let states = world.objects(sequence, seconds);
    let looks = Looks::new(scene, world, background, row);
    let ues = world.antennas(sequence, seconds).into_iter().filter_map(|antenna| {
        let link = row.links.get(antenna.ue)?.as_ref()?;
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
            useful: looks.useful(antenna.object),
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

/// Whether something of an object's box is seen from a place.
fn is_seen_from(caster: &Caster, from: Vector, state: &ObjectState) -> bool {
    let is_seen = |to: Vector| {
        let way = to - from;
        let length = way.length();
        caster.cast(from, way / length, length).is_none_or(|hit| hit.object == state.id)
    };
    places(state, PROBES, 0.9).any(is_seen)
}

/// What a sensor looks at.
struct Look {
    caster: Caster,
    states: Vec<ObjectState>,
}

/// What the sensors of a row look at, each at its time; `None` for one that has no sample.
struct Looks<'a> {
    scene: &'a Scene,
    background: &'a Background,
    at: Instance,
    camera: Option<Arc<Look>>,
    radar: Option<Arc<Look>>,
    lidar: Option<Arc<Look>>,
    link: bool,
    position: bool,
}

impl<'a> Looks<'a> {
    fn new(scene: &'a Scene, world: &World, background: &'a Background, row: &Row<'_>) -> Self {
        let (at, captures) = (row.at, row.captures);
        // Most sensors look at the same time.
        let mut known: Vec<(f64, Arc<Look>)> = Vec::new();
        let mut look = |seconds: Option<f64>| {
            let seconds = seconds?;
            if let Some((_, look)) = known.iter().find(|(of, _)| *of == seconds) {
                return Some(look.clone());
            }
            let caster = world.at(scene, at.sequence, seconds);
            let states = world.traffic(at.sequence, seconds).collect();
            let look = Arc::new(Look { caster, states });
            known.push((seconds, look.clone()));
            Some(look)
        };
        Self {
            scene,
            background,
            at,
            camera: look(captures.camera),
            radar: look(captures.radar),
            lidar: look(captures.lidar),
            link: captures.link.is_some(),
            position: captures.position.is_some(),
        }
    }

    fn useful(&self, object: ObjectId) -> Useful {
        let of = |look: &'_ Option<Arc<Look>>, tells: &dyn Fn(&Caster, &ObjectState) -> bool| {
            let look = look.as_ref();
            look.is_some_and(|look| {
                let state = look.states.iter().find(|state| state.id == object);
                state.is_some_and(|state| tells(&look.caster, state))
            })
        };
        Useful {
            camera: of(&self.camera, &|caster, _| self.is_pictured(caster, object)),
            radar: of(&self.radar, &|caster, state| self.is_echoed(caster, state)),
            lidar: of(&self.lidar, &|caster, state| self.is_scanned(caster, state)),
            link: self.link,
            position: self.position,
        }
    }

    fn is_pictured(&self, caster: &Caster, object: ObjectId) -> bool {
        self.background.sight(self.scene, caster, self.at.sequence, object) >= LEAST_PIXELS
    }

    fn is_scanned(&self, caster: &Caster, state: &ObjectState) -> bool {
        let (middle, size) = (Vector::from(state.centre), Vector::from(state.size));
        // Wheels and mirrors stand out of the box a little.
        let reach = size.length() / 2.0 + 0.3;
        lidar::returns_on(self.scene, caster, self.at, state.id, middle, reach) >= LEAST_RETURNS
    }

    fn is_echoed(&self, caster: &Caster, state: &ObjectState) -> bool {
        let (scene, Instance { sequence, frame }) = (self.scene, self.at);
        let dish = place(&space::mount_to_unit(&scene.pose.radar).translation.vector.into());
        radar::covers(scene, Vector::from(state.centre))
            && !radar::is_disturbed(scene, sequence, frame, scene.interference(sequence))
            && is_seen_from(caster, dish, state)
    }
}
