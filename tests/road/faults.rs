//! Bad input costs one sample each, counted by reason, and nothing else.

use std::time::Duration;

use mmsense::ingest::clock::system_time;
use mmsense::sample::Format;
use mmsense::time::Span;
use serde_json::Value;
use zenoh::Wait;

use crate::support::{Client, Unit, jpeg, live, npy_f32, npy_f64, npy_i32, pcd, power};

/// A `binary_compressed` PCD with a given POINTS count and size fields.
fn compressed_pcd(points: u64, compressed: u32, uncompressed: u32) -> Vec<u8> {
    let mut bytes = format!(
        "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {points}\nHEIGHT 1\n\
         VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA binary_compressed\n"
    )
    .into_bytes();
    bytes.extend(compressed.to_le_bytes());
    bytes.extend(uncompressed.to_le_bytes());
    bytes.extend([0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // LZF: 12 literal zeros
    bytes
}

fn drops(health: &Value) -> std::collections::BTreeMap<String, u64> {
    serde_json::from_value(health["drops"].clone()).unwrap()
}

#[test]
fn every_rejection_is_counted_by_reason_and_the_good_ones_get_through() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let frames = client.subscribe("mmsense/u/v1/frame");
    let health = client.subscribe("mmsense/u/v1/health");

    let image = jpeg(64, 64);
    let mut bad: Vec<(&str, Format, Vec<u8>)> = vec![
        ("ue/0/link/power", Format::Npy, npy_i32(&[1; 8])),
        ("ue/0/link/power", Format::Npy, npy_f64(&[1.0; 5])),
        ("ue/0/link/power", Format::Npy, npy_f64(&[f64::INFINITY; 8])),
        ("ue/0/link/power", Format::Json, b"{\"power\":".to_vec()),
        ("ue/0/link/power", Format::Json, b"{\"beams\":[0,99],\"power\":[1.0,2.0]}".to_vec()),
        ("ue/0/position", Format::Json, b"{\"lat\": 91, \"lon\": 0}".to_vec()),
        ("ue/0/link/blocked", Format::Json, b"{\"blocked\": 1}".to_vec()),
        ("sensor/camera", Format::Jpeg, image[..image.len() / 4].to_vec()),
        ("sensor/camera", Format::Png, b"not a png".to_vec()),
        ("sensor/radar", Format::Npy, npy_f32("(3, 4, 5, 6)", &[0.0; 360])),
        ("sensor/radar", Format::Npy, npy_f32("(4, 4)", &[f32::NAN; 16])),
        ("sensor/radar", Format::Npy, npy_f32("(1000000, 1000000)", &[0.0; 4])),
        ("sensor/lidar", Format::Pcd, pcd()[..100].to_vec()),
        ("sensor/lidar", Format::Pcd, compressed_pcd(1000, 13, 12)),
        ("sensor/lidar", Format::Pcd, compressed_pcd(1, u32::MAX, u32::MAX)),
        (
            "sensor/lidar",
            Format::Ply,
            b"ply\nformat ascii 1.0\nelement vertex 4000000000\nend_header\n".to_vec(),
        ),
    ];
    bad.push(("ue/0/position", Format::Json, vec![b' '; 70_000]));
    for (key, format, payload) in &bad {
        client.put(key, *format, payload);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Not ours, and stamps that lie.
    client.session.put("mmsense/u/v1/sensor/sonar", "x").wait().unwrap();
    client.session.delete("mmsense/u/v1/sensor/camera").wait().unwrap();
    client
        .session
        .put("mmsense/u/v1/sensor/camera", image.clone())
        .attachment([1u8, 2].as_slice())
        .wait()
        .unwrap();
    client.put_at("sensor/camera", Format::Jpeg, &image, system_time() + Span::from_secs(3600));

    for _ in 0..12 {
        client.put("sensor/lidar", Format::Pcd, &pcd());
        client.put("ue/0/link/power", Format::Npy, &power(3, 1.0));
        client.put("sensor/camera", Format::Jpeg, &image);
        std::thread::sleep(Duration::from_millis(100));
    }
    frames.wait_for("a good frame", |_, frame| {
        frame["modalities"]["camera"]["state"] == "fresh" && frame["modalities"]["lidar"]["state"] == "fresh"
    });
    let message = health.wait_for("every rejection in health", |_, message| {
        let counted: u64 = drops(message).values().sum();
        counted >= bad.len() as u64 + 4
    });
    let drops = drops(&message);
    let count = |prefix: &str| -> u64 {
        drops.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, count)| count).sum()
    };
    assert_eq!(count("decode/link"), 5, "{drops:?}");
    assert_eq!(count("decode/position"), 1, "{drops:?}");
    assert_eq!(count("decode/blocked"), 1, "{drops:?}");
    assert_eq!(count("decode/camera"), 2, "{drops:?}");
    assert_eq!(count("decode/radar"), 3, "{drops:?}");
    assert_eq!(count("decode/lidar"), 4, "{drops:?}");
    assert_eq!(count("ingest/position/oversize"), 1, "{drops:?}");
    assert_eq!(count("ingest/unknown_key"), 1, "{drops:?}");
    assert_eq!(count("ingest/delete"), 1, "{drops:?}");
    assert_eq!(count("ingest/camera/attachment"), 1, "{drops:?}");
    assert_eq!(count("align/camera"), 1, "{drops:?}");
    let summary = unit.finish();
    assert!(summary.data_lost);
}

#[test]
fn a_model_that_fails_makes_the_unit_hold_and_say_so() {
    use mmsense::frame::Window;
    use mmsense::infer::{Baseline, ModelError, ModelInfo, Prediction, Predictor};

    /// Works for a while, then panics, then returns NaN.
    struct Breaking(Box<dyn Predictor>, usize);
    impl Predictor for Breaking {
        fn info(&self) -> ModelInfo {
            self.0.info()
        }
        fn predict(&mut self, windows: &[Window]) -> Result<Vec<Prediction>, ModelError> {
            self.1 += 1;
            let mut predictions = self.0.predict(windows)?;
            assert!(!(15..20).contains(&self.1), "broken on purpose");
            if self.1 >= 20 {
                for ue in predictions.iter_mut().flat_map(|prediction| prediction.ues.values_mut()) {
                    ue.beam = Some(vec![f32::NAN; 8]);
                }
            }
            Ok(predictions)
        }
    }
    let pipeline = live("[decide]\nhold_ttl_ms = 500\n");
    let predictor =
        Breaking(Box::new(Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide)), 0);
    let unit = Unit::start_with(pipeline, Box::new(predictor));
    let client = Client::connect(unit.port);
    let beams = client.subscribe("mmsense/u/v1/ue/0/beam");
    let publisher = std::thread::spawn({
        let port = unit.port;
        move || {
            let client = Client::connect(port);
            for _ in 0..40 {
                client.put("ue/0/link/power", Format::Npy, &power(3, 1.0));
                client.put("sensor/camera", Format::Jpeg, &jpeg(16, 16));
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    beams.wait_for("a decision", |_, beam| beam["source"] == "model");
    let held = beams.wait_for("a held beam", |_, beam| beam["source"] == "hold");
    assert_eq!(held["best"]["index"], 3);
    assert!(held["age_ms"].as_f64() > Some(0.0));
    assert_eq!(held["actionable"], false);
    let unknown = beams.wait_for("unknown", |_, beam| beam["source"] == "unknown");
    assert_eq!((&unknown["best"], &unknown["age_ms"]), (&Value::Null, &Value::Null));
    publisher.join().unwrap();
    unit.finish();
}
