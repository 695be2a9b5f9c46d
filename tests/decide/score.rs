//! Scores by hand-computed numbers.

use mmsense::config::Decide;
use mmsense::decide::Decider;
use mmsense::message::{BeamScore, BlockageTruth, ReportCounts};

use crate::scenes::{decider, frame, label, power, report, says, score, view};

const NOT: f64 = f64::NAN;

/// Decides for `a` at `ms` with beam probabilities `law`, from a report 100 ms before.
fn decide(decider: &mut Decider, ms: i64, law: Option<&[f32]>) {
    let view = view(ms, &[report(ms - 100, &[1.0; 4])], false);
    let prediction = says(&[("a", law.map(<[f32]>::to_vec), None)]);
    decider.decide(&frame((ms / 100) as u64, ms, &[("a", view)]), Ok(&prediction));
}

/// Beam 1, then 2, then 0.
const LAW: &[f32] = &[0.2, 0.4, 0.3, 0.1];

fn close(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-9)
}

#[test]
fn partial_sweeps_by_hand() {
    let mut decider = decider(&Decide::default());
    for (ms, linear, coverage) in [
        (0, [1.0, 2.0, 3.0, 4.0], 1.0),
        // Beam 2 is best; ours (1) lies 3.01 dB below it; persistence (3) was not measured, nor was extrapolation's.
        (100, [NOT, 2.0, 4.0, NOT], 0.5),
        // Beam 2 stays; ours (1) is zero; persistence (2) is right; the line 3 → 2 goes to 1.
        (200, [0.0, 0.0, 1.0, NOT], 0.75),
    ] {
        decide(&mut decider, ms, Some(LAW));
        let score = score(decider.observe(&power("a", ms, &linear)));
        assert_eq!(score.coverage, Some(coverage));
        assert_eq!(score.header.capture_ns.0, crate::scenes::at(ms).as_nanos());
        assert_eq!(score.header.sequence, (ms / 100) as u64);
    }
    let totals = decider.score_totals();
    let reports = ReportCounts { seen: 3, scored: 2, incomparable: 1, ..ReportCounts::default() };
    assert_eq!(totals.reports, reports);
    let ours = totals.beam;
    assert_eq!((ours.count, ours.top1, ours.top3, ours.loss_count), (2, Some(0.0), Some(1.0), 1));
    assert!(close(ours.power_loss_db, 10.0 * 2f64.log10()), "{ours:?}");
    let persistence = totals.persistence;
    assert_eq!((persistence.count, persistence.top1, persistence.loss_count), (2, Some(0.5), 1));
    assert!(close(persistence.power_loss_db, 0.0));
    let extrapolation =
        BeamScore { count: 2, top1: Some(0.0), top3: Some(1.0), power_loss_db: None, loss_count: 0 };
    assert_eq!(totals.extrapolation, extrapolation);
}

#[test]
fn the_top_three_do_not_depend_on_the_sweep() {
    let mut decider = decider(&Decide { sweep: 1, ..Decide::default() });
    for ms in [0, 100] {
        decide(&mut decider, ms, Some(LAW));
        decider.observe(&power("a", ms, &[9.0, 2.0, 3.0, 4.0]));
    }
    assert_eq!(decider.score_totals().beam.top3, Some(1.0), "beam 0 is third");
}

#[test]
fn truth_before_and_after_the_decision_is_the_same() {
    let reports = [[4.0, 2.0, 3.0, 1.0], [1.0, 4.0, 3.0, 1.0], [1.0, 2.0, 8.0, 1.0]];
    let totals = [true, false].map(|truth_first| {
        let mut decider = decider(&Decide::default());
        for (ms, linear) in (0..).step_by(100).zip(reports) {
            if truth_first {
                decider.observe(&power("a", ms, &linear));
                decide(&mut decider, ms, Some(LAW));
            } else {
                decide(&mut decider, ms, Some(LAW));
                decider.observe(&power("a", ms, &linear));
            }
        }
        decider.score_totals()
    });
    assert_eq!(totals[0], totals[1]);
    assert_eq!(totals[0].beam.count, 2);
    assert_eq!(totals[0].beam.top1, Some(0.5));
}

