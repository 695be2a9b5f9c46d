//! The reader on real DeepSense 6G folders, where they stand beside the project.

use std::path::{Path, PathBuf};

use mmsense::recording::info::{Info, InfoReport, info_path, structure_only};
use mmsense::recording::{Options, RecordingError, StampSource};
use mmsense::sample::{Modality, UnitId};

fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/deepsense").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn look(name: &str) -> Option<InfoReport> {
    let options = Options::new(UnitId::new("unit1").unwrap());
    let report = info_path(&folder(name)?, &options, &structure_only).unwrap();
    eprintln!("{report}");
    Some(report)
}

fn recording(name: &str) -> Option<Info> {
    match look(name)? {
        InfoReport::Recording(info) => Some(*info),
        InfoReport::Arrays { .. } => panic!("{name} is a recording"),
    }
}

fn counts(info: &Info, modality: Modality) -> (usize, usize, usize, usize) {
    let of = info.modalities.iter().find(|entry| entry.modality == modality).unwrap();
    (of.named, of.present, of.absent, of.unreadable)
}

#[test]
fn scenarios_without_stamps() {
    let expected = [
        ("scenario1", 2422, 29, 8.5),
        ("scenario6", 915, 12, 4.2),
        ("scenario8", 3310, 66, 5.2),
        ("scenario5", 1983, 1983, f64::NAN),
    ];
    for (name, rows, sequences, spread) in expected {
        let Some(info) = recording(name) else { return };
        assert_eq!((info.rows, info.sequences), (rows, sequences), "{name}");
        assert_eq!(info.time.stamps.source, StampSource::Synthetic);
        assert_eq!(info.time.synthetic_rows, rows);
        assert_eq!(counts(&info, Modality::Link), (rows, rows, 0, 0));
        assert_eq!(counts(&info, Modality::Position), (rows, rows, 0, 0));
        let labels = info.labels.unwrap();
        assert_eq!((labels.first_beam, labels.reversed, labels.row_shift), (1, false, 0), "{name}");
        assert_eq!((labels.share, labels.compared), (1.0, rows), "{name}");
        let power = info.power.unwrap();
        assert_eq!((power.beams, power.rows_with_nan), (64, 0));
        let found = power.spread_db.unwrap();
        assert!(spread.is_nan() || (found - spread).abs() < 0.06, "{name} {found}");
    }
}

#[test]
fn scenario_9_with_absent_modalities() {
    let Some(info) = recording("scenario9") else { return };
    assert_eq!((info.rows, info.sequences), (4798, 108));
    for modality in [Modality::Camera, Modality::Radar, Modality::Lidar] {
        assert_eq!(counts(&info, modality), (4798, 0, 4798, 0));
    }
    for modality in [Modality::Link, Modality::Position] {
        assert_eq!(counts(&info, modality), (4798, 4798, 0, 0));
    }
    let time = &info.time;
    assert_eq!(time.stamps.source, StampSource::Column("time_stamp[UTC]".to_owned()));
    assert_eq!((time.synthetic_rows, time.stamps.backward.len(), time.stamps.moved_sequences), (0, 0, 0));
    assert_eq!(time.stamps.hours_behind_radar_names, Some(7));
    assert!((time.rate_hz.unwrap() - 1.0 / 0.111).abs() < 0.01, "{:?}", time.rate_hz);
    let labels = info.labels.unwrap();
    assert_eq!((labels.first_beam, labels.share, labels.share_as_is), (1, 1.0, 0.0));
    assert!((info.power.unwrap().spread_db.unwrap() - 10.7).abs() < 0.06);
}

#[test]
fn a_bare_folder_of_frames() {
    let Some(info) = recording("scenario5_camera") else { return };
    assert_eq!((info.rows, info.sequences), (40, 2));
    assert_eq!(counts(&info, Modality::Camera), (40, 40, 0, 0));
    assert_eq!(info.time.stamps.source, StampSource::CameraNames);
    assert!((5.0..9.0).contains(&info.time.rate_hz.unwrap()), "{:?}", info.time.rate_hz);
}

#[test]
fn folders_of_arrays() {
    let Some(InfoReport::Arrays { files, .. }) = look("codebook") else { return };
    let shapes: Vec<&[u64]> = files.iter().map(|file| file.arrays[0].shape.as_slice()).collect();
    assert_eq!(shapes, [&[1, 64][..], &[64, 211][..]]);
    let Some(InfoReport::Arrays { files, .. }) = look("blockage_windows_s17_21") else { return };
    assert_eq!(files.len(), 10);
    assert_eq!((files[1].file.as_str(), files[9].file.as_str()), ("val_Tp2.npz", "val_Tp10.npz"));
    for file in &files {
        let windows = file.windows.as_ref().unwrap();
        assert_eq!((windows.windows, windows.frames, windows.beams), (1013, 16, 54));
        assert!((0.45..0.55).contains(&windows.positive_share), "{}", windows.positive_share);
    }
}

#[test]
fn a_folder_of_recordings_is_none() {
    let Some(path) = folder(".") else { return };
    let error = info_path(&path, &Options::new(UnitId::new("unit1").unwrap()), &structure_only).unwrap_err();
    assert!(matches!(error, RecordingError::NoIndex { .. }), "{error}");
    assert!(error.to_string().contains("folders"), "{error}");
}
