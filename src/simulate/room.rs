//! Rooms with a person in them, for the two human tasks: the scene of `simulate --layout mmfi`.
//!
//! The unit frame's origin is on the floor below the sensors, which stand on one platform and look along y. There are
//! four rooms ([`Environment`]), of different sizes, colours and furniture, in which the platform stands in different
//! places; a person stands about 3 m before it.

use std::path::Path;

use parry3d::math::{Pose as Placing, Vector};
use serde::{Deserialize, Serialize};

use super::body::{Body, Skeleton};
use super::caster::{Caster, Solids};
use super::motion::{Activity, FRAMES, Motion, Style, perform};
use super::random::{Purpose, Random};
use super::solid::ObjectId;
use crate::config::load::{check_space, parse_checked, within};
use crate::config::{Axes, ConfigError, Pose, Poses, Problem, Radar};

pub mod cloud;
mod furniture;
pub mod points;
pub mod view;

pub use furniture::Room;

/// Everything that a recording of people is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomScene {
    /// Seed of everything that is drawn: subjects, their motions, furniture, noise.
    pub seed: u64,
    /// Who does what, and which files are written.
    pub mmfi: Mmfi,
    /// Sensor poses in the unit frame.
    pub pose: Poses,
    /// Where people stand.
    pub person: Person,
    /// Colour and depth camera.
    pub camera: Camera,
    /// Rings and columns.
    pub lidar: Lidar,
    /// The radar's cells and its sensitivity.
    pub radar: PointRadar,
}

impl Default for RoomScene {
    fn default() -> Self {
        let pose = |position_m, axes| Pose { position_m, axes, ..Pose::default() };
        Self {
            seed: 1,
            mmfi: Mmfi::default(),
            pose: Poses {
                camera: pose([0.0, 0.0, 1.05], Axes::RightDownForward),
                radar: pose([0.0, 0.05, 1.15], Axes::ForwardLeftUp),
                lidar: pose([0.0, 0.10, 1.25], Axes::ForwardLeftUp),
            },
            person: Person::default(),
            camera: Camera::default(),
            lidar: Lidar::default(),
            radar: PointRadar::default(),
        }
    }
}

/// `[mmfi]`: the part of the data set that is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mmfi {
    /// Subjects, 1…40; none stands for all of them. Ten each are in one room.
    pub subjects: Vec<usize>,
    /// Actions, 1…27; none stands for all of them.
    pub actions: Vec<usize>,
    /// Frames of a sequence, 1…297.
    pub frames: Frames,
    /// From one frame to the next, in frames of 0.1 s; 0 stands for as far as they spread over the 297 of the sequence.
    pub stride: usize,
    /// Whether images (`rgb_img`) are written: two thirds of the bytes.
    pub image: Written,
    /// Whether depth maps (`depth`) are written.
    pub depth: Written,
    /// Whether point clouds (`lidar`) are written.
    pub lidar: Written,
    /// Whether radar points (`mmwave`) are written.
    pub mmwave: Written,
}

/// A number of frames, 30 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frames(pub usize);

impl Default for Frames {
    fn default() -> Self {
        Self(30)
    }
}

/// Whether a file is written; it is by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Written(pub bool);

impl Default for Written {
    fn default() -> Self {
        Self(true)
    }
}

impl Mmfi {
    /// Subjects of the data set.
    pub const SUBJECTS: usize = 40;

    /// The subjects that are made, each once, ascending.
    #[must_use]
    pub fn subjects(&self) -> Vec<usize> {
        chosen(&self.subjects, Self::SUBJECTS)
    }

    /// The activities that are made, each once, ascending.
    #[must_use]
    pub fn actions(&self) -> Vec<Activity> {
        chosen(&self.actions, Activity::COUNT).into_iter().filter_map(Activity::new).collect()
    }

    /// Frame numbers of a sequence, from 1: 1, 1 + stride, …
    #[must_use]
    pub fn frames(&self) -> Vec<usize> {
        let count = self.frames.0.clamp(1, FRAMES);
        let stride = if self.stride == 0 { FRAMES / count } else { self.stride };
        (0..count).map(|at| 1 + at * stride).take_while(|&number| number <= FRAMES).collect()
    }
}

fn chosen(numbers: &[usize], all: usize) -> Vec<usize> {
    (1..=all).filter(|number| numbers.is_empty() || numbers.contains(number)).collect()
}

