//! Words for what stands: lanes, lights, buildings, poles, trees, areas of the ground, parked vehicles.
//!
//! Places are in the unit frame: x to the right along the street, y across it away from the unit, metres, the unit at
//! the origin; yaw is counter-clockwise from the x axis, seen from above.

use serde::{Deserialize, Serialize};

use super::{Look, VehicleKind};
use crate::config::Problem;
use crate::config::load::within;

/// `[street]`: straight lanes along x, a row of buildings, trees and street lamps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Street {
    /// Middle of each lane, metres along y, ascending; the nearer half drives to the right. They have the numbers from
    /// 0, those of `[[lane]]` follow.
    pub lanes_y_m: Vec<f64>,
    /// Width of a lane, metres.
    pub lane_width_m: f64,
    /// Speed limit of these lanes, m/s.
    pub speed_limit_mps: f64,
    /// Front of the building row, metres along y; 0 for no row.
    pub facade_y_m: f64,
    /// The street is built up this far to both sides, metres along x; traffic comes from 60 m further out.
    pub half_length_m: f64,
    /// Distance between trees, and between street lamps, on the far pavement, metres; 0 for none.
    pub tree_spacing_m: f64,
}

impl Default for Street {
    fn default() -> Self {
        Self {
            lanes_y_m: vec![6.5, 10.0, 13.5, 17.0],
            lane_width_m: 3.5,
            speed_limit_mps: 13.9,
            facade_y_m: 25.0,
            half_length_m: 90.0,
            tree_spacing_m: 13.0,
        }
    }
}

/// What a lane is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneKind {
    /// For vehicles.
    #[default]
    Road,
    /// For cyclists.
    Cycle,
    /// For pedestrians, off the carriageway.
    Walk,
    /// For pedestrians across lanes of the other kinds: a zebra crossing, where they have priority.
    Crossing,
}

impl LaneKind {
    /// Whether pedestrians use it.
    #[must_use]
    pub const fn is_walked(self) -> bool {
        matches!(self, Self::Walk | Self::Crossing)
    }
}

/// `[[lane]]`: a lane of any course, driven from its first point to its last. Lanes of one direction that lie side by
/// side are neighbours, between which vehicles may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lane {
    /// What it is for.
    pub kind: LaneKind,
    /// Its middle line, [x, y] per point, metres.
    pub points_m: Vec<[f64; 2]>,
    /// Radius of the arc that rounds a corner, metres; smaller where the points are too close for it.
    pub corner_radius_m: f64,
    /// Metres.
    pub width_m: f64,
    /// m/s.
    pub speed_limit_mps: f64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            kind: LaneKind::Road,
            points_m: Vec::new(),
            corner_radius_m: 8.0,
            width_m: 3.5,
            speed_limit_mps: 13.9,
        }
    }
}

/// `[[light]]`: a traffic light; green, then red, for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Light {
    /// The lanes that it stops.
    pub lanes: Vec<usize>,
    /// Its stop line, metres along the lane, counted as a vehicle's `at_m`.
    pub at_m: f64,
    /// How long it is green, seconds.
    pub green_s: f64,
    /// How long it is red, seconds.
    pub red_s: f64,
    /// Seconds into its cycle when a sequence begins; left out, drawn per sequence.
    pub offset_s: Option<f64>,
}

impl Default for Light {
    fn default() -> Self {
        Self { lanes: Vec::new(), at_m: 0.0, green_s: 25.0, red_s: 20.0, offset_s: None }
    }
}

/// `[[building]]`: a box.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Building {
    /// Its middle, metres.
    pub at_m: [f64; 2],
    /// Width (along its front), depth and height, metres.
    pub size_m: [f64; 3],
    /// Direction of its width; at 0 the front faces the unit.
    pub yaw_deg: f64,
    /// Its plaster, red, green, blue, 0…255; left out, chosen by the seed.
    pub colour: Option<[u8; 3]>,
}

impl Default for Building {
    fn default() -> Self {
        Self { at_m: [0.0, 40.0], size_m: [15.0, 12.0, 10.0], yaw_deg: 0.0, colour: None }
    }
}

