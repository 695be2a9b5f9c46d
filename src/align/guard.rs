//! Watches the clock of one sensor against ours and distrusts it after a step.

use crate::sample::{CaptureSource, Stamps};
use crate::time::{CaptureTime, Span};

/// From one sample to the next a clock steps when its capture time goes back by more than this, or runs ahead of the
/// arrivals by more than this. Captures that go on while arrivals fall behind are a transport that stalls, and are none;
/// nor is a recording's gap, which moves both.
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

/// A sample's times: capture on the sensor's clock, arrival on ours.
#[derive(Clone, Copy, Debug)]
struct Seen {
    capture: CaptureTime,
    arrival: CaptureTime,
}

impl Seen {
    /// How the clock stepped from `self` to `next`, if it did.
    fn step_to(self, next: Self) -> Option<Verdict> {
        let (captured, arrived) = (next.capture - self.capture, next.arrival - self.arrival);
        if captured < -STEP {
            Some(Verdict::Backward)
        } else if captured - arrived > STEP && captured > STEP {
            Some(Verdict::Forward)
        } else {
            None
        }
    }
}

/// Watches how a sensor's clock goes on from sample to sample.
#[derive(Clone, Debug, Default)]
pub(super) struct ClockGuard {
    /// The last sample of the trusted timeline.
    trusted: Option<Seen>,
    quarantine: Option<Quarantine>,
}

#[derive(Clone, Debug)]
struct Quarantine {
    last: Seen,
    consistent: u32,
}

impl ClockGuard {
    pub(super) fn observe(&mut self, stamps: &Stamps) -> Verdict {
        // The capture time is our own clock: there is nothing to distrust.
        if stamps.capture_source == CaptureSource::Arrival {
            return Verdict::Steady;
        }
        let seen = Seen { capture: stamps.capture, arrival: stamps.arrival.unix };
        let step = self.trusted.and_then(|trusted| trusted.step_to(seen));
        let Some(step) = step else {
            // Also out of a quarantine: what stepped were stray stamps, not the clock.
            self.quarantine = None;
            self.trusted = Some(seen);
            return Verdict::Steady;
        };
        let Some(quarantine) = &mut self.quarantine else {
            self.quarantine = Some(Quarantine { last: seen, consistent: 1 });
            return step;
        };
        quarantine.consistent =
            if quarantine.last.step_to(seen).is_none() { quarantine.consistent + 1 } else { 1 };
        quarantine.last = seen;
        if quarantine.consistent < CONSISTENT {
            return Verdict::Quarantined;
        }
        self.trusted = Some(seen);
        self.quarantine = None;
        Verdict::Released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Moment;

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
    fn a_stalled_transport_is_no_step_and_a_stray_stamp_costs_itself() {
        let mut guard = ClockGuard::default();
        run(&mut guard, 0, -20, 5);
        // Captured at 10 Hz, delivered all at once after a stall of 3 s.
        for capture in (500..3500).step_by(100) {
            let verdict = guard.observe(&stamps(capture, 3500, CaptureSource::Attachment));
            assert_eq!(verdict, Verdict::Steady, "{capture}");
        }
        assert_eq!(run(&mut guard, 3600, -20, 1), [Verdict::Steady]);
        assert_eq!(run(&mut guard, 3700, -5000, 1), [Verdict::Backward]);
        assert_eq!(run(&mut guard, 3800, -20, 1), [Verdict::Steady]);
        assert_eq!(run(&mut guard, 3900, 3_600_000, 1), [Verdict::Forward]);
        assert_eq!(run(&mut guard, 4000, -20, 1), [Verdict::Steady]);
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