/// `[person]`: where people stand, and how far that varies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Person {
    /// Distance from the platform, metres.
    pub distance_m: f64,
    /// Standard deviation of a subject's place, in each horizontal direction, metres.
    pub place_m: f64,
    /// Standard deviation of a subject's heading from facing the sensors, degrees.
    pub heading_deg: f64,
}

impl Default for Person {
    fn default() -> Self {
        Self { distance_m: 3.0, place_m: 0.15, heading_deg: 7.0 }
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
    /// Standard deviation of the image's noise, steps of 1/255. Noise does not compress: 1.5 makes the files four
    /// times as large.
    pub noise: f64,
    /// Longest depth, metres; beyond it the depth map has 0.
    pub max_depth_m: f64,
    /// Distance between the eyes of the depth camera, metres: sets its noise and the steps of its depth.
    pub baseline_m: f64,
    /// Standard deviation of the disparity, pixels.
    pub disparity_noise: f64,
}

impl Default for Camera {
    /// An Intel RealSense D435 whose colour image is cut to 4:3: 55° wide, eyes 50 mm apart, disparities good to about
    /// 0.08 pixels.
    fn default() -> Self {
        Self {
            width: 640,
            height: 480,
            fov_deg: 55.0,
            noise: 0.0,
            max_depth_m: 10.0,
            baseline_m: 0.05,
            disparity_noise: 0.08,
        }
    }
}

/// `[lidar]`: the part of an Ouster OS1-32's turn in which the person is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lidar {
    /// Rings.
    pub rings: usize,
    /// Columns of a whole turn.
    pub columns: usize,
    /// Elevation of the lowest ring, degrees.
    pub lowest_deg: f64,
    /// Elevation of the highest ring, degrees.
    pub highest_deg: f64,
    /// Standard deviation of the range, metres.
    pub range_noise_m: f64,
    /// Share of returns that get lost.
    pub dropout: f64,
    /// Points are kept from here, metres forward …
    pub near_m: f64,
    /// … to here, metres forward …
    pub far_m: f64,
    /// … and up to here to each side, metres.
    pub side_m: f64,
}

impl Default for Lidar {
    fn default() -> Self {
        Self {
            rings: 32,
            columns: 1024,
            lowest_deg: -22.5,
            highest_deg: 22.5,
            range_noise_m: 0.015,
            dropout: 0.02,
            near_m: 1.5,
            far_m: 4.5,
            side_m: 1.6,
        }
    }
}

/// `[radar]`: an FMCW radar that gives points, like a TI IWR6843 with its own detection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PointRadar {
    /// Range per bin, metres.
    pub range_bin_m: f64,
    /// Range bins.
    pub range_bins: usize,
    /// Radial speed per bin, m/s.
    pub doppler_bin_mps: f64,
    /// Doppler bins: speeds beyond half of them wrap around.
    pub doppler_bins: usize,
    /// Transmitted power, dBm.
    pub transmit_dbm: f64,
    /// Detections are this far above the noise and what is beside them in range, dB.
    pub threshold_db: f64,
    /// The same in speed, dB.
    pub speed_threshold_db: f64,
    /// Whether what stands still is taken away.
    pub removes_still: bool,
    /// Most points of a frame.
    pub most: usize,
}

impl Default for PointRadar {
    /// 3.2 GHz of sweep at 60 GHz: 4.7 cm and, over 19 ms, 0.13 m/s.
    fn default() -> Self {
        Self {
            range_bin_m: 0.047,
            range_bins: 160,
            doppler_bin_mps: 0.13,
            doppler_bins: 64,
            transmit_dbm: 12.0,
            threshold_db: 15.0,
            speed_threshold_db: 6.0,
            removes_still: true,
            most: 64,
        }
    }
}

/// Whether the text of a scene file is one of people in rooms: it says which of MM-Fi's subjects and activities it makes.
#[must_use]
pub fn is_one(text: &str) -> bool {
    text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("mmfi"))
}

/// Reads and checks a scene file.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(path: &Path) -> Result<RoomScene, ConfigError> {
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
pub fn parse(path: &Path, text: &str) -> Result<RoomScene, ConfigError> {
    parse_checked(path, text, check)
}

