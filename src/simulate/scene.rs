//! A scene file, typed: the street, its traffic, and the sensors that watch it.
//!
//! `[site]`, `[pose.*]`, `[radar]` and `[codebook]` are those of a pipeline file, word for word, so that a pipeline that
//! reads the recording can repeat them. Every key has a default; [`load`] reports everything that is wrong at once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::channel::codebook::Measured;
use crate::config::load::{check_peaks, check_space, parse_checked, place, within};
use crate::config::{Codebook, ConfigError, Pose, Poses, Problem, Radar, Site};
use crate::model::Input;

mod footprint;
mod street;
mod timing;
pub(super) mod traffic;
mod weather;

pub(super) use footprint::Footprint;
pub use street::{Area, Bays, Building, Cover, Lane, LaneKind, Light, Parked, Pole, Street, Tree};
pub use timing::{Clock, Timing};
pub use traffic::{Faults, Flow, Look, Mix, Stop, Traffic, Vehicle, VehicleKind};
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
    /// When each sensor looks.
    pub timing: Timing,
    /// Light, rain, fog and air.
    pub weather: Weather,
    /// The street.
    pub street: Street,
    /// Lanes of any course, numbered on from those of the street.
    pub lane: Vec<Lane>,
    /// Traffic lights.
    pub light: Vec<Light>,
    /// Buildings, besides the row of the street.
    pub building: Vec<Building>,
    /// Poles and street lamps, besides those of the street.
    pub pole: Vec<Pole>,
    /// Trees, besides those of the street.
    pub tree: Vec<Tree>,
    /// What covers the ground off the lanes.
    pub area: Vec<Area>,
    /// Parking bays.
    pub bays: Vec<Bays>,
    /// Parked vehicles.
    pub parked: Vec<Parked>,
    /// Who comes by itself, in every sequence that does not say otherwise.
    pub flow: Vec<Flow>,
    /// Who is served, in every sequence that does not say otherwise; none anywhere, a parked car on lane 0.
    pub ue: Vec<Vehicle>,
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
            timing: Timing::default(),
            weather: Weather::default(),
            street: Street::default(),
            lane: Vec::new(),
            light: Vec::new(),
            building: Vec::new(),
            pole: Vec::new(),
            tree: Vec::new(),
            area: Vec::new(),
            bays: Vec::new(),
            parked: Vec::new(),
            flow: Vec::new(),
            ue: Vec::new(),
            sequence: Vec::new(),
        }
    }
}

/// `[camera]`: square pixels, the optical axis in the middle, radial distortion by Brown and Conrady.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Camera {
    /// Columns, pixels.
    pub width: u32,
    /// Rows, pixels.
    pub height: u32,
    /// Horizontal field of view, distortion included, degrees.
    pub fov_deg: f64,
    /// Radial distortion of the third order at tangent 1 from the axis; negative is a barrel.
    pub k1: f64,
    /// Radial distortion of the fifth order.
    pub k2: f64,
    /// Fall of light to the corners: 0 none, 1 the fourth power of the cosine.
    pub vignetting: f64,
    /// Edges are the mean of n × n rays per pixel.
    pub rays: u32,
    /// Exposure in daylight, ms.
    pub exposure_ms: f64,
    /// Longest exposure, at night, ms.
    pub longest_exposure_ms: f64,
    /// Electrons of a white pixel at the lowest gain; their square root is the noise of light.
    pub full_well_e: f64,
    /// Standard deviation of the noise of reading, electrons.
    pub read_noise_e: f64,
    /// JPEG quality, 1…100.
    pub quality: u8,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            width: 960,
            height: 540,
            fov_deg: 95.0,
            k1: -0.06,
            k2: 0.0,
            vignetting: 0.3,
            rays: 2,
            exposure_ms: 2.0,
            longest_exposure_ms: 20.0,
            full_well_e: 10_000.0,
            read_noise_e: 3.0,
            quality: 88,
        }
    }
}

