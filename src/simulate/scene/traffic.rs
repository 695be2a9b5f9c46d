//! Words for what moves: vehicles and people, where they come from, what they do, and which of them is served.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::street::check_place;
use super::{Footprint, LaneKind, MOST_REPEATS, MOST_ROWS, Scene, Weather};
use crate::config::Problem;
use crate::config::load::within;
use crate::simulate::traffic::{Track, tracks};
use crate::simulate::world::standing;

/// `[[sequence]]`: one stretch of traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Its length, seconds.
    pub seconds: f64,
    /// How often it is recorded, each time with other traffic out of the flows; each is a sequence of its own.
    pub repeat: usize,
    /// Who is served: a table, or an array of tables; left out, those of the scene.
    #[serde(deserialize_with = "one_or_many")]
    pub ue: Vec<Vehicle>,
    /// Who is there when it begins, besides those who come by themselves.
    pub vehicles: Vec<Vehicle>,
    /// Who comes by itself; left out, as the scene says.
    pub flow: Option<Vec<Flow>>,
    /// The weather, where it is not that of the scene.
    pub weather: Option<Weather>,
    /// What fails.
    pub faults: Faults,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            repeat: 1,
            ue: Vec::new(),
            vehicles: Vec::new(),
            flow: None,
            weather: None,
            faults: Faults::default(),
        }
    }
}

/// `faults` of a sequence: probabilities per frame, and shares of windows, 0…1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// That there is no image.
    pub camera_drop: f64,
    /// That there is no radar cube.
    pub radar_drop: f64,
    /// That there is no cloud.
    pub lidar_drop: f64,
    /// That there are no powers.
    pub link_drop: f64,
    /// That another radar interferes.
    pub radar_interference: f64,
    /// That there are no positions.
    #[serde(skip_serializing_if = "is_zero")]
    pub position_drop: f64,
    /// Share of the camera's window under dirt: see [`camera`](crate::simulate::camera).
    #[serde(skip_serializing_if = "is_zero")]
    pub camera_soiling: f64,
    /// Share of the azimuths of the LiDAR's window under dirt, through which next to nothing comes back.
    #[serde(skip_serializing_if = "is_zero")]
    pub lidar_soiling: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// A vehicle or a person, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vehicle {
    /// What it is.
    pub kind: VehicleKind,
    /// Which of its kind; left out, the plainest.
    pub look: Option<Look>,
    /// Its lane, counted from 0.
    pub lane: usize,
    /// Where its middle is when the sequence begins, metres. On a straight lane from the place abreast of the unit,
    /// positive to the right (towards +x), so that it is x on a lane along x; on a lane with bends from its first point.
    pub at_m: f64,
    /// Its velocity when the sequence begins, m/s, with the sign of the direction in which `at_m` grows; 0 standing.
    pub speed_mps: f64,
    /// How fast it would like to drive, m/s; left out, as fast as when the sequence begins.
    pub desired_mps: Option<f64>,
    /// Its paint or coat, red, green, blue, 0…255; left out, chosen by the seed.
    pub colour: Option<[u8; 3]>,
    /// Whether it changes lanes when that gets it on.
    pub lane_changes: bool,
    /// Where it stops, in the order of its way.
    pub stops: Vec<Stop>,
    /// Where it stands, off the lanes: x, y, metres. `lane` and `at_m` mean nothing then.
    pub place_m: Option<[f64; 2]>,
    /// Where it looks when it stands off the lanes, degrees counter-clockwise from the x axis.
    pub yaw_deg: f64,
    /// Height of a UE's antenna above the ground, metres; left out, 0.15 m above the roof, or the head.
    pub antenna_m: Option<f64>,
}

/// A stop on the way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// Where its middle stands, metres along the lane as in [`Vehicle::at_m`].
    pub at_m: f64,
    /// How long it stands, seconds.
    pub seconds: f64,
    /// Probability that it stops at all.
    pub chance: f64,
}

