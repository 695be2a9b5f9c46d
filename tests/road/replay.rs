//! A recording, replayed: in process the same bytes every time, and over TCP into a unit in another process.

use std::path::Path;

use mmsense::frame::FrameReference;

use crate::support::{jpeg, run_recording};

/// A small recording in DeepSense 6G layout: two sequences of 20 rows, camera images and powers; row 7 has no image.
pub fn small_recording(folder: &Path) {
    let images = folder.join("unit1/camera_data");
    let powers = folder.join("unit1/mmWave_data");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::create_dir_all(&powers).unwrap();
    let mut csv = "index,unit1_rgb,unit1_pwr_60ghz,unit1_beam_index,seq_index,time_stamp[UTC]\r\n".to_owned();
    for row in 0..40usize {
        let best = row % 20 / 4 + 2;
        let (sequence, second, millis) = (row / 20, (row % 20) / 10, (row % 10) * 100);
        let stamp = format!("10-{:02}-{:02}-{millis:03}", sequence, second);
        csv += &format!(
            "{},./unit1/camera_data/image_BS1_{row}_10_00_00.jpg,./unit1/mmWave_data/mmWave_power_{row}.txt,{},{},['{stamp}']\r\n",
            row + 1,
            best,
            sequence + 1
        );
        if row != 7 {
            std::fs::write(images.join(format!("image_BS1_{row}_10_00_00.jpg")), jpeg(32, 24)).unwrap();
        }
        let lines: String =
            (0..8).map(|beam: usize| format!("{:e}\n", 1.0 / (1 + beam.abs_diff(best)) as f64)).collect();
        std::fs::write(powers.join(format!("mmWave_power_{row}.txt")), lines).unwrap();
    }
    std::fs::write(folder.join("scenario99.csv"), csv).unwrap();
}

#[test]
fn the_same_recording_gives_the_same_bytes_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    small_recording(folder.path());
    let log = folder.path().join("decisions.jsonl");
    let first = run_recording(folder.path(), 1, Some(&log));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().count() > 100, "{} lines", text.lines().count());
    for hidden in ["issued_ns", "mmsense/health"] {
        assert!(!text.contains(hidden), "{hidden} changes from run to run");
    }
    for threads in [1, 2, 7] {
        assert_eq!(run_recording(folder.path(), threads, None).decisions_sha256, first.decisions_sha256);
    }
}

#[test]
fn another_recording_gives_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    small_recording(folder.path());
    let first = run_recording(folder.path(), 2, None);
    std::fs::write(folder.path().join("unit1/mmWave_data/mmWave_power_3.txt"), "1\n".repeat(8)).unwrap();
    assert_ne!(run_recording(folder.path(), 2, None).decisions_sha256, first.decisions_sha256);
}

#[test]
fn a_missing_image_is_normal_and_a_broken_one_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    small_recording(folder.path());
    let summary = run_recording(folder.path(), 2, None);
    assert!(!summary.data_lost, "{:?}", summary.drops);
    std::fs::write(folder.path().join("unit1/camera_data/image_BS1_9_10_00_00.jpg"), b"\xff\xd8\xff broken")
        .unwrap();
    let summary = run_recording(folder.path(), 2, None);
    assert!(summary.data_lost);
    assert_eq!(summary.drops.values().sum::<u64>(), 1, "{:?}", summary.drops);
}

#[test]
fn every_row_is_decided_although_a_modality_has_holes() {
    let folder = tempfile::tempdir().unwrap();
    small_recording(folder.path());
    for row in (0..40).step_by(3) {
        let image = folder.path().join(format!("unit1/camera_data/image_BS1_{row}_10_00_00.jpg"));
        let _ = std::fs::remove_file(image);
    }
    let summary = run_recording(folder.path(), 2, None);
    let unit = summary.units.values().next().unwrap();
    let by_link: u64 = unit.frames[&FrameReference::Link].values().sum();
    assert_eq!(by_link, 40, "{:?}", unit.frames);
    assert_eq!(unit.score.reports.unmatched, 0, "{:?}", unit.score.reports);
}

#[test]
fn a_malformed_row_is_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    small_recording(folder.path());
    let index = folder.path().join("scenario99.csv");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text + "half a row\r\n").unwrap();
    let summary = run_recording(folder.path(), 2, None);
    assert_eq!(summary.drops.get("recording/malformed_row"), Some(&1), "{:?}", summary.drops);
    assert!(summary.data_lost);
}
