//! The LiDAR: turning rings of beams, and the files of their returns.
//!
//! The sensor is an Ouster OS1: its data sheet (generation 1) gives 120 m on a target of 80 % reflectivity and 40 m on
//! one of 10 %, a beam 9.5 to 10 mm wide that opens by 0.18° (full width at half maximum), the strongest return only,
//! and a repeatability of 1.5 cm, 3 cm and 10 cm at signal-to-noise ratios of 250, 100 and 12.
//!
//! An echo's signal, in units of the one that is detected half of the time, is that of a surface larger than the beam
//! (Wagner 2010, the laser form of the radar equation),
//!
//! S = (R₀/R)² · ρ/0.8 · e^{−2αR},
//!
//! with R₀ `lidar.max_range_m`, ρ the reflectivity that the surface has for this beam ([`surface`]) and α the extinction
//! of fog and rain ([`air`]); dirt on the sensor's [`window`](mod@window) takes its share. It is detected with
//! probability Φ((S − 1)·√12), 12 being the lowest signal-to-noise ratio
//! that the data sheet knows.

mod air;
mod beam;
mod files;
mod surface;
mod window;

use nalgebra::{Isometry3, Point3};
use parry3d::math::Vector;

use super::caster::Caster;
use super::ground::Ground;
use super::plan::Instance;
use super::random::{Purpose, Random};
use super::scene::{CloudFormat, Lidar, Scene, Weather};
use super::solid::ObjectId;
use crate::space;
use beam::Sweep;
use window::Window;

/// One return: place, metres, and intensity.
pub(super) type Return = ([f64; 3], u16);

/// Intensity of a wall of 80 % reflectivity seen straight on at 10 m.
const FULL: f32 = 1000.0;

/// All returns of one turn in the sensor's own axes, ring by ring from the lowest, left to right.
pub(super) fn observe(scene: &Scene, caster: &Caster, sequence: usize, frame: usize) -> Vec<Return> {
    let mount = space::mount_to_unit(&scene.pose.lidar);
    let to_sensor = space::sensor_to_unit(&scene.pose.lidar).inverse();
    let mut random = Random::new(scene.seed, sequence, frame, Purpose::Lidar);
    let ground = Ground::new(scene);
    let (weather, window) = (scene.weather(sequence), window(scene, sequence));
    let sweep = Sweep::new(caster, &mount, &scene.lidar, weather, window, Some(&ground));
    turn(&sweep, &to_sensor, &mut random)
}

/// The returns of a LiDAR that stands in a room: as [`observe`], in the axes of its mount (x right, y along boresight, z
/// up), over a floor without lanes, in clear air.
pub(super) fn points(
    caster: &Caster,
    mount: &Isometry3<f64>,
    lidar: &Lidar,
    random: &mut Random,
) -> Vec<Return> {
    let sweep = Sweep::new(caster, mount, lidar, &Weather::default(), Window::default(), None);
    turn(&sweep, &mount.inverse(), random)
}

fn turn(sweep: &Sweep<'_>, to_sensor: &Isometry3<f64>, random: &mut Random) -> Vec<Return> {
    let place = |point: Vector, intensity: f32| {
        let point = to_sensor * Point3::new(f64::from(point.x), f64::from(point.y), f64::from(point.z));
        ([point.x, point.y, point.z], intensity.min(65_535.0) as u16)
    };
    sweep.returns(random).into_iter().map(|(point, intensity)| place(point, FULL * intensity)).collect()
}

/// How many of a turn's returns, those that [`observe`] gives, come from an object that lies within `reach` of `middle`,
/// metres.
pub(super) fn returns_on(
    scene: &Scene,
    caster: &Caster,
    at: Instance,
    object: ObjectId,
    middle: Vector,
    reach: f32,
) -> usize {
    let mount = space::mount_to_unit(&scene.pose.lidar);
    let mut random = Random::new(scene.seed, at.sequence, at.frame, Purpose::Lidar);
    let ground = Ground::new(scene);
    let (weather, window) = (scene.weather(at.sequence), window(scene, at.sequence));
    let sweep = Sweep::new(caster, &mount, &scene.lidar, weather, window, Some(&ground));
    sweep.returns_on(object, middle, reach, &mut random)
}

/// The sensor's window, other dirt on it in every sequence.
fn window(scene: &Scene, sequence: usize) -> Window {
    // The frame is one that no camera's window is drawn with.
    let mut random = Random::new(scene.seed, sequence, 1, Purpose::Dirt);
    let (lidar, share) = (&scene.lidar, scene.faults(sequence).lidar_soiling);
    Window::new(share, lidar.columns, lidar.fov_deg, &mut random)
}

/// The file of a cloud.
pub(super) fn file(format: CloudFormat, returns: &[Return]) -> Vec<u8> {
    match format {
        CloudFormat::Ply => files::ply(returns),
        CloudFormat::Pcd => files::pcd(returns),
    }
}

#[cfg(test)]
mod tests;