/// `[lidar]`: rings of equal elevation steps, turning; the defaults are those of an Ouster OS1-32.
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
    /// Range at which a wall of 80 % reflectivity gives an echo half of the time in clear air, and beyond which there are
    /// none, metres.
    pub max_range_m: f64,
    /// Standard deviation of the range of a strong echo, metres; that of a weak one is larger.
    pub range_noise_m: f64,
    /// Full width of the beam at half of its maximum, degrees; 0 for a line.
    pub divergence_deg: f64,
    /// Share of returns that get lost whatever they hit.
    pub dropout: f64,
    /// Time of one turn of 360°, over which things move on, seconds; 0 for all at once.
    pub turn_s: f64,
    /// The format of its files.
    pub format: CloudFormat,
}

impl Default for Lidar {
    fn default() -> Self {
        Self {
            rings: 32,
            columns: 1024,
            fov_deg: 360.0,
            lowest_deg: -22.5,
            highest_deg: 22.5,
            max_range_m: 120.0,
            range_noise_m: 0.015,
            divergence_deg: 0.18,
            dropout: 0.005,
            turn_s: 0.1,
            format: CloudFormat::Ply,
        }
    }
}

/// How a cloud is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudFormat {
    /// ASCII PLY as in DeepSense 6G's scenarios 31–34: x y z double, intensity ushort.
    #[default]
    Ply,
    /// Binary PCD 0.7: x y z intensity, 32-bit floats.
    Pcd,
}

impl CloudFormat {
    /// What its files' names end with.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Ply => "ply",
            Self::Pcd => "pcd",
        }
    }
}

/// `[cube]`: complex64 (rx, samples, chirps), and the radar's link budget. The shape is that of DeepSense 6G's scenarios 31
/// and 34; the budget is of the size of TI's 77 GHz radars, and not taken from the data sheet of one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cube {
    /// Receive antennas.
    pub receivers: usize,
    /// Samples per chirp.
    pub samples: usize,
    /// Chirps per frame.
    pub chirps: usize,
    /// Sampling rate, complex samples per second, Hz: the bandwidth of the noise.
    pub sample_hz: f64,
    /// Transmitted power, dBm.
    pub transmit_dbm: f64,
    /// Gain of the transmit and of the receive antenna, each, along boresight, dBi.
    pub gain_dbi: f64,
    /// Noise figure of the receiver, dB.
    pub noise_figure_db: f64,
    /// Phase noise of the chirps 1 MHz beside the carrier, dBc/Hz.
    pub phase_noise_dbc_hz: f64,
    /// Isolation between transmitter and receiver, dB.
    pub isolation_db: f64,
    /// Power at the receiver's input that a value of 1 in the cube stands for, dBm.
    pub step_dbm: f64,
    /// Probability that another radar disturbs a frame.
    pub interference: f64,
}

impl Default for Cube {
    fn default() -> Self {
        Self {
            receivers: 4,
            samples: 256,
            chirps: 250,
            sample_hz: 5e6,
            transmit_dbm: 12.0,
            gain_dbi: 10.5,
            noise_figure_db: 14.0,
            phase_noise_dbc_hz: -95.0,
            isolation_db: 40.0,
            step_dbm: -123.0,
            interference: 0.0,
        }
    }
}

