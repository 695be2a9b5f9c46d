//! The feed thread of a replay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::queue::{Sender, Sent};
use crate::observe::Metrics;
use crate::sample::RawSample;
use crate::time::Span;

/// How long a waiting feed goes without looking whether it has to stop.
const LOOK: Duration = Duration::from_millis(20);

/// When samples are due on the real clock.
pub(super) struct Pace {
    rate: f64,
    first: Option<(Instant, Span)>,
}

impl Pace {
    /// `rate` times as fast as the samples arrived; 0 or less: all at once.
    pub(super) const fn new(rate: f64) -> Self {
        Self { rate, first: None }
    }

    /// When a sample of the (virtual) time `arrival` is due; `None`: now.
    fn due(&mut self, arrival: Span) -> Option<Instant> {
        if self.rate <= 0.0 {
            return None;
        }
        let (begun, first) = *self.first.get_or_insert((Instant::now(), arrival));
        let seconds = ((arrival - first).as_secs_f64() / self.rate).max(0.0);
        Duration::try_from_secs_f64(seconds).ok().and_then(|wait| begun.checked_add(wait))
    }
}

/// Samples on their way to the decoders.
pub(super) struct Feed {
    pub(super) samples: Box<dyn Iterator<Item = RawSample> + Send>,
    pub(super) pace: Pace,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Feed {
    /// Hands the samples over, numbered and each when it is due, until they end or the pipeline stops.
    pub(super) fn run(mut self, out: &Sender<(u64, Instant, RawSample)>, metrics: &Metrics) {
        for (ticket, sample) in (0..).zip(self.samples) {
            if let Some(due) = self.pace.due(sample.stamps.arrival.monotonic) {
                while !self.stopping.load(Ordering::Relaxed) {
                    let wait = due.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        break;
                    }
                    std::thread::sleep(wait.min(LOOK));
                }
            }
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            metrics.received(sample.stream.modality());
            if let Sent::Closed = out.send((ticket, Instant::now(), sample)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_divides_time_by_the_rate() {
        assert_eq!(Pace::new(0.0).due(Span::from_secs(5)), None);
        let mut pace = Pace::new(2.0);
        let first = pace.due(Span::from_secs(100)).unwrap();
        assert_eq!(pace.due(Span::from_secs(101)), Some(first + Duration::from_millis(500)));
        // A recording may go back a little; it is never due before it began.
        assert_eq!(pace.due(Span::from_secs(99)), Some(first));
    }
}
