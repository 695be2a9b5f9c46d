//! A real three-sensor drive (RADIATE): radar 4.2 Hz, LiDAR 10 Hz, camera 15 Hz on one clock.

use std::path::{Path, PathBuf};

use crate::support::*;
use mmsense::config;
use mmsense::frame::FrameReference;
use mmsense::sample::{Modality, Stream};
use mmsense::time::{CaptureTime, Span};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/sensors/radiate")
}

/// (frame number, stamp) of the frames that have a file.
fn stamps(list: &str, files: &str, extension: &str) -> Option<Vec<(u64, CaptureTime)>> {
    let text = std::fs::read_to_string(folder().join(list)).ok()?;
    let mut stamps = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (number, time) = (words.nth(1)?, words.nth(1)?);
        let (seconds, nanos) = time.split_once('.')?;
        if folder().join(files).join(format!("{number}.{extension}")).exists() {
            let nanos = seconds.parse::<i64>().ok()? * 1_000_000_000 + nanos.parse::<i64>().ok()?;
            stamps.push((number.parse().ok()?, CaptureTime::from_nanos(nanos)));
        }
    }
    Some(stamps)
}

/// The stamp nearest to `time`, minus `time`.
fn nearest(stamps: &[(u64, CaptureTime)], time: CaptureTime) -> (u64, Span) {
    let skews = stamps.iter().map(|&(number, stamp)| (number, stamp - time));
    skews.min_by_key(|(_, skew)| skew.abs()).unwrap()
}

#[test]
fn the_radiate_drive_aligns_with_the_skews_of_its_stamps() {
    let lists = (
        stamps("Navtech_Polar.txt", "Navtech_Polar", "png"),
        stamps("velo_lidar.txt", "velo_pcd", "pcd"),
        stamps("zed_left.txt", "zed_left", "png"),
    );
    let (Some(radar), Some(lidar), Some(camera)) = lists else {
        println!("skipped: {} is not there", folder().display());
        return;
    };
    assert_eq!((radar.len(), lidar.len(), camera.len()), (18, 42, 50));

    let mut log: Log = Vec::new();
    for (stream, stamps) in [(Stream::Radar, &radar), (Stream::Lidar, &lidar), (Stream::Camera, &camera)] {
        log.extend(stamps.iter().map(|&(number, stamp)| sample(&stream, stamp, stamp, number)));
    }
    sort(&mut log);
    // Half a period each; the wait lets the LiDAR's next sweep come.
    let mut config =
        config::Align { reference: vec![Modality::Radar], max_wait_ms: 60.0, ..config::Align::default() };
    config.lidar.tolerance_ms = 50.0;
    config.camera.tolerance_ms = 34.0;
    let (frames, aligner) = run(&config, &log);

    let by_radar: Vec<_> = frames.iter().filter(|frame| frame.reference == FrameReference::Radar).collect();
    assert_eq!(by_radar.len(), 18, "every radar reading opens a frame");
    let mut complete = 0;
    println!("radar  lidar     skew ms  camera    skew ms  close");
    for (frame, &(number, time)) in by_radar.iter().zip(&radar) {
        assert_eq!(frame.time, time);
        assert_eq!(frame.sensors[&Modality::Radar].skew, Span::ZERO);
        if !(4..=17).contains(&number) {
            continue;
        }
        let mut skews = Vec::new();
        for (modality, stamps) in [(Modality::Lidar, &lidar), (Modality::Camera, &camera)] {
            let placed = &frame.sensors[&modality];
            let (expected, skew) = nearest(stamps, time);
            assert!(placed.fresh, "{modality} of radar {number}");
            assert_eq!((placed.sample.stamps.sequence, placed.skew), (Some(expected), skew));
            skews.push(format!("{expected:>6} {:>+10.3}", skew.as_millis_f64()));
        }
        println!("{number:>5} {}  {:?}", skews.join("  "), frame.close);
        complete += 1;
    }
    assert_eq!(complete, 14);
    assert!(aligner.counters().drops().next().is_none(), "a clean drive loses nothing");
}
