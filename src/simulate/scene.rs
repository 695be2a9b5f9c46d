//! A scene file, typed: the street, its traffic, and the sensors that watch it.
//!
//! `[site]`, `[pose.*]`, `[radar]` and `[codebook]` are those of a pipeline file, word for word, so that a pipeline that
//! reads the recording can repeat them. Every key has a default; [`load`] reports everything that is wrong at once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::world;
use crate::config::load::{check_space, parse_checked, within};
use crate::config::{Codebook, ConfigError, Pose, Poses, Problem, Radar, Site};

mod weather;

pub use weather::Weather;

/// Everything that a recording is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scene {
    /// Seed of every random number: noise, and the look of the buildings.
    pub seed: u64,
    /// Rows per second, Hz.
    pub rate_hz: f64,
    /// Where the origin of the unit frame stands: on the ground, at the foot of the mast.
    pub site: Site,
    /// Sensor poses in the unit frame.
    pub pose: Poses,
    /// What the radar's numbers mean.
    pub radar: Radar,
    /// The unit's beams.
    pub codebook: Codebook,
    /// Image and lens.
    pub camera: Camera,
    /// Rings and columns.
    pub lidar: Lidar,
    /// Shape and noise of the radar cube.
    pub cube: Cube,
    /// The 60 GHz link.
    pub link: Link,
    /// Satellite receivers.
    pub gps: Gps,
    /// Light, rain, fog and air.
    pub weather: Weather,
    /// The street.
    pub street: Street,
    /// Stretches of traffic, one after the other.
    pub sequence: Vec<Traffic>,
}

impl Default for Scene {
    fn default() -> Self {
        let pose = |z: f64, pitch_deg: f64| Pose { position_m: [0.0, 0.0, z], pitch_deg, ..Pose::default() };
        Self {
            seed: 1,
            rate_hz: 10.0,
            site: Site { latitude: 0.0, longitude: 0.0, altitude_m: 0.0, heading_deg: 0.0 },
            pose: Poses { camera: pose(4.0, -8.0), radar: pose(2.5, 0.0), lidar: pose(4.2, -8.0) },
            radar: Radar::default(),
            codebook: Codebook {
                id: "simulated-64".to_owned(),
                beams: Some(64),
                circular: false,
                peaks_deg: None,
            },
            camera: Camera::default(),
            lidar: Lidar::default(),
            cube: Cube::default(),
            link: Link::default(),
            gps: Gps::default(),
            weather: Weather::default(),
            street: Street::default(),
            sequence: Vec::new(),
        }
    }
}

/// `[camera]`: a pinhole with square pixels, the principal point in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Camera {
    /// Columns, pixels.
    pub width: u32,
    /// Rows, pixels.
    pub height: u32,
    /// Horizontal field of view, degrees.
    pub fov_deg: f64,
    /// Each pixel is the mean of n × n rays.
    pub rays: u32,
    /// JPEG quality, 1…100.
    pub quality: u8,
    /// Standard deviation of the sensor's noise, steps of 1/255.
    pub noise: f64,
}

impl Default for Camera {
    fn default() -> Self {
        Self { width: 640, height: 360, fov_deg: 95.0, rays: 2, quality: 88, noise: 1.5 }
    }
}

/// `[lidar]`: rings of equal elevation steps over a horizontal field of view, like an Ouster OS1-32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lidar {
    /// Rings.
    pub rings: usize,
    /// Columns over the field of view.
    pub columns: usize,
    /// Horizontal field of view, degrees, half to each side of boresight.
    pub fov_deg: f64,
    /// Elevation of the lowest ring, degrees.
    pub lowest_deg: f64,
    /// Elevation of the highest ring, degrees.
    pub highest_deg: f64,
    /// Longest range, metres.
    pub max_range_m: f64,
    /// Standard deviation of the range, metres.
    pub range_noise_m: f64,
    /// Share of returns that get lost whatever they hit.
    pub dropout: f64,
}

