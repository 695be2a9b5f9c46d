use std::fs;

use super::*;
use crate::sample::{Format, UnitId};

/// Little-endian doubles.
fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A truth of `frames` frames whose joint j of frame f (from 0) has x = f, y = j, z = 3.
fn ground_truth(frames: usize) -> Vec<u8> {
    use npyz::WriterBuilder;
    let mut bytes = Vec::new();
    let shape = [frames as u64, 17, 3];
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd().unwrap();
    for frame in 0..frames {
        for joint in 0..17 {
            writer.extend([frame as f64, f64::from(joint), 3.0]).unwrap();
        }
    }
    writer.finish().unwrap();
    bytes
}

/// Two subjects; the second one's environment is doubled, as in the release.
fn dataset() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let radar = doubles(&[3.0, -0.5, 0.25, -0.39, 17.5, 2.9, 0.1, -0.4, 0.13, 12.0]);
    for number in [1, 10, 19] {
        put(root, &format!("E01/S01/A22/mmwave/frame{number:03}.bin"), &radar);
        put(root, &format!("E01/S01/A22/lidar/frame{number:03}.bin"), &doubles(&[3.0, 0.5, -1.0]));
    }
    put(root, "E01/S01/A22/ground_truth.npy", &ground_truth(297));
    put(root, "E01/S01/A22/rgb/frame001.npy", b"keypoints");
    // Frame 3 has no detection, frame 4 is cut, frame 5 is not a frame.
    put(root, "E02/E02/S11/A03/mmwave/frame002.bin", &radar);
    put(root, "E02/E02/S11/A03/mmwave/frame003.bin", b"");
    put(root, "E02/E02/S11/A03/mmwave/frame004.bin", &radar[..60]);
    put(root, "E02/E02/S11/A03/mmwave/notes.txt", b"5");
    put(root, "E02/E02/S11/A03/rgb_img/frame004.png", b"\x89PNG\r\n\x1a\n....IEND....");
    folder
}

fn open(path: &Path) -> Recording {
    Recording::open(path, &Options::new(UnitId::new("unit1").unwrap())).unwrap()
}