impl Default for Stop {
    fn default() -> Self {
        Self { at_m: 0.0, seconds: 10.0, chance: 1.0 }
    }
}

/// `[[flow]]`: those who come by themselves, at random (Poisson), at the beginning of a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flow {
    /// The lanes that they come on, each at this rate.
    pub lanes: Vec<usize>,
    /// Arrivals per minute and lane.
    pub per_minute: f64,
    /// What they are.
    pub mix: Mix,
    /// Mean of the speed that they would like to drive, m/s; left out, by the limit of the lane and their kind.
    pub desired_mps: Option<f64>,
    /// Whether they change lanes when that gets them on.
    pub lane_changes: bool,
    /// Where they stop.
    pub stops: Vec<Stop>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            per_minute: 6.0,
            mix: Mix::default(),
            desired_mps: None,
            lane_changes: true,
            stops: Vec::new(),
        }
    }
}

/// Shares of the kinds, of any sum; all 0, as is usual on the lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Cars.
    pub car: f64,
    /// Vans.
    pub van: f64,
    /// Trucks.
    pub truck: f64,
    /// Buses.
    pub bus: f64,
    /// Cyclists.
    pub cyclist: f64,
    /// Pedestrians.
    pub pedestrian: f64,
}

impl Mix {
    /// The shares by kind; what is usual on such a lane where none is stated.
    #[must_use]
    pub fn shares(&self, lane: LaneKind) -> [(VehicleKind, f64); 6] {
        let usual = match lane {
            LaneKind::Road => Self { car: 0.78, van: 0.12, truck: 0.07, bus: 0.03, ..Self::default() },
            LaneKind::Cycle => Self { cyclist: 1.0, ..Self::default() },
            LaneKind::Walk | LaneKind::Crossing => Self { pedestrian: 1.0, ..Self::default() },
        };
        let stated = self.listed();
        if stated.iter().all(|(_, share)| *share == 0.0) { usual.listed() } else { stated }
    }

    const fn listed(&self) -> [(VehicleKind, f64); 6] {
        [
            (VehicleKind::Car, self.car),
            (VehicleKind::Van, self.van),
            (VehicleKind::Truck, self.truck),
            (VehicleKind::Bus, self.bus),
            (VehicleKind::Cyclist, self.cyclist),
            (VehicleKind::Pedestrian, self.pedestrian),
        ]
    }
}

/// What a vehicle is; it sets its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VehicleKind {
    /// 4.4 × 1.8 × 1.45 m.
    #[default]
    Car,
    /// 5.4 × 2.0 × 2.4 m.
    Van,
    /// 11.0 × 2.5 × 3.8 m.
    Truck,
    /// 12.0 × 2.55 × 3.1 m.
    Bus,
    /// 1.75 × 0.6 × 1.75 m.
    Cyclist,
    /// 0.5 × 0.55 × 1.75 m.
    Pedestrian,
    /// A mast on three legs, which carries an antenna: 0.6 × 0.6 × 1.5 m.
    Tripod,
}

impl VehicleKind {
    /// Length, width and height, metres.
    #[must_use]
    pub const fn size_m(self) -> [f64; 3] {
        match self {
            Self::Car => [4.4, 1.8, 1.45],
            Self::Van => [5.4, 2.0, 2.4],
            Self::Truck => [11.0, 2.5, 3.8],
            Self::Bus => [12.0, 2.55, 3.1],
            Self::Cyclist => [1.75, 0.6, 1.75],
            Self::Pedestrian => [0.5, 0.55, 1.75],
            Self::Tripod => [0.6, 0.6, 1.5],
        }
    }