impl Default for Lidar {
    fn default() -> Self {
        Self {
            rings: 32,
            columns: 512,
            fov_deg: 120.0,
            lowest_deg: -22.5,
            highest_deg: 22.5,
            max_range_m: 90.0,
            range_noise_m: 0.02,
            dropout: 0.02,
        }
    }
}

/// `[cube]`: complex64 (rx, samples, chirps).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cube {
    /// Receive antennas.
    pub receivers: usize,
    /// Samples per chirp.
    pub samples: usize,
    /// Chirps per frame.
    pub chirps: usize,
    /// Standard deviation of the receiver noise per sample, against 1 for 1 m² at 10 m.
    pub noise: f64,
}

impl Default for Cube {
    fn default() -> Self {
        Self { receivers: 4, samples: 256, chirps: 64, noise: 0.3 }
    }
}

/// `[link]`: a uniform linear array along x at the unit, one antenna at the UE.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Middle of the array in the unit frame, metres.
    pub position_m: [f64; 3],
    /// Carrier, Hz.
    pub carrier_hz: f64,
    /// Elements, half a wavelength apart.
    pub elements: usize,
    /// Peaks of the beams are uniform from − this to + this, degrees, positive to the right, beam 0 leftmost.
    pub sector_deg: f64,
    /// Power of the best beam with a free line of sight at 10 m, linear; the unit of the power files.
    pub power_at_10_m: f64,
    /// Power without a signal, in the same unit.
    pub floor: f64,
    /// Standard deviation of a power reading, dB.
    pub noise_db: f64,
    /// Loss of a reflection from a facade, dB.
    pub reflection_db: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            position_m: [0.0, 0.0, 3.5],
            carrier_hz: 60e9,
            elements: 16,
            sector_deg: 45.0,
            power_at_10_m: 0.6,
            floor: 0.008,
            noise_db: 0.15,
            reflection_db: 9.0,
        }
    }
}

/// `[gps]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gps {
    /// Standard deviation of the UE's position, metres, in each horizontal direction.
    pub noise_m: f64,
}

impl Default for Gps {
    fn default() -> Self {
        Self { noise_m: 0.5 }
    }
}

/// `[street]`: straight, along x, in front of the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Street {
    /// Middle of each lane, metres along y, ascending.
    pub lanes_y_m: Vec<f64>,
    /// Width of a lane, metres.
    pub lane_width_m: f64,
    /// Front of the building row, metres along y.
    pub facade_y_m: f64,
    /// The street reaches this far to both sides, metres along x.
    pub half_length_m: f64,
    /// Distance between trees on the far pavement, metres; 0 for none.
    pub tree_spacing_m: f64,
}

impl Default for Street {
    fn default() -> Self {
        Self {
            lanes_y_m: vec![6.5, 10.0, 13.5, 17.0],
            lane_width_m: 3.5,
            facade_y_m: 25.0,
            half_length_m: 90.0,
            tree_spacing_m: 13.0,
        }
    }
}

/// `[[sequence]]`: one stretch of traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Its length, seconds.
    pub seconds: f64,
    /// The car whose roof carries the UE's antenna.
    pub ue: Vehicle,
    /// Everyone else.
    pub vehicles: Vec<Vehicle>,
    /// The weather, where it is not that of the scene.
    pub weather: Option<Weather>,
}

/// A vehicle and how it drives: at constant speed, in the middle of its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vehicle {
    /// What it is.
    pub kind: VehicleKind,
    /// Its lane, counted from 0, the nearest.
    pub lane: usize,
    /// Where its middle is when the sequence begins, metres along x.
    pub at_m: f64,
    /// Its velocity along x, m/s: positive to the right, 0 parked.
    pub speed_mps: f64,
    /// Its paint, red, green, blue, 0…255; left out, chosen by the seed.
    pub colour: Option<[u8; 3]>,
}

/// What a vehicle is; it sets its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
        }
    }
}

impl Scene {
    /// Rows of a sequence.
    #[must_use]
    pub fn rows(&self, traffic: &Traffic) -> usize {
        (traffic.seconds * self.rate_hz).round() as usize
    }

