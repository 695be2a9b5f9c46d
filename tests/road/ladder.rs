//! The degradation ladder, with sensors only: full → degraded → hold → unknown on the wire in time, and back.

use std::sync::Arc;
use std::time::Duration;

use mmsense::sample::{CaptureSource, Format, RawSample, Stamps, Stream, UnitId};
use mmsense::time::{CaptureTime, Moment, Span};
use serde_json::Value;

use crate::support::{Client, Unit, jpeg, live, pcd, pipeline, radar_points, run_feed};

const REQUIRED: &str = "[align.camera]\nrequired = true\n[align.radar]\nrequired = true\n\
     [align.lidar]\nrequired = true\n";

/// Camera, radar and LiDAR at 10 Hz on the virtual clock; `alive(sensor, second)` says who speaks.
fn street(seconds: i64, alive: fn(&Stream, f64) -> bool) -> impl Iterator<Item = RawSample> + Send {
    let camera: Arc<Vec<u8>> = Arc::new(jpeg(16, 16));
    let radar: Arc<Vec<u8>> = Arc::new(radar_points());
    let lidar: Arc<Vec<u8>> = Arc::new(pcd());
    (0..seconds * 10).flat_map(move |tick| {
        let capture = CaptureTime::from_nanos(1_700_000_000_000_000_000) + Span::from_millis(100 * tick);
        let streams = [
            (Stream::Lidar, Format::Pcd, Arc::clone(&lidar)),
            (Stream::Radar, Format::Npy, Arc::clone(&radar)),
            (Stream::Camera, Format::Jpeg, Arc::clone(&camera)),
        ];
        streams.into_iter().filter(move |(stream, ..)| alive(stream, tick as f64 / 10.0)).map(
            move |(stream, format, payload)| RawSample {
                unit: UnitId::new("u").unwrap(),
                stream,
                stamps: Stamps {
                    capture,
                    capture_source: CaptureSource::Recording,
                    sequence: None,
                    arrival: Moment::at(capture + Span::from_millis(5)),
                    transport_ns: None,
                },
                format: Some(format),
                payload,
            },
        )
    })
}

fn modes(log: &std::path::Path) -> Vec<(f64, String, Value)> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|message| message["schema"] == "mmsense/frame/1")
        .map(|frame| {
            let nanos: i64 = frame["capture_ns"].as_str().unwrap().parse().unwrap();
            let second = (nanos - 1_700_000_000_000_000_000) as f64 / 1e9;
            (second, frame["mode"].as_str().unwrap().to_owned(), frame)
        })
        .collect()
}

#[test]
fn on_the_virtual_clock_each_step_comes_when_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.jsonl");
    let pipeline = pipeline(&format!(
        "[input]\nzenoh = false\n[input.recording]\nunit = \"u\"\n[decide]\nhold_ttl_ms = 1000\n\
         recover_frames = 3\n{REQUIRED}"
    ));
    // 2 s all; 2…3 s no camera; 3…4 s no radar either; 4…8 s nothing; then all again.
    let feed = street(12, |stream, second| match stream {
        Stream::Camera => !(2.0..8.0).contains(&second),
        Stream::Radar => !(3.0..8.0).contains(&second),
        _ => !(4.0..8.0).contains(&second),
    });
    run_feed(pipeline, feed, Some(&log));
    let modes = modes(&log);
    let at = |second: f64| {
        let found = modes.iter().rev().find(|(at, ..)| *at <= second + 1e-6);
        found.map_or("none".to_owned(), |(_, mode, _)| mode.clone())
    };
    assert_eq!(at(1.9), "full");
    // The first frame without a camera image is degraded: a tick took over within two periods.
    assert_eq!(at(2.2), "degraded");
    assert_eq!(at(3.5), "degraded");
    // Held samples stand in for max_age = 250 ms after the last one (3.9 s); then there is nothing.
    assert_eq!(at(4.3), "hold");
    assert_eq!(at(4.9), "hold");
    assert_eq!(at(5.4), "unknown");
    // Up again after three good frames, not at the first one.
    assert_eq!(at(8.1), "unknown");
    assert_eq!(at(8.4), "full");
    assert!(modes.windows(2).all(|pair| pair[0].0 < pair[1].0), "frame times increase");
}

#[test]
fn on_the_wire_each_step_is_said() {
    let unit = Unit::start(live(&format!("[decide]\nhold_ttl_ms = 700\n{REQUIRED}")));
    let client = Client::connect(unit.port);
    let health = client.subscribe("mmsense/u/v1/health");
    let sensors = [
        ("sensor/lidar", Format::Pcd, pcd()),
        ("sensor/radar", Format::Npy, radar_points()),
        ("sensor/camera", Format::Jpeg, jpeg(16, 16)),
    ];
    // Publishes with the first `alive` sensors until health says `mode`.
    let reach = |alive: usize, mode: &str| {
        for _ in 0..100 {
            for (key, format, payload) in &sensors[..alive] {
                client.put(key, *format, payload);
            }
            std::thread::sleep(Duration::from_millis(100));
            if let Some((_, message)) =
                health.drain().into_iter().find(|(_, message)| message["mode"] == mode)
            {
                return message;
            }
        }
        panic!("the unit never said {mode}");
    };
    reach(3, "full");
    let degraded = reach(2, "degraded");
    assert!(degraded["reasons"].to_string().contains("camera"), "{degraded}");
    let still = reach(1, "degraded");
    assert!(still["reasons"].to_string().contains("camera"), "{still}");
    reach(0, "hold");
    reach(0, "unknown");
    reach(3, "full");
    unit.finish();
}
