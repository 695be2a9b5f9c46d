//! What comes out on the wire is what the contract says.

use std::path::Path;
use std::time::Duration;

use mmsense::ingest::clock::system_time;
use mmsense::sample::Format;
use serde_json::Value;
use zenoh::Wait;

use crate::support::{Client, Unit, jpeg, live, pcd, power, radar_points};

fn schema(name: &str) -> jsonschema::Validator {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/schemas/{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn publish_all(client: &Client, best: usize) {
    let now = system_time();
    client.put_at("sensor/lidar", Format::Pcd, &pcd(), now);
    client.put_at("sensor/radar", Format::Npy, &radar_points(), now);
    client.put_at("ue/0/position", Format::Json, br#"{"lat": 33.4, "lon": -111.9}"#, now);
    client.put_at("sensor/camera", Format::Jpeg, &jpeg(64, 48), now);
    client.put_at("ue/0/link/power", Format::Npy, &power(best, 1.0), now);
    client.put_at("ue/0/link/blocked", Format::Json, br#"{"blocked": false}"#, now);
}

#[test]
fn every_output_comes_and_fits_its_schema() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let messages = client.subscribe("mmsense/u/v1/**");
    for _ in 0..15 {
        publish_all(&client, 3);
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(1200));
    let mut counts = std::collections::BTreeMap::new();
    for (key, value) in messages.drain() {
        let kind = key.rsplit('/').next().unwrap().to_owned();
        if !["frame", "health", "beam", "blockage", "score"].contains(&kind.as_str()) {
            continue; // our own inputs match the key expression too
        }
        if let Err(error) = schema(&kind).validate(&value) {
            panic!("{key}: {error}: {value}");
        }
        assert_eq!(value["unit"], "u", "{key}");
        assert_ne!(value["issued_ns"], "0", "{key}");
        *counts.entry(kind).or_insert(0) += 1;
    }
    for kind in ["frame", "health", "beam", "blockage", "score"] {
        assert!(counts.get(kind).is_some_and(|count| *count > 0), "no {kind} among {counts:?}");
    }
    let summary = unit.finish();
    assert!(!summary.data_lost, "{:?}", summary.drops);
}

#[test]
fn a_frame_says_what_it_is_made_of() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let messages = client.subscribe("mmsense/u/v1/frame");
    for _ in 0..8 {
        publish_all(&client, 3);
        std::thread::sleep(Duration::from_millis(100));
    }
    let frame = messages.wait_for("a frame with every modality", |_, frame| {
        ["camera", "radar", "lidar"].iter().all(|sensor| frame["modalities"][sensor]["state"] == "fresh")
    });
    assert_eq!(frame["reference"], "camera");
    for sensor in ["camera", "radar", "lidar"] {
        assert_eq!(frame["modalities"][sensor]["capture_source"], "attachment");
        assert_eq!(frame["modalities"][sensor]["capture_ns"], frame["capture_ns"]);
        assert_eq!(frame["modalities"][sensor]["skew_ms"], 0.0);
    }
    unit.finish();
}

#[test]
fn a_sender_without_attachment_or_encoding_is_understood() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let messages = client.subscribe("mmsense/u/v1/frame");
    for _ in 0..5 {
        client.session.put("mmsense/u/v1/sensor/camera", jpeg(32, 32)).wait().unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let frame =
        messages.wait_for("a camera frame", |_, frame| frame["modalities"]["camera"]["state"] == "fresh");
    assert_eq!(frame["modalities"]["camera"]["capture_source"], "arrival");
    unit.finish();
}

#[test]
fn a_late_subscriber_gets_the_last_value_and_the_unit_stands_alive() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let messages = client.subscribe("mmsense/u/v1/ue/0/beam");
    for _ in 0..5 {
        publish_all(&client, 5);
        std::thread::sleep(Duration::from_millis(100));
    }
    messages.next("beam");
    let late = Client::connect(unit.port);
    let last = late.get("mmsense/u/v1/ue/*/beam");
    assert_eq!(last.keys().collect::<Vec<_>>(), ["mmsense/u/v1/ue/0/beam"]);
    let all = late.get("mmsense/u/v1/**");
    for key in ["frame", "ue/0/beam", "ue/0/blockage"] {
        assert!(all.contains_key(&format!("mmsense/u/v1/{key}")), "{key} is not among {:?}", all.keys());
    }
    let alive = late.session.liveliness().get("mmsense/*/v1/alive").wait().unwrap();
    let tokens: Vec<String> = std::iter::from_fn(|| alive.recv().ok())
        .map(|reply| reply.result().unwrap().key_expr().to_string())
        .collect();
    assert_eq!(tokens, ["mmsense/u/v1/alive"]);
    let port = unit.port;
    unit.finish();
    let _ = port;
}

#[test]
fn beams_are_decided_from_past_reports_only_and_scored_against_the_next() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let messages = client.subscribe("mmsense/u/v1/ue/0/*");
    for _ in 0..12 {
        publish_all(&client, 6);
        std::thread::sleep(Duration::from_millis(100));
    }
    let beam =
        messages.wait_for("a decided beam", |key, beam| key.ends_with("beam") && beam["source"] == "model");
    assert_eq!(beam["best"]["index"], 6);
    assert_eq!(beam["age_ms"], 0.0);
    let sweep = beam["sweep"].as_array().unwrap();
    assert_eq!(sweep.len(), 5);
    assert!(
        sweep.is_sorted_by(|a: &Value, b: &Value| a["probability"].as_f64() >= b["probability"].as_f64())
    );
    let score = messages.wait_for("a score", |key, score| {
        key.ends_with("score") && score["beam"]["count"].as_u64() > Some(2)
    });
    assert_eq!(score["beam"]["top1"], 1.0);
    assert_eq!(score["beam"]["power_loss_db"], 0.0);
    assert_eq!(score["coverage"], 1.0);
    unit.finish();
}