    /// The weather of a sequence.
    #[must_use]
    pub fn weather(&self, sequence: usize) -> &Weather {
        self.sequence.get(sequence).and_then(|traffic| traffic.weather.as_ref()).unwrap_or(&self.weather)
    }

    /// Number of beams.
    #[must_use]
    pub fn beams(&self) -> usize {
        self.codebook.beams.unwrap_or(64)
    }
}

/// Reads and checks a scene file.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(path: &Path) -> Result<Scene, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem { key: String::new(), message: format!("cannot read the scene: {error}") }],
    })?;
    parse(path, &text)
}

/// Parses and checks the text of a scene file; `path` only names it in errors.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn parse(path: &Path, text: &str) -> Result<Scene, ConfigError> {
    parse_checked(path, text, check)
}

fn check(scene: &Scene, problems: &mut Vec<Problem>) {
    within(problems, "rate_hz", scene.rate_hz, 0.1, 100.0);
    check_space(Some(&scene.site), &scene.pose, &scene.radar, problems);
    within(problems, "codebook.beams", scene.beams(), 2, 1024);
    check_sensors(scene, problems);
    scene.weather.check("weather", problems);
    let street = &scene.street;
    let lanes = &street.lanes_y_m;
    within(problems, "street.lanes_y_m", lanes.len(), 1, 12);
    within(problems, "street.lane_width_m", street.lane_width_m, 2.6, 10.0);
    if !lanes.windows(2).all(|pair| matches!(pair, [a, b] if b - a >= street.lane_width_m)) {
        let message = format!(
            "found {lanes:?}, allowed are ascending places at least street.lane_width_m ({} m) apart",
            street.lane_width_m
        );
        problems.push(Problem { key: "street.lanes_y_m".to_owned(), message });
    }
    for &y in lanes {
        within(problems, "street.lanes_y_m", y, 3.0, 100.0);
    }
    let kerb = lanes.last().map_or(3.0, |y| y + street.lane_width_m / 2.0);
    within(problems, "street.facade_y_m", street.facade_y_m, kerb + 2.0, 200.0);
    within(problems, "street.half_length_m", street.half_length_m, 20.0, 500.0);
    within(problems, "street.tree_spacing_m", street.tree_spacing_m, 0.0, 1000.0);
    within(problems, "sequence", scene.sequence.len(), 1, 1000);
    for (number, traffic) in scene.sequence.iter().enumerate() {
        check_traffic(scene, number, traffic, problems);
    }
}

fn check_sensors(scene: &Scene, problems: &mut Vec<Problem>) {
    let Scene { camera, lidar, cube, link, gps, .. } = scene;
    within(problems, "camera.width", camera.width, 16, 4096);
    within(problems, "camera.height", camera.height, 16, 4096);
    within(problems, "camera.fov_deg", camera.fov_deg, 5.0, 150.0);
    within(problems, "camera.rays", camera.rays, 1, 4);
    within(problems, "camera.quality", camera.quality, 1, 100);
    within(problems, "camera.noise", camera.noise, 0.0, 50.0);
    within(problems, "lidar.rings", lidar.rings, 1, 256);
    within(problems, "lidar.columns", lidar.columns, 1, 4096);
    within(problems, "lidar.fov_deg", lidar.fov_deg, 1.0, 360.0);
    within(problems, "lidar.lowest_deg", lidar.lowest_deg, -90.0, 90.0);
    within(problems, "lidar.highest_deg", lidar.highest_deg, lidar.lowest_deg, 90.0);
    within(problems, "lidar.max_range_m", lidar.max_range_m, 1.0, 500.0);
    within(problems, "lidar.range_noise_m", lidar.range_noise_m, 0.0, 1.0);
    within(problems, "lidar.dropout", lidar.dropout, 0.0, 1.0);
    within(problems, "cube.receivers", cube.receivers, 1, scene.radar.angle_bins.min(64));
    within(problems, "cube.samples", cube.samples, 2, 4096);
    within(problems, "cube.chirps", cube.chirps, 1, 4096);
    within(problems, "cube.noise", cube.noise, 0.0, 1e6);
    for metres in link.position_m {
        within(problems, "link.position_m", metres, -1000.0, 1000.0);
    }
    within(problems, "link.carrier_hz", link.carrier_hz, 1e9, 1e12);
    within(problems, "link.elements", link.elements, 1, 256);
    within(problems, "link.sector_deg", link.sector_deg, 1.0, 89.0);
    within(problems, "link.power_at_10_m", link.power_at_10_m, 1e-12, 1e12);
    within(problems, "link.floor", link.floor, 0.0, 1e12);
    within(problems, "link.noise_db", link.noise_db, 0.0, 10.0);
    within(problems, "link.reflection_db", link.reflection_db, 0.0, 200.0);
    within(problems, "gps.noise_m", gps.noise_m, 0.0, 100.0);
}