    /// Its looks, the plainest first, each with its length, width and height in metres.
    #[must_use]
    pub const fn looks(self) -> &'static [(Look, [f64; 3])] {
        match self {
            Self::Car => &[
                (Look::Saloon, [4.4, 1.8, 1.45]),
                (Look::Hatchback, [3.95, 1.74, 1.5]),
                (Look::Estate, [4.65, 1.82, 1.5]),
                (Look::Suv, [4.6, 1.88, 1.72]),
                (Look::Pickup, [5.2, 1.88, 1.8]),
            ],
            Self::Van => &[(Look::Panel, [5.4, 2.0, 2.4]), (Look::Minibus, [5.9, 2.0, 2.5])],
            Self::Truck => &[
                (Look::Box, [11.0, 2.5, 3.8]),
                (Look::Tanker, [10.5, 2.5, 3.5]),
                (Look::Flatbed, [9.0, 2.5, 3.1]),
            ],
            Self::Bus => &[(Look::City, [12.0, 2.55, 3.1]), (Look::Coach, [12.6, 2.55, 3.55])],
            Self::Cyclist => &[(Look::Bicycle, [1.75, 0.6, 1.75])],
            Self::Pedestrian => &[(Look::Walker, [0.5, 0.55, 1.75])],
            Self::Tripod => &[(Look::Mast, [0.6, 0.6, 1.5])],
        }
    }

    /// Whether it may be on a lane.
    #[must_use]
    pub const fn fits(self, lane: LaneKind) -> bool {
        match self {
            Self::Pedestrian => lane.is_walked(),
            Self::Cyclist => !lane.is_walked(),
            Self::Car | Self::Van | Self::Truck | Self::Bus => matches!(lane, LaneKind::Road),
            Self::Tripod => false,
        }
    }

    /// As a scene file has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Van => "van",
            Self::Truck => "truck",
            Self::Bus => "bus",
            Self::Cyclist => "cyclist",
            Self::Pedestrian => "pedestrian",
            Self::Tripod => "tripod",
        }
    }
}

/// What a vehicle of a kind looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// A car with a boot.
    Saloon,
    /// A short car.
    Hatchback,
    /// A car with a long roof.
    Estate,
    /// A high car.
    Suv,
    /// A car with a load bed.
    Pickup,
    /// A van without windows behind the driver.
    Panel,
    /// A van with windows.
    Minibus,
    /// A truck with a box body.
    Box,
    /// A truck with a tank.
    Tanker,
    /// A truck with an open bed, loaded.
    Flatbed,
    /// A bus with low windows.
    City,
    /// A bus with high windows.
    Coach,
    /// Someone on a bicycle.
    Bicycle,
    /// Someone on foot.
    Walker,
    /// A tripod.
    Mast,
}

/// A table, or an array of tables.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vehicle>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<Vehicle>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table or an array of tables")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Vehicle::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

pub(super) fn check_look(problems: &mut Vec<Problem>, key: &str, kind: VehicleKind, look: Option<Look>) {
    let looks = || kind.looks().iter().map(|(look, _)| *look);
    if let Some(look) = look.filter(|look| !looks().any(|one| one == *look)) {
        let allowed: Vec<String> = looks().map(|look| format!("{look:?}").to_lowercase()).collect();
        let message = format!(
            "found {}, allowed for a {} is {}",
            format!("{look:?}").to_lowercase(),
            kind.name(),
            allowed.join(" or ")
        );
        problems.push(Problem { key: format!("{key}.look"), message });
    }
}

fn check_stops(problems: &mut Vec<Problem>, key: &str, stops: &[Stop]) {
    within(problems, &format!("{key}.stops"), stops.len(), 0, 20);
    for (at, stop) in stops.iter().enumerate() {
        within(problems, &format!("{key}.stops.{at}.at_m"), stop.at_m, -2000.0, 2000.0);
        within(problems, &format!("{key}.stops.{at}.seconds"), stop.seconds, 0.0, 3600.0);
        within(problems, &format!("{key}.stops.{at}.chance"), stop.chance, 0.0, 1.0);
    }
}

