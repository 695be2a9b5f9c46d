//! Modes, held beams and who may act on a decision.

use mmsense::config::{Codebook, Decide, Floor};
use mmsense::decide::Decider;
use mmsense::frame::{Frame, UeView};
use mmsense::infer::{ModelError, ModelInfo, Prediction};
use mmsense::message::{BeamSource, Message, Mode, WarningState};
use mmsense::sample::Modality;

use crate::scenes::{beams, blind, blockages, decider, failed, frame, report, says, ue, unit, view};

const RULES: fn() -> Decide = Decide::default;

/// A frame of one UE at `ms`, one per 100 ms.
fn one(ms: i64) -> Frame {
    frame((ms / 100) as u64, ms, &[("a", view(ms, &[report(ms - 100, &[1.0, 2.0, 4.0])], false))])
}

fn good() -> Prediction {
    says(&[("a", Some(vec![0.2, 0.3, 0.5]), Some(vec![0.0, 0.0, 0.1, 0.2]))])
}

#[test]
fn full_degraded_hold_unknown_and_back() {
    let mut decider = decider(&RULES());
    assert_eq!(decider.mode(), Mode::Unknown);
    let mut step = |ms: i64, state: &str| {
        let mut frame = one(ms);
        let prediction = good();
        match state {
            "good" => decider.decide(&frame, Ok(&prediction)),
            "missing" => {
                frame.missing_required = vec![Modality::Radar];
                decider.decide(&frame, Ok(&prediction))
            }
            "blind" => decider.decide(&blind(frame), Ok(&prediction)),
            _ => decider.decide(&frame, Err(&failed())),
        };
        (decider.mode(), decider.mode_reasons().join("; "))
    };
    let full = (Mode::Full, String::new());
    assert_eq!(step(0, "good"), full);
    // Down at once, up after three good frames.
    assert_eq!(step(100, "missing"), (Mode::Degraded, "required radar is missing".to_owned()));
    assert_eq!(step(200, "good"), (Mode::Degraded, "recovering: 1 of 3 better frames".to_owned()));
    assert_eq!(step(300, "good"), (Mode::Degraded, "recovering: 2 of 3 better frames".to_owned()));
    assert_eq!(step(400, "good"), full);
    // Held from 400 ms, at most 1000 ms.
    let broken = "the model failed: no device".to_owned();
    assert_eq!(step(500, "failed"), (Mode::Hold, broken.clone()));
    assert_eq!(step(1400, "blind"), (Mode::Hold, "nothing was sensed".to_owned()));
    assert_eq!(step(1500, "failed"), (Mode::Unknown, broken));
    // A bad frame on the way starts the count again.
    assert_eq!(step(1600, "good").0, Mode::Unknown);
    assert_eq!(step(1700, "good").0, Mode::Unknown);
    assert_eq!(step(1800, "missing").0, Mode::Degraded, "three frames better than unknown");
    assert_eq!(step(1900, "good").0, Mode::Degraded);
    assert_eq!(step(2000, "good").0, Mode::Degraded);
    assert_eq!(step(2100, "good"), full);
}

#[test]
fn a_beam_is_held_with_its_age_and_then_unknown() {
    let mut decider = decider(&RULES());
    let mut step = |ms, outcome: Result<&Prediction, &ModelError>| {
        let messages = decider.decide(&one(ms), outcome);
        let beam = beams(&messages)[0].clone();
        (beam.source, beam.best.map(|best| best.index.0), beam.age_ms, beam.sweep.len(), beam.actionable)
    };
    let nothing = Prediction::default();
    assert_eq!(step(0, Ok(&nothing)), (BeamSource::Unknown, None, None, 0, false));
    assert_eq!(step(100, Ok(&good())), (BeamSource::Model, Some(2), Some(0.0), 3, true));
    // The model knows nothing of this UE: the mode stays full, the beam is held.
    assert_eq!(step(200, Ok(&nothing)), (BeamSource::Hold, Some(2), Some(100.0), 3, false));
    assert_eq!(step(1100, Err(&failed())), (BeamSource::Hold, Some(2), Some(1000.0), 3, false));
    assert_eq!(step(1101, Err(&failed())), (BeamSource::Unknown, None, None, 0, false));
    assert_eq!(decider.mode(), Mode::Hold, "the frame at 200 ms was good");
}

