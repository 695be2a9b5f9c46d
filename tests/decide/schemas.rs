//! The schema files say what the message structs say, take what a decider says, and refuse what is wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jsonschema::Validator;
use mmsense::config;
use mmsense::infer::Prediction;
use mmsense::message::{Header, HealthMessage, Message, Mode, Nanos, StageLatency, schema};
use mmsense::model::Task;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::scenes::{decider, failed, frame, label, power, report, rule, run, says, steps, unit, view};

fn file(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/schemas").join(format!("{kind}.json"))
}

fn text(schema: &schemars::Schema) -> String {
    serde_json::to_string_pretty(schema).unwrap() + "\n"
}

#[test]
#[ignore = "writes the files: cargo test --test decide -- --ignored"]
fn write_the_files() {
    for (kind, schema) in schema::all() {
        std::fs::write(file(kind), text(&schema)).unwrap();
    }
}

#[test]
fn the_files_are_what_the_structs_say() {
    for (kind, schema) in schema::all() {
        let found = std::fs::read_to_string(file(kind)).unwrap();
        assert!(
            found == text(&schema),
            "config/schemas/{kind}.json is out of date: cargo test --test decide -- --ignored"
        );
    }
}

/// A validator per kind, from the files: what a subscriber has.
fn validators() -> BTreeMap<String, Validator> {
    let kinds = schema::all().into_iter().map(|(kind, _)| {
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(file(kind)).unwrap()).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        (kind.to_owned(), jsonschema::validator_for(&schema).unwrap())
    });
    kinds.collect()
}

fn kind(message: &Message) -> String {
    message.key().rsplit('/').next().unwrap().to_owned()
}

/// As publish sends it.
fn issued(message: &Message) -> Message {
    let mut message = message.clone();
    message.header_mut().issued_ns = Nanos(1_700_000_000_000_000_000);
    message
}

fn json(message: &Message) -> Value {
    serde_json::from_str(&issued(message).to_json().unwrap()).unwrap()
}