/// `[[pole]]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pole {
    /// Its foot, metres.
    pub at_m: [f64; 2],
    /// Metres.
    pub height_m: f64,
    /// Whether it carries a street lamp.
    pub lamp: bool,
    /// Where the arm of the lamp points.
    pub yaw_deg: f64,
    /// Length of the arm, metres.
    pub arm_m: f64,
}

impl Default for Pole {
    fn default() -> Self {
        Self { at_m: [0.0, 20.0], height_m: 6.5, lamp: true, yaw_deg: -90.0, arm_m: 1.4 }
    }
}

/// `[[tree]]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tree {
    /// Its foot, metres.
    pub at_m: [f64; 2],
    /// Metres.
    pub height_m: f64,
    /// Radius of its crown, metres.
    pub crown_m: f64,
}

impl Default for Tree {
    fn default() -> Self {
        Self { at_m: [0.0, 20.0], height_m: 5.0, crown_m: 1.4 }
    }
}

/// What an area is covered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cover {
    /// Slabs.
    #[default]
    Pavement,
    /// Grass.
    Grass,
    /// Asphalt.
    Asphalt,
}

/// `[[area]]`: a rectangle of the ground; a later one lies on an earlier one, lanes lie on all. Elsewhere is pavement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Area {
    /// What covers it.
    pub cover: Cover,
    /// From, to, metres.
    pub x_m: [f64; 2],
    /// From, to, metres.
    pub y_m: [f64; 2],
}

/// `[[bays]]`: a row of parking bays, marked on the ground, some of them taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bays {
    /// Middle of the first bay, metres.
    pub at_m: [f64; 2],
    /// Direction in which the bays follow each other.
    pub yaw_deg: f64,
    /// How many.
    pub count: usize,
    /// Width of a bay, along the row, metres.
    pub width_m: f64,
    /// Depth of a bay, across the row, metres.
    pub depth_m: f64,
    /// Share that is taken, 0…1; which ones, and by what, is drawn by the seed.
    pub taken: f64,
}

impl Default for Bays {
    fn default() -> Self {
        Self { at_m: [0.0, 10.0], yaw_deg: 0.0, count: 10, width_m: 2.6, depth_m: 5.0, taken: 0.7 }
    }
}

/// `[[parked]]`: a vehicle that stands for ever, or a thing of a vehicle's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parked {
    /// What it is.
    pub kind: VehicleKind,
    /// Which of its kind.
    pub look: Option<Look>,
    /// Its middle, metres.
    pub at_m: [f64; 2],
    /// Where it looks.
    pub yaw_deg: f64,
    /// Its paint, red, green, blue, 0…255; left out, chosen by the seed.
    pub colour: Option<[u8; 3]>,
}

/// A place of the scene: no further than 1 km from the unit.
pub(super) fn check_place(problems: &mut Vec<Problem>, key: &str, place: [f64; 2]) {
    for metres in place {
        within(problems, key, metres, -1000.0, 1000.0);
    }
}

impl Street {
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let lanes = &self.lanes_y_m;
        within(problems, "street.lanes_y_m", lanes.len(), 0, 12);
        within(problems, "street.lane_width_m", self.lane_width_m, 2.6, 10.0);
        within(problems, "street.speed_limit_mps", self.speed_limit_mps, 1.0, 60.0);
        if !lanes.windows(2).all(|pair| matches!(pair, [a, b] if b - a >= self.lane_width_m)) {
            let message = format!(
                "found {lanes:?}, allowed are ascending places at least street.lane_width_m ({} m) apart",
                self.lane_width_m
            );
            problems.push(Problem { key: "street.lanes_y_m".to_owned(), message });
        }
        for &y in lanes {
            within(problems, "street.lanes_y_m", y, 3.0, 100.0);
        }
        let kerb = lanes.last().map_or(3.0, |y| y + self.lane_width_m / 2.0);
        if self.facade_y_m != 0.0 {
            within(problems, "street.facade_y_m", self.facade_y_m, kerb + 2.0, 200.0);
        }
        within(problems, "street.half_length_m", self.half_length_m, 20.0, 500.0);
        // One tree per metre at most, and none at 0.
        if self.tree_spacing_m != 0.0 {
            within(problems, "street.tree_spacing_m", self.tree_spacing_m, 1.0, 1000.0);
        }
    }
}

