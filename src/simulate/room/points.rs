//! The radar of a room: points as an FMCW radar with its own detection gives them, by `simulate::radar`'s
//! model of such a one.

use nalgebra::Point3;

use super::RoomScene;
use crate::simulate::caster::Caster;
use crate::simulate::radar::{self, RoomRadar};
use crate::simulate::random::{Purpose, Random};
use crate::space;

/// A detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// In the sensor's own axes, metres.
    pub position: [f64; 3],
    /// Radial speed, m/s, positive away.
    pub doppler_mps: f64,
    /// Signal-to-noise ratio, dB.
    pub snr_db: f64,
}

/// What the radar detects, strongest first, at most `radar.most`.
#[must_use]
pub fn observe(scene: &RoomScene, caster: &Caster, sequence: usize, frame: usize) -> Vec<Point> {
    let mut random = Random::new(scene.seed, sequence, frame, Purpose::Radar);
    let mount = space::mount_to_unit(&scene.pose.radar);
    let to_own = space::sensor_to_unit(&scene.pose.radar).inverse() * mount;
    let keys = &scene.radar;
    let numbers = RoomRadar {
        range_bin_m: keys.range_bin_m,
        speed_bin_mps: keys.doppler_bin_mps,
        samples: keys.range_bins,
        chirps: keys.doppler_bins,
        transmit_dbm: keys.transmit_dbm,
        threshold_db: keys.threshold_db,
        speed_threshold_db: keys.speed_threshold_db,
        removes_still: keys.removes_still,
        ..RoomRadar::default()
    };
    let mut points: Vec<Point> = radar::points(caster, &mount, &numbers, &mut random)
        .into_iter()
        .map(|found| {
            let own = to_own * Point3::from(found.position);
            Point { position: [own.x, own.y, own.z], doppler_mps: found.doppler, snr_db: found.intensity }
        })
        .collect();
    points.sort_by(|a, b| b.snr_db.total_cmp(&a.snr_db));
    points.truncate(keys.most);
    points
}

#[cfg(test)]
mod tests {
    use nalgebra::Vector3;

    use super::super::{Environment, Performer, Room};
    use super::*;
    use crate::simulate::body::Joint;
    use crate::simulate::motion::Activity;

    #[test]
    fn points_lie_on_the_person_in_the_sensors_axes_and_have_its_speeds() {
        let scene = RoomScene::default();
        let performer = Performer::new(&scene, 2, Activity::JUMP);
        let room = Room::new(1, Environment::of(2));
        let (mut near, mut all, mut fastest) = (0, 0, 0.0f64);
        for frame in 0..40 {
            let seconds = frame as f32 / 10.0;
            let points = observe(&scene, &performer.caster(&room, seconds), 0, frame);
            assert!(points.len() <= scene.radar.most);
            let middle = performer.place().transform_point(performer.skeleton(seconds).joint(Joint::Spine));
            for point in points {
                // Forward, left, up, from the radar at (0, 0.05, 1.15).
                let [x, y, z] = point.position;
                let [right, ahead, up] = [middle.x, middle.y, middle.z].map(f64::from);
                let off = Vector3::new(-y - right, x + 0.05 - ahead, z + 1.15 - up);
                all += 1;
                near += usize::from(off.norm() < 1.5);
                fastest = fastest.max(point.doppler_mps.abs());
            }
        }
        assert!(all > 100 && near as f64 > 0.9 * all as f64, "{near} of {all}");
        assert!((0.5..4.5).contains(&fastest), "{fastest} m/s");
    }
}
