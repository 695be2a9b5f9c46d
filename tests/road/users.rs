//! Several UEs on one unit: they appear, are told apart, leave, time out, and are bounded.

use std::time::Duration;

use mmsense::sample::Format;

use crate::support::{Client, Unit, jpeg, live, power};

#[test]
fn each_ue_gets_its_own_beam_and_leaves_when_it_falls_silent() {
    let unit = Unit::start(live("[align]\nue_ttl_s = 1.0\nmax_ues = 2\n"));
    let client = Client::connect(unit.port);
    let beams = client.subscribe("mmsense/u/v1/ue/*/beam");
    let frames = client.subscribe("mmsense/u/v1/frame");
    let publish = |ues: &[(&str, usize)]| {
        for (ue, best) in ues {
            client.put(&format!("ue/{ue}/link/power"), Format::Npy, &power(*best, 1.0));
        }
        client.put("sensor/camera", Format::Jpeg, &jpeg(16, 16));
        std::thread::sleep(Duration::from_millis(100));
    };
    for _ in 0..10 {
        publish(&[("car", 1), ("bus", 6)]);
    }
    let decided = |ue: &str, best: u64| {
        beams.wait_for(&format!("a beam of {ue}"), |_, beam| {
            beam["ue"] == ue && beam["best"]["index"] == best && beam["actionable"] == true
        })
    };
    assert_eq!(decided("car", 1)["source"], "model");
    decided("bus", 6);

    // The unit is full: a third one is turned away and counted.
    for _ in 0..3 {
        publish(&[("car", 1), ("bus", 6), ("van", 4)]);
    }
    let frame = frames.wait_for("two UEs", |_, frame| frame["ues"].as_object().unwrap().len() == 2);
    assert!(frame["ues"].get("van").is_none(), "{frame}");

    // The bus falls silent and is forgotten; the van takes its place.
    for _ in 0..14 {
        publish(&[("car", 1)]);
    }
    frames.drain();
    frames.wait_for("one UE", |_, frame| frame["ues"].as_object().unwrap().keys().eq(["car"]));
    assert!(!client.get("mmsense/u/v1/ue/*/beam").contains_key("mmsense/u/v1/ue/bus/beam"));
    for _ in 0..6 {
        publish(&[("car", 1), ("van", 4)]);
    }
    decided("van", 4);
    let summary = unit.finish();
    assert!(summary.drops.get("align/link/ue_limit").is_some_and(|count| *count == 3), "{:?}", summary.drops);
}

#[test]
fn invented_ues_leave_nothing_behind() {
    let unit = Unit::start(live("[align]\nmax_ues = 2\n"));
    let client = Client::connect(unit.port);
    for name in 0..50 {
        client.put(&format!("ue/invented{name}/link/blocked"), Format::Json, br#"{"blocked": true}"#);
    }
    for _ in 0..5 {
        client.put("sensor/camera", Format::Jpeg, &jpeg(16, 16));
        std::thread::sleep(Duration::from_millis(100));
    }
    let last = client.get("mmsense/u/v1/ue/**");
    assert!(last.keys().all(|key| key.starts_with("mmsense/u/v1/ue/0/")), "{:?}", last.keys());
    unit.finish();
}

#[test]
fn a_unit_without_ues_decides_for_the_implied_one() {
    let unit = Unit::start(live(""));
    let client = Client::connect(unit.port);
    let beams = client.subscribe("mmsense/u/v1/ue/*/beam");
    for _ in 0..4 {
        client.put("sensor/camera", Format::Jpeg, &jpeg(16, 16));
        std::thread::sleep(Duration::from_millis(100));
    }
    let beam = beams.next("beam");
    assert_eq!((beam["ue"].as_str(), beam["source"].as_str()), (Some("0"), Some("unknown")));
    assert_eq!(beam["actionable"], false);
    unit.finish();
}