/// `[link]`: an array at the unit that looks along y and steers along x, one antenna at each UE, which transmits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Middle of the array in the unit frame, metres.
    pub position_m: [f64; 3],
    /// Carrier, Hz.
    pub carrier_hz: f64,
    /// A measured codebook: path of a CSV file, relative to the folder of the scene's, in the form that
    /// [`channel::codebook`](super::channel::codebook) tells;
    /// left out, the beams are those of an array of `elements`.
    pub codebook: Option<Measured>,
    /// Elements, half a wavelength apart.
    pub elements: usize,
    /// Beams are steered uniformly from − this to + this, degrees, positive to the right, beam 0 leftmost.
    pub sector_deg: f64,
    /// Bits of an element's phase shifter; 0: every phase.
    pub phase_bits: u32,
    /// Standard deviation of an element's phase error, degrees; a quarter as much again from beam to beam.
    pub phase_error_deg: f64,
    /// Phase of the outermost elements against the middle ones, degrees: it widens the beams.
    pub defocus_deg: f64,
    /// Of the array's errors: the same number is the same array. 85 is, of the first 120, the one whose main and side
    /// lobes come nearest to those of a measured codebook.
    pub array_seed: u64,
    /// Signal of an ideal array's beam that points straight at a UE 10 m away in free space, linear; the unit of the
    /// power files.
    pub power_at_10_m: f64,
    /// Power without a signal, in the same unit: noise of the receiver.
    pub floor: f64,
    /// Independent samples in a power reading.
    pub samples: u32,
    /// Standard deviation of the gain from reading to reading, dB.
    pub noise_db: f64,
    /// The pattern of a UE's antenna over azimuth is this far above and below its mean, dB.
    pub ripple_db: f64,
    /// Roughness of walls and ground, root mean square, millimetres; glass and metal are smooth.
    pub roughness_mm: f64,
    /// The link counts as blocked from this loss of its line of sight by what stands in it, dB. An edge that just touches
    /// the line takes 6 dB, and a person or vehicle that stands in it 10 dB and more.
    pub blocked_db: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            position_m: [0.0, 0.0, 3.5],
            carrier_hz: 60e9,
            codebook: None,
            elements: 16,
            sector_deg: 45.0,
            phase_bits: 6,
            phase_error_deg: 20.0,
            defocus_deg: 143.0,
            array_seed: 85,
            power_at_10_m: 0.6,
            floor: 0.008,
            samples: 4000,
            noise_db: 0.1,
            ripple_db: 1.5,
            roughness_mm: 0.3,
            blocked_db: 10.0,
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

/// Of a sequence.
const MOST_REPEATS: usize = 1000;
/// Most values of a radar cube: 128 MiB.
const MOST_VALUES: usize = 1 << 24;
/// Most rows of a recording: more than a day at 10 Hz.
const MOST_ROWS: usize = 1_000_000;
/// The copy of a measured codebook in a recording.
pub(super) const CODEBOOK: &str = "codebook.csv";
/// Traffic comes from this far beyond the ends of the street, metres.
const APPROACH_M: f64 = 60.0;

impl Scene {
    /// Makes each of its sequences so many times over, each time with other traffic.
    ///
    /// # Errors
    /// What was found and allowed, when a sequence would be made more often than a scene may say.
    pub fn repeat(&mut self, times: usize) -> Result<(), String> {
        for (number, traffic) in self.sequence.iter_mut().enumerate() {
            let all = traffic.repeat.saturating_mul(times);
            if !(1..=MOST_REPEATS).contains(&all) {
                let own = traffic.repeat;
                return Err(format!(
                    "sequence.{number}: found repeat = {own} made {times} times over, allowed is 1 to {MOST_REPEATS} in all"
                ));
            }
            traffic.repeat = all;
        }
        match self.all_rows() {
            rows if rows > MOST_ROWS => {
                Err(format!("found {rows} rows in all, allowed are {MOST_ROWS} at most"))
            }
            _ => Ok(()),
        }
    }

    /// Leaves inputs out: none of their samples is made.
    pub fn leave_out(&mut self, inputs: &[Input]) {
        for input in inputs {
            let clock = match input {
                Input::Camera => &mut self.timing.camera,
                Input::Radar => &mut self.timing.radar,
                Input::Lidar => &mut self.timing.lidar,
                Input::Link => &mut self.timing.link,
                Input::Position => &mut self.timing.position,
            };
            clock.drop = 1.0;
        }
    }

    /// Rows of a sequence.
    #[must_use]
    pub fn rows(&self, traffic: &Traffic) -> usize {
        (traffic.seconds * self.rate_hz).round() as usize
    }

    /// How many rows are recorded, repetitions counted.
    #[must_use]
    pub fn all_rows(&self) -> usize {
        let rows = self.sequence.iter().map(|traffic| self.rows(traffic).saturating_mul(traffic.repeat));
        rows.fold(0, usize::saturating_add)
    }