#[test]
fn the_nearest_decision_is_scored_once_and_the_rest_is_accounted_for() {
    let mut decider = decider(&Decide { hold_ttl_ms: 200.0, ..Decide::default() });
    let measure = |decider: &mut Decider, ms| {
        decider.observe(&power("a", ms, &[1.0, 9.0, 1.0, 1.0]));
    };
    // Frames every 100 ms, reports 30 ms before each: the frame after is nearest, though the one before is known.
    measure(&mut decider, -30);
    for ms in [0, 100, 200] {
        decide(&mut decider, ms, Some(LAW));
        measure(&mut decider, ms + 70);
    }
    let reports = decider.score_totals().reports;
    // −30 had nothing before it, 270 waits for a frame at or after it.
    assert_eq!((reports.seen, reports.scored, reports.incomparable, reports.unmatched), (4, 2, 1, 0));
    // No frame comes near 270; at 500 nothing is held any more; a silent report; one that is not newer.
    decide(&mut decider, 500, None);
    measure(&mut decider, 480);
    decider.observe(&power("a", 580, &[0.0, 0.0, 0.0, 0.0]));
    measure(&mut decider, 400);
    decider.finish();
    let expected =
        ReportCounts { seen: 7, scored: 2, undecided: 1, incomparable: 1, unmatched: 1, silent: 1, late: 1 };
    assert_eq!(decider.score_totals().reports, expected);
}

#[test]
fn two_reports_do_not_share_a_decision() {
    let mut decider = decider(&Decide::default());
    for ms in [0, 100, 200, 300] {
        decide(&mut decider, ms, Some(LAW));
        for offset in [-20, 20] {
            decider.observe(&power("a", ms + offset, &[1.0, 9.0, 1.0, 1.0]));
        }
    }
    decider.finish();
    let reports = decider.score_totals().reports;
    assert!(reports.scored + reports.incomparable <= 4, "{reports:?}");
    assert_eq!(reports.seen, 8);
    assert_eq!(reports.scored + reports.incomparable + reports.unmatched, 8);
}

#[test]
fn a_decision_that_could_have_seen_the_report_is_not_scored_by_it() {
    let mut decider = decider(&Decide::default());
    for ms in [0, 100, 200] {
        let seen = view(ms, &[report(ms, &[1.0; 4])], false);
        let prediction = says(&[("a", Some(LAW.to_vec()), None)]);
        decider.decide(&frame((ms / 100) as u64, ms, &[("a", seen)]), Ok(&prediction));
        decider.observe(&power("a", ms, &[1.0, 9.0, 1.0, 1.0]));
    }
    let reports = decider.score_totals().reports;
    assert_eq!((reports.seen, reports.unmatched, reports.scored), (3, 3, 0));
}

#[test]
fn a_gap_leaves_the_rules_nothing_to_go_by() {
    let mut decider = decider(&Decide::default());
    for ms in [0, 100, 5000] {
        decide(&mut decider, ms, Some(LAW));
        decider.observe(&power("a", ms, &[1.0, 9.0, 1.0, 1.0]));
    }
    let reports = decider.score_totals().reports;
    assert_eq!((reports.scored, reports.incomparable), (1, 2));
}

