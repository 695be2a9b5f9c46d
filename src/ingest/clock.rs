//! What "now" is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::config::ClockKind;
use crate::time::{CaptureTime, Moment, Span};

/// Our clock. Waiting is always real time; "now" on the scale of capture times is either our time of day or the
/// newest capture time seen.
pub struct Clock {
    start: Instant,
    newest_capture: Option<AtomicI64>,
}

impl Clock {
    /// The clock of a kind.
    #[must_use]
    pub fn new(kind: ClockKind) -> Self {
        let newest_capture = match kind {
            ClockKind::System => None,
            ClockKind::Recorded => Some(AtomicI64::new(i64::MIN)),
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
        let unix = match &self.newest_capture {
            Some(newest) if newest.load(Ordering::Relaxed) > i64::MIN => {
                CaptureTime::from_nanos(newest.load(Ordering::Relaxed))
            }
            _ => system_time(),
        };
        Moment { monotonic, unix }
    }

    /// The present moment, at which a sample of capture time `capture` arrived.
    #[must_use]
    pub fn arrival(&self, capture: Option<CaptureTime>) -> Moment {
        if let (Some(newest), Some(capture)) = (&self.newest_capture, capture) {
            newest.fetch_max(capture.as_nanos(), Ordering::Relaxed);
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
}