    /// How many sequences are recorded, repetitions counted.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.sequence.iter().map(|traffic| traffic.repeat).sum()
    }

    /// The traffic of a recorded sequence, from 0; repetitions are numbered through.
    #[must_use]
    pub fn traffic(&self, sequence: usize) -> Option<&Traffic> {
        let mut before = 0;
        self.sequence.iter().find(|traffic| {
            before += traffic.repeat;
            sequence < before
        })
    }

    /// The weather of a sequence.
    #[must_use]
    pub fn weather(&self, sequence: usize) -> &Weather {
        self.traffic(sequence).and_then(|traffic| traffic.weather.as_ref()).unwrap_or(&self.weather)
    }

    /// Who is served in a sequence.
    #[must_use]
    pub fn ues(&self, traffic: &Traffic) -> Vec<Vehicle> {
        match (traffic.ue.as_slice(), self.ue.as_slice()) {
            ([], []) => vec![Vehicle::default()],
            ([], ues) | (ues, _) => ues.to_vec(),
        }
    }

    /// Probability that another radar disturbs a frame of a sequence.
    #[must_use]
    pub fn interference(&self, sequence: usize) -> f64 {
        1.0 - (1.0 - self.cube.interference) * (1.0 - self.faults(sequence).radar_interference)
    }

    /// What fails in a sequence.
    #[must_use]
    pub fn faults(&self, sequence: usize) -> Faults {
        self.traffic(sequence).map(|traffic| traffic.faults).unwrap_or_default()
    }

    /// How many are served at most.
    #[must_use]
    pub fn served(&self) -> usize {
        self.sequence.iter().map(|traffic| self.ues(traffic).len()).max().unwrap_or(0)
    }

    /// Who comes by itself in a sequence.
    #[must_use]
    pub fn flows<'a>(&'a self, traffic: &'a Traffic) -> &'a [Flow] {
        traffic.flow.as_deref().unwrap_or(&self.flow)
    }

    /// Every lane, in the order of its number.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        let street = &self.street;
        let ways = street.lanes_y_m.iter().enumerate().map(|(number, &y)| {
            let end = street.half_length_m + APPROACH_M;
            let is_rightwards = number < street.lanes_y_m.len().div_ceil(2);
            let end = if is_rightwards { end } else { -end };
            Lane {
                points_m: vec![[-end, y], [end, y]],
                width_m: street.lane_width_m,
                speed_limit_mps: street.speed_limit_mps,
                ..Lane::default()
            }
        });
        ways.chain(self.lane.iter().cloned()).collect()
    }

    /// As it stands in its recording: the codebook is the copy that lies there.
    #[must_use]
    pub fn recorded(&self) -> Self {
        let mut scene = self.clone();
        scene.link.codebook = self.link.codebook.as_ref().map(|table| table.moved(Path::new(CODEBOOK)));
        scene
    }

    /// Number of beams.
    #[must_use]
    pub fn beams(&self) -> usize {
        let measured = || self.link.codebook.as_ref().map_or(64, Measured::beams);
        self.codebook.beams.unwrap_or_else(measured)
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

/// Parses and checks the text of a scene file; `path` names it in errors, and paths in it are relative to its folder.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn parse(path: &Path, text: &str) -> Result<Scene, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    // What is no table is told below.
    let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
    let Some(codebook) = table.get_mut("link").and_then(|link| link.get_mut("codebook")) else {
        return parse_checked(path, text, check);
    };
    match codebook {
        toml::Value::Table(named) => place(folder, named.get_mut("path")),
        named => place(folder, Some(named)),
    }
    parse_checked(path, &toml::to_string(&table).unwrap_or_else(|_| text.to_owned()), check)
}

