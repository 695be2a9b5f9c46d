//! The same truck is in the image, the map, the cloud and the channel.

use mmsense::sample::{Data, Stream};
use mmsense::simulate::camera::project;
use mmsense::simulate::solid::ObjectId;
use mmsense::simulate::{Instance, Scene, Twin};

use crate::support::{decode, scene};

const FIRST: Instance = Instance { sequence: 0, frame: 0 };
/// Its middle stands at x = 8, y = 6.5 and drives to the right.
const TRUCK: &str = "{ kind = \"truck\", lane = 0, at_m = 8.0, speed_mps = 6.0 }";

fn image(scene: &Scene) -> image::RgbImage {
    let twin = Twin::new(scene);
    let jpeg = twin.camera(FIRST, &twin.caster(FIRST), &twin.background()).unwrap();
    match decode(scene, Stream::Camera, jpeg) {
        Data::Image(image) => (*image).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_in_the_image_where_it_projects_to() {
    let (with, without) = (scene(TRUCK), scene(""));
    let (seen, empty) = (image(&with), image(&without));
    let change = |point: [f64; 3]| {
        let [x, y] = project(&with, point).unwrap();
        let (a, b) = (seen.get_pixel(x as u32, y as u32), empty.get_pixel(x as u32, y as u32));
        a.0.iter().zip(b.0).map(|(a, b)| i32::from(a.abs_diff(b))).sum::<i32>()
    };
    // Its near side, and the street to the left of it, where nothing has changed.
    assert!(change([4.0, 5.25, 2.2]) > 40, "{}", change([4.0, 5.25, 2.2]));
    assert!(change([-5.0, 9.0, 0.0]) < 40, "{}", change([-5.0, 9.0, 0.0]));
}

#[test]
fn it_is_in_the_cloud_as_large_as_it_is() {
    let scene = scene(TRUCK);
    let twin = Twin::new(&scene);
    let caster = twin.caster(FIRST);
    let bounds = caster.bounds(ObjectId::vehicle(0)).unwrap();
    let Data::Cloud(cloud) = decode(&scene, Stream::Lidar, twin.lidar(FIRST, &caster)) else { panic!() };
    let near_side: Vec<&[f32; 3]> = cloud
        .points
        .iter()
        .filter(|[x, y, z]| (bounds.mins.x..bounds.maxs.x).contains(x) && (y - 5.25).abs() < 0.12 && *z > 1.1)
        .collect();
    assert!(near_side.len() > 50, "{}", near_side.len());
    assert!(near_side.iter().all(|[_, _, z]| *z < bounds.maxs.z + 0.1));
    let behind =
        cloud.points.iter().filter(|[x, y, z]| (x - 10.0).abs() < 1.0 && (9.0..12.0).contains(y) && *z < 0.5);
    assert_eq!(behind.count(), 0, "it throws a shadow");
}

#[test]
fn it_is_in_the_radar_map_with_its_speed() {
    let scene = scene(TRUCK);
    let twin = Twin::new(&scene);
    let Data::Radar(reading) = decode(&scene, Stream::Radar, twin.radar(FIRST, &twin.caster(FIRST))) else {
        panic!()
    };
    let strongest = reading.points.iter().find(|point| !point.is_static).unwrap();
    let [x, y, _] = strongest.position.map(f64::from);
    // Of its near side (y = 5.25, x from 2.5 to 13.5) the nearest corner is seen best.
    let corner = 2.5f64.hypot(5.25);
    assert!((x.hypot(y) - corner).abs() < 3.0 * 0.195, "{x} {y} is {} m away", x.hypot(y));
    let speed = 6.0 * x / x.hypot(y);
    assert!(x > 0.0 && (f64::from(strongest.doppler_mps) - speed).abs() < 0.7, "{strongest:?}, {speed} m/s");
    // Driving towards the radar, it comes nearer.
    let coming = crate::support::scene("{ kind = \"truck\", lane = 0, at_m = -12.0, speed_mps = 6.0 }");
    let twin = Twin::new(&coming);
    let Data::Radar(reading) = decode(&coming, Stream::Radar, twin.radar(FIRST, &twin.caster(FIRST))) else {
        panic!()
    };
    let strongest = reading.points.iter().find(|point| !point.is_static).unwrap();
    assert!(strongest.position[0] < 0.0 && strongest.doppler_mps < -2.0, "{strongest:?}");
}

#[test]
fn it_cuts_the_link_when_it_stands_in_the_line_of_sight() {
    let [free, cut] = [TRUCK, "{ kind = \"truck\", lane = 0, at_m = 0.0 }"].map(|truck| {
        let scene = scene(truck);
        let twin = Twin::new(&scene);
        twin.links(FIRST, 0.0).remove(0).unwrap()
    });
    assert!(!free.is_blocked && cut.is_blocked);
    // The UE is straight ahead: one of the beams in the middle, of an array with errors.
    assert!((29..=34).contains(&free.best_clean.0), "{}", free.best_clean.0);
    assert!(free.excess_db < 1.0 && free.is_line_of_sight && !cut.is_line_of_sight, "{}", free.excess_db);
    assert!((20.0..40.0).contains(&cut.excess_db), "{}", cut.excess_db);
    let drop_db = 10.0 * (free.best().1 / cut.best().1).log10();
    assert!(drop_db > 6.0, "{drop_db} dB");
    let floor = free.power.iter().copied().fold(f64::MAX, f64::min);
    assert!(10.0 * (free.best().1 / floor).log10() > 8.0);
}
