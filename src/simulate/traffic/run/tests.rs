use super::super::tracks;
use super::*;
use crate::simulate::scene::{Lane, Light, Mix};

fn vehicle(kind: VehicleKind, lane: usize, at_m: f64, speed_mps: f64) -> Vehicle {
    Vehicle { kind, lane, at_m, speed_mps, ..Vehicle::default() }
}

fn traffic(seconds: f64, vehicles: Vec<Vehicle>) -> Traffic {
    let ue = vec![vehicle(VehicleKind::Car, 3, 0.0, 0.0)];
    Traffic { seconds, ue, vehicles, ..Traffic::default() }
}

fn run(scene: &Scene) -> (Vec<Track>, Run) {
    let tracks = tracks(scene);
    let run = Run::new(scene, &tracks, 0);
    (tracks, run)
}

fn of(run: &Run, tracks: &[Track], id: ObjectId, seconds: f64) -> Option<Sample> {
    run.at(tracks, seconds).find(|sample| sample.who.id == id)
}

/// The corners of a footprint.
fn corners(sample: &Sample) -> [[f64; 2]; 4] {
    let [length, width, _] = sample.who.size.map(f64::from);
    let (sin, cos) = sample.heading.sin_cos();
    [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]].map(|[ahead, left]| {
        let (x, y) = (ahead * length / 2.0, left * width / 2.0);
        [sample.at[0] + x * cos - y * sin, sample.at[1] + x * sin + y * cos]
    })
}

/// Whether two footprints lie on each other: no side of either separates them.
fn overlap(one: &Sample, other: &Sample) -> bool {
    let (a, b) = (corners(one), corners(other));
    let is_apart = |heading: f64| {
        let (sin, cos) = heading.sin_cos();
        let span = |corners: &[[f64; 2]; 4]| {
            let along = corners.map(|[x, y]| x * cos + y * sin);
            (along.iter().copied().fold(f64::MAX, f64::min), along.iter().copied().fold(f64::MIN, f64::max))
        };
        let ((low, high), (other_low, other_high)) = (span(&a), span(&b));
        high < other_low || other_high < low
    };
    let turns = [0.0, std::f64::consts::FRAC_PI_2];
    ![one.heading, other.heading].iter().any(|heading| turns.iter().any(|turn| is_apart(heading + turn)))
}

#[test]
fn one_that_closes_in_follows_and_passes_where_it_may() {
    let mut behind = vehicle(VehicleKind::Car, 0, -60.0, 14.0);
    let ahead = vehicle(VehicleKind::Truck, 0, -20.0, 5.0);
    let follows =
        Scene { sequence: vec![traffic(12.0, vec![behind.clone(), ahead.clone()])], ..Scene::default() };
    let (tracks, kept) = run(&follows);
    let [car, truck] = [0, 1].map(|at| of(&kept, &tracks, ObjectId::vehicle(at), 11.9).unwrap());
    let gap = truck.at[0] - car.at[0] - (11.0 + 4.4) / 2.0;
    assert!((car.speed - 5.0).abs() < 0.6 && (4.0..16.0).contains(&gap), "{gap} m, {} m/s", car.speed);
    behind.lane_changes = true;
    let passes = Scene { sequence: vec![traffic(12.0, vec![behind, ahead])], ..Scene::default() };
    let (tracks, kept) = run(&passes);
    let car = of(&kept, &tracks, ObjectId::vehicle(0), 11.9).unwrap();
    assert!((car.at[1] - 10.0).abs() < 1e-6 && car.speed > 10.0, "{car:?}");
    // On the way it is between the lanes and looks to the left.
    let between = (0..120)
        .filter_map(|step| of(&kept, &tracks, ObjectId::vehicle(0), f64::from(step) * 0.1))
        .filter(|car| (7.5..9.0).contains(&car.at[1]))
        .collect::<Vec<_>>();
    assert!(between.len() > 3 && between.iter().all(|car| car.heading > 0.02 && car.heading < 0.3));
}

#[test]
fn a_red_light_makes_a_queue_that_green_lets_go() {
    let light = Light { lanes: vec![0], at_m: 20.0, green_s: 30.0, red_s: 20.0, offset_s: Some(30.0) };
    let vehicles: Vec<Vehicle> =
        (0..4).map(|at| vehicle(VehicleKind::Car, 0, -20.0 - 25.0 * f64::from(at), 10.0)).collect();
    let scene = Scene { light: vec![light], sequence: vec![traffic(30.0, vehicles)], ..Scene::default() };
    let (tracks, run) = run(&scene);
    let at = |seconds: f64| [0, 1, 2, 3].map(|n| of(&run, &tracks, ObjectId::vehicle(n), seconds).unwrap());
    let queue = at(19.0);
    let front = queue[0].at[0] + 2.2;
    assert!((17.5..20.0).contains(&front), "{front}");
    for pair in queue.windows(2) {
        let gap = pair[0].at[0] - pair[1].at[0] - 4.4;
        assert!((1.5..5.0).contains(&gap) && pair[1].speed < 0.7, "{gap} m, {} m/s", pair[1].speed);
    }
    let gone = at(28.0);
    assert!(gone[0].at[0] > 35.0 && gone[0].speed > 5.0 && gone[3].speed > 1.0, "{:?}", gone[3]);
}