#[test]
fn sequences_rows_and_times_follow_the_frame_numbers() {
    let folder = dataset();
    let recording = open(folder.path());
    let names: Vec<&str> = recording.sequences().iter().filter_map(|one| one.id.as_deref()).collect();
    assert_eq!(names, ["E01/S01/A22", "E02/S11/A03"]);
    let rows: Vec<(Option<u64>, f64)> =
        recording.rows().iter().map(|row| (row.index, row.capture.as_nanos() as f64 / 1e9)).collect();
    // 10 Hz by frame number; sequences 2 s apart.
    assert_eq!(rows, [(Some(1), 0.0), (Some(10), 0.9), (Some(19), 1.8), (Some(2), 3.8), (Some(4), 4.0)]);
    assert!(recording.rows().iter().all(|row| row.label.is_none()));
    let of = |row: usize| {
        Modality::ALL.into_iter().filter(|&m| recording.sample(row, m).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(of(0), [Modality::Radar, Modality::Lidar]);
    assert_eq!(of(4), [Modality::Camera, Modality::Radar]);
    let notes = recording.notes.join("\n");
    assert!(notes.contains("1 radar files are empty") && notes.contains("read from: rgb"), "{notes}");
}

#[test]
fn payloads_have_the_wires_formats() {
    let folder = dataset();
    let recording = open(folder.path());
    let load = |row: usize, modality: Modality| recording.load(recording.sample(row, modality).unwrap());
    let (format, bytes) = load(0, Modality::Radar).unwrap();
    assert_eq!(format, Format::Npy);
    let file = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!((file.shape(), file.dtype().descr().as_str()), (&[2, 5][..], "'<f4'"));
    assert_eq!(file.into_vec::<f32>().unwrap()[..5], [3.0, -0.5, 0.25, -0.39, 17.5]);
    let (format, bytes) = load(1, Modality::Lidar).unwrap();
    assert_eq!(format, Format::Pcd);
    assert!(bytes.ends_with(&[3.0f32, 0.5, -1.0].map(f32::to_le_bytes).concat()));
    assert_eq!(load(4, Modality::Camera).unwrap().0, Format::Png);
    // A cut file costs nothing but itself.
    let error = load(4, Modality::Radar).unwrap_err();
    assert!(matches!(&error, LoadError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("60 bytes") && error.to_string().contains("40"), "{error}");
    assert!(load(3, Modality::Radar).is_ok());
}

#[test]
fn labels_are_there_for_training_and_only_for_it() {
    let folder = dataset();
    let recording = open(folder.path());
    let found = labels(&recording, 0).unwrap();
    assert_eq!((found.performance.activity(), found.performance.subject), (21, 1));
    // Frame n is row n − 1 of the truth.
    let x: Vec<f32> = found.poses.iter().flatten().map(|pose| pose[0][0]).collect();
    assert_eq!((x, found.poses[2].unwrap()[16]), (vec![0.0, 9.0, 18.0], [18.0, 16.0, 3.0]));
    assert!(labels(&recording, 1).unwrap_err().is_absent());
    assert!(labels(&recording, 9).unwrap_err().is_absent());
    let info = info(&recording).unwrap();
    assert_eq!((info.environments, info.subjects, info.actions), (2, 2, 2));
    assert_eq!((info.with_truth, info.poses), (1, 3));
    // A truth of only the frames that are there goes in order.
    put(folder.path(), "E01/S01/A22/ground_truth.npy", &ground_truth(3));
    let found = labels(&open(folder.path()), 0).unwrap();
    assert_eq!(found.poses.iter().flatten().map(|pose| pose[0][0]).collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
    put(folder.path(), "E01/S01/A22/ground_truth.npy", &ground_truth(3)[..900]);
    assert!(labels(&open(folder.path()), 0).unwrap_err().to_string().contains("truncated"));
}

#[test]
fn parts_of_the_data_set_open_as_well() {
    let folder = dataset();
    for (part, subject) in [("E01", 1), ("E01/S01", 1), ("E01/S01/A22", 1), ("E02/E02/S11", 11)] {
        let recording = open(&folder.path().join(part));
        assert_eq!(recording.people().len(), 1, "{part}");
        assert_eq!(recording.people()[0].subject, subject, "{part}");
    }
    // The release of filtered points has its frames in the action's folder, and need not have an environment.
    let filtered = tempfile::tempdir().unwrap();
    put(filtered.path(), "S25/A07/frame005.bin", &doubles(&[1.0; 5]));
    let recording = open(filtered.path());
    let Performance { environment, subject, action, .. } = &recording.people()[0];
    assert_eq!((*environment, *subject, *action), (3, 25, 7));
    assert!(recording.sample(0, Modality::Radar).is_some());
}

#[test]
fn what_is_no_data_set_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!is_layout(folder.path()));
    for name in ["E05", "S41", "A28", "B01", "E1", "scenario9"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    assert!(!is_layout(folder.path()));
    fs::create_dir_all(folder.path().join("E01/S01/A01/depth")).unwrap();
    let error = Recording::open(folder.path(), &Options::new(UnitId::new("u").unwrap())).unwrap_err();
    assert!(matches!(error, RecordingError::NoIndex { .. }), "{error}");
    // A scenario of links may be called as a subject is.
    let scenario = folder.path().join("S31");
    fs::create_dir(&scenario).unwrap();
    assert!(is_layout(&scenario));
    fs::write(scenario.join("scenario31.csv"), "index,unit1_pwr_1\n1,./a.txt\n").unwrap();
    assert!(!is_layout(&scenario));
    for (name, number) in [("frame001.bin", Some(1)), ("frame297.png", Some(297)), ("frame.bin", None)] {
        assert_eq!(frame_number(Path::new(name)), number, "{name}");
    }
    assert_eq!(frame_number(Path::new("frame000.bin")), None);
}
