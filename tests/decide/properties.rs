//! What holds of every message of every run.

use std::collections::BTreeMap;

use mmsense::config::Decide;
use mmsense::message::{BeamSource, Message, WarningState};
use mmsense::sample::UeId;
use proptest::prelude::*;
use serde_json::Value;

use crate::scenes::{Step, beams, blockages, run, steps};

/// Numbers that are not there although the field is: what serde makes of NaN and infinities.
fn nulls(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| nulls(item, path, found)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| nulls(field, &format!("{path}/{key}"), found));
        }
        _ => {}
    }
}

/// Allowed order of states from frame to frame.
fn follows(before: WarningState, after: WarningState) -> bool {
    use WarningState::{Active, Cleared, None, Raised};
    matches!(
        (before, after),
        (None, None | Raised | Active)
            | (Raised, Raised | Active | Cleared)
            | (Active, Active | Cleared)
            | (Cleared, None)
    )
}

proptest! {
    #[test]
    fn messages_keep_their_promises(steps in steps()) {
        let rules = Decide { raise_frames: 1, clear_frames: 2, ..Decide::default() };
        let (decider, messages) = run(&rules, &steps);

        for message in &messages {
            let text = message.to_json().unwrap();
            prop_assert!(!text.contains("NaN") && !text.contains("inf"));
        }
        for beam in beams(&messages) {
            let numbers = beam.sweep.iter().map(|beam| beam.probability).chain(beam.age_ms);
            prop_assert!(numbers.clone().all(f64::is_finite));
            prop_assert!(beam.age_ms.is_none_or(|age| (0.0..=rules.hold_ttl_ms).contains(&age)));
            prop_assert!(beam.sweep.windows(2).all(|p| p[0].probability >= p[1].probability));
            prop_assert_eq!(beam.best, beam.sweep.first().copied());
            prop_assert_eq!(beam.source == BeamSource::Unknown, beam.best.is_none());
            prop_assert!(beam.source == BeamSource::Model || !beam.actionable);
        }

        let mut last: BTreeMap<&UeId, (u64, i64, WarningState, u64)> = BTreeMap::new();
        for blockage in blockages(&messages) {
            prop_assert!(blockage.horizons.windows(2).all(|p| p[0].probability <= p[1].probability));
            prop_assert!(blockage.horizons.iter().all(|p| (0.0..=1.0).contains(&p.probability)));
            let warning = &blockage.warning;
            prop_assert!(warning.expected_in_ms.is_none_or(|ms| (0.0..=1000.0).contains(&ms)));
            let since = warning.since_ns.map(|since| since.0);
            prop_assert!(since.is_none_or(|since| since <= blockage.header.capture_ns.0));
            let sequence = blockage.header.sequence;
            match last.get(&blockage.ue) {
                // A UE that was in the last frame goes on; one that was not starts anew.
                Some(&(frame, began, state, id)) if frame + 1 == sequence => {
                    prop_assert!(follows(state, warning.state), "{state:?} to {:?}", warning.state);
                    prop_assert!(since.is_none_or(|since| since >= began));
                    let starts = state == WarningState::None && warning.state != WarningState::None;
                    prop_assert_eq!(warning.id.unwrap_or(id), id + u64::from(starts));
                }
                _ => prop_assert!(warning.id.is_none_or(|id| id == 1)),
            }
            let before = last.get(&blockage.ue).filter(|before| before.0 + 1 == sequence);
            let id = warning.id.or(before.map(|before| before.3)).unwrap_or(0);
            let began = since.or(before.map(|before| before.1)).unwrap_or(i64::MIN);
            last.insert(&blockage.ue, (sequence, began, warning.state, id));
        }

        // Every report is accounted for, once.
        let reports = decider.score_totals().reports;
        let sent = steps.iter().filter(|step| matches!(step, Step::Report { .. })).count();
        prop_assert_eq!(reports.seen, sent as u64);
        let parts = [
            reports.scored, reports.undecided, reports.incomparable, reports.unmatched, reports.silent,
            reports.late,
        ];
        prop_assert_eq!(parts.iter().sum::<u64>(), reports.seen);
        let totals = decider.score_totals();
        for score in [&totals.beam, &totals.persistence, &totals.extrapolation, &totals.majority] {
            prop_assert_eq!(score.count, reports.scored);
            prop_assert!(score.loss_count <= score.count);
            prop_assert!(score.power_loss_db.is_none_or(|loss| loss.is_finite() && loss >= 0.0));
        }
    }

    #[test]
    fn a_number_is_missing_only_where_it_may_be(steps in steps()) {
        let (_, messages) = run(&Decide::default(), &steps);
        for message in &messages {
            let mut found = Vec::new();
            nulls(&serde_json::from_str(&message.to_json().unwrap()).unwrap(), "", &mut found);
            for path in found {
                let field = path.rsplit('/').next().unwrap();
                let may = match message {
                    Message::Beam(beam) => beam.source == BeamSource::Unknown && ["best", "age_ms"].contains(&field),
                    Message::Blockage(_) => ["id", "since_ns", "expected_in_ms"].contains(&field),
                    Message::Frame(_) => {
                        let of_placed = ["capture_ns", "capture_source", "age_ms", "skew_ms"].contains(&field);
                        of_placed || ["gate_weight", "link_gate_weight"].contains(&field)
                    }
                    Message::Score(score) => match field {
                        "top1" | "top3" => score.reports.scored == 0,
                        "power_loss_db" | "lead_time_ms" => true,
                        "coverage" => score.reports.seen == 0,
                        "prevalence" | "truth" => score.blockage.count == 0,
                        _ => false,
                    },
                    Message::Activity(_) | Message::Pose(_) | Message::Health(_) => false,
                };
                prop_assert!(may, "{path} of {}", message.key());
            }
        }
    }

    #[test]
    fn the_same_run_twice_gives_the_same_bytes(steps in steps()) {
        let bytes = || -> Vec<String> {
            let (_, messages) = run(&Decide::default(), &steps);
            messages.iter().map(|message| message.to_json().unwrap()).collect()
        };
        prop_assert_eq!(bytes(), bytes());
    }
}