fn check_traffic(scene: &Scene, number: usize, traffic: &Traffic, problems: &mut Vec<Problem>) {
    let before = problems.len();
    let key = |rest: &str| format!("sequence.{number}.{rest}");
    if let Some(weather) = &traffic.weather {
        weather.check(&key("weather"), problems);
    }
    within(problems, &key("seconds"), traffic.seconds, 1.0 / scene.rate_hz, 3600.0);
    within(problems, &key("vehicles"), traffic.vehicles.len(), 0, 200);
    let named: Vec<(String, &Vehicle)> = std::iter::once((key("ue"), &traffic.ue))
        .chain(traffic.vehicles.iter().enumerate().map(|(at, one)| (key(&format!("vehicles.{at}")), one)))
        .collect();
    for (name, vehicle) in &named {
        let last = scene.street.lanes_y_m.len().saturating_sub(1);
        within(problems, &format!("{name}.lane"), vehicle.lane, 0, last);
        within(problems, &format!("{name}.at_m"), vehicle.at_m, -2000.0, 2000.0);
        within(problems, &format!("{name}.speed_mps"), vehicle.speed_mps, -60.0, 60.0);
    }
    if problems.len() > before {
        return;
    }
    for (at, (name, vehicle)) in named.iter().enumerate() {
        for (other_name, other) in named.iter().take(at).filter(|(_, other)| other.lane == vehicle.lane) {
            if let Some(second) = world::meeting(vehicle, other, traffic.seconds) {
                let message = format!(
                    "found a crash with {other_name} after {second:.1} s, allowed are vehicles of a lane that stay apart"
                );
                problems.push(Problem { key: name.clone(), message });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_with_its_key() {
        let text = "rate_hz = 0\n[camera]\nwidht = 3\n[street]\nlanes_y_m = [5.0, 6.0]\n\
                    [[sequence]]\nseconds = 2\nvehicles = [{ kind = \"tram\" }, { lane = 9 }]\n";
        let error = parse(Path::new("s.toml"), text).unwrap_err();
        let said = error.to_string();
        for wanted in [
            "s.toml: rate_hz: found 0, allowed is 0.1 to 100",
            "camera.widht: unknown field",
            "street.lanes_y_m: found [5.0, 6.0], allowed are ascending",
            "sequence.0.vehicles.0.kind: unknown variant `tram`, expected one of `car`, `van`, `truck`, `bus`",
            "sequence.0.vehicles.1.lane: found 9, allowed is 0 to 1",
        ] {
            assert!(said.contains(wanted), "no `{wanted}` in\n{said}");
        }
    }

    #[test]
    fn a_crash_is_a_problem() {
        let text = "[[sequence]]\nseconds = 10\nue = { lane = 3 }\n\
                    vehicles = [{ at_m = 0.0, speed_mps = 1.0 }, { at_m = -20.0, speed_mps = 5.0 }]\n";
        let said = parse(Path::new("s.toml"), text).unwrap_err().to_string();
        assert!(
            said.contains("sequence.0.vehicles.1: found a crash with sequence.0.vehicles.0 after 3."),
            "{said}"
        );
        let slower = text.replace("speed_mps = 5.0", "speed_mps = 2.0");
        assert!(parse(Path::new("s.toml"), &slower).is_ok());
    }
}
