//! What "now" is.

use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::config::ClockKind;
use crate::observe::lock;
use crate::time::{CaptureTime, Moment, Span};

/// A jump of capture time further than this is believed only when several samples in a row agree on it.
const LEAP: Span = Span::from_secs(10);
/// So many.
const AGREEING: u32 = 5;

/// Our clock. Waiting is always real time; "now" on the scale of capture times is either our time of day or the
/// newest capture time seen.
pub struct Clock {
    start: Instant,
    newest_capture: Option<Mutex<Newest>>,
}

/// The newest capture time, guarded against a single stamp that lies.
#[derive(Debug, Default)]
struct Newest {
    capture: Option<CaptureTime>,
    leap: Option<(CaptureTime, u32)>,
}

impl Newest {
    fn see(&mut self, capture: CaptureTime) {
        let Some(newest) = self.capture else {
            self.capture = Some(capture);
            return;
        };
        if capture - newest <= LEAP {
            self.capture = Some(newest.max(capture));
            if capture >= newest {
                self.leap = None;
            }
            return;
        }
        let seen = match self.leap {
            Some((to, seen)) if (capture - to).abs() <= LEAP => seen + 1,
            _ => 1,
        };
        if seen < AGREEING {
            self.leap = Some((capture, seen));
        } else {
            *self = Self { capture: Some(capture), leap: None };
        }
    }
}

impl Clock {
    /// The clock of a kind.
    #[must_use]
    pub fn new(kind: ClockKind) -> Self {
        let newest_capture = match kind {
            ClockKind::System => None,
            ClockKind::Recorded => Some(Mutex::default()),
        };
        Self { start: Instant::now(), newest_capture }
    }

    /// Our time of day.
    #[must_use]
    pub fn system() -> Self {
        Self::new(ClockKind::System)
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        let monotonic = Span::from(self.start.elapsed());
        let newest = self.newest_capture.as_ref().and_then(|newest| lock(newest).capture);
        Moment { monotonic, unix: newest.unwrap_or_else(system_time) }
    }

    /// The present moment, at which a sample of capture time `capture` arrived.
    #[must_use]
    pub fn arrival(&self, capture: Option<CaptureTime>) -> Moment {
        if let (Some(newest), Some(capture)) = (&self.newest_capture, capture) {
            lock(newest).see(capture);
        }
        self.now()
    }

    /// When, on the real clock, a monotonic time of this clock is or was.
    #[must_use]
    pub fn instant(&self, monotonic: Span) -> Instant {
        self.start + monotonic.to_duration()
    }
}

/// Our time of day on the scale of capture times.
#[must_use]
pub fn system_time() -> CaptureTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    CaptureTime::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_clock_stands_at_the_newest_capture() {
        let clock = Clock::new(ClockKind::Recorded);
        let at = |nanos| Some(CaptureTime::from_nanos(nanos));
        assert_eq!(clock.arrival(at(50)).unix.as_nanos(), 50);
        assert_eq!(clock.arrival(at(40)).unix.as_nanos(), 50);
        assert_eq!(clock.now().unix.as_nanos(), 50);
    }

    #[test]
    fn one_stamp_that_lies_does_not_move_a_recorded_clock_and_a_gap_does() {
        let clock = Clock::new(ClockKind::Recorded);
        let see = |seconds: i64| clock.arrival(Some(CaptureTime::from_nanos(0) + Span::from_secs(seconds)));
        let now = || (clock.now().unix - CaptureTime::from_nanos(0)).as_secs_f64();
        see(100);
        let _ = clock.arrival(Some(CaptureTime::from_nanos(i64::MAX)));
        assert_eq!(now(), 100.0);
        for _ in 0..AGREEING {
            see(101);
            let _ = clock.arrival(Some(CaptureTime::from_nanos(i64::MAX)));
        }
        assert_eq!(now(), 101.0);
        for _ in 0..AGREEING {
            see(4000);
        }
        assert_eq!(now(), 4000.0);
    }
}
