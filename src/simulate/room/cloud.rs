//! The LiDAR of a room: the part of an Ouster's turn in which the person is.

use nalgebra::Point3;

use super::RoomScene;
use crate::simulate::caster::Caster;
use crate::simulate::lidar;
use crate::simulate::random::{Purpose, Random};
use crate::simulate::scene;
use crate::space;

/// The returns of a turn that lie in the box of `[lidar]`, in the sensor's own axes, metres; ring by ring from the
/// lowest, left to right.
#[must_use]
pub fn observe(scene: &RoomScene, caster: &Caster, sequence: usize, frame: usize) -> Vec<[f64; 3]> {
    let keys = &scene.lidar;
    let mount = space::mount_to_unit(&scene.pose.lidar);
    let to_own = space::sensor_to_unit(&scene.pose.lidar).inverse() * mount;
    // Columns that can meet the box.
    let turn = 360.0 / keys.columns as f64;
    let widest = (keys.side_m / keys.near_m).atan().to_degrees();
    let columns = (2 * (widest / turn).ceil() as usize).min(keys.columns);
    let numbers = scene::Lidar {
        rings: keys.rings,
        columns,
        fov_deg: columns as f64 * turn,
        lowest_deg: keys.lowest_deg,
        highest_deg: keys.highest_deg,
        range_noise_m: keys.range_noise_m,
        dropout: keys.dropout,
        ..scene::Lidar::default()
    };
    let mut random = Random::new(scene.seed, sequence, frame, Purpose::Lidar);
    lidar::points(caster, &mount, &numbers, &mut random)
        .into_iter()
        .filter(|([right, ahead, _], _)| {
            (keys.near_m..=keys.far_m).contains(ahead) && right.abs() <= keys.side_m
        })
        .map(|(point, _)| {
            let own = to_own * Point3::from(point);
            [own.x, own.y, own.z]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Performer, Room};
    use super::*;
    use crate::simulate::motion::Activity;

    #[test]
    fn the_person_is_in_the_cloud_in_the_sensors_axes() {
        let scene = RoomScene::default();
        let performer = Performer::new(&scene, 4, Activity::new(2).unwrap());
        let caster = performer.caster(&Room::new(1, Environment::of(4)), 2.0);
        let points = observe(&scene, &caster, 0, 0);
        // Forward, left, up.
        let [x, y, z] = [0, 1, 2].map(|axis| {
            let values = points.iter().map(|point| point[axis]);
            (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max))
        });
        assert!(x.0 >= 1.5 && x.1 <= 4.5 && y.0 >= -1.6 && y.1 <= 1.6, "{x:?} {y:?}");
        assert!((z.0 + 1.25).abs() < 0.06, "the floor lies 1.25 m below: {z:?}");
        let middle = performer.place().translation;
        let on_person = points.iter().filter(|[x, y, z]| {
            let (ahead, left) = (*x as f32 + 0.1 - middle.y, *y as f32 + middle.x);
            ahead.hypot(left) < 0.6 && *z > -1.1
        });
        let on_person = on_person.count();
        assert!((150..900).contains(&on_person), "{on_person} of {}", points.len());
    }
}
