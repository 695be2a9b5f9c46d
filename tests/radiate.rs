//! A real camera, radar and LiDAR on one clock: the RADIATE drive over zenoh through the inputs of the wire table.
//!
//! A binary of its own: it runs in real time, and no other test takes the processor from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]
#![allow(dead_code, reason = "it uses its part of what the tests of the road share")]

#[path = "road/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mmsense::decode::radar::RangeAngleAxes;
use mmsense::frame::{Frame, Window};
use mmsense::infer::{ModelError, ModelInfo, Prediction, Predictor};
use mmsense::ingest::clock::system_time;
use mmsense::sample::{Data, Format, Modality};
use mmsense::time::{CaptureTime, Span};
use nalgebra::Point3;

use crate::support::{Client, Unit, live, npy_f32, shared};

// The stamps are what is tested, not the speed of an unoptimised build: nothing is dropped or
// pushed out of a buffer while the radar maps are still being decoded, and a frame waits long.
const PIPELINE: &str = "
[align]
reference = [\"radar\"]
max_wait_ms = 5000.0
[align.camera]
required = true
tolerance_ms = 67.0
capacity_items = 256
[align.radar]
required = true
capacity_items = 256
[align.lidar]
required = true
tolerance_ms = 50.0
capacity_items = 256
[radar]
range_bin_m = 0.17361
[radar.map_angle.degrees]
first = -4.0
step = 0.9
";

/// Keeps the frames that it is shown.
struct Tap(Arc<Mutex<Vec<Arc<Frame>>>>);

impl Predictor for Tap {
    fn info(&self) -> ModelInfo {
        ModelInfo { id: "tap".to_owned(), trained: true }
    }
    fn predict(&mut self, windows: &[Window]) -> Result<Vec<Prediction>, ModelError> {
        self.0.lock().unwrap().extend(windows.iter().map(|window| Arc::clone(&window.frame)));
        Ok(vec![Prediction::default(); windows.len()])
    }
}

/// Frame number and capture time of the files of one sensor that are there.
fn stamps(folder: &Path, list: &str, files: &str, extension: &str) -> Vec<(i64, PathBuf)> {
    let text = std::fs::read_to_string(folder.join(list)).unwrap();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (number, stamp) = (words.nth(1)?, words.nth(1)?);
            let (seconds, nanos) = stamp.split_once('.')?;
            let nanos: i64 = format!("{nanos:0<9}").parse().ok()?;
            let file = folder.join(files).join(format!("{number}.{extension}"));
            Some((seconds.parse::<i64>().ok()? * 1_000_000_000 + nanos, file))
        })
        .filter(|(_, file)| file.exists())
        .collect()
}

fn nearest(stamps: &[(i64, PathBuf)], t: i64) -> i64 {
    stamps.iter().map(|(stamp, _)| stamp - t).min_by_key(|skew| skew.abs()).unwrap()
}