fn check(scene: &Scene, problems: &mut Vec<Problem>) {
    if scene.rate_hz == 0.0 {
        let message = "found 0, which is no row at all; allowed is 0.1 to 100 rows per second";
        problems.push(Problem { key: "rate_hz".to_owned(), message: message.to_owned() });
    } else {
        within(problems, "rate_hz", scene.rate_hz, 0.1, 100.0);
    }
    check_space(Some(&scene.site), &scene.pose, &scene.radar, problems);
    within(problems, "codebook.beams", scene.beams(), 2, 1024);
    check_peaks(&scene.codebook, problems);
    check_sensors(scene, problems);
    let rate_hz = if scene.rate_hz > 0.0 { scene.rate_hz } else { Scene::default().rate_hz };
    scene.timing.check(1e3 / rate_hz, problems);
    scene.weather.check("weather", problems);
    check_site(scene, problems);
    traffic::check(scene, problems);
}

fn check_site(scene: &Scene, problems: &mut Vec<Problem>) {
    scene.street.check(problems);
    let lanes = scene.street.lanes_y_m.len() + scene.lane.len();
    within(problems, "lane", lanes, 1, 64);
    for (number, lane) in scene.lane.iter().enumerate() {
        lane.check(&format!("lane.{number}"), problems);
    }
    for (number, light) in scene.light.iter().enumerate() {
        light.check(&format!("light.{number}"), lanes, problems);
    }
    for (number, building) in scene.building.iter().enumerate() {
        building.check(&format!("building.{number}"), problems);
    }
    for (number, pole) in scene.pole.iter().enumerate() {
        pole.check(&format!("pole.{number}"), problems);
    }
    for (number, tree) in scene.tree.iter().enumerate() {
        tree.check(&format!("tree.{number}"), problems);
    }
    for (number, area) in scene.area.iter().enumerate() {
        area.check(&format!("area.{number}"), problems);
    }
    for (number, bays) in scene.bays.iter().enumerate() {
        bays.check(&format!("bays.{number}"), problems);
    }
    for (number, parked) in scene.parked.iter().enumerate() {
        parked.check(&format!("parked.{number}"), problems);
    }
}