#[test]
fn a_truck_stands_where_and_as_long_as_it_is_told() {
    let mut truck = vehicle(VehicleKind::Truck, 0, -40.0, 9.0);
    truck.stops = vec![Stop { at_m: 1.0, seconds: 5.0, chance: 1.0 }];
    let scene = Scene { sequence: vec![traffic(35.0, vec![truck])], ..Scene::default() };
    let (tracks, run) = run(&scene);
    let standing: Vec<f64> = (0..350)
        .filter_map(|step| of(&run, &tracks, ObjectId::vehicle(0), f64::from(step) * 0.1))
        .filter(|truck| truck.speed < 0.2)
        .map(|truck| truck.at[0])
        .collect();
    assert!((45..75).contains(&standing.len()), "{}", standing.len());
    assert!(standing.iter().all(|x| (x - 1.0).abs() < 1.0), "{standing:?}");
    assert!(of(&run, &tracks, ObjectId::vehicle(0), 34.0).is_none_or(|truck| truck.at[0] > 30.0));
}

#[test]
fn those_who_are_put_there_take_no_room_from_each_other() {
    let flow = Flow { lanes: vec![0, 1, 2, 3], per_minute: 25.0, ..Flow::default() };
    let placed = vec![vehicle(VehicleKind::Bus, 1, 0.0, 0.0), vehicle(VehicleKind::Car, 2, 3.0, -12.0)];
    let scene = Scene { flow: vec![flow], sequence: vec![traffic(60.0, placed)], ..Scene::default() };
    let (tracks, run) = run(&scene);
    assert_eq!(collisions(&run, &tracks, 60.0), Vec::<String>::new());
}

fn collisions(run: &Run, tracks: &[Track], seconds: f64) -> Vec<String> {
    let mut found = Vec::new();
    for step in 0..(seconds * 10.0) as usize {
        let at = step as f64 * 0.1;
        let all: Vec<Sample> = run.at(tracks, at).collect();
        for (number, one) in all.iter().enumerate() {
            for other in all.iter().take(number) {
                let both_walk = [one, other].iter().all(|one| one.who.kind == VehicleKind::Pedestrian);
                if !both_walk && overlap(one, other) {
                    found.push(format!(
                        "{at:.1} s: {:?} {:?}\n{:?} {:?}",
                        one.who.kind, one, other.who.kind, other
                    ));
                }
            }
        }
    }
    found.truncate(3);
    found
}

#[test]
fn people_cross_and_nobody_is_run_over() {
    let crossing = Lane {
        kind: LaneKind::Crossing,
        points_m: vec![[4.0, -6.0], [4.0, 24.0]],
        width_m: 3.0,
        ..Lane::default()
    };
    let scene = Scene {
        lane: vec![crossing],
        flow: vec![
            Flow { lanes: vec![0, 1, 2, 3], per_minute: 8.0, ..Flow::default() },
            Flow { lanes: vec![4], per_minute: 4.0, ..Flow::default() },
        ],
        sequence: vec![Traffic {
            ue: vec![vehicle(VehicleKind::Car, 3, 30.0, -8.0)],
            ..traffic(180.0, Vec::new())
        }],
        ..Scene::default()
    };
    let (tracks, run) = run(&scene);
    assert_eq!(collisions(&run, &tracks, 180.0), Vec::<String>::new());
    let crossed = run
        .logs
        .iter()
        .filter(|log| log.who.kind == VehicleKind::Pedestrian)
        .filter(|log| {
            let ends = log.legs.first().zip(log.legs.last());
            ends.is_some_and(|(first, last)| first.knots[0][0] < 5.0 && last.knots.last().unwrap()[0] > 28.0)
        })
        .count();
    assert!(crossed >= 5, "{crossed} have crossed");
}

