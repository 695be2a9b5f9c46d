//! The tick that opens frames when no reference does, in phase with the last one.

use crate::time::{CaptureTime, Moment, Span};

/// A difference beyond this between the two clocks is a step of the time of day, not drift.
const STEP: Span = Span::from_secs(1);

/// Instants one period apart in capture time, and when each is due on our monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    /// Last instant: of a reference, of a tick, or the start.
    base: CaptureTime,
    /// When `base` was due or arrived.
    base_at: Span,
    /// Time of day at `base_at`, minus `base`: latency and clock offset of the reference.
    lag: Span,
    period: Span,
    /// Newest reference instant that set the phase.
    reference: Option<CaptureTime>,
    /// No tick earlier than this: at the start a reference gets its two periods too.
    not_before: Span,
}

impl Tick {
    /// Ticks whose first instant is `now`.
    pub(super) fn starting(now: Moment, period: Span) -> Self {
        Self {
            base: now.unix - period,
            base_at: now.monotonic - period,
            lag: Span::ZERO,
            period,
            reference: None,
            not_before: now.monotonic,
        }
    }

    /// Ticks in phase with `now` that wait two periods and `grace` for a reference to show itself.
    pub(super) fn after(now: Moment, period: Span, grace: Span) -> Self {
        Self {
            base: now.unix,
            base_at: now.monotonic,
            lag: Span::ZERO,
            period,
            reference: None,
            not_before: now.monotonic + period * 2 + grace,
        }
    }

    /// Takes phase, period and latency from a reference sample at `time`; an older one than before changes nothing.
    pub(super) fn follow(&mut self, time: CaptureTime, arrival: Moment, period: Span) {
        if self.reference.is_some_and(|reference| time <= reference) {
            return;
        }
        self.base = time;
        self.base_at = arrival.monotonic;
        self.lag = arrival.unix - time;
        self.period = period;
        self.reference = Some(time);
    }

    /// When the first instant after `newest` is due, `grace` after a reference of that instant would have arrived.
    pub(super) fn due(&self, newest: Option<CaptureTime>, grace: Span) -> Span {
        (self.base_at + self.period * self.first_after(newest) + grace).max(self.not_before)
    }

    /// The newest instant that is due at `now`, the first after `newest` at the earliest; older ones are skipped,
    /// so that a late poll gives one frame and not a burst. The flag says that the time of day stepped ahead and the
    /// ticks with it.
    pub(super) fn take(
        &mut self,
        newest: Option<CaptureTime>,
        grace: Span,
        now: Moment,
    ) -> (CaptureTime, bool) {
        let elapsed = now.monotonic - grace - self.base_at;
        let passed = elapsed.as_nanos().div_euclid(self.period.as_nanos().max(1));
        let steps = passed.max(self.first_after(newest));
        let at = self.base_at + self.period * steps;
        let time = self.base + self.period * steps;
        // How far the time of day has run ahead of the monotonic clock since the phase was set.
        let error = now.unix - (time + self.lag) - (now.monotonic - at);
        let stepped = error > STEP;
        if stepped {
            self.base = time + error;
            self.base_at = at;
        } else {
            // Drift is followed by at most 1 % per period. A step back is not followed: frame times never go back.
            let limit = Span::from_nanos(self.period.as_nanos() / 100);
            let drift = if error < -STEP { Span::ZERO } else { error.clamp(-limit, limit) };
            self.base = time;
            self.base_at = at - drift;
        }
        (self.base, stepped)
    }

    /// Number of periods from `base` to the first instant after both `base` and `newest`.
    fn first_after(&self, newest: Option<CaptureTime>) -> i64 {
        let ahead = newest.map_or(Span::ZERO, |newest| newest - self.base);
        ahead.as_nanos().div_euclid(self.period.as_nanos().max(1)).saturating_add(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Span = Span::from_millis(100);

    fn ms(value: i64) -> CaptureTime {
        CaptureTime::from_nanos(value * 1_000_000)
    }

    fn now(mono: i64, unix: i64) -> Moment {
        Moment { monotonic: Span::from_millis(mono), unix: ms(unix) }
    }

    #[test]
    fn keeps_the_phase_of_the_reference() {
        let mut tick = Tick::after(now(0, 1000), P, Span::from_millis(30));
        assert_eq!(tick.due(None, Span::from_millis(30)), Span::from_millis(230));
        tick.follow(ms(1037), now(50, 1050), P);
        assert_eq!(tick.due(Some(ms(1037)), Span::from_millis(30)), Span::from_millis(230));
        // Two periods after the last reference: its instant, not one of our own.
        let (time, stepped) = tick.take(Some(ms(1037)), Span::from_millis(30), now(280, 1280));
        assert_eq!((time, stepped), (ms(1237), false));
        assert_eq!(tick.due(Some(ms(1237)), Span::from_millis(30)), Span::from_millis(380));
    }

    #[test]
    fn never_gives_an_instant_twice() {
        let mut tick = Tick::starting(now(0, 0), P);
        assert_eq!(tick.due(None, Span::ZERO), Span::ZERO);
        assert_eq!(tick.take(None, Span::ZERO, now(0, 0)).0, ms(0));
        // A reference-like frame at 150 pushes the next tick behind it.
        assert_eq!(tick.due(Some(ms(150)), Span::ZERO), Span::from_millis(200));
        assert_eq!(tick.take(Some(ms(150)), Span::ZERO, now(200, 200)).0, ms(200));
    }

    #[test]
    fn a_late_poll_gives_the_newest_instant_only() {
        let mut tick = Tick::starting(now(0, 0), P);
        assert_eq!(tick.take(None, Span::ZERO, now(1040, 1040)).0, ms(1000));
        assert_eq!(tick.due(Some(ms(1000)), Span::ZERO), Span::from_millis(1100));
    }

    #[test]
    fn follows_drift_slowly_and_a_step_ahead_at_once() {
        let mut tick = Tick::starting(now(0, 0), P);
        tick.take(None, Span::ZERO, now(0, 10));
        // The time of day is 10 ms ahead: the next tick comes 1 ms earlier.
        assert_eq!(tick.due(Some(ms(0)), Span::ZERO), Span::from_millis(99));
        let (time, stepped) = tick.take(Some(ms(0)), Span::ZERO, now(99, 3_600_099));
        assert!(stepped);
        assert_eq!(time, ms(3_600_099));
    }

    #[test]
    fn a_step_back_does_not_stop_it() {
        let mut tick = Tick::starting(now(0, 1_000_000), P);
        tick.take(None, Span::ZERO, now(0, 1_000_000));
        assert_eq!(tick.take(Some(ms(1_000_000)), Span::ZERO, now(100, 5)).0, ms(1_000_100));
        assert_eq!(tick.due(Some(ms(1_000_100)), Span::ZERO), Span::from_millis(200));
    }
}
