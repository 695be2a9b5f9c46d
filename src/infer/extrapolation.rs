//! Linear extrapolation: the beam goes on as it went between the last two reports.

use std::sync::Arc;

use super::persistence::{audible, staleness};
use super::spread::{law, mean_error, settle, steps};
use crate::frame::LinkReport;
use crate::time::CaptureTime;

/// The line through the best beams of two reports, evaluated at `t`, rounded, and clamped to the codebook or wrapped
/// around it. Two reports of one instant have no line: the second one's beam stays.
fn line(before: &LinkReport, last: &LinkReport, t: CaptureTime, circular: bool) -> usize {
    let beams = last.power.linear.len();
    let (from, to) = (before.best.position(), last.best.position());
    let run = (last.capture - before.capture).as_secs_f64();
    if run <= 0.0 {
        return to;
    }
    let slope = steps(from, to, beams, circular) as f64 / run;
    settle(slope.mul_add((t - last.capture).as_secs_f64(), to as f64), beams, circular)
}

/// Probability per beam that it is the best one at `t`, from the last reports of one UE, oldest first.
///
/// The most probable beam lies on the line through the best beams of the last two audible reports by their capture
/// times; with one report it is that report's. The spread ([`super::spread`]) follows from the errors that the same
/// rule would have made on the history. `None` when no report heard anything.
#[must_use]
pub fn predict(history: &[Arc<LinkReport>], t: CaptureTime, circular: bool) -> Option<Vec<f32>> {
    let reports = audible(history);
    let last = *reports.last()?;
    let beams = last.power.linear.len();
    let centre = match reports.as_slice() {
        [.., before, last] => line(before, last, t, circular),
        _ => last.best.position(),
    };
    let errors = reports.windows(3).filter_map(|three| match three {
        [a, b, c] => Some(steps(line(a, b, c.capture, circular), c.best.position(), beams, circular)),
        _ => None,
    });
    Some(law(centre, mean_error(errors, staleness(&reports, t)), beams, circular))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::persistence::tests::{argmax, at, report};

    fn best(history: &[Arc<LinkReport>], ms: i64, circular: bool) -> usize {
        argmax(&predict(history, at(ms), circular).unwrap())
    }

    #[test]
    fn the_line_goes_on_by_capture_time() {
        let history = [report(0, 40, 64), report(100, 10, 64), report(200, 13, 64)];
        assert_eq!(best(&history, 300, false), 16);
        assert_eq!(best(&history, 250, false), 15, "14.5 rounds away from zero");
        assert_eq!(best(&history, 400, false), 19);
    }

    #[test]
    fn the_codebook_ends_or_wraps() {
        let up = [report(0, 56, 64), report(100, 61, 64)];
        assert_eq!(best(&up, 200, false), 63);
        assert_eq!(best(&up, 200, true), 2);
        let across = [report(0, 62, 64), report(100, 1, 64)];
        assert_eq!(best(&across, 200, true), 4);
        assert_eq!(best(&across, 200, false), 0);
    }

    #[test]
    fn one_report_stays_and_none_is_unknown() {
        assert_eq!(best(&[report(0, 7, 64)], 100, false), 7);
        assert_eq!(best(&[report(0, 3, 64), report(0, 7, 64)], 100, false), 7);
        assert_eq!(predict(&[], at(0), false), None);
    }

    #[test]
    fn a_rule_that_was_right_is_surer() {
        let straight = [report(0, 4, 64), report(100, 6, 64), report(200, 8, 64), report(300, 10, 64)];
        let zigzag = [report(0, 12, 64), report(100, 6, 64), report(200, 8, 64), report(300, 10, 64)];
        let sure = predict(&straight, at(400), false).unwrap();
        let unsure = predict(&zigzag, at(400), false).unwrap();
        assert_eq!((argmax(&sure), argmax(&unsure)), (12, 12));
        assert!(sure[12] > unsure[12]);
    }
}