impl Lane {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        within(problems, &format!("{key}.points_m"), self.points_m.len(), 2, 200);
        for &point in &self.points_m {
            check_place(problems, &format!("{key}.points_m"), point);
        }
        let is_short = |pair: &[[f64; 2]]| matches!(pair, [a, b] if (a[0] - b[0]).hypot(a[1] - b[1]) < 1.0);
        if self.points_m.windows(2).any(is_short) {
            let message = "found two points less than 1 m apart, allowed are points further apart";
            problems.push(Problem { key: format!("{key}.points_m"), message: message.to_owned() });
        }
        within(problems, &format!("{key}.corner_radius_m"), self.corner_radius_m, 0.5, 500.0);
        let narrowest = if self.kind == LaneKind::Road { 2.6 } else { 0.8 };
        within(problems, &format!("{key}.width_m"), self.width_m, narrowest, 10.0);
        within(problems, &format!("{key}.speed_limit_mps"), self.speed_limit_mps, 1.0, 60.0);
    }
}

impl Light {
    pub(super) fn check(&self, key: &str, lanes: usize, problems: &mut Vec<Problem>) {
        within(problems, &format!("{key}.lanes"), self.lanes.len(), 1, 100);
        for &lane in &self.lanes {
            within(problems, &format!("{key}.lanes"), lane, 0, lanes.saturating_sub(1));
        }
        within(problems, &format!("{key}.at_m"), self.at_m, -1000.0, 1000.0);
        within(problems, &format!("{key}.green_s"), self.green_s, 1.0, 3600.0);
        within(problems, &format!("{key}.red_s"), self.red_s, 1.0, 3600.0);
        if let Some(offset) = self.offset_s {
            within(problems, &format!("{key}.offset_s"), offset, 0.0, 7200.0);
        }
    }
}

impl Building {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        check_place(problems, &format!("{key}.at_m"), self.at_m);
        for metres in self.size_m {
            within(problems, &format!("{key}.size_m"), metres, 0.1, 300.0);
        }
        within(problems, &format!("{key}.yaw_deg"), self.yaw_deg, -360.0, 360.0);
    }
}

impl Pole {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        check_place(problems, &format!("{key}.at_m"), self.at_m);
        within(problems, &format!("{key}.height_m"), self.height_m, 0.5, 40.0);
        within(problems, &format!("{key}.yaw_deg"), self.yaw_deg, -360.0, 360.0);
        within(problems, &format!("{key}.arm_m"), self.arm_m, 0.1, 10.0);
    }
}

impl Tree {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        check_place(problems, &format!("{key}.at_m"), self.at_m);
        within(problems, &format!("{key}.crown_m"), self.crown_m, 0.2, 10.0);
        within(problems, &format!("{key}.height_m"), self.height_m, self.crown_m + 0.5, 40.0);
    }
}

impl Area {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        for (name, [from, to]) in [("x_m", self.x_m), ("y_m", self.y_m)] {
            within(problems, &format!("{key}.{name}"), from, -1000.0, 1000.0);
            within(problems, &format!("{key}.{name}"), to, from, 1000.0);
        }
    }
}

impl Bays {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        check_place(problems, &format!("{key}.at_m"), self.at_m);
        within(problems, &format!("{key}.yaw_deg"), self.yaw_deg, -360.0, 360.0);
        within(problems, &format!("{key}.count"), self.count, 1, 200);
        within(problems, &format!("{key}.width_m"), self.width_m, 2.2, 10.0);
        within(problems, &format!("{key}.depth_m"), self.depth_m, 4.0, 30.0);
        within(problems, &format!("{key}.taken"), self.taken, 0.0, 1.0);
    }
}

impl Parked {
    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        check_place(problems, &format!("{key}.at_m"), self.at_m);
        within(problems, &format!("{key}.yaw_deg"), self.yaw_deg, -360.0, 360.0);
        super::traffic::check_look(problems, key, self.kind, self.look);
    }
}
