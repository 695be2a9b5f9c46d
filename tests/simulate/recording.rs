//! The recording on disk: deterministic, readable, whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mmsense::recording::{Options, Recording, StampSource};
use mmsense::sample::{Data, Modality, UnitId};
use mmsense::simulate::{SimulateError, make};

use crate::support::{decode, scene};

const TRAFFIC: &str =
    "{ kind = \"bus\", lane = 1, at_m = -1.0, speed_mps = 9.0 }, { kind = \"van\", lane = 2 }";

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_bytes_from_every_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(TRAFFIC);
    let made = [1, 4].map(|threads| {
        let path = folder.path().join(threads.to_string());
        let report = make(&scene, &path, &|_, _| true, Some(threads)).unwrap();
        let files = files(&path);
        assert_eq!(report.files, files.len());
        assert_eq!(report.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        files
    });
    // Camera, LiDAR, radar, powers, position and label of 6 rows; index, scene, truth and the unit's place.
    assert_eq!(made[0].len(), 6 * 6 + 4);
    for (name, bytes) in &made[0] {
        assert!(made[1].get(name) == Some(bytes), "{} differs", name.display());
    }
    let other = mmsense::simulate::Scene { seed: 6, ..scene };
    let path = folder.path().join("other");
    make(&other, &path, &|_, _| true, None).unwrap();
    assert_ne!(
        files(&path).get(Path::new("unit1/radar_data/data_1.npy")),
        made[0].get(Path::new("unit1/radar_data/data_1.npy"))
    );
}

#[test]
fn it_opens_as_a_recording_and_every_payload_decodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("street");
    let scene = scene(TRAFFIC);
    let report = make(&scene, &path, &|_, _| true, None).unwrap();
    let recording = Recording::open(&path, &Options::new(UnitId::new("unit1").unwrap())).unwrap();
    assert_eq!((recording.rows().len(), recording.sequences().len()), (6, 2));
    assert_eq!(recording.stamps().source, StampSource::Column("time_stamp".to_owned()));
    assert!((recording.rate_hz() - 10.0).abs() < 1e-6);
    assert_eq!((recording.stamps().moved_sequences, recording.malformed().len()), (0, 0));
    let (latitude, longitude) = recording.site().unwrap();
    assert!((latitude - 33.4).abs() + (longitude + 111.9).abs() < 1e-7);
    let mut seen = BTreeMap::new();
    let mut blocked = 0;
    for sample in recording.samples() {
        let (_, bytes) = recording.load(sample).unwrap();
        match decode(&scene, sample.stream.clone(), bytes) {
            Data::Position(position) => {
                // Of the UE in the lane at y = 17 or 13.5, within a few standard deviations.
                let [x, y, _] = position.local.unwrap();
                assert!(x.abs() < 7.0 && (11.0..20.0).contains(&y), "{x} {y}");
            }
            Data::Blocked(is_blocked) => blocked += usize::from(is_blocked),
            _ => {}
        }
        *seen.entry(sample.stream.modality()).or_insert(0) += 1;
    }
    assert!(Modality::ALL.iter().all(|modality| seen.get(modality) == Some(&6)), "{seen:?}");
    assert!((report.blocked_share - blocked as f64 / 6.0).abs() < 1e-9 && blocked > 0);
    for (row, expected) in recording.rows().iter().enumerate() {
        let powers = recording.power(row).unwrap().linear;
        let best = powers.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(expected.label, Some(best as i64 + 1));
    }
}

