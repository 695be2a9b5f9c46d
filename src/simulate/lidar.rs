//! The LiDAR: rays in rings, and an ASCII PLY file as DeepSense 6G's scenarios 31–34 have them.

use std::io::Write;

use nalgebra::{Isometry3, Point3};
use parry3d::math::Vector;

use super::caster::{Caster, Hit};
use super::random::{Purpose, Random, grain};
use super::scene::Scene;
use super::{direction, place};
use crate::space;

use super::solid::Surface;

/// One return: place in the sensor's own axes, metres, and intensity.
pub(super) type Return = ([f64; 3], u16);

/// Intensity of a white wall seen straight on at 10 m.
const FULL: f32 = 1000.0;

/// All returns of one turn, ring by ring from the lowest, left to right.
pub(super) fn observe(scene: &Scene, caster: &Caster, sequence: usize, frame: usize) -> Vec<Return> {
    let lidar = &scene.lidar;
    let mount = space::mount_to_unit(&scene.pose.lidar);
    let to_sensor = space::sensor_to_unit(&scene.pose.lidar).inverse();
    let origin = place(&mount.translation.vector.into());
    let mut random = Random::new(scene.seed, sequence, frame, Purpose::Lidar);
    let mut returns = Vec::with_capacity(lidar.rings * lidar.columns);
    for ring in 0..lidar.rings {
        let rise = (lidar.highest_deg - lidar.lowest_deg) / (lidar.rings.max(2) - 1) as f64;
        let elevation = (lidar.lowest_deg + rise * ring as f64).to_radians();
        for column in 0..lidar.columns {
            let turn = (column as f64 + 0.5) / lidar.columns as f64 - 0.5;
            let azimuth = (turn * lidar.fov_deg).to_radians();
            let ray = direction(&mount, azimuth, elevation);
            // Drawn whether they are needed or not: one lost return does not change the noise of the next.
            let (noise, fate) = (random.normal(), random.uniform());
            let Some(hit) = caster.cast(origin, ray, lidar.max_range_m as f32) else { continue };
            let intensity = intensity(&hit, ray);
            // Weak returns get lost more often.
            if fate < lidar.dropout as f32 + 0.6 * (-intensity / 12.0).exp() {
                continue;
            }
            let range = hit.distance + noise * lidar.range_noise_m as f32;
            returns.push((sensor_point(&to_sensor, origin + ray * range), intensity.min(65_535.0) as u16));
        }
    }
    returns
}

fn sensor_point(to_sensor: &Isometry3<f64>, point: Vector) -> [f64; 3] {
    let point = to_sensor * Point3::new(f64::from(point.x), f64::from(point.y), f64::from(point.z));
    [point.x, point.y, point.z]
}

/// Reflectivity × cosine of the incidence, falling with the square of the range beyond 10 m.
fn intensity(hit: &Hit, ray: Vector) -> f32 {
    let cosine = hit.normal.dot(-ray).max(0.0);
    let near = (10.0 / hit.distance.max(10.0)).powi(2);
    FULL * reflectivity(hit) * cosine * near
}

/// Reflectivity at 850 nm, 0…1.
fn reflectivity(hit: &Hit) -> f32 {
    match hit.surface {
        Surface::Ground => 0.15 + 0.05 * grain((hit.point.x * 4.0) as i32, (hit.point.y * 4.0) as i32, 3),
        Surface::Facade { .. } => 0.45,
        // Near infrared cares little for colour; dark paint stays dark.
        Surface::Paint(colour) | Surface::Windows { colour, .. } => {
            0.2 + 0.6 * colour.iter().sum::<f32>() / 3.0
        }
        Surface::Glass => 0.06,
        Surface::Wheel | Surface::Chassis => 0.08,
        Surface::Lamp | Surface::TailLamp => 0.9,
        Surface::Bark | Surface::Pole => 0.3,
        Surface::Leaves | Surface::Skin(_) => 0.5,
        Surface::Cloth(colour) | Surface::Hair(colour) => 0.15 + 0.5 * colour.iter().sum::<f32>() / 3.0,
    }
}

/// The file: x y z in metres (double, to the millimetre), intensity (ushort).
pub(super) fn ply(returns: &[Return]) -> Vec<u8> {
    let mut file = format!(
        "ply\nformat ascii 1.0\nelement vertex {}\nproperty double x\nproperty double y\nproperty double z\n\
         property ushort intensity\nend_header\n",
        returns.len()
    )
    .into_bytes();
    file.reserve(returns.len() * 27);
    for ([x, y, z], intensity) in returns {
        // Writing into memory does not fail.
        let _ = writeln!(file, "{x:.3} {y:.3} {z:.3} {intensity}");
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Axes;
    use crate::simulate::world::World;

    #[test]
    fn the_ground_lies_flat_in_any_axes() {
        for axes in [Axes::RightForwardUp, Axes::ForwardLeftUp] {
            let mut scene = Scene::default();
            scene.pose.lidar.axes = axes;
            scene.lidar = crate::simulate::scene::Lidar { range_noise_m: 0.0, ..scene.lidar };
            let returns = observe(&scene, &World::new(&scene).empty(), 0, 0);
            let to_unit = space::sensor_to_unit(&scene.pose.lidar);
            let low =
                returns.iter().map(|(point, _)| (to_unit * Point3::from(*point)).z).fold(f64::MAX, f64::min);
            assert!(low.abs() < 1e-4, "{low}");
            assert!(returns.len() > 8000, "{}", returns.len());
        }
    }
}