impl Flow {
    fn check(&self, scene: &Scene, key: &str, problems: &mut Vec<Problem>) {
        let lanes = scene.lanes();
        within(problems, &format!("{key}.lanes"), self.lanes.len(), 1, 100);
        within(problems, &format!("{key}.per_minute"), self.per_minute, 0.0, 120.0);
        if let Some(speed) = self.desired_mps {
            within(problems, &format!("{key}.desired_mps"), speed, 0.3, 60.0);
        }
        for (kind, share) in self.mix.listed() {
            within(problems, &format!("{key}.mix.{}", kind.name()), share, 0.0, 1e6);
        }
        check_stops(problems, key, &self.stops);
        for &number in &self.lanes {
            let Some(lane) = lanes.get(number) else {
                within(problems, &format!("{key}.lanes"), number, 0, lanes.len().saturating_sub(1));
                continue;
            };
            for (kind, _) in self.mix.shares(lane.kind).iter().filter(|(_, share)| *share > 0.0) {
                check_fit(problems, &format!("{key}.mix.{}", kind.name()), *kind, number, lane.kind);
            }
        }
    }
}

fn check_fit(problems: &mut Vec<Problem>, key: &str, kind: VehicleKind, number: usize, lane: LaneKind) {
    if !kind.fits(lane) {
        let message = format!(
            "found a {} on lane {number}, which is a {lane:?}; allowed are pedestrians on walk and crossing, cyclists on cycle and road, the others on road",
            kind.name()
        );
        problems.push(Problem { key: key.to_owned(), message });
    }
}

impl Vehicle {
    fn check(&self, scene: &Scene, key: &str, problems: &mut Vec<Problem>) {
        check_look(problems, key, self.kind, self.look);
        check_stops(problems, key, &self.stops);
        within(problems, &format!("{key}.speed_mps"), self.speed_mps, -60.0, 60.0);
        within(problems, &format!("{key}.yaw_deg"), self.yaw_deg, -360.0, 360.0);
        if let Some(speed) = self.desired_mps {
            within(problems, &format!("{key}.desired_mps"), speed, 0.0, 60.0);
        }
        if let Some(height) = self.antenna_m {
            within(problems, &format!("{key}.antenna_m"), height, 0.2, 30.0);
        }
        if let Some(place) = self.place_m {
            check_place(problems, &format!("{key}.place_m"), place);
            if self.speed_mps != 0.0 {
                let message = format!("found {}, allowed is 0 for what stands at place_m", self.speed_mps);
                problems.push(Problem { key: format!("{key}.speed_mps"), message });
            }
            return;
        }
        within(problems, &format!("{key}.at_m"), self.at_m, -2000.0, 2000.0);
        let lanes = scene.lanes();
        match lanes.get(self.lane) {
            Some(lane) => {
                let key = format!("{key}.{}", if self.kind == VehicleKind::Tripod { "kind" } else { "lane" });
                check_fit(problems, &key, self.kind, self.lane, lane.kind);
            }
            None => within(problems, &format!("{key}.lane"), self.lane, 0, lanes.len().saturating_sub(1)),
        }
    }

    /// Whether it drives the way that its lane goes, from a place that the lane has.
    fn check_on(&self, track: &Track, key: &str, problems: &mut Vec<Problem>) {
        if self.speed_mps * track.sign < 0.0 {
            let side = if track.sign > 0.0 { "right" } else { "left" };
            let message = format!("found {}, but lane {} drives to the {side}", self.speed_mps, self.lane);
            problems.push(Problem { key: format!("{key}.speed_mps"), message });
        }
        let ends = [track.stated(0.0), track.stated(track.path.length())];
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        within(problems, &format!("{key}.at_m"), self.at_m, low, high);
    }
}

/// Furthest from boresight, beyond the sector of the beams, that a UE is still in the field, degrees.
const MARGIN_DEG: f64 = 15.0;
/// Furthest away that a UE is still in the field, metres.
const REACH_M: f64 = 150.0;

/// How hard one who begins behind a slower one may have to brake, m/s².
const HARD: f64 = 6.0;