#[test]
fn three_real_sensors_align_over_zenoh_with_the_skews_of_their_stamps() {
    let Some(folder) = shared("data/sensors/radiate") else { return };
    let radar = stamps(&folder, "Navtech_Polar.txt", "Navtech_Polar", "png");
    let lidar = stamps(&folder, "velo_lidar.txt", "velo_pcd", "pcd");
    let camera = stamps(&folder, "zed_left.txt", "zed_left", "png");
    assert_eq!((radar.len(), lidar.len(), camera.len()), (18, 42, 50));

    // Encoded before the drive starts, so that the replay keeps its pace.
    let mut drive: Vec<(i64, &str, Format, Vec<u8>)> = Vec::new();
    for (stamp, file) in &radar {
        let image = image::open(file).unwrap().to_luma8();
        let values: Vec<f32> = image.as_raw().iter().map(|value| f32::from(*value)).collect();
        let shape = format!("({}, {})", image.height(), image.width());
        drive.push((*stamp, "sensor/radar", Format::Npy, npy_f32(&shape, &values)));
    }
    for (stamp, file) in &lidar {
        drive.push((*stamp, "sensor/lidar", Format::Pcd, std::fs::read(file).unwrap()));
    }
    for (stamp, file) in &camera {
        drive.push((*stamp, "sensor/camera", Format::Png, std::fs::read(file).unwrap()));
    }
    drive.sort_by_key(|(stamp, key, ..)| (*stamp, *key));

    let frames = Arc::new(Mutex::new(Vec::new()));
    let mut pipeline = live(PIPELINE);
    pipeline.input.mailbox_items = 64;
    let axes = RangeAngleAxes::new(&pipeline.radar, pipeline.radar.map_angle, 576, 400);
    let mount = mmsense::space::mount_to_unit(&pipeline.pose.radar);
    let unit = Unit::start_with(pipeline, Box::new(Tap(Arc::clone(&frames))));
    let client = Client::connect(unit.port);
    let messages = client.subscribe("mmsense/u/v1/frame");
    let (begun, first) = (Instant::now(), drive[0].0);
    let shift = (system_time() - CaptureTime::from_nanos(first)) + Span::from_millis(20);
    for (stamp, key, format, payload) in &drive {
        let due = begun + Duration::from_nanos((stamp - first) as u64) + Duration::from_millis(20);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        client.put_at(key, *format, payload, CaptureTime::from_nanos(*stamp) + shift);
    }
    let last = (CaptureTime::from_nanos(radar[16].0) + shift).as_nanos().to_string();
    messages.wait_for("the frame of radar 17", |_, frame| frame["capture_ns"] == last.as_str());
    let summary = unit.finish();
    assert!(!summary.data_lost, "{:?}", summary.drops);

    let frames = frames.lock().unwrap();
    let mut complete = 0;
    for frame in frames.iter().filter(|frame| frame.sensors.contains_key(&Modality::Radar)) {
        let t = (frame.time - shift).as_nanos();
        if !radar.iter().any(|(stamp, _)| *stamp == t) {
            continue; // a tick before the first or after the last map
        }
        for (modality, stamps, tolerance) in
            [(Modality::Lidar, &lidar, 50.0), (Modality::Camera, &camera, 67.0)]
        {
            let expected = Span::from_nanos(nearest(stamps, t));
            match frame.sensors.get(&modality) {
                Some(placed) if placed.fresh => assert_eq!(placed.skew, expected, "{modality} at {t}"),
                _ => assert!(expected.abs().as_millis_f64() > tolerance, "{modality} at {t}: {expected}"),
            }
        }
        if frame.sensors.values().filter(|placed| placed.fresh).count() == 3 {
            complete += 1;
        }
    }
    assert_eq!(complete, 14, "radar 4 to 17 have all three sensors");

    registration(&frames, shift, &radar, &|point| axes.cell_of(point, &mount));
}

/// The map cell of a point of the unit frame.
type CellOf<'a> = &'a dyn Fn(&Point3<f64>) -> Option<(usize, usize)>;

/// Mean radar power where the LiDAR sees something, at the true turn and at wrong ones: radar 3, 8 and 14.
fn registration(frames: &[Arc<Frame>], shift: Span, radar: &[(i64, PathBuf)], cell_of: CellOf<'_>) {
    for (number, right, wrong) in [(3usize, 39.0, 26.0), (8, 45.0, 22.0), (14, 72.0, 24.0)] {
        let t = radar[number - 1].0;
        let frame = frames.iter().find(|frame| (frame.time - shift).as_nanos() == t).unwrap();
        let Data::Radar(reading) = &frame.sensors[&Modality::Radar].sample.data else { panic!("no radar") };
        let Data::Cloud(cloud) = &frame.sensors[&Modality::Lidar].sample.data else { panic!("no cloud") };
        let map = &reading.map.as_ref().unwrap().magnitude;
        let mean = |turn_deg: f64| {
            let (sin, cos) = turn_deg.to_radians().sin_cos();
            // Off the road and off the own vehicle, where the radar's beam does not look.
            let returns = cloud.points.iter().filter(|[x, y, z]| x.hypot(*y) > 5.0 && *z > -0.3);
            let cells = returns.filter_map(|[x, y, z]| {
                let (x, y) = (f64::from(*x), f64::from(*y));
                cell_of(&Point3::new(x * cos - y * sin, x * sin + y * cos, f64::from(*z)))
            });
            let powers: Vec<f64> = cells.map(|cell| f64::from(map[cell])).collect();
            powers.iter().sum::<f64>() / powers.len() as f64
        };
        let mut others: Vec<f64> = (1..24).map(|step| mean(f64::from(step) * 15.0)).collect();
        others.sort_by(f64::total_cmp);
        let (found, median) = (mean(0.0), others[others.len() / 2]);
        assert!((found - right).abs() < 3.0, "radar {number}: {found}, expected {right}");
        assert!((median - wrong).abs() < 5.0, "radar {number}: {median} at wrong turns, expected {wrong}");
    }
}
