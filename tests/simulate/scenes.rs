//! The shipped scenes: whole, populated, without a crash, and with users that the beams reach.

use std::path::{Path, PathBuf};

use mmsense::simulate::scene::{VehicleKind, load, parse};
use mmsense::simulate::world::{ObjectState, World};
use mmsense::simulate::{Scene, identity, make, room};
use parry3d::math::Vector;
use sha2::Digest as _;

fn shipped() -> Vec<(PathBuf, Scene)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let scenes = std::fs::read_dir(root.join("scenes")).unwrap().map(|entry| entry.unwrap().path());
    // People in rooms are another kind of scene.
    let streets = scenes.filter(|path| path.file_stem().is_some_and(|name| name != "room"));
    let mut paths: Vec<PathBuf> = streets.chain([root.join("street.toml")]).collect();
    paths.sort();
    assert!(paths.len() >= 7, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), load(&path).unwrap())).collect()
}

/// Whether two boxes, seen from above, lie on each other: none of their sides separates them.
fn overlap(one: &ObjectState, other: &ObjectState) -> bool {
    let apart = (one.centre[0] - other.centre[0]).hypot(one.centre[1] - other.centre[1]);
    if apart > (one.size[0].hypot(one.size[1]) + other.size[0].hypot(other.size[1])) / 2.0 {
        return false;
    }
    let span = |object: &ObjectState, heading: f32| {
        let (sin, cos) = heading.sin_cos();
        let middle = object.centre[0] * cos + object.centre[1] * sin;
        let (sin, cos) = (object.yaw - heading).sin_cos();
        let reach = (object.size[0] * cos.abs() + object.size[1] * sin.abs()) / 2.0;
        (middle - reach, middle + reach)
    };
    let quarter = std::f32::consts::FRAC_PI_2;
    [one.yaw, one.yaw + quarter, other.yaw, other.yaw + quarter].into_iter().all(|heading| {
        let ((low, high), (other_low, other_high)) = (span(one, heading), span(other, heading));
        high > other_low && other_high > low
    })
}

#[test]
fn nobody_drives_into_anybody() {
    for (path, scene) in shipped() {
        let world = World::new(&scene);
        let mut seen = 0;
        for sequence in 0..scene.sequences() {
            for row in 0..scene.rows(scene.traffic(sequence).unwrap()) {
                let seconds = row as f64 / scene.rate_hz;
                let all = world.objects(sequence, seconds);
                seen += all.iter().filter(|object| object.moves).count();
                for (number, one) in all.iter().enumerate() {
                    // People walk round each other, which is not simulated.
                    let both_walk = |other: &ObjectState| {
                        [one, other].iter().all(|object| object.kind == VehicleKind::Pedestrian)
                    };
                    let hit = all.iter().take(number).find(|other| !both_walk(other) && overlap(one, other));
                    assert!(hit.is_none(), "{}, {sequence}, {seconds} s: {one:?} {hit:?}", path.display());
                }
            }
        }
        assert!(seen > 2000, "{}: {seen}", path.display());
    }
}

#[test]
fn every_user_is_there_and_passes_many_beams_with_and_without_a_line_of_sight() {
    for (path, scene) in shipped() {
        let world = World::new(&scene);
        let unit = Vector::from(scene.link.position_m.map(|metres| metres as f32));
        let (mut blocked, mut links, mut angles) = (0u32, 0u32, Vec::new());
        for sequence in 0..scene.sequences() {
            let traffic = scene.traffic(sequence).unwrap();
            assert_eq!(world.antennas(sequence, 0.0).len(), scene.ues(traffic).len(), "{}", path.display());
            for row in 0..scene.rows(traffic) {
                let seconds = row as f64 / scene.rate_hz;
                let caster = world.at(&scene, sequence, seconds);
                for antenna in world.antennas(sequence, seconds) {
                    let way = antenna.position - unit;
                    angles.push(way.x.atan2(way.y).to_degrees());
                    blocked += u32::from(!caster.is_free(unit, antenna.position));
                    links += 1;
                }
            }
        }
        angles.sort_by(f32::total_cmp);
        let is_within = angles.iter().filter(|angle| angle.abs() < 50.0).count() as f64 / f64::from(links);
        let share = f64::from(blocked) / f64::from(links);
        assert!(is_within > 0.8, "{}: {is_within} of the rows in the sector", path.display());
        assert!((0.005..0.3).contains(&share), "{}: {share} blocked", path.display());
        let sweep = angles[angles.len() * 19 / 20] - angles[angles.len() / 20];
        assert!(sweep > 40.0, "{}: {sweep}°", path.display());
    }
}