fn is_in_field(scene: &Scene, place: [f64; 2]) -> bool {
    let [x, y, _] = scene.link.position_m;
    let (across, ahead) = (place[0] - x, place[1] - y);
    let is_ahead = across.abs().atan2(ahead).to_degrees() <= scene.link.sector_deg + MARGIN_DEG;
    is_ahead && across.hypot(ahead) <= REACH_M
}

/// Whether a UE is in the field of the unit at some time of its sequence, on an empty street.
fn comes_into_field(scene: &Scene, tracks: &[Track], ue: &Vehicle, seconds: f64) -> bool {
    if let Some(place) = ue.place_m {
        return is_in_field(scene, place);
    }
    let Some(track) = tracks.get(ue.lane) else { return false };
    let from = track.along(ue.at_m);
    let way = ue.speed_mps.abs().max(ue.desired_mps.unwrap_or(0.0)) * seconds;
    let steps = (way.min(track.path.length()) / 0.5).ceil() as usize;
    let mut places = (0..=steps).map(|step| track.path.place(from + way.min(step as f64 * 0.5)).at);
    places.any(|place| is_in_field(scene, place))
}

pub(super) fn check(scene: &Scene, problems: &mut Vec<Problem>) {
    for (number, flow) in scene.flow.iter().enumerate() {
        flow.check(scene, &format!("flow.{number}"), problems);
    }
    for (number, ue) in scene.ue.iter().enumerate() {
        ue.check(scene, &format!("ue.{number}"), problems);
    }
    within(problems, "ue", scene.ue.len(), 0, 16);
    if problems.iter().all(|problem| problem.key != "sequence") {
        within(problems, "sequence", scene.sequence.len(), 1, 1000);
    }
    for (number, traffic) in scene.sequence.iter().enumerate() {
        check_sequence(scene, number, traffic, problems);
    }
    if problems.is_empty() && scene.all_rows() > MOST_ROWS {
        let message = format!("found {} rows in all, allowed are {MOST_ROWS} at most", scene.all_rows());
        problems.push(Problem { key: "sequence".to_owned(), message });
    }
    // What follows needs lanes that are whole.
    if !problems.is_empty() {
        return;
    }
    let tracks = tracks(scene);
    check_lanes_apart(scene, &tracks, problems);
    let standing = standing(scene, &tracks);
    for (name, footprint) in &standing {
        let Some(number) = lane_under(&tracks, footprint) else { continue };
        let [x, y] = footprint.at;
        let (key, found) = match name.strip_prefix("building.") {
            Some(_) => (name.as_str(), "it"),
            None if name.contains("parked") => ("parked", name.as_str()),
            None => ("street", name.as_str()),
        };
        let message =
            format!("found {found} on lane {number} at ({x:.1}, {y:.1}), allowed is a place beside lanes");
        problems.push(Problem { key: key.to_owned(), message });
    }
    for (number, traffic) in scene.sequence.iter().enumerate() {
        check_start(scene, &tracks, number, traffic, &standing, problems);
    }
}