#[test]
fn power_is_the_truth_until_there_are_labels() {
    let rules = Decide { raise_frames: 1, clear_frames: 1, ..Decide::default() };
    let mut decider = decider(&rules);
    let measure = |decider: &mut Decider, ms, strength| {
        score(decider.observe(&power("a", ms, &[strength, 0.0]))).blockage
    };
    for ms in [0, 100, 200] {
        assert_eq!(measure(&mut decider, ms, 1.0).prevalence, Some(0.0));
    }
    // 7.96 dB below, then 8.24 dB, then nothing at all: the last two of six are blocked.
    assert_eq!(measure(&mut decider, 300, 0.16).prevalence, Some(0.0));
    measure(&mut decider, 400, 0.15);
    let blockage = measure(&mut decider, 500, 0.0);
    assert_eq!((blockage.truth, blockage.count), (Some(BlockageTruth::Power), 6));
    assert!(close(blockage.prevalence, 2.0 / 6.0));

    let said = score(decider.observe(&label("a", 500, false)));
    assert_eq!((said.blockage.truth, said.blockage.count), (Some(BlockageTruth::Label), 1));
    assert_eq!(measure(&mut decider, 600, 0.0).count, 1, "power is no longer the truth");
    assert_eq!(decider.score_totals().blockage.prevalence, Some(0.0));
}

#[test]
fn a_blockage_that_was_warned_of_is_a_hit_with_its_lead_time() {
    let rules = Decide { raise_frames: 1, clear_frames: 1, ..Decide::default() };
    let mut decider = decider(&rules);
    for (sequence, (ms, forecast, blocked)) in (0..).zip([
        (0, 0.1, false),
        (100, 0.7, false),
        (200, 0.7, false),
        (300, 0.9, true),
        (400, 0.9, true),
        (500, 0.1, false),
        (600, 0.1, false),
    ]) {
        let prediction = says(&[("a", None, Some(vec![forecast; 4]))]);
        decider.decide(&frame(sequence, ms, &[("a", view(ms, &[], true))]), Ok(&prediction));
        decider.observe(&label("a", ms, blocked));
    }
    let blockage = decider.score_totals().blockage;
    assert_eq!((blockage.hits, blockage.misses, blockage.false_alarms), (1, 0, 0));
    assert_eq!(blockage.lead_time_ms, Some(200.0));
    assert!(close(blockage.prevalence, 2.0 / 7.0));
}

#[test]
fn totals_keep_what_users_scored_that_have_left() {
    let mut decider = decider(&Decide::default());
    for ms in [0, 100, 200] {
        decide(&mut decider, ms, Some(LAW));
        decider.observe(&power("a", ms, &[1.0, 9.0, 1.0, 1.0]));
    }
    for (sequence, ms) in (10..).zip([20_000, 20_100, 20_200]) {
        let prediction = says(&[("b", Some(LAW.to_vec()), None)]);
        let view = view(ms, &[report(ms - 100, &[1.0; 4])], false);
        decider.decide(&frame(sequence, ms, &[("b", view)]), Ok(&prediction));
        decider.observe(&power("b", ms, &[9.0, 1.0, 1.0, 1.0]));
    }
    let totals = decider.score_totals();
    assert_eq!((totals.reports.seen, totals.beam.count), (6, 4));
    assert_eq!((totals.beam.top1, totals.persistence.top1), (Some(0.5), Some(1.0)));
    // A user of the same name starts anew.
    let back = score(decider.observe(&power("a", 20_300, &[1.0, 9.0, 1.0, 1.0])));
    assert_eq!(back.reports.seen, 1);
}

#[test]
fn a_clock_that_is_set_back_keeps_the_sums() {
    let mut decider = decider(&Decide::default());
    for base in [100_000, 0] {
        for ms in [0, 100, 200] {
            decide(&mut decider, base + ms, Some(LAW));
            decider.observe(&power("a", base + ms, &[1.0, 9.0, 1.0, 1.0]));
        }
    }
    let reports = decider.score_totals().reports;
    assert_eq!((reports.seen, reports.late), (6, 0));
    assert!(reports.scored >= 3, "{reports:?}");
}

#[test]
fn other_readings_are_no_truth() {
    let mut decider = decider(&Decide::default());
    let image = mmsense::sample::Data::Image(std::sync::Arc::default());
    assert_eq!(decider.observe(&crate::scenes::sample(mmsense::sample::Stream::Camera, 0, image)), None);
}