/// How often each modality is useful in a part of a scene: camera, radar, LiDAR, link, position.
type Shares = [f64; 5];

/// The parts of `adverse-weather.toml`, each with what is unreliable in it.
const PARTS: [(&str, &[&str]); 10] = [
    ("everything works", &[]),
    ("night", &["camera"]),
    // Fog that hides a car from the camera takes the laser's light on the way there and back.
    ("fog", &["camera", "lidar"]),
    ("low sun", &["camera"]),
    ("soiled camera", &["camera"]),
    ("rain", &["lidar"]),
    ("soiled LiDAR", &["lidar"]),
    ("interference", &["radar"]),
    ("images and clouds lost", &["camera", "lidar"]),
    ("reports and positions lost", &["link", "position"]),
];

#[test]
fn every_modality_is_in_turn_the_unreliable_one_in_adverse_weather() {
    const NAMES: [&str; 5] = ["camera", "radar", "lidar", "link", "position"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/scenes/adverse-weather.toml");
    let mut scene = load(&root).unwrap();
    // One row in three, fewer passes, and less of what is not asked about.
    scene.rate_hz = 10.0 / 3.0;
    scene.sequence.iter_mut().for_each(|traffic| traffic.repeat = traffic.repeat.min(3));
    scene.camera.rays = 1;
    (scene.cube.samples, scene.cube.chirps) = (64, 2);
    scene.radar.range_bin_m *= 4.0;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adverse");
    make(&scene, &path, &|_, _| true, None).unwrap();
    let truth = std::fs::read_to_string(path.join("truth.jsonl")).unwrap();
    // The part of each recorded sequence.
    let parts: Vec<usize> = scene
        .sequence
        .iter()
        .enumerate()
        .flat_map(|(part, one)| std::iter::repeat_n(part, one.repeat))
        .collect();
    let mut counts = [([0.0; 5], 0.0); PARTS.len()];
    for line in truth.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let sequence = line["sequence"].as_u64().unwrap() as usize - 1;
        let (sums, count) = &mut counts[parts[sequence]];
        *count += 1.0;
        for (sum, name) in sums.iter_mut().zip(NAMES) {
            *sum += f64::from(u8::from(line["ues"][0]["useful"][name].as_bool().unwrap()));
        }
    }
    let shares: Vec<Shares> = counts.iter().map(|(sums, count)| sums.map(|sum| sum / count)).collect();
    let told: Vec<String> =
        PARTS.iter().zip(&shares).map(|(part, shares)| format!("{}: {shares:.2?}", part.0)).collect();
    assert!(shares[0].iter().all(|share| *share > 0.8), "{told:#?}");
    for ((part, unreliable), found) in PARTS.iter().zip(&shares) {
        for ((name, share), usual) in NAMES.iter().zip(found).zip(&shares[0]) {
            let lost = usual - share;
            if unreliable.contains(name) {
                assert!(lost > 0.25, "{part}, {name}\n{told:#?}");
            } else {
                assert!(lost < 0.12, "{part}, {name}\n{told:#?}");
            }
        }
    }
}

#[test]
fn another_table_of_beams_is_another_scene() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("beams.csv");
    let text =
        format!("[codebook]\nbeams = 2\n[link]\ncodebook = {:?}\n[[sequence]]\nseconds = 1.0\n", table);
    let made = ["beam,-45,45\na,1,0\nb,0,1\n", "beam,-45,45\na,1,0\nb,0.5,1\n"].map(|beams| {
        std::fs::write(&table, beams).unwrap();
        identity(&parse(Path::new("scene.toml"), &text).unwrap()).unwrap()
    });
    assert_ne!(made[0], made[1]);
    // The scene of a recording is one as it stands there, of the table that it was made with.
    let again = |text: &str| parse(Path::new("scene.toml"), text).map(|scene| identity(&scene).unwrap());
    assert_eq!(again(&made[1]).unwrap(), made[1]);
    let error = again(&made[0]).unwrap_err().to_string();
    assert!(error.contains("link.codebook") && error.contains("found a table of SHA-256"), "{error}");
}

#[test]
fn shipped_scenes_are_those_whose_realism_was_measured() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let measured = std::fs::read_to_string(root.join("REALISM.md")).unwrap();
    let of_rooms = root.join("scenes/room.toml");
    let rooms = identity(&room::load(&of_rooms).unwrap()).unwrap();
    let streets = shipped().into_iter().map(|(path, scene)| (path, identity(&scene).unwrap()));
    for (path, text) in streets.chain([(of_rooms, rooms)]) {
        let digest = sha2::Sha256::digest(text.as_bytes());
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            measured.contains(&name),
            "{}: measure {name} again, and say so in REALISM.md",
            path.display()
        );
    }
}
