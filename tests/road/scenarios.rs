//! The real recordings, where they stand beside the project: every row is decided.

use std::path::Path;

use mmsense::config;
use mmsense::frame::FrameReference;
use mmsense::message::Mode;
use mmsense::runtime::Summary;
use mmsense::sample::UnitId;

use crate::support::{feed_of, run_feed, shared};

fn run(scenario: &str) -> Option<Summary> {
    let folder = shared(&format!("data/deepsense/{scenario}"))?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/replay.toml");
    let mut pipeline = config::load(&file).unwrap();
    pipeline.output.zenoh_config = None;
    let feed = feed_of(&folder, &mut pipeline);
    Some(run_feed(pipeline, feed, None))
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
    assert!(score.beam.count > 4500, "{score:?}");
    assert_eq!(score.beam, score.persistence, "the default rule is persistence");
    // Measured over all rows: about half of the beams stay; a broken alignment gives far less or far more.
    assert!((0.3..0.7).contains(&score.beam.top1.unwrap()), "{score:?}");
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
    let Some(summary) = run("scenario5") else { return };
    assert_eq!(frames_by(&summary, FrameReference::Position), 1983);
    let unit = &summary.units[&UnitId::new("unit1").unwrap()];
    assert_eq!(unit.score.beam.count, 0, "nothing can be known of a single row: {:?}", unit.score);
    assert!(unit.frames[&FrameReference::Position].keys().all(|mode| *mode != Mode::Degraded));
}