fn check_sequence(scene: &Scene, number: usize, traffic: &Traffic, problems: &mut Vec<Problem>) {
    let key = |rest: &str| format!("sequence.{number}.{rest}");
    if let Some(weather) = &traffic.weather {
        weather.check(&key("weather"), problems);
    }
    // A rate that is wrong is told once.
    let least = if scene.rate_hz > 0.0 { 1.0 / scene.rate_hz } else { 0.0 };
    within(problems, &key("seconds"), traffic.seconds, least, 3600.0);
    within(problems, &key("repeat"), traffic.repeat, 1, MOST_REPEATS);
    within(problems, &key("ue"), traffic.ue.len(), 0, 16);
    within(problems, &key("vehicles"), traffic.vehicles.len(), 0, 200);
    let Faults {
        camera_drop,
        radar_drop,
        lidar_drop,
        link_drop,
        radar_interference,
        position_drop,
        camera_soiling,
        lidar_soiling,
    } = traffic.faults;
    for (name, value) in [
        ("camera_drop", camera_drop),
        ("radar_drop", radar_drop),
        ("lidar_drop", lidar_drop),
        ("link_drop", link_drop),
        ("radar_interference", radar_interference),
        ("position_drop", position_drop),
        ("camera_soiling", camera_soiling),
        ("lidar_soiling", lidar_soiling),
    ] {
        within(problems, &key(&format!("faults.{name}")), value, 0.0, 1.0);
    }
    for (at, flow) in traffic.flow.iter().flatten().enumerate() {
        flow.check(scene, &key(&format!("flow.{at}")), problems);
    }
    for (at, ue) in traffic.ue.iter().enumerate() {
        ue.check(scene, &key(&format!("ue.{at}")), problems);
    }
    for (at, vehicle) in traffic.vehicles.iter().enumerate() {
        vehicle.check(scene, &key(&format!("vehicles.{at}")), problems);
    }
}

fn check_lanes_apart(scene: &Scene, tracks: &[Track], problems: &mut Vec<Problem>) {
    for (number, one) in tracks.iter().enumerate() {
        for (other_number, other) in tracks.iter().enumerate().take(number) {
            let may_cross = one.kind == LaneKind::Crossing
                || other.kind == LaneKind::Crossing
                || (one.kind.is_walked() && other.kind.is_walked());
            // 10 cm on each other is bad drawing, not a junction.
            let least = (one.width + other.width) / 2.0 - 0.1;
            let mut places = one.path.walk(1.0);
            let touching = |(along, left): (f64, f64)| {
                (0.0..=other.path.length()).contains(&along) && left.abs() < least
            };
            if may_cross {
                continue;
            }
            let found = places.find(|(_, place)| {
                let [along, left] = other.path.project(place.at);
                touching((along, left))
            });
            if let Some((_, place)) = found {
                let key = match number.checked_sub(scene.street.lanes_y_m.len()) {
                    Some(own) => format!("lane.{own}.points_m"),
                    None => "street.lanes_y_m".to_owned(),
                };
                let message = format!(
                    "found a place ({:.1}, {:.1}) on lane {other_number}, allowed are lanes side by side, which only a crossing crosses",
                    place.at[0], place.at[1]
                );
                problems.push(Problem { key, message });
            }
        }
    }
}

fn check_start(
    scene: &Scene,
    tracks: &[Track],
    number: usize,
    traffic: &Traffic,
    standing: &[(String, Footprint)],
    problems: &mut Vec<Problem>,
) {
    let before = problems.len();
    let ues = scene.ues(traffic);
    let ue_key = |at: usize| {
        if traffic.ue.is_empty() && !scene.ue.is_empty() {
            format!("ue.{at}")
        } else {
            format!("sequence.{number}.ue.{at}")
        }
    };
    let vehicles = traffic.vehicles.iter().enumerate();
    let named: Vec<(String, &Vehicle)> = (ues.iter().enumerate())
        .map(|(at, one)| (ue_key(at), one))
        .chain(vehicles.map(|(at, one)| (format!("sequence.{number}.vehicles.{at}"), one)))
        .collect();
    let on_lanes: Vec<&(String, &Vehicle)> = named.iter().filter(|(_, one)| one.place_m.is_none()).collect();
    for (key, vehicle) in on_lanes.iter().copied() {
        match tracks.get(vehicle.lane) {
            Some(track) => vehicle.check_on(track, key, problems),
            None => within(problems, &format!("{key}.lane"), vehicle.lane, 0, tracks.len().saturating_sub(1)),
        }
    }
    if problems.len() > before {
        return;
    }
    for (at, (key, one)) in on_lanes.iter().copied().enumerate() {
        let others = on_lanes.iter().take(at).filter(|(_, other)| other.lane == one.lane);
        for (other_key, other) in others {
            let apart = (one.at_m - other.at_m).abs();
            let least = (length(one) + length(other)) / 2.0;
            // Who is behind in the direction of the lane, and how fast both are.
            let sign = tracks.get(one.lane).map_or(1.0, |track| track.sign);
            let is_ahead = (one.at_m - other.at_m) * sign > 0.0;
            let (behind, ahead) = if is_ahead { (other, one) } else { (one, other) };
            let way = (behind.speed_mps.powi(2) - ahead.speed_mps.powi(2)).max(0.0) / (2.0 * HARD);
            if apart <= least + way {
                let message = format!(
                    "found {apart:.1} m from {other_key} when the sequence begins, allowed in one lane, at these speeds, is more than {:.1} m",
                    least + way
                );
                problems.push(Problem { key: key.clone(), message });
            }
        }
    }
    check_places(&named, tracks, standing, problems);
    for (at, ue) in ues.iter().enumerate() {
        if !comes_into_field(scene, tracks, ue, traffic.seconds) {
            let message = format!(
                "found a UE that is never before the unit, allowed is one that comes within ±{}° of boresight and {REACH_M} m during the sequence",
                scene.link.sector_deg + MARGIN_DEG
            );
            problems.push(Problem { key: ue_key(at), message });
        }
    }
}