#[test]
fn what_was_stopped_goes_on_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(TRAFFIC);
    let whole = folder.path().join("whole");
    make(&scene, &whole, &|_, _| true, None).unwrap();
    let path = folder.path().join("street");
    // One thread: two rows are done when it is stopped.
    let stop = |done: usize, all: usize| all == 0 || done < 2;
    assert!(matches!(make(&scene, &path, &stop, Some(1)), Err(SimulateError::Stopped)));
    assert!(!path.exists(), "what is not whole does not look like a recording");
    let report = make(&scene, &path, &|_, _| true, None).unwrap();
    assert_eq!((report.rows, report.found), (6, 2));
    assert_eq!(files(&path), files(&whole));
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_is_in_the_way_stays() {
    let scene = scene("");
    let error = make(&scene, Path::new(env!("CARGO_MANIFEST_DIR")), &|_, _| true, None).unwrap_err();
    assert!(error.to_string().contains("is not an empty folder"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    // A link, to whatever.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    let error = make(&scene, &link, &|_, _| true, None).unwrap_err();
    assert!(error.to_string().contains("is not an empty folder"), "{error}");
    // Somebody's own folder that is called as ours would be.
    let own = folder.path().join(".mine.part/own.txt");
    std::fs::create_dir(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "own").unwrap();
    let error = make(&scene, &folder.path().join("mine"), &|_, _| true, None).unwrap_err();
    assert!(error.to_string().contains(".mine.part: exists"), "{error}");
    assert_eq!(std::fs::read(&own).unwrap(), b"own");
}

#[test]
fn nothing_of_another_scene_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made");
    let mut other = scene("");
    other.seed += 1;
    make(&other, &path, &|made, _| made < 2, None).unwrap_err();
    let left = folder.path().join(".made.part");
    std::fs::write(left.join("codebook.csv"), "of a scene with a table").unwrap();
    let report = make(&scene(""), &path, &|_, _| true, None).unwrap();
    assert_eq!((report.found, files(&path).len()), (0, report.files));
    assert!(!left.exists() && !path.join("codebook.csv").exists());
}

#[test]
fn several_users_sensors_of_their_own_clock_and_losses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    let mut scene = scene(TRAFFIC);
    let extra = mmsense::simulate::scene::Vehicle { lane: 0, at_m: 12.0, ..Default::default() };
    scene.sequence[0].ue.push(extra);
    scene.timing.camera.offset_ms = 20.0;
    scene.timing.lidar.every = 2;
    scene.timing.radar.drop = 1.0;
    let report = make(&scene, &path, &|_, _| true, None).unwrap();
    let recording = Recording::open(&path, &Options::new(UnitId::new("unit1").unwrap())).unwrap();
    let of = |modality: Modality| {
        recording.samples().iter().filter(move |sample| sample.stream.modality() == modality)
    };
    assert_eq!(
        (of(Modality::Camera).count(), of(Modality::Lidar).count(), of(Modality::Radar).count()),
        (6, 4, 0)
    );
    for sample in of(Modality::Camera) {
        let late = sample.capture - recording.rows()[sample.row].capture;
        assert_eq!(late.as_nanos(), 20_000_000);
    }
    // The second user is there in the first sequence only.
    let links: BTreeMap<String, usize> = of(Modality::Link).fold(BTreeMap::new(), |mut counts, sample| {
        *counts.entry(sample.stream.ue().unwrap().to_string()).or_default() += 1;
        counts
    });
    let present = of(Modality::Link).filter(|sample| recording.load(sample).is_ok()).count();
    assert_eq!(links.keys().map(String::as_str).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(present, 6 + 3);
    let truth = std::fs::read_to_string(path.join("truth.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        truth.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), report.rows);
    assert_eq!(
        (lines[0]["ues"].as_array().unwrap().len(), lines[5]["ues"].as_array().unwrap().len()),
        (2, 1)
    );
    assert!(lines[0]["captures_s"]["radar"].is_null());
    assert_eq!(lines[0]["ues"][0]["useful"]["radar"].as_bool(), Some(false));
    for (row, line) in lines.iter().enumerate() {
        let first = &line["ues"][0];
        let label = recording.sample(row, Modality::Blocked).unwrap();
        let (_, label) = recording.load(label).unwrap();
        assert_eq!(first["blocked"].as_bool(), Some(label == br#"{"blocked":true}"#));
        assert_eq!(first["next_blockage_s"].as_f64() == Some(0.0), first["blocked"].as_bool().unwrap());
        assert!(line["objects"].as_array().unwrap().iter().any(|object| object["id"] == first["object"]));
    }
}

#[test]
fn useful_is_what_each_sensor_sees_when_it_looks() {
    let folder = tempfile::tempdir().unwrap();
    // The UE comes out from behind a bus that stands before the camera; a camera that looks late sees more of it.
    let first_seen = |offset_ms: f64| {
        let mut scene = scene("{ kind = \"bus\", lane = 1, at_m = 0.0 }");
        scene.sequence.truncate(1);
        scene.sequence[0].seconds = 2.5;
        scene.sequence[0].ue[0].speed_mps = -8.0;
        scene.timing.camera.offset_ms = offset_ms;
        let path = folder.path().join(offset_ms.to_string());
        make(&scene, &path, &|_, _| true, None).unwrap();
        let truth = std::fs::read_to_string(path.join("truth.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            truth.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let useful = |line: &serde_json::Value, name: &str| line["ues"][0]["useful"][name].as_bool().unwrap();
        assert!(lines.iter().all(|line| useful(line, "link") && useful(line, "position")));
        lines.iter().position(|line| useful(line, "camera")).unwrap()
    };
    let [early, exact, late] = [-400.0, 0.0, 400.0].map(first_seen);
    assert!(exact > 4 && early == exact + 4 && late + 4 == exact, "{early} {exact} {late}");
}

#[test]
fn a_measured_codebook_is_beside_its_scene_and_copied_into_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let table = "beam,-45,0,45\na,1,0.2,0.1\nb,0.1,0.2,1\n";
    std::fs::write(folder.path().join("beams.csv"), table).unwrap();
    let text = "[codebook]\nbeams = 2\n[link]\ncodebook = \"beams.csv\"\n[camera]\nwidth = 32\nheight = 18\n[cube]\nchirps = 8\n[lidar]\ncolumns = 40\n[[sequence]]\nseconds = 0.2\n";
    let path = folder.path().join("street.toml");
    std::fs::write(&path, text).unwrap();
    let scene = mmsense::simulate::scene::load(&path).unwrap();
    let out = folder.path().join("out");
    let report = make(&scene, &out, &|_, _| true, None).unwrap();
    let files = files(&out);
    assert_eq!(
        (report.files, files.get(Path::new("codebook.csv")).map(Vec::as_slice)),
        (files.len(), Some(table.as_bytes()))
    );
    // What stands in the recording can be made again from there, by the copy, and is the same scene.
    let again = mmsense::simulate::scene::load(&out.join("scene.toml")).unwrap();
    let described = std::fs::read_to_string(out.join("scene.toml")).unwrap();
    assert!(described.contains("path = \"codebook.csv\""), "{described}");
    assert_eq!(mmsense::simulate::identity(&again.recorded()).unwrap(), described);
}