fn check_sensors(scene: &Scene, problems: &mut Vec<Problem>) {
    let Scene { camera, lidar, cube, link, gps, .. } = scene;
    within(problems, "camera.width", camera.width, 16, 4096);
    within(problems, "camera.height", camera.height, 16, 4096);
    within(problems, "camera.fov_deg", camera.fov_deg, 5.0, 150.0);
    within(problems, "camera.rays", camera.rays, 1, 4);
    within(problems, "camera.quality", camera.quality, 1, 100);
    within(problems, "camera.k1", camera.k1, -1.0, 1.0);
    within(problems, "camera.k2", camera.k2, -1.0, 1.0);
    within(problems, "camera.vignetting", camera.vignetting, 0.0, 2.0);
    within(problems, "camera.exposure_ms", camera.exposure_ms, 0.01, 100.0);
    within(problems, "camera.longest_exposure_ms", camera.longest_exposure_ms, camera.exposure_ms, 1000.0);
    within(problems, "camera.full_well_e", camera.full_well_e, 100.0, 1e6);
    within(problems, "camera.read_noise_e", camera.read_noise_e, 0.0, 1000.0);
    if problems.iter().all(|problem| !problem.key.starts_with("camera.")) && camera.lens().corner().is_none()
    {
        let message = format!(
            "found {} and camera.k2 {}, allowed are values that do not fold the image within its corners at camera.fov_deg {}",
            camera.k1, camera.k2, camera.fov_deg
        );
        problems.push(Problem { key: "camera.k1".to_owned(), message });
    }
    within(problems, "lidar.rings", lidar.rings, 1, 256);
    within(problems, "lidar.columns", lidar.columns, 1, 4096);
    within(problems, "lidar.fov_deg", lidar.fov_deg, 1.0, 360.0);
    within(problems, "lidar.lowest_deg", lidar.lowest_deg, -90.0, 90.0);
    within(problems, "lidar.highest_deg", lidar.highest_deg, lidar.lowest_deg, 90.0);
    within(problems, "lidar.max_range_m", lidar.max_range_m, 1.0, 500.0);
    within(problems, "lidar.range_noise_m", lidar.range_noise_m, 0.0, 1.0);
    within(problems, "lidar.divergence_deg", lidar.divergence_deg, 0.0, 2.0);
    within(problems, "lidar.dropout", lidar.dropout, 0.0, 1.0);
    within(problems, "lidar.turn_s", lidar.turn_s, 0.0, 10.0);
    within(problems, "cube.receivers", cube.receivers, 1, scene.radar.angle_bins.clamp(1, 64));
    within(problems, "cube.samples", cube.samples, 2, 4096);
    within(problems, "cube.chirps", cube.chirps, 1, 4096);
    let values = cube.receivers.saturating_mul(cube.samples).saturating_mul(cube.chirps);
    if values > MOST_VALUES {
        let message = format!(
            "found {values} values (receivers × samples × chirps), allowed are {MOST_VALUES} at most"
        );
        problems.push(Problem { key: "cube".to_owned(), message });
    }
    within(problems, "cube.sample_hz", cube.sample_hz, 1e5, 1e9);
    within(problems, "cube.transmit_dbm", cube.transmit_dbm, -50.0, 60.0);
    within(problems, "cube.gain_dbi", cube.gain_dbi, -10.0, 60.0);
    within(problems, "cube.noise_figure_db", cube.noise_figure_db, 0.0, 60.0);
    within(problems, "cube.phase_noise_dbc_hz", cube.phase_noise_dbc_hz, -200.0, -50.0);
    within(problems, "cube.isolation_db", cube.isolation_db, 10.0, 200.0);
    within(problems, "cube.step_dbm", cube.step_dbm, -250.0, 0.0);
    within(problems, "cube.interference", cube.interference, 0.0, 1.0);
    for metres in link.position_m {
        within(problems, "link.position_m", metres, -1000.0, 1000.0);
    }
    within(problems, "link.carrier_hz", link.carrier_hz, 1e9, 1e12);
    within(problems, "link.elements", link.elements, 1, 256);
    within(problems, "link.sector_deg", link.sector_deg, 1.0, 89.0);
    within(problems, "link.phase_bits", link.phase_bits, 0, 16);
    within(problems, "link.phase_error_deg", link.phase_error_deg, 0.0, 360.0);
    within(problems, "link.defocus_deg", link.defocus_deg, -720.0, 720.0);
    within(problems, "link.samples", link.samples, 1, 1_000_000_000);
    if let Some(found) = link.codebook.as_ref().map(Measured::beams).filter(|&found| found != scene.beams()) {
        let message = format!("found {found} beams, allowed are {} (codebook.beams)", scene.beams());
        problems.push(Problem { key: "link.codebook".to_owned(), message });
    }
    within(problems, "link.power_at_10_m", link.power_at_10_m, 1e-12, 1e12);
    within(problems, "link.floor", link.floor, 0.0, 1e12);
    within(problems, "link.noise_db", link.noise_db, 0.0, 10.0);
    within(problems, "link.ripple_db", link.ripple_db, 0.0, 10.0);
    within(problems, "link.roughness_mm", link.roughness_mm, 0.0, 10.0);
    within(problems, "link.blocked_db", link.blocked_db, 0.1, 60.0);
    within(problems, "gps.noise_m", gps.noise_m, 0.0, 100.0);
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
            "s.toml: rate_hz: found 0, which is no row at all; allowed is 0.1 to 100 rows per second",
            "camera.widht: unknown field",
            "street.lanes_y_m: found [5.0, 6.0], allowed are ascending",
            "sequence.0.vehicles.0.kind: unknown variant `tram`, expected one of `car`, `van`, `truck`, `bus`",
            "sequence.0.vehicles.1.lane: found 9, allowed is 0 to 1",
        ] {
            assert!(said.contains(wanted), "no `{wanted}` in\n{said}");
        }
    }

    fn said(text: &str) -> String {
        parse(Path::new("s.toml"), text).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn who_begins_on_another_or_cannot_brake_for_it_is_a_problem() {
        let text = "[[sequence]]\nseconds = 10\nue = { lane = 3 }\n\
                    vehicles = [{ at_m = 0.0, speed_mps = 1.0 }, { at_m = -20.0, speed_mps = 25.0 }]\n";
        // 4.4 m of car, (25² − 1²)/(2·6) m of way.
        let wanted = "sequence.0.vehicles.1: found 20.0 m from sequence.0.vehicles.0 when the sequence begins, \
                      allowed in one lane, at these speeds, is more than 56.4 m";
        assert!(said(text).contains(wanted), "{}", said(text));
        assert_eq!(said(&text.replace("25.0", "5.0")), "");
        let on_it = text.replace("-20.0", "-4.0").replace("25.0", "1.0");
        assert!(said(&on_it).contains("found 4.0 m from"), "{}", said(&on_it));
    }

    #[test]
    fn what_cannot_be_on_the_street_is_told_with_its_key() {
        let sequence = |rest: &str| format!("[[sequence]]\nseconds = 5\n{rest}\n");
        let lane = "[[lane]]\npoints_m = [[0.0, 3.0], [0.0, 30.0]]\n";
        let cases = [
            (
                sequence("ue = { lane = 3, at_m = 60.0, speed_mps = -2.0 }"),
                "sequence.0.ue.0: found a UE that is never",
            ),
            (
                sequence("ue = { kind = \"tripod\", place_m = [0.0, -9.0] }"),
                "sequence.0.ue.0: found a UE that is never",
            ),
            (
                sequence("ue = [{ lane = 3 }, { lane = 3, at_m = 1.0 }]"),
                "sequence.0.ue.1: found 1.0 m from sequence.0.ue.0",
            ),
            (
                sequence("ue = { lane = 3, speed_mps = 4.0 }"),
                "sequence.0.ue.0.speed_mps: found 4, but lane 3 drives to the left",
            ),
            (sequence("ue = { lane = 4 }"), "sequence.0.ue.0.lane: found 4, allowed is 0 to 3"),
            (
                sequence("ue = { kind = \"pedestrian\" }"),
                "sequence.0.ue.0.lane: found a pedestrian on lane 0",
            ),
            (
                sequence("ue = { look = \"tanker\" }"),
                "sequence.0.ue.0.look: found tanker, allowed for a car is saloon or",
            ),
            (
                sequence("repeat = 0\nfaults = { lidar_drop = 2.0 }"),
                "sequence.0.faults.lidar_drop: found 2, allowed is 0 to 1",
            ),
            (
                sequence("faults = { camera_soiling = 1.5 }"),
                "sequence.0.faults.camera_soiling: found 1.5, allowed is 0 to 1",
            ),
            (
                sequence("faults = { lidar_soiling = -0.1, position_drop = 2 }"),
                "sequence.0.faults.position_drop: found 2, allowed is 0 to 1",
            ),
            (
                sequence(
                    "ue = [{ kind = \"tripod\", place_m = [4.0, 21.0] }, { kind = \"tripod\", place_m = [4.1, 21.2] }]",
                ),
                "sequence.0.ue.1.place_m: found (4.1, 21.2) on sequence.0.ue.0, allowed is a place of its own",
            ),
            (
                sequence("ue = { kind = \"tripod\", place_m = [3.0, 30.0] }"),
                "sequence.0.ue.0.place_m: found (3.0, 30.0) in a building of the street, allowed is a place of its own",
            ),
            (
                "[[building]]\nat_m = [2.0, 22.0]\nsize_m = [4.0, 2.0, 3.0]\n".to_owned()
                    + &sequence("ue = { kind = \"car\", place_m = [5.0, 21.5] }"),
                "sequence.0.ue.0.place_m: found (5.0, 21.5) in building.0, allowed is a place of its own",
            ),
            (
                "[[parked]]\nat_m = [2.0, 21.0]\n".to_owned()
                    + &sequence("ue = { kind = \"tripod\", place_m = [3.0, 21.4] }"),
                "sequence.0.ue.0.place_m: found (3.0, 21.4) in a parked car, allowed is a place of its own",
            ),
            (
                "rate_hz = 100.0\n".to_owned()
                    + &sequence("repeat = 1000\n[[sequence]]\nseconds = 3600\nrepeat = 9"),
                "sequence: found 3740000 rows in all, allowed are 1000000",
            ),
            (
                "[cube]\nreceivers = 64\nsamples = 4096\nchirps = 4096\n".to_owned() + &sequence(""),
                "cube: found 1073741824 values (receivers × samples × chirps), allowed are 16777216",
            ),
            (
                "[codebook]\npeaks_deg = [1.0, nan]\nbeams = 64\n".to_owned() + &sequence(""),
                "codebook.peaks_deg: found NaN",
            ),
            ("[[ue]]\nlane = 1\n".repeat(17) + &sequence(""), "ue: found 17, allowed is 0 to 16"),
            (
                sequence("ue = { kind = \"tripod\", place_m = [0.0, 10.0] }"),
                "sequence.0.ue.0.place_m: found (0.0, 10.0) on lane 1",
            ),
            (
                "[[parked]]\nat_m = [5.0, 6.5]\n".to_owned() + &sequence(""),
                "parked: found a parked car on lane 0 at (5.0, 6.5)",
            ),
            (
                "[[building]]\nat_m = [10.0, 8.0]\nsize_m = [4.0, 6.0, 3.0]\n".to_owned() + &sequence(""),
                "building.0: found it on lane 0",
            ),
            (
                "[[pole]]\nat_m = [3.0, 21.0]\n".to_owned()
                    + &sequence("ue = { kind = \"tripod\", place_m = [3.2, 21.1] }"),
                "sequence.0.ue.0.place_m: found (3.2, 21.1) in a post, allowed is a place of its own",
            ),
            (
                "[[tree]]\nat_m = [3.0, 21.0]\n".to_owned()
                    + &sequence("ue = { kind = \"tripod\", place_m = [3.2, 21.1] }"),
                "sequence.0.ue.0.place_m: found (3.2, 21.1) in a tree, allowed is a place of its own",
            ),
            (
                sequence("flow = [{ lanes = [0], mix = { pedestrian = 1.0 } }]"),
                "sequence.0.flow.0.mix.pedestrian: found a pedestrian on lane 0",
            ),
            (lane.to_owned() + &sequence(""), "lane.0.points_m: found a place (0.0, "),
            (
                "[[light]]\nlanes = [7]\ngreen_s = 0\n".to_owned() + &sequence(""),
                "light.0.lanes: found 7, allowed is 0 to 3",
            ),
        ];
        for (text, wanted) in cases {
            assert!(said(&text).contains(wanted), "no `{wanted}` in\n{}", said(&text));
        }
    }

    #[test]
    fn repetitions_are_numbered_through_and_a_scene_survives_its_own_words() {
        let text = "[[flow]]\nlanes = [0, 1]\n[[ue]]\nlane = 3\n[[ue]]\nlane = 2\nat_m = 3.0\n\
                    [[sequence]]\nseconds = 2\nrepeat = 3\n\
                    [[sequence]]\nseconds = 4\nweather = { rain_mm_h = 9.0 }\nue = { lane = 1 }\n";
        let scene = parse(Path::new("s.toml"), text).unwrap();
        let seconds: Vec<f64> =
            (0..scene.sequences()).filter_map(|at| scene.traffic(at)).map(|one| one.seconds).collect();
        assert_eq!(seconds, [2.0, 2.0, 2.0, 4.0]);
        assert_eq!(scene.traffic(4), None);
        assert_eq!([2, 3].map(|at| scene.weather(at).rain_mm_h), [0.0, 9.0]);
        assert_eq!([0, 1].map(|at| scene.ues(&scene.sequence[at]).len()), [2, 1]);
        let again = parse(Path::new("s.toml"), &toml::to_string(&scene).unwrap()).unwrap();
        assert_eq!(again, scene);
    }
}
