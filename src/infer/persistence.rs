//! Persistence: the beam that was best last is best now.

use std::sync::Arc;

use super::spread::{law, mean_error, steps};
use crate::frame::LinkReport;
use crate::time::CaptureTime;

/// The part of a UE's history that a beam rule can use: reports that heard something (best power above zero), on the
/// codebook of the newest such report, oldest first.
///
/// A partial sweep counts with the best beam that it measured.
pub(crate) fn audible(history: &[Arc<LinkReport>]) -> Vec<&LinkReport> {
    let hears = |report: &&LinkReport| report.power.of(report.best).is_some_and(|power| power > 0.0);
    let mut reports: Vec<&LinkReport> =
        history.iter().rev().map(AsRef::as_ref).filter(hears).scan(None, same_codebook).collect();
    reports.reverse();
    reports
}

fn same_codebook<'a>(beams: &mut Option<usize>, report: &'a LinkReport) -> Option<&'a LinkReport> {
    let length = report.power.linear.len();
    (*beams.get_or_insert(length) == length).then_some(report)
}

/// Age of the newest report at `t` in mean intervals of the history; 1 when there is no interval.
pub(crate) fn staleness(reports: &[&LinkReport], t: CaptureTime) -> f64 {
    match reports {
        [first, .., last] if last.capture > first.capture => {
            let mean = (last.capture - first.capture).as_secs_f64() / (reports.len() - 1) as f64;
            (t - last.capture).as_secs_f64() / mean
        }
        _ => 1.0,
    }
}

/// Probability per beam that it is the best one at `t`, from the last reports of one UE, oldest first.
///
/// The most probable beam is the best one of the newest audible report; the spread ([`super::spread`]) follows from
/// the UE's own changes from report to report. `None` when no report heard anything.
#[must_use]
pub fn predict(history: &[Arc<LinkReport>], t: CaptureTime, circular: bool) -> Option<Vec<f32>> {
    let reports = audible(history);
    let last = reports.last()?;
    let beams = last.power.linear.len();
    let changes = reports
        .iter()
        .zip(reports.iter().skip(1))
        .map(|(before, after)| steps(before.best.position(), after.best.position(), beams, circular));
    Some(law(last.best.position(), mean_error(changes, staleness(&reports, t)), beams, circular))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sample::{BeamIndex, BeamPower};
    use crate::time::Span;

    /// A report at `ms` whose best beam is `best` of `beams`.
    pub(crate) fn report(ms: i64, best: u16, beams: usize) -> Arc<LinkReport> {
        let mut linear = vec![0.25; beams];
        linear[usize::from(best)] = 1.0;
        Arc::new(LinkReport {
            capture: at(ms),
            power: Arc::new(BeamPower { linear }),
            best: BeamIndex(best),
            best_db: 0.0,
            reference_db: 0.0,
        })
    }

    pub(crate) fn at(ms: i64) -> CaptureTime {
        CaptureTime::from_nanos(0) + Span::from_millis(ms)
    }

    pub(crate) fn argmax(law: &[f32]) -> usize {
        (0..law.len()).max_by(|&a, &b| law[a].total_cmp(&law[b]).then(b.cmp(&a))).unwrap()
    }

    #[test]
    fn the_last_best_beam_wins_whatever_moved_before() {
        let history = [report(0, 20, 64), report(100, 25, 64), report(200, 30, 64)];
        let law = predict(&history, at(300), false).unwrap();
        assert_eq!(argmax(&law), 30);
        // Errors 5 and 5: m = (10 + 10) / 10 = 2, q = (√5 − 1) / 2; the codebook's ends are far, so the sum is
        // (1 + q) / (1 − q).
        let q = (5f64.sqrt() - 1.0) / 2.0;
        let expected = 0.98 * (1.0 - q) / (1.0 + q) + 0.02 / 64.0;
        assert!((f64::from(law[30]) - expected).abs() < 1e-4, "{} {expected}", law[30]);
    }

    #[test]
    fn a_still_user_is_surer_than_a_moving_one_and_a_stale_report_is_less_sure() {
        let still = [report(0, 9, 64), report(100, 9, 64), report(200, 9, 64)];
        let moving = [report(0, 5, 64), report(100, 7, 64), report(200, 9, 64)];
        let fresh = predict(&still, at(300), false).unwrap()[9];
        assert!(fresh > predict(&moving, at(300), false).unwrap()[9]);
        assert!(fresh > predict(&still, at(600), false).unwrap()[9]);
    }

    #[test]
    fn nothing_heard_is_nothing_known() {
        assert_eq!(predict(&[], at(0), false), None);
        let mut silent = (*report(0, 0, 4)).clone();
        silent.power = Arc::new(BeamPower { linear: vec![0.0; 4] });
        silent.best_db = f64::NEG_INFINITY;
        let silent = Arc::new(silent);
        assert_eq!(predict(std::slice::from_ref(&silent), at(0), false), None);
        // A silent report does not hide what was heard before it.
        assert_eq!(argmax(&predict(&[report(0, 2, 4), silent], at(200), false).unwrap()), 2);
    }

    #[test]
    fn a_report_that_contradicts_itself_is_left_out() {
        let mut wrong = (*report(0, 0, 4)).clone();
        wrong.best = BeamIndex(9);
        assert_eq!(predict(&[Arc::new(wrong)], at(0), false), None);
    }

    #[test]
    fn only_reports_on_the_newest_codebook_count() {
        let history = [report(0, 30, 64), report(100, 3, 8), report(200, 3, 8)];
        let law = predict(&history, at(300), false).unwrap();
        assert_eq!((law.len(), argmax(&law)), (8, 3));
    }
}
