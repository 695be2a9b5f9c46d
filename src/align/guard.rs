//! Watches the clock of one sensor against ours and distrusts it after a step.

use crate::sample::{CaptureSource, Stamps};
use crate::time::Span;

/// A jump of (capture − arrival) beyond this is a clock step; a recording's gap moves both and is none.
const STEP: Span = Span::from_secs(1);
/// Consistent samples in a row, the one that stepped included, that a stepped clock must show.
const CONSISTENT: u32 = 10;

/// What the guard thinks of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The clock runs as before.
    Steady,
    /// The clock went back by more than a second; a quarantine begins.
    Backward,
    /// The clock went ahead by more than a second; a quarantine begins.
    Forward,
    /// The quarantine goes on.
    Quarantined,
    /// This one is still refused, but it was the last: the next sample counts on the new timeline.
    Released,
}

/// Running difference between a sensor's clock and ours.
#[derive(Clone, Debug, Default)]
pub(super) struct ClockGuard {
    offset: Option<Span>,
    quarantine: Option<Quarantine>,
}

#[derive(Clone, Debug)]
struct Quarantine {
    offset: Span,
    consistent: u32,
}

impl ClockGuard {
    pub(super) fn observe(&mut self, stamps: &Stamps) -> Verdict {
        // The capture time is our own clock: there is nothing to distrust.
        if stamps.capture_source == CaptureSource::Arrival {
            return Verdict::Steady;
        }
        let offset = stamps.capture - stamps.arrival.unix;
        // Back where it was: the step was a stray stamp, not a stepped clock.
        if self.quarantine.is_some() && self.offset.is_some_and(|running| (offset - running).abs() <= STEP) {
            self.quarantine = None;
        }
        if let Some(quarantine) = &mut self.quarantine {
            if (offset - quarantine.offset).abs() <= STEP {
                quarantine.offset = follow(quarantine.offset, offset);
                quarantine.consistent += 1;
            } else {
                *quarantine = Quarantine { offset, consistent: 1 };
            }
            if quarantine.consistent < CONSISTENT {
                return Verdict::Quarantined;
            }
            self.offset = Some(quarantine.offset);
            self.quarantine = None;
            return Verdict::Released;
        }
        let Some(running) = self.offset else {
            self.offset = Some(offset);
            return Verdict::Steady;
        };
        if (offset - running).abs() > STEP {
            self.quarantine = Some(Quarantine { offset, consistent: 1 });
            return if offset < running { Verdict::Backward } else { Verdict::Forward };
        }
        self.offset = Some(follow(running, offset));
        Verdict::Steady
    }
}

/// Exponential mean over about 16 samples: follows drift and latency, not single outliers.
fn follow(running: Span, offset: Span) -> Span {
    running + Span::from_nanos((offset - running).as_nanos() / 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{CaptureTime, Moment};

    fn stamps(capture_ms: i64, arrival_ms: i64, capture_source: CaptureSource) -> Stamps {
        let at = |ms: i64| CaptureTime::from_nanos(ms * 1_000_000);
        Stamps {
            capture: at(capture_ms),
            capture_source,
            sequence: None,
            arrival: Moment::at(at(arrival_ms)),
            transport_ns: None,
        }
    }

    fn run(guard: &mut ClockGuard, start_ms: i64, offset_ms: i64, count: i64) -> Vec<Verdict> {
        (0..count)
            .map(|i| {
                let arrival = start_ms + i * 100;
                guard.observe(&stamps(arrival + offset_ms, arrival, CaptureSource::Attachment))
            })
            .collect()
    }

    #[test]
    fn ten_consistent_samples_end_a_quarantine() {
        let mut guard = ClockGuard::default();
        assert!(run(&mut guard, 0, -20, 5).iter().all(|&v| v == Verdict::Steady));
        let verdicts = run(&mut guard, 500, -5000, 11);
        assert_eq!(verdicts.first(), Some(&Verdict::Backward));
        assert!(verdicts[1..9].iter().all(|&v| v == Verdict::Quarantined));
        assert_eq!(verdicts[9..], [Verdict::Released, Verdict::Steady]);
        assert_eq!(run(&mut guard, 1600, -20, 1), [Verdict::Forward]);
    }

    #[test]
    fn inconsistent_samples_start_the_count_again() {
        let mut guard = ClockGuard::default();
        run(&mut guard, 0, 0, 3);
        run(&mut guard, 300, -5000, 9);
        let verdicts = run(&mut guard, 1200, -9000, 10);
        assert!(verdicts[..9].iter().all(|&v| v == Verdict::Quarantined));
        assert_eq!(verdicts[9], Verdict::Released);
    }

    #[test]
    fn a_gap_that_both_clocks_see_is_no_step() {
        let mut guard = ClockGuard::default();
        run(&mut guard, 0, -20, 3);
        assert!(run(&mut guard, 60_000, -20, 3).iter().all(|&v| v == Verdict::Steady));
    }

    #[test]
    fn our_own_clock_is_never_distrusted() {
        let mut guard = ClockGuard::default();
        for capture in [0, 100_000, -50_000] {
            let verdict = guard.observe(&stamps(capture, 0, CaptureSource::Arrival));
            assert_eq!(verdict, Verdict::Steady);
        }
    }
}
