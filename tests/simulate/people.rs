//! People in rooms: the recording opens, every payload decodes, and what is decoded lies on the person of the labels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mmsense::config::Pipeline;
use mmsense::decode::Decoder;
use mmsense::recording::{Options, Recording, mmfi};
use mmsense::sample::{CaptureSource, Data, Modality, RawSample, Stamps, UnitId};
use mmsense::simulate::mmfi::make;
use mmsense::simulate::room::{RoomScene, load, parse};
use mmsense::time::Moment;

const SCENE: &str = "seed = 9\n[mmfi]\nsubjects = [7, 18]\nactions = [6, 26]\nframes = 4\n\
                     [camera]\nwidth = 64\nheight = 48\n";

fn made(folder: &Path) -> (RoomScene, Recording) {
    let scene = parse(Path::new("room.toml"), SCENE).unwrap();
    let path = folder.join("people");
    make(&scene, &path, &|_, _| true, None).unwrap();
    let recording = Recording::open(&path, &Options::new(UnitId::new("unit1").unwrap())).unwrap();
    (scene, recording)
}

/// Every reading, decoded by a pipeline that says where the sensors are: row and data.
fn decoded(scene: &RoomScene, recording: &Recording) -> Vec<(usize, Data)> {
    let decoder = Decoder::new(&Pipeline { pose: scene.pose, ..Pipeline::default() });
    let one = |sample: &mmsense::recording::RecordedSample| {
        let (format, bytes) = recording.load(sample).unwrap();
        let raw = RawSample {
            unit: recording.unit().clone(),
            stream: sample.stream.clone(),
            stamps: Stamps {
                capture: sample.capture,
                capture_source: CaptureSource::Synthetic,
                sequence: None,
                arrival: Moment::at(sample.capture),
                transport_ns: None,
            },
            format: Some(format),
            payload: Arc::new(bytes),
        };
        (sample.row, decoder.decode(&raw).unwrap())
    };
    recording.samples().iter().map(one).collect()
}

#[test]
fn points_of_both_sensors_lie_on_the_person_of_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, recording) = made(folder.path());
    let names: Vec<&str> = recording.sequences().iter().filter_map(|one| one.id.as_deref()).collect();
    assert_eq!(names, ["E01/S07/A06", "E01/S07/A26", "E02/S18/A06", "E02/S18/A26"]);
    let mut poses = BTreeMap::new();
    for (number, sequence) in recording.sequences().iter().enumerate() {
        let labels = mmfi::labels(&recording, number).unwrap();
        assert_eq!(labels.performance.activity(), [5, 25][number % 2]);
        poses.extend(sequence.rows.clone().zip(labels.poses));
    }
    let (mut near, mut all, mut images) = ([0usize; 2], [0usize; 2], 0);
    for (row, data) in decoded(&scene, &recording) {
        let pose = poses[&row].unwrap();
        // From the camera's frame (right, down, forward) to the unit's (right, forward, up).
        let [_, _, up] = scene.pose.camera.position_m.map(|value| value as f32);
        let joints = pose.map(|[x, y, z]| [x, z, up - y]);
        let reach = |point: &[f32; 3]| {
            let apart =
                |joint: &[f32; 3]| (0..3).map(|axis| (point[axis] - joint[axis]).powi(2)).sum::<f32>();
            joints.iter().map(apart).fold(f32::MAX, f32::min).sqrt()
        };
        match data {
            Data::Cloud(cloud) => {
                // Of the cloud, what is between floor and ceiling and before the far wall is the person.
                let person = cloud
                    .points
                    .iter()
                    .filter(|[x, y, z]| x.abs() < 1.0 && *y < 3.7 && (0.15..2.4).contains(z));
                let distances: Vec<f32> = person.map(reach).collect();
                all[0] += distances.len();
                near[0] += distances.iter().filter(|distance| **distance < 0.3).count();
            }
            Data::Radar(reading) => {
                all[1] += reading.points.len();
                near[1] += reading.points.iter().filter(|point| reach(&point.position) < 0.6).count();
            }
            Data::Image(image) => {
                assert_eq!((image.width(), image.height()), (64, 48));
                images += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(images, 16);
    assert!(all[0] > 16 * 100 && near[0] as f64 > 0.97 * all[0] as f64, "LiDAR: {near:?} of {all:?}");
    assert!(all[1] > 30 && near[1] as f64 > 0.8 * all[1] as f64, "radar: {near:?} of {all:?}");
}

#[test]
fn labels_are_no_samples() {
    let folder = tempfile::tempdir().unwrap();
    let (_, recording) = made(folder.path());
    let inputs = [Modality::Camera, Modality::Lidar, Modality::Radar];
    assert!(recording.samples().iter().all(|sample| inputs.contains(&sample.stream.modality())));
    assert!(recording.rows().iter().all(|row| row.label.is_none()));
    assert!(recording.sequences().windows(2).all(|pair| {
        let at = |row: usize| recording.rows()[row].capture;
        (at(pair[1].rows.start) - at(pair[0].rows.end - 1)).as_secs_f64() >= 2.0
    }));
}

#[test]
fn the_scene_that_ships_is_the_default_and_its_pipeline_repeats_its_poses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scene = root.join("recordings/scenes/room.toml");
    assert_eq!(load(&scene).unwrap(), RoomScene::default());
    let poses = |path: &Path| {
        let table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        table["pose"].clone()
    };
    assert_eq!(poses(&scene), poses(&root.join("pipelines/room.toml")));
}
