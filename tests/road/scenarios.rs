//! The real recordings, where they stand beside the project: every row is decided.

use mmsense::frame::FrameReference;
use mmsense::runtime::Summary;
use mmsense::sample::UnitId;
use serde_json::Value;

use crate::support::{run_recording, shared};

fn run(scenario: &str) -> Option<Summary> {
    Some(run_recording(&shared(&format!("data/deepsense/{scenario}"))?, 2, None))
}

fn frames_by(summary: &Summary, reference: FrameReference) -> u64 {
    let unit = &summary.units[&UnitId::new("unit1").unwrap()];
    unit.frames.get(&reference).map_or(0, |modes| modes.values().sum())
}

#[test]
fn scenario_9_without_its_sensors_is_decided_row_by_row() {
    let Some(summary) = run("scenario9") else { return };
    assert_eq!(frames_by(&summary, FrameReference::Position), 4798);
    let score = &summary.units[&UnitId::new("unit1").unwrap()].score;
    assert_eq!(score.beam, score.persistence, "the default rule is persistence");
    // Counted over the power files themselves: the best beam of 1,228 of the 4,690 rows that follow another one in
    // their sequence is that of the row before.
    assert_eq!(score.beam.count, 4690);
    assert!((score.beam.top1.unwrap() - 1228.0 / 4690.0).abs() < 1e-12, "{score:?}");
    assert!(!summary.data_lost, "{:?}", summary.drops);
}

#[test]
fn the_other_scenarios_are_decided_row_by_row() {
    for (scenario, rows) in [("scenario1", 2422), ("scenario6", 915), ("scenario8", 3310)] {
        let Some(summary) = run(scenario) else { return };
        assert_eq!(frames_by(&summary, FrameReference::Position), rows, "{scenario}");
        let score = &summary.units[&UnitId::new("unit1").unwrap()].score;
        assert!(score.beam.count * 10 > rows * 8, "{scenario}: {score:?}");
    }
}

#[test]
fn shuffled_rows_give_an_explicit_unknown() {
    let Some(folder) = shared("data/deepsense/scenario5") else { return };
    let log = tempfile::NamedTempFile::new().unwrap();
    let summary = run_recording(&folder, 2, Some(log.path()));
    assert_eq!(frames_by(&summary, FrameReference::Position), 1983);
    let text = std::fs::read_to_string(log.path()).unwrap();
    let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Rows stand 2 s apart; a tick between two rows may know of the report before it.
    let at_row = |message: &&Value| {
        let nanos: i64 = message["capture_ns"].as_str().unwrap().parse().unwrap();
        message["schema"] == "mmsense/beam/1" && nanos % 2_000_000_000 == 0
    };
    let beams: Vec<&Value> = messages.iter().filter(at_row).collect();
    assert_eq!(beams.len(), 1983);
    for beam in beams {
        assert_eq!((&beam["source"], &beam["best"]), (&"unknown".into(), &Value::Null), "{beam}");
        assert_eq!(beam["actionable"], false, "{beam}");
    }
}