fn check(scene: &RoomScene, problems: &mut Vec<Problem>) {
    let RoomScene { mmfi, person, camera, lidar, radar, .. } = scene;
    check_space(None, &scene.pose, &Radar::default(), problems);
    for &subject in &mmfi.subjects {
        within(problems, "mmfi.subjects", subject, 1, Mmfi::SUBJECTS);
    }
    for &action in &mmfi.actions {
        within(problems, "mmfi.actions", action, 1, Activity::COUNT);
    }
    within(problems, "mmfi.frames", mmfi.frames.0, 1, FRAMES);
    let longest = if mmfi.frames.0 > 1 { ((FRAMES - 1) / (mmfi.frames.0 - 1)).max(1) } else { FRAMES };
    within(problems, "mmfi.stride", mmfi.stride, 0, longest);
    for (name, pose) in
        [("camera", &scene.pose.camera), ("radar", &scene.pose.radar), ("lidar", &scene.pose.lidar)]
    {
        let [right, forward, up] = pose.position_m;
        let key = format!("pose.{name}.position_m");
        within(problems, &key, right, -0.5, 0.5);
        within(problems, &key, forward, -0.5, 0.5);
        within(problems, &key, up, 0.3, 2.2);
    }
    within(problems, "person.distance_m", person.distance_m, 2.0, 4.0);
    within(problems, "person.place_m", person.place_m, 0.0, 0.4);
    within(problems, "person.heading_deg", person.heading_deg, 0.0, 180.0);
    within(problems, "camera.width", camera.width, 16, 4096);
    within(problems, "camera.height", camera.height, 16, 4096);
    within(problems, "camera.fov_deg", camera.fov_deg, 5.0, 150.0);
    within(problems, "camera.noise", camera.noise, 0.0, 50.0);
    within(problems, "camera.max_depth_m", camera.max_depth_m, 1.0, 65.0);
    within(problems, "camera.baseline_m", camera.baseline_m, 0.01, 1.0);
    within(problems, "camera.disparity_noise", camera.disparity_noise, 0.0, 2.0);
    within(problems, "lidar.rings", lidar.rings, 1, 256);
    within(problems, "lidar.columns", lidar.columns, 1, 8192);
    within(problems, "lidar.lowest_deg", lidar.lowest_deg, -90.0, 90.0);
    within(problems, "lidar.highest_deg", lidar.highest_deg, lidar.lowest_deg, 90.0);
    within(problems, "lidar.range_noise_m", lidar.range_noise_m, 0.0, 1.0);
    within(problems, "lidar.dropout", lidar.dropout, 0.0, 1.0);
    within(problems, "lidar.near_m", lidar.near_m, 0.1, 20.0);
    within(problems, "lidar.far_m", lidar.far_m, lidar.near_m, 20.0);
    within(problems, "lidar.side_m", lidar.side_m, 0.1, 20.0);
    within(problems, "radar.range_bin_m", radar.range_bin_m, 0.005, 1.0);
    within(problems, "radar.doppler_bin_mps", radar.doppler_bin_mps, 0.01, 2.0);
    within(problems, "radar.doppler_bins", radar.doppler_bins, 2, 1024);
    within(problems, "radar.range_bins", radar.range_bins, 2, 1024);
    within(problems, "radar.transmit_dbm", radar.transmit_dbm, -60.0, 60.0);
    within(problems, "radar.threshold_db", radar.threshold_db, 0.0, 60.0);
    within(problems, "radar.speed_threshold_db", radar.speed_threshold_db, 0.0, 60.0);
    within(problems, "radar.most", radar.most, 1, 4096);
}

/// One of the four rooms, E01…E04.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Environment(u8);

impl Environment {
    /// All of them.
    pub const ALL: [Self; 4] = [Self(1), Self(2), Self(3), Self(4)];

    /// The room of a subject: S01–S10 are in E01, S11–S20 in E02, …
    #[must_use]
    pub const fn of(subject: usize) -> Self {
        let number = if subject == 0 { 0 } else { (subject - 1) / 10 };
        Self(1 + if number < 3 { number as u8 } else { 3 })
    }

    /// 1…4.
    #[must_use]
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// A subject that does an activity in its room.
#[derive(Clone, Debug)]
pub struct Performer {
    body: Body,
    motion: Motion,
    place: Placing,
}

impl Performer {
    /// The person's parts in what its sensors see.
    pub const OBJECT: ObjectId = ObjectId::UE;

