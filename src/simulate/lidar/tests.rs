//! Clouds of streets, in good and in bad weather.

use std::sync::Arc;

use parry3d::bounding_volume::Aabb;

use super::*;
use crate::config::Axes;
use crate::simulate::caster::Solids;
use crate::simulate::scene::{Traffic, Vehicle};
use crate::simulate::solid::{ObjectId, Solid, Surface};
use crate::simulate::world::World;

fn range(point: &[f64; 3]) -> f64 {
    point.iter().map(|axis| axis * axis).sum::<f64>().sqrt()
}

fn cloud(weather: Weather) -> Vec<Return> {
    let car = Vehicle { lane: 1, at_m: -4.0, ..Vehicle::default() };
    let ue = Vehicle { lane: 3, ..Vehicle::default() };
    let traffic = Traffic { seconds: 1.0, ue: vec![ue], vehicles: vec![car], ..Traffic::default() };
    let scene = Scene { sequence: vec![traffic], weather, ..Scene::default() };
    observe(&scene, &World::new(&scene).at(&scene, 0, 0.0), 0, 0)
}

#[test]
fn the_ground_lies_flat_in_any_axes() {
    for axes in [Axes::RightForwardUp, Axes::ForwardLeftUp] {
        let mut scene = Scene::default();
        scene.pose.lidar.axes = axes;
        scene.lidar = Lidar { range_noise_m: 0.0, ..scene.lidar };
        let returns = observe(&scene, &World::new(&scene).empty(), 0, 0);
        let to_unit = space::sensor_to_unit(&scene.pose.lidar);
        let low =
            returns.iter().map(|(point, _)| (to_unit * Point3::from(*point)).z).fold(f64::MAX, f64::min);
        // Beams that straddle an edge mix ranges, and mixed places lie a little off.
        assert!(low > -0.1, "{low}");
        let flat =
            returns.iter().filter(|(point, _)| (to_unit * Point3::from(*point)).z.abs() < 1e-3).count();
        assert!(returns.len() > 12_000 && flat > 6_000, "{flat} of {}", returns.len());
    }
}

#[test]
fn rain_and_fog_shorten_the_range_the_more_the_denser_they_are() {
    // Returns beyond 8 m, and the range that one in a hundred of them exceeds.
    let far = |weather: Weather| {
        let mut far: Vec<f64> =
            cloud(weather).iter().map(|(p, _)| range(p)).filter(|range| *range > 8.0).collect();
        far.sort_by(f64::total_cmp);
        (far.len(), far[far.len() * 99 / 100])
    };
    let rain = [0.0, 5.0, 25.0, 100.0].map(|rain_mm_h| far(Weather { rain_mm_h, ..Weather::default() }));
    let fog = [20_000.0, 300.0, 100.0, 40.0]
        .map(|visibility_m| far(Weather { visibility_m, ..Weather::default() }));
    for series in [rain, fog] {
        assert!(series.windows(2).all(|pair| pair[1].0 < pair[0].0), "{series:?}");
        assert!(series[3].1 < series[0].1, "{series:?}");
    }
    // In fog of 40 m nothing far away is left, and the sensor sees the fog around it.
    assert!(fog[3].1 < 45.0, "{fog:?}");
    let near = |weather: Weather| cloud(weather).iter().filter(|(p, _)| range(p) < 3.0).count();
    assert!(
        near(Weather::default()) == 0 && near(Weather { visibility_m: 40.0, ..Weather::default() }) > 3000
    );
    let drops = near(Weather { rain_mm_h: 40.0, ..Weather::default() });
    assert!((20..3000).contains(&drops), "{drops}");
}