/// The lane for vehicles on whose middle something stands.
fn lane_under(tracks: &[Track], footprint: &Footprint) -> Option<usize> {
    /// What of a lane a car needs, and how closely it is looked at, metres.
    const STRIP: [f64; 2] = [1.0, 1.6];
    let reach = footprint.size[0].hypot(footprint.size[1]) / 2.0 + STRIP[0] + STRIP[1];
    let stands_on = |track: &Track| {
        (0..=track.path.length() as usize).any(|metre| {
            let place = track.path.place(metre as f64);
            let [x, y] = [0, 1].map(|axis| place.at[axis] - footprint.at[axis]);
            let strip = Footprint { at: place.at, size: STRIP, yaw: place.heading };
            x.hypot(y) < reach && strip.overlaps(footprint)
        })
    };
    tracks.iter().position(|track| track.kind == LaneKind::Road && stands_on(track))
}

/// Whether everyone who stands off the lanes stands on ground that nobody else takes.
fn check_places(
    named: &[(String, &Vehicle)],
    tracks: &[Track],
    standing: &[(String, Footprint)],
    problems: &mut Vec<Problem>,
) {
    let placed: Vec<(&String, Footprint)> = (named.iter())
        .filter_map(|(key, one)| {
            let [length, width, _] = size(one);
            let at = one.place_m?;
            Some((key, Footprint { at, size: [length, width], yaw: one.yaw_deg.to_radians() }))
        })
        .collect();
    for (at, (key, own)) in placed.iter().enumerate() {
        let mut others = placed.iter().take(at);
        let other = others.find(|(_, other)| own.overlaps(other)).map(|(other, _)| format!("on {other}"));
        let thing =
            || standing.iter().find(|(_, other)| own.overlaps(other)).map(|(name, _)| format!("in {name}"));
        let lane = || lane_under(tracks, own).map(|number| format!("on lane {number}"));
        if let Some(found) = other.or_else(thing).or_else(lane) {
            let [x, y] = own.at;
            let message = format!("found ({x:.1}, {y:.1}) {found}, allowed is a place of its own");
            problems.push(Problem { key: format!("{key}.place_m"), message });
        }
    }
}

/// Its length, metres.
pub(in crate::simulate) fn length(vehicle: &Vehicle) -> f64 {
    size(vehicle)[0]
}

/// Length, width and height of one that is placed, metres.
pub(in crate::simulate) fn size(vehicle: &Vehicle) -> [f64; 3] {
    let looks = vehicle.kind.looks();
    looks
        .iter()
        .find(|(look, _)| Some(*look) == vehicle.look)
        .map_or(vehicle.kind.size_m(), |(_, size)| *size)
}