#[test]
fn a_gap_past_the_time_to_live_clears_a_held_beam_and_a_short_one_does_not() {
    let mut decider = decider(&RULES());
    decider.decide(&one(0), Ok(&good()));
    let mut after_gap = one(700);
    after_gap.after_gap = true;
    assert_eq!(beams(&decider.decide(&after_gap, Err(&failed())))[0].age_ms, Some(700.0));
    let mut later = one(2000);
    later.after_gap = true;
    assert_eq!(beams(&decider.decide(&later, Err(&failed())))[0].source, BeamSource::Unknown);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing() {
    let mut decider = decider(&RULES());
    decider.decide(&one(5000), Ok(&good()));
    let beam = beams(&decider.decide(&one(4900), Err(&failed())))[0].clone();
    assert_eq!((beam.source, beam.age_ms), (BeamSource::Unknown, None));
    assert_eq!(decider.mode(), Mode::Unknown);
}

#[test]
fn a_malformed_prediction_is_a_failed_model() {
    let fine = [0.0f32, 0.1, 0.1, 0.2];
    for (beam, blockage) in [
        (vec![f32::NAN, 0.5, 0.5], fine.to_vec()),
        (vec![f32::INFINITY, 0.5, 0.5], fine.to_vec()),
        (vec![0.5, 0.5], fine.to_vec()),
        (vec![], fine.to_vec()),
        (vec![0.5, 0.5, 0.5], fine.to_vec()),
        (vec![1.5, -0.5, 0.0], fine.to_vec()),
        (vec![0.2, 0.3, 0.5], vec![0.0, f32::NAN, 0.1, 0.2]),
        (vec![0.2, 0.3, 0.5], vec![0.0, 0.1, 0.2]),
        (vec![0.2, 0.3, 0.5], vec![0.0, 0.2, 0.1, 0.3]),
        (vec![0.2, 0.3, 0.5], vec![0.0, 0.2, 0.3, 1.1]),
    ] {
        let mut decider = decider(&RULES());
        decider.decide(&one(0), Ok(&good()));
        let bad = says(&[("a", Some(beam), Some(blockage))]);
        let messages = decider.decide(&one(100), Ok(&bad));
        assert_eq!(decider.mode(), Mode::Hold, "{bad:?}");
        assert_eq!(decider.mode_reasons().len(), 1);
        assert_eq!(beams(&messages)[0].source, BeamSource::Hold);
        assert!(!blockages(&messages)[0].known);
    }
    // Of a UE that the frame does not have, anything may be said.
    let mut decider = decider(&RULES());
    decider.decide(&one(0), Ok(&says(&[("elsewhere", Some(vec![f32::NAN]), None)])));
    assert_eq!(decider.mode(), Mode::Full);
}

#[test]
fn the_configured_codebook_says_how_many_beams() {
    let codebook = Codebook { beams: Some(64), ..Codebook::default() };
    let mut decider = Decider::new(unit(), &RULES(), &codebook, crate::scenes::rule());
    decider.decide(&one(0), Ok(&good()));
    assert_eq!(decider.mode(), Mode::Unknown);
    assert_eq!(decider.mode_reasons(), ["the model returned 3 beam probabilities for ue `a`: 64 are wanted"]);
}

/// Whether (beam, blockage) are actionable.
fn actionable(messages: &[Message]) -> (bool, bool) {
    (beams(messages)[0].actionable, blockages(messages)[0].actionable)
}

#[test]
fn actionable_follows_the_floor() {
    for (floor, expected) in [
        (Floor::Full, [(true, true), (false, false), (false, false)]),
        (Floor::Degraded, [(true, true), (true, true), (false, false)]),
        (Floor::Hold, [(true, true), (true, true), (true, false)]),
    ] {
        let rules = Decide { actionable_floor: floor, recover_frames: 1, ..RULES() };
        let mut decider = decider(&rules);
        let full = actionable(&decider.decide(&one(0), Ok(&good())));
        let mut frame = one(100);
        frame.missing_required = vec![Modality::Camera];
        let degraded = actionable(&decider.decide(&frame, Ok(&good())));
        let held = actionable(&decider.decide(&one(200), Err(&failed())));
        assert_eq!([full, degraded, held], expected, "{floor:?}");
        // Past the time to live nothing is actionable.
        assert_eq!(actionable(&decider.decide(&one(1300), Err(&failed()))), (false, false));
    }
}

#[test]
fn an_untrained_model_is_not_actionable() {
    let model = ModelInfo { id: "fresh".to_owned(), trained: false };
    let mut decider = Decider::new(unit(), &RULES(), &Codebook::default(), model);
    let messages = decider.decide(&one(0), Ok(&good()));
    assert_eq!(actionable(&messages), (false, false));
    assert_eq!(beams(&messages)[0].source, BeamSource::Model, "but it is said");
}

#[test]
fn one_of_several_users_that_nothing_tells_apart_is_unknown() {
    let link = [report(-100, &[1.0, 2.0, 4.0])];
    let law = || Some(vec![0.2, 0.3, 0.5]);
    let calm = || Some(vec![0.0, 0.0, 0.1, 0.2]);
    let prediction = says(&[("a", law(), calm()), ("b", law(), calm()), ("c", law(), calm())]);
    let mut decider = decider(&RULES());
    let frame =
        frame(0, 0, &[("a", view(0, &link, false)), ("b", view(0, &[], true)), ("c", UeView::default())]);
    let messages = decider.decide(&frame, Ok(&prediction));
    let keys: Vec<String> = messages.iter().map(Message::key).collect();
    assert_eq!(
        keys,
        ["ue/a/blockage", "ue/a/beam", "ue/b/blockage", "ue/b/beam", "ue/c/blockage", "ue/c/beam", "frame"]
    );
    let told: Vec<_> = beams(&messages).iter().map(|beam| (beam.source, beam.actionable)).collect();
    assert_eq!(told, [(BeamSource::Model, true), (BeamSource::Model, true), (BeamSource::Unknown, false)]);
    let known: Vec<_> = blockages(&messages).iter().map(|blockage| blockage.known).collect();
    assert_eq!(known, [true, true, false]);
    assert_eq!(decider.mode(), Mode::Full, "that is no fault of the unit");
}

#[test]
fn the_only_user_needs_nothing_to_tell_it_apart() {
    let frame = frame(0, 0, &[("0", UeView::default())]);
    let messages = decider(&RULES()).decide(&frame, Ok(&says(&[("0", Some(vec![0.9, 0.1]), None)])));
    assert_eq!(beams(&messages)[0].source, BeamSource::Model);
    assert_eq!(beams(&messages)[0].ue, ue("0"));
}

#[test]
fn a_user_that_leaves_is_forgotten() {
    let mut decider = decider(&Decide { raise_frames: 1, ..RULES() });
    let blocked = || says(&[("a", Some(vec![0.2, 0.3, 0.5]), Some(vec![0.9; 4]))]);
    let messages = decider.decide(&one(0), Ok(&blocked()));
    assert_eq!(blockages(&messages)[0].warning.state, WarningState::Active);
    decider.decide(&frame(1, 100, &[("b", view(100, &[], true))]), Ok(&Prediction::default()));
    let messages = decider.decide(&one(200), Ok(&Prediction::default()));
    assert_eq!(beams(&messages)[0].source, BeamSource::Unknown);
    assert_eq!(blockages(&messages)[0].warning.state, WarningState::None);
}

#[test]
fn the_sweep_is_as_long_as_configured() {
    let mut decider = decider(&Decide { sweep: 2, ..RULES() });
    let messages = decider.decide(&one(0), Ok(&good()));
    let sweep: Vec<u16> = beams(&messages)[0].sweep.iter().map(|beam| beam.index.0).collect();
    assert_eq!(sweep, [2, 1]);
}

#[test]
fn an_unknown_forecast_keeps_the_warning_and_says_so() {
    let mut decider = decider(&Decide { raise_frames: 1, ..RULES() });
    let expected = says(&[("a", None, Some(vec![0.1, 0.1, 0.6, 0.6]))]);
    decider.decide(&one(0), Ok(&expected));
    let mut state = |ms| {
        let messages = decider.decide(&one(ms), Err(&failed()));
        let blockage = blockages(&messages)[0].clone();
        assert!(!blockage.known && blockage.horizons.is_empty() && !blockage.actionable);
        (blockage.warning.state, blockage.warning.id, blockage.warning.expected_in_ms)
    };
    assert_eq!(state(1000), (WarningState::Raised, Some(1), None));
    assert_eq!(state(1100), (WarningState::Cleared, Some(1), None));
    assert_eq!(state(1200), (WarningState::None, None, None));
}