#[test]
fn a_wall_is_lost_where_the_data_sheet_says() {
    let seen = |y: f32| {
        let facade = Surface::Facade { colour: [0.5; 3], number: 1 };
        let bounds = Aabb::new(Vector::new(-50.0, y, 0.0), Vector::new(50.0, y + 1.0, 50.0));
        let wall = Solid::upright(bounds, ObjectId(1), facade);
        let caster = Caster::new(Arc::new(Solids::new(vec![wall])), Solids::default());
        let lidar = Lidar {
            rings: 32,
            columns: 64,
            fov_deg: 4.0,
            lowest_deg: -2.0,
            highest_deg: 2.0,
            dropout: 0.0,
            ..Lidar::default()
        };
        let mut random = Random::new(1, 0, 0, Purpose::Lidar);
        let returns = points(&caster, &Isometry3::translation(0.0, 0.0, 25.0), &lidar, &mut random);
        let ranges: Vec<f64> = returns.iter().map(|([_, y, _], _)| *y).collect();
        let mean = ranges.iter().sum::<f64>() / ranges.len() as f64;
        let variance = ranges.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / ranges.len() as f64;
        (returns.len() as f64 / (32.0 * 64.0), variance.sqrt())
    };
    // A facade's 45 % are at 90 m what 80 % are at 120 m; clear air takes 2.7 % there and back, so that Φ(−0.09) = 46 % are
    // seen. At 80 m the signal is 1.236 and Φ(0.82) = 79 %, at 100 m 0.786 and Φ(−0.74) = 23 %.
    for (y, expected) in [(30.0, 1.0), (80.0, 0.79), (90.0, 0.46), (100.0, 0.23), (125.0, 0.0)] {
        assert!((seen(y).0 - expected).abs() < 0.05, "{y} m: {}", seen(y).0);
    }
    // The range of a strong echo is off by 1.5 cm, that at a signal-to-noise ratio of 100 by 3 to 4 cm: 30 m.
    assert!((seen(5.0).1 - 0.0153).abs() < 0.002, "{}", seen(5.0).1);
    assert!((0.03..0.045).contains(&seen(31.0).1), "{}", seen(31.0).1);
}

#[test]
fn a_narrow_field_is_a_part_of_the_turn() {
    let scene = Scene {
        lidar: Lidar { fov_deg: 90.0, columns: 256, range_noise_m: 0.0, ..Lidar::default() },
        ..Scene::default()
    };
    let returns = observe(&scene, &World::new(&scene).empty(), 0, 0);
    assert!(returns.iter().all(|([x, y, _], _)| *y > 0.0 && x.abs() <= y.abs() * 1.6));
}

#[test]
fn every_thread_gives_the_same_bytes() {
    let make = || file(CloudFormat::Pcd, &cloud(Weather { rain_mm_h: 10.0, ..Weather::default() }));
    let here = make();
    let there = std::thread::spawn(make).join().unwrap();
    assert!(here == there);
}

#[test]
fn a_room_has_points_in_the_axes_of_the_mount() {
    let scene = Scene::default();
    let caster = World::new(&scene).empty();
    let mount = Isometry3::translation(0.0, 0.0, 1.0);
    let lidar = Lidar { rings: 16, columns: 90, fov_deg: 90.0, turn_s: 0.0, ..Lidar::default() };
    let mut random = Random::new(1, 0, 0, Purpose::Lidar);
    let points = points(&caster, &mount, &lidar, &mut random);
    let floor = points.iter().filter(|([_, y, z], _)| (z + 1.0).abs() < 0.05 && *y > 0.0).count();
    assert!(floor > 200, "{floor} of {}", points.len());
}

#[test]
fn returns_on_an_object_are_those_of_the_scan() {
    let car = Vehicle { lane: 1, at_m: -4.0, ..Vehicle::default() };
    let ue = Vehicle { lane: 3, ..Vehicle::default() };
    let traffic = Traffic { seconds: 1.0, ue: vec![ue], vehicles: vec![car], ..Traffic::default() };
    let weather = Weather { rain_mm_h: 10.0, ..Weather::default() };
    let mut scene = Scene { sequence: vec![traffic], weather, ..Scene::default() };
    scene.lidar.range_noise_m = 0.0;
    scene.lidar.turn_s = 0.0;
    let world = World::new(&scene);
    let caster = world.at(&scene, 0, 0.0);
    let object = ObjectId::vehicle(0);
    let bounds = caster.bounds(object).unwrap();
    let on = |scene: &Scene| {
        let middle = (bounds.mins + bounds.maxs) / 2.0;
        let at = Instance { sequence: 0, frame: 0 };
        returns_on(scene, &caster, at, object, middle, (bounds.maxs - middle).length())
    };
    let to_unit = space::sensor_to_unit(&scene.pose.lidar);
    let inside = |(point, _): &&Return| {
        let point = (to_unit * Point3::from(*point)).map(|metres| metres as f32);
        let point = Vector::new(point.x, point.y, point.z);
        // The ground under it is not the car; what is seen through its panes lies a little behind them.
        (bounds.mins - Vector::splat(0.02)).cmple(point).all()
            && point.cmple(bounds.maxs + Vector::splat(0.02)).all()
            && point.z > 0.05
    };
    let scan = observe(&scene, &caster, 0, 0).iter().filter(inside).count();
    assert!(scan > 50 && on(&scene).abs_diff(scan) <= scan / 20 + 2, "{} {scan}", on(&scene));
    scene.sequence[0].faults.lidar_soiling = 1.0;
    assert!(on(&scene) < 5 && observe(&scene, &caster, 0, 0).len() < 3000);
}
