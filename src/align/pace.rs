//! How a stream comes in: its period, whether it is alive, and whether its clock can be trusted.

use crate::config;
use crate::time::{CaptureTime, Moment, Span};

use super::guard::ClockGuard;
use super::period::Period;

/// Times that every part of the aligner shares, checked once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Period of the tick, and of a stream whose own is not known yet.
    pub(super) tick: Span,
    /// Longest time that a frame stands open.
    pub(super) max_wait: Span,
    /// A capture gap beyond this ends windows and histories.
    pub(super) gap: Span,
    /// A UE silent for longer is forgotten.
    pub(super) ue_ttl: Span,
}

impl Timing {
    pub(super) fn new(config: &config::Align) -> Self {
        // An hour is far beyond any sensible setting; the bounds keep sums of times away from overflow.
        let hour = Span::from_secs(3600);
        Self {
            tick: config::millis(config.tick_ms).clamp(Span::from_millis(1), hour),
            max_wait: config::millis(config.max_wait_ms).clamp(Span::ZERO, hour),
            gap: config::millis(config.gap_ms).clamp(Span::ZERO, hour),
            ue_ttl: Span::from_secs_f64(config.ue_ttl_s).clamp(Span::ZERO, hour * 24),
        }
    }

    /// A period estimate that believes a tenth of the tick to ten times the tick.
    pub(super) fn period(&self) -> Period {
        Period::new(Span::from_nanos(self.tick.as_nanos() / 10), self.tick * 10)
    }
}

/// The pace of one stream.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Its clock against ours.
    pub(super) guard: ClockGuard,
    period: Period,
    timing: Timing,
    /// Newest capture time kept.
    newest: Option<CaptureTime>,
    /// When a sample was last kept.
    kept: Option<Span>,
    /// When a sample last came that was kept or only a little late.
    heard: Option<Span>,
}

impl Pace {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            guard: ClockGuard::default(),
            period: timing.period(),
            timing,
            newest: None,
            kept: None,
            heard: None,
        }
    }

    /// A sample was kept.
    pub(super) fn keep(&mut self, capture: CaptureTime, now: Moment) {
        self.newest = self.newest.max(Some(capture));
        self.kept = Some(now.monotonic);
        self.hear(capture, now);
    }

    /// A sample came, perhaps a little too late for a frame: the stream is not dead, only slower than the tick
    /// thinks, and its period does not depend on which of two samples came first.
    pub(super) fn hear(&mut self, capture: CaptureTime, now: Moment) {
        self.period.observe(capture);
        self.heard = Some(now.monotonic);
    }

    /// The stream begins again on another timeline.
    pub(super) fn reset(&mut self) {
        self.period.reset();
        self.newest = None;
        self.kept = None;
        self.heard = None;
    }

    /// The median period, once known.
    pub(super) const fn period(&self) -> Option<Span> {
        self.period.median()
    }

    /// The median period, or the tick's until it is known.
    pub(super) fn period_or_tick(&self) -> Span {
        self.period().unwrap_or(self.timing.tick)
    }

    pub(super) const fn newest(&self) -> Option<CaptureTime> {
        self.newest
    }

    /// When the stream counts as dead unless another sample comes: two periods and `max_wait` after the last one.
    pub(super) fn dead_at(&self) -> Option<Span> {
        self.heard.map(|heard| heard + self.patience())
    }

    /// Whether the stream is alive at `monotonic`.
    pub(super) fn is_live(&self, monotonic: Span) -> bool {
        self.dead_at().is_some_and(|dead_at| monotonic < dead_at)
    }

    /// Whether frames opened at `monotonic` wait for this stream: alive, and not merely by late samples.
    pub(super) fn is_awaited(&self, monotonic: Span) -> bool {
        self.kept.is_some_and(|kept| monotonic < kept + self.patience())
    }

    /// Capture time of the next sample by the median period, and when it should be taken.
    pub(super) fn expected(&self) -> Option<(CaptureTime, Span)> {
        let period = self.period()?;
        Some((self.newest? + period, self.kept? + period))
    }

    fn patience(&self) -> Span {
        self.period_or_tick() * 2 + self.timing.max_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Moment {
        Moment::at(CaptureTime::from_nanos(ms * 1_000_000))
    }

    #[test]
    fn a_stream_dies_two_periods_and_max_wait_after_its_last_sample() {
        let mut pace = Pace::new(Timing::new(&config::Align::default()));
        assert!(!pace.is_live(at(0).monotonic));
        pace.keep(at(0).unix, at(5));
        // One sample: the tick's 100 ms stand for the period.
        assert_eq!(pace.dead_at(), Some(at(5 + 200 + 30).monotonic));
        pace.keep(at(50).unix, at(55));
        assert!(pace.is_live(at(55 + 129).monotonic));
        assert!(!pace.is_live(at(55 + 130).monotonic));
        assert_eq!(pace.expected(), Some((at(100).unix, at(105).monotonic)));
    }

    #[test]
    fn late_samples_keep_a_reference_alive_but_nobody_waits_for_them() {
        let mut pace = Pace::new(Timing::new(&config::Align::default()));
        pace.keep(at(0).unix, at(0));
        pace.hear(at(0).unix, at(600));
        assert!(pace.is_live(at(700).monotonic));
        assert!(!pace.is_awaited(at(700).monotonic));
    }

    #[test]
    fn odd_settings_are_bounded() {
        let config =
            config::Align { tick_ms: f64::NAN, max_wait_ms: -5.0, gap_ms: 1e300, ..config::Align::default() };
        let timing = Timing::new(&config);
        assert_eq!(timing.tick, Span::from_millis(1));
        assert_eq!(timing.max_wait, Span::ZERO);
        assert_eq!(timing.gap, Span::from_secs(3600));
    }
}