fn complaint(validators: &BTreeMap<String, Validator>, kind: &str, value: &Value) -> Option<String> {
    validators[kind].iter_errors(value).next().map(|error| format!("{error} in {value}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_decider_says_is_valid_and_survives_the_wire(steps in steps()) {
        let validators = validators();
        let (_, messages) = run(&config::Decide::default(), &steps);
        for message in &messages {
            let value = json(message);
            prop_assert_eq!(complaint(&validators, &kind(message), &value), None);
            let back = match message {
                Message::Activity(_) => serde_json::from_value(value).map(Message::Activity),
                Message::Pose(_) => serde_json::from_value(value).map(Message::Pose),
                Message::Beam(_) => serde_json::from_value(value).map(Message::Beam),
                Message::Blockage(_) => serde_json::from_value(value).map(Message::Blockage),
                Message::Frame(_) => serde_json::from_value(value).map(Message::Frame),
                Message::Health(_) => serde_json::from_value(value).map(Message::Health),
                Message::Score(_) => serde_json::from_value(value).map(Message::Score),
            };
            prop_assert_eq!(back.unwrap(), issued(message));
        }
    }
}

fn health() -> Message {
    let latency = StageLatency { p50_ms: 0.1, p99_ms: 0.3, count: 10 };
    Message::Health(HealthMessage {
        header: Header {
            schema: "mmsense/health/1".to_owned(),
            unit: unit(),
            capture_ns: Nanos(0),
            issued_ns: Nanos(i64::MAX),
            sequence: 0,
        },
        mode: Mode::Degraded,
        reasons: vec!["required radar is missing".to_owned()],
        frames: 7,
        stages: BTreeMap::from([("decode".to_owned(), latency)]),
        received: BTreeMap::from([("camera".to_owned(), 7)]),
        drops: BTreeMap::new(),
        device: "cpu".to_owned(),
        model: rule(),
        uptime_s: 1.5,
    })
}

/// One message of each kind, as rich as it gets.
fn examples() -> BTreeMap<String, Value> {
    let mut decider =
        crate::scenes::decider(&config::Decide { raise_frames: 1, ..config::Decide::default() });
    let mut said = vec![health()];
    for (sequence, ms) in (0..).zip([0, 100, 200]) {
        let view = view(ms, &[report(ms - 100, &[1.0, 2.0, 4.0])], true);
        let frame = frame(sequence, ms, &[("a", view)]);
        let prediction = says(&[("a", Some(vec![0.2, 0.3, 0.5]), Some(vec![0.1, 0.2, 0.7, 0.8]))]);
        said.extend(decider.decide(&frame, Ok(&prediction)));
        said.extend(decider.observe(&power("a", ms, &[1.0, 4.0, 2.0])));
        said.extend(decider.observe(&label("a", ms, false)));
    }
    said.iter().map(|message| (kind(message), json(message))).collect()
}

#[test]
fn each_kind_is_taken_and_each_fault_refused() {
    let validators = validators();
    let examples = examples();
    assert_eq!(examples.keys().collect::<Vec<_>>(), ["beam", "blockage", "frame", "health", "score"]);
    for (kind, value) in &examples {
        assert_eq!(complaint(&validators, kind, value), None);
        for field in value.as_object().unwrap().keys() {
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove(field);
            assert!(complaint(&validators, kind, &without).is_some(), "{kind} without {field}");
        }
    }
    let faults = [
        // What every message carries.
        ("beam", "/capture_ns", json!(1_700_000_000_000_000_000i64)),
        ("blockage", "/capture_ns", json!("1.7e18")),
        ("frame", "/issued_ns", json!("")),
        ("health", "/sequence", json!(-1)),
        ("score", "/unit", json!("two chunks/of a key")),
        ("score", "/schema", json!("mmsense/beam/1")),
        // NaN is written as null.
        ("beam", "/best/probability", Value::Null),
        ("beam", "/best/probability", json!(1.01)),
        ("beam", "/best/index", json!(70_000)),
        ("beam", "/best", Value::Null),
        ("beam", "/age_ms", json!(-1.0)),
        ("beam", "/age_ms", Value::Null),
        ("beam", "/sweep", json!([])),
        ("beam", "/source", json!("unknown")),
        ("beam", "/source", json!("guess")),
        ("beam", "/model/trained", json!("yes")),
        ("blockage", "/horizons/0/probability", json!(-0.1)),
        ("blockage", "/horizons/0/horizon_ms", json!(0.5)),
        ("blockage", "/horizons", json!([])),
        ("blockage", "/known", json!(false)),
        ("blockage", "/warning/state", json!("none")),
        ("blockage", "/warning/id", Value::Null),
        ("blockage", "/warning/id", json!(0)),
        ("blockage", "/warning/since_ns", json!(5)),
        ("blockage", "/warning/expected_in_ms", json!(-5.0)),
        ("frame", "/mode", json!("off")),
        ("frame", "/wait_ms", Value::Null),
        ("frame", "/close_reason", json!("bored")),
        ("frame", "/modalities/camera/state", json!("missing")),
        ("frame", "/modalities/camera/age_ms", json!(-3.0)),
        ("frame", "/modalities/camera/skew_ms", Value::Null),
        ("frame", "/modalities/camera/gate_weight", json!(1.5)),
        ("frame", "/modalities/radar/state", json!("held")),
        ("frame", "/modalities", json!({})),
        ("frame", "/ues/a/link_reports", json!(-1)),
        ("frame", "/ues", json!({ "a b": null })),
        ("health", "/stages/decode/p50_ms", Value::Null),
        ("health", "/uptime_s", json!(-1)),
        ("health", "/drops", json!({ "ingest/full": -1 })),
        ("score", "/coverage", json!(1.5)),
        ("score", "/beam/top1", json!(1.5)),
        ("score", "/beam/power_loss_db", json!(-1.0)),
        ("score", "/reports/seen", json!(0.5)),
        ("score", "/blockage/truth", json!("rumour")),
    ];
    for (kind, pointer, wrong) in faults {
        let mut value = examples[kind].clone();
        *value.pointer_mut(pointer).unwrap_or_else(|| panic!("{kind}{pointer}")) = wrong.clone();
        assert!(complaint(&validators, kind, &value).is_some(), "{kind}{pointer} = {wrong}");
    }
    for (kind, pointer) in [
        ("beam", ""),
        ("beam", "/best"),
        ("beam", "/model"),
        ("blockage", ""),
        ("blockage", "/warning"),
        ("blockage", "/horizons/0"),
        ("frame", ""),
        ("frame", "/modalities"),
        ("frame", "/modalities/camera"),
        ("frame", "/ues/a"),
        ("health", ""),
        ("health", "/stages/decode"),
        ("score", ""),
        ("score", "/beam"),
        ("score", "/reports"),
        ("score", "/blockage"),
    ] {
        let mut value = examples[kind].clone();
        let object = value.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
        object.insert("surplus".to_owned(), json!(1));
        assert!(complaint(&validators, kind, &value).is_some(), "{kind}{pointer}/surplus");
    }
}

#[test]
fn what_is_said_of_a_person_is_valid_whether_known_or_not() {
    let validators = validators();
    let known = Prediction {
        activity: Some((0..27).map(|index| if index == 3 { 0.48 } else { 0.02 }).collect()),
        pose: Some(vec![[0.1, -0.2, 3.0]; 17]),
        ..Prediction::default()
    };
    let tasks = [Task::Activity, Task::Pose];
    for (prediction, is_known) in [(Ok(&known), true), (Err(&failed()), false)] {
        let mut decider = decider(&config::Decide::default()).asked_for(&tasks);
        let messages = decider.decide(&frame(0, 0, &[]), prediction);
        let kinds: Vec<String> = messages.iter().map(kind).collect();
        assert_eq!(kinds, ["activity", "pose", "frame"]);
        for message in &messages {
            let value = json(message);
            assert_eq!(complaint(&validators, &kind(message), &value), None);
            if let Some(known) = value.get("known") {
                assert_eq!(*known, json!(is_known));
                assert_eq!(value["actionable"], json!(is_known));
            }
        }
        if is_known {
            assert_eq!(json(&messages[0])["ranked"][0]["index"], json!(3));
            assert_eq!(json(&messages[1])["joints_m"].as_array().unwrap().len(), 17);
        }
    }
    // Nobody asked, nothing is said.
    let messages = decider(&config::Decide::default()).decide(&frame(0, 0, &[]), Ok(&known));
    assert_eq!(messages.iter().map(kind).collect::<Vec<_>>(), ["frame"]);
}