#[test]
fn headways_are_those_of_a_road() {
    let mix = Mix { car: 1.0, ..Mix::default() };
    let flow = Flow { lanes: vec![0, 1, 2], per_minute: 15.0, mix, ..Flow::default() };
    let scene = Scene { flow: vec![flow], sequence: vec![traffic(120.0, Vec::new())], ..Scene::default() };
    let (tracks, run) = run(&scene);
    let mut headways = Vec::new();
    for step in 0..240 {
        let all: Vec<Sample> = run.at(&tracks, f64::from(step) * 0.5).collect();
        for one in all.iter().filter(|one| one.speed > 5.0) {
            let ahead = all.iter().filter(|other| {
                (other.at[1] - one.at[1]).abs() < 1.0 && (other.at[0] - one.at[0]) * one.velocity[0] > 0.0
            });
            let gap = ahead.map(|other| {
                (other.at[0] - one.at[0]).abs() - f64::from(other.who.size[0] + one.who.size[0]) / 2.0
            });
            headways.extend(gap.min_by(f64::total_cmp).map(|gap| gap / one.speed));
        }
    }
    headways.sort_by(f64::total_cmp);
    let at = |share: f64| headways[(share * (headways.len() - 1) as f64) as usize];
    assert!(
        headways.len() > 1000 && at(0.01) > 0.5 && (1.2..6.0).contains(&at(0.5)),
        "{} {}",
        at(0.01),
        at(0.5)
    );
}

#[test]
fn twenty_minutes_take_little_memory() {
    let flow = Flow { lanes: vec![0, 1, 2, 3], per_minute: 12.0, ..Flow::default() };
    let scene = Scene { flow: vec![flow], sequence: vec![traffic(1200.0, Vec::new())], ..Scene::default() };
    let (_, run) = run(&scene);
    assert!(
        run.logs.len() > 600 && run.bytes() < 8_000_000,
        "{} logs, {} bytes",
        run.logs.len(),
        run.bytes()
    );
}

#[test]
fn a_bend_is_driven_slowly_and_on_its_arc() {
    let lane = Lane { points_m: vec![[-60.0, 12.0], [0.0, 12.0], [0.0, 60.0]], ..Lane::default() };
    let mut scene = Scene {
        lane: vec![lane],
        sequence: vec![traffic(20.0, vec![vehicle(VehicleKind::Car, 0, -30.0, 12.0)])],
        ..Scene::default()
    };
    scene.street.lanes_y_m.clear();
    scene.sequence[0].ue = vec![Vehicle { place_m: Some([0.0, 20.0]), ..Vehicle::default() }];
    let (tracks, run) = run(&scene);
    let in_bend: Vec<Sample> = (0..200)
        .filter_map(|step| of(&run, &tracks, ObjectId::vehicle(0), f64::from(step) * 0.1))
        .filter(|car| (-6.0..-1.0).contains(&car.at[0]) && car.at[1] < 19.0)
        .collect();
    assert!(in_bend.len() > 5, "{}", in_bend.len());
    for car in in_bend {
        let radius = (car.at[0] + 8.0).hypot(car.at[1] - 20.0);
        assert!((radius - 8.0).abs() < 1e-6 && car.speed < 4.9 && car.turning > 0.2, "{radius} {car:?}");
    }
}

#[test]
fn clocks_that_run_ahead_or_behind_see_the_traffic_at_their_time() {
    let mut scene = Scene {
        sequence: vec![traffic(2.0, vec![vehicle(VehicleKind::Car, 1, -20.0, 10.0)])],
        ..Scene::default()
    };
    scene.flow = vec![Flow { lanes: vec![0], per_minute: 20.0, ..Flow::default() }];
    let (tracks, exact) = run(&scene);
    scene.timing.camera.offset_ms = -700.0;
    scene.timing.link.offset_ms = 400.0;
    scene.timing.link.jitter_ms = 10.0;
    let (_, early) = run(&scene);
    let x =
        |run: &Run, seconds: f64| of(run, &tracks, ObjectId::vehicle(0), seconds).map(|sample| sample.at[0]);
    // It comes at 10 m/s, and goes on after the end.
    assert!((x(&early, -0.7).unwrap() + 27.0).abs() < 1e-3, "{:?}", x(&early, -0.7));
    assert!((x(&early, -0.35).unwrap() + 23.5).abs() < 1e-3);
    assert!(x(&early, 2.43).unwrap() > x(&early, 2.0).unwrap() + 3.0);
    // Within the sequence nothing is otherwise.
    for step in 0..20 {
        let seconds = f64::from(step) * 0.1;
        let [a, b]: [Vec<Sample>; 2] = [&exact, &early].map(|run| run.at(&tracks, seconds).collect());
        assert_eq!(a, b, "{seconds}");
    }
    // Who comes by itself moves before the beginning, too.
    let all: Vec<Sample> = early.at(&tracks, 0.0).filter(|one| one.who.id.0 >= ObjectId::FLOW.0).collect();
    assert!(!all.is_empty());
    for one in all.iter().filter(|one| one.speed > 5.0) {
        let before = of(&early, &tracks, one.who.id, -0.5);
        assert!(before.is_none_or(|before| one.at[0] - before.at[0] > 1.0), "{one:?} {before:?}");
    }
}