    /// Subject `subject` (1…40) doing `activity`.
    #[must_use]
    pub fn new(scene: &RoomScene, subject: usize, activity: Activity) -> Self {
        let body = Body::draw(&mut Random::new(scene.seed, subject, 0, Purpose::Body));
        let style = Style::draw(&mut Random::new(scene.seed, subject, 0, Purpose::Style));
        let motion = perform(scene.seed, subject, activity, &style);
        // A subject stands somewhere, and a little elsewhere for each activity.
        let mut place = Random::new(scene.seed, subject, 0, Purpose::Placing);
        let mut step = Random::new(scene.seed, subject, activity.number(), Purpose::Placing);
        let mut drawn = |deviation: f64| {
            let normal = 0.9 * place.normal() + 0.4 * step.normal();
            normal.clamp(-2.5, 2.5) * deviation as f32
        };
        let [x, y] = [0.0, scene.person.distance_m as f32].map(|at| at + drawn(scene.person.place_m));
        let heading = std::f32::consts::PI + drawn(scene.person.heading_deg).to_radians();
        Self { body, motion, place: Placing::new(Vector::new(x, y, 0.0), Vector::Z * heading) }
    }

    /// From the person's frame to the unit frame.
    #[must_use]
    pub const fn place(&self) -> &Placing {
        &self.place
    }

    /// The skeleton `seconds` after the beginning of the sequence, in the person's frame.
    #[must_use]
    pub fn skeleton(&self, seconds: f32) -> Skeleton {
        self.body.skeleton(&self.motion.at(seconds))
    }

    /// The room with the person in it.
    #[must_use]
    pub fn caster(&self, room: &Room, seconds: f32) -> Caster {
        let at = |later: f32| self.motion.at(seconds + later);
        Caster::new(room.solids(), Solids::new(self.body.solids(&self.place, Self::OBJECT, at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_says_what_is_wrong_with_it_by_key() {
        let parse = |text: &str| parse(Path::new("room.toml"), text);
        assert_eq!(parse("").unwrap(), RoomScene::default());
        let error = parse("[mmfi]\nsubjects = [41]\nframes = 0\n[lidar]\nnear_m = 5\nfar_m = 4\n")
            .unwrap_err()
            .to_string();
        for wanted in [
            "mmfi.subjects: found 41, allowed is 1 to 40",
            "mmfi.frames: found 0, allowed is 1 to 297",
            "lidar.far_m: found 4, allowed is 5 to 20",
        ] {
            assert!(error.contains(wanted), "{error}");
        }
        assert!(parse("[mmfi]\nframes = 30\nstride = 11\n").unwrap_err().to_string().contains("mmfi.stride"));
        assert!(parse("[mmfi]\nsubject = 3\n").is_err());
    }

    #[test]
    fn frames_are_spread_over_the_sequence() {
        let numbers = |frames: usize, stride: usize| {
            Mmfi { frames: Frames(frames), stride, ..Mmfi::default() }.frames()
        };
        let strided = numbers(30, 0);
        assert_eq!((strided.len(), strided[0], strided[1], strided[29]), (30, 1, 10, 262));
        assert_eq!(numbers(297, 0), (1..=297).collect::<Vec<_>>());
        assert_eq!(numbers(3, 1), [1, 2, 3]);
        assert_eq!(Mmfi::default().subjects().len() * Mmfi::default().actions().len(), 1080);
    }

    #[test]
    fn ten_subjects_share_a_room() {
        let rooms = [1, 10, 11, 20, 21, 30, 31, 40].map(|subject| Environment::of(subject).number());
        assert_eq!(rooms, [1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn people_stand_before_the_sensors_and_face_them() {
        let scene = RoomScene::default();
        let squat = Activity::new(12).unwrap();
        let places: Vec<[f32; 3]> = (1..=40)
            .map(|subject| {
                let performer = Performer::new(&scene, subject, squat);
                let looks = performer.place().rotation * Vector::Y;
                let Vector { x, y, .. } = performer.place().translation;
                assert!(
                    looks.y < -0.9 && x.abs() < 0.5 && (y - 3.0).abs() < 0.5,
                    "{subject}: {x} {y} {looks}"
                );
                [x, y, looks.x]
            })
            .collect();
        let spread = |axis: usize| {
            places.iter().map(|place| place[axis]).fold(f32::MIN, f32::max)
                - places.iter().map(|place| place[axis]).fold(f32::MAX, f32::min)
        };
        assert!(spread(0) > 0.2 && spread(1) > 0.2 && spread(2) > 0.1, "{places:?}");
    }
}
