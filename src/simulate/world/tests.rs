use super::super::scene::{Flow, Lane, LaneKind, Mix, Stop, Traffic};
use super::*;

fn vehicle(kind: VehicleKind, lane: usize, at_m: f64, speed_mps: f64) -> Vehicle {
    Vehicle { kind, lane, at_m, speed_mps, ..Vehicle::default() }
}

fn scene() -> Scene {
    let traffic = Traffic {
        seconds: 5.0,
        ue: vec![vehicle(VehicleKind::Car, 3, 5.0, -2.0)],
        vehicles: vec![vehicle(VehicleKind::Truck, 0, -3.0, 10.0)],
        ..Traffic::default()
    };
    Scene { sequence: vec![traffic], ..Scene::default() }
}

#[test]
fn a_vehicle_on_a_free_road_drives_and_keeps_its_size() {
    let scene = scene();
    let bounds = World::new(&scene).at(&scene, 0, 0.5).bounds(ObjectId::vehicle(0)).unwrap();
    let size = bounds.maxs - bounds.mins;
    assert!((bounds.center().x - 2.0).abs() < 0.05, "{bounds:?}");
    assert!(
        (size.x - 11.0).abs() < 0.1 && (size.y - 2.54).abs() < 0.1 && (size.z - 3.8).abs() < 1e-4,
        "{size}"
    );
    assert!(bounds.mins.z.abs() < 1e-4);
}

#[test]
fn the_antenna_stands_clear_of_its_own_roof_and_moves_with_it() {
    let scene = scene();
    let world = World::new(&scene);
    let caster = world.at(&scene, 0, 4.0);
    let [antenna] = world.antennas(0, 4.0)[..] else { panic!() };
    assert!((antenna.position - Vector::new(-3.0, 17.0, 1.6)).length() < 1e-3, "{antenna:?}");
    assert!(
        (antenna.velocity - Vector::new(-2.0, 0.0, 0.0)).length() < 1e-3 && antenna.object == ObjectId::UE
    );
    let unit = Vector::new(0.0, 0.0, 3.5);
    assert!(caster.is_free(unit, antenna.position));
    assert!(!caster.is_free(unit, antenna.position - Vector::Z * 0.5));
}

/// Lanes of three kinds, a light that is not there, lane changes, a bus that stops.
fn busy() -> Scene {
    let walk = |y: f64| Lane {
        kind: LaneKind::Walk,
        points_m: vec![[-80.0, y], [80.0, y]],
        width_m: 2.0,
        ..Lane::default()
    };
    let flow =
        |lanes: &[usize], per_minute: f64| Flow { lanes: lanes.to_vec(), per_minute, ..Flow::default() };
    let bus = Flow {
        mix: Mix { bus: 1.0, ..Mix::default() },
        stops: vec![Stop { at_m: 8.0, seconds: 6.0, chance: 1.0 }],
        ..flow(&[0], 2.0)
    };
    let ue = vec![Vehicle { desired_mps: Some(9.0), ..vehicle(VehicleKind::Car, 3, 30.0, -9.0) }];
    let traffic = Traffic { seconds: 60.0, repeat: 2, ue, ..Traffic::default() };
    Scene {
        lane: vec![walk(2.5), walk(21.0)],
        flow: vec![flow(&[0, 1, 2, 3], 12.0), flow(&[4, 5], 8.0), bus],
        sequence: vec![traffic],
        ..Scene::default()
    }
}

#[test]
fn velocities_are_the_derivatives_of_places() {
    let scene = busy();
    let world = World::new(&scene);
    let (mut slid, mut seen) = (0, 0);
    for step in 0..200 {
        let seconds = 0.313 * f64::from(step) % 58.0 + 0.021;
        let h = 0.01;
        let at = |seconds: f64| world.samples(0, seconds).collect::<Vec<_>>();
        let (before, now, after) = (at(seconds - h), at(seconds), at(seconds + h));
        for one in &now {
            let find = |all: &[Sample]| all.iter().find(|other| other.who.id == one.who.id).copied();
            let (Some(a), Some(b)) = (find(&before), find(&after)) else { continue };
            for axis in 0..2 {
                let found = (b.at[axis] - a.at[axis]) / (2.0 * h);
                assert!((found - one.velocity[axis]).abs() < 0.03, "{found} instead of {one:?}");
            }
            let turned = (b.heading - a.heading) / (2.0 * h);
            assert!((turned - one.turning).abs() < 0.02, "{turned} instead of {one:?}");
            slid += usize::from(one.velocity[1].abs() > 0.3);
            seen += 1;
        }
    }
    assert!(seen > 2000 && slid > 10, "{seen} seen, {slid} of them while they changed lanes");
}

#[test]
fn the_same_scene_gives_the_same_traffic_and_repetitions_differ() {
    let scene = busy();
    let (one, other) = (World::new(&scene), World::new(&scene));
    // The order in which sequences are asked for does not matter.
    let _ = other.objects(1, 3.0);
    assert_eq!(one.objects(0, 12.3), other.objects(0, 12.3));
    assert_ne!(one.objects(0, 12.3), one.objects(1, 12.3));
    let ue = |sequence: usize| one.antennas(sequence, 0.0)[0].position;
    assert_eq!(ue(0), ue(1), "it begins where it is put");
}

#[test]
fn flat_sides_mirror_and_cars_do_not() {
    let mut scene = scene();
    scene.sequence[0].vehicles.push(vehicle(VehicleKind::Car, 2, 20.0, 0.0));
    let world = World::new(&scene);
    let caster = world.at(&scene, 0, 0.0);
    let reflectors = world.reflectors(&caster);
    let of = |object: ObjectId| reflectors.iter().filter(|one| one.object == object).collect::<Vec<_>>();
    assert!(of(ObjectId::vehicle(1)).is_empty());
    // The near side of the truck's box: y = 5.25 before the truck, towards the unit.
    let near = of(ObjectId::vehicle(0));
    let near = near.iter().find(|one| one.normal.y < -0.99 && one.half_width > 3.0).unwrap();
    assert!((near.centre.y - 5.25).abs() < 1e-4 && near.normal.dot(near.along).abs() < 1e-6);
    let hit = caster.cast(near.centre + near.normal, -near.normal, 2.0).unwrap();
    assert!((hit.distance - 1.0).abs() < 0.05 && hit.object == near.object, "{hit:?}");
    let fronts = reflectors.iter().filter(|one| one.normal.y < -0.99 && one.half_height > 3.0).count();
    let is_house = |solid: &&Solid| matches!(solid.surface, Surface::Facade { .. });
    assert!(fronts > 0);
    assert_eq!(fronts, caster.still().iter().filter(is_house).count());
}

#[test]
fn a_lamp_burns_under_its_head() {
    let scene = scene();
    let world = World::new(&scene);
    assert!(world.lamps().len() > 10);
    for &lamp in world.lamps() {
        let hit = world.empty().cast(lamp, Vector::Z, 1.0).unwrap();
        assert_eq!(hit.surface, Surface::StreetLamp);
    }
}
