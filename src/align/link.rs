//! The past beam-power reports of one UE: what a model may know of its link at a frame's instant.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config;
use crate::frame::LinkReport;
use crate::percentile::LinkReference;
use crate::sample::{BeamIndex, BeamPower, Stamps};
use crate::time::{CaptureTime, Moment, Span};

use super::counters::{DropReason, Fate, StreamCounters};
use super::guard::Verdict;
use super::pace::{Pace, Timing};
use super::period::Period;
use super::track::LITTLE_LATE;

/// Reports kept beyond a history: those that came while frames stood open, at rates far above the frames'.
const SPARE: usize = 256;
/// Bytes of reports kept per UE: room for thousands of beams in every one of a usual history.
const BYTES: usize = 4 << 20;

/// Checked link part of [`config::Align`].
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkRules {
    lag: Option<Span>,
    reports: usize,
    max_age: Span,
    gap: Span,
}

impl LinkRules {
    pub(super) fn new(config: &config::Align, timing: Timing) -> Self {
        Self {
            lag: config.link_lag_ms.map(|lag| config::millis(lag).max(Span::ZERO)),
            reports: config.link_reports.min(1 << 16),
            max_age: config::millis(config.link_max_age_ms).max(Span::ZERO),
            gap: timing.gap,
        }
    }

    fn capacity(&self) -> usize {
        self.reports + SPARE
    }
}

#[derive(Debug)]
struct Entry {
    capture: CaptureTime,
    arrival: Moment,
    power: Arc<BeamPower>,
    best: BeamIndex,
    best_db: f64,
    bytes: usize,
    /// Made when the first frame may know of it: not before, so that no later report can colour it.
    report: Option<Arc<LinkReport>>,
    used: bool,
}

/// Reports of one UE, sorted by capture time.
#[derive(Debug)]
pub(super) struct LinkTrack {
    rules: LinkRules,
    tick: Span,
    pub(super) pace: Pace,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Over the reports that frames may know of, oldest first.
    level: LinkReference,
    /// Period of the reports that frames may know of: the lag must not depend on later ones either.
    period: Period,
}

impl LinkTrack {
    pub(super) fn new(rules: LinkRules, timing: Timing) -> Self {
        Self {
            rules,
            tick: timing.tick,
            pace: Pace::new(timing),
            entries: VecDeque::new(),
            bytes: 0,
            level: LinkReference::default(),
            period: timing.period(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a report, or says why not. Kept: its capture time, and whether any beam was measured in it (if none was,
    /// it only proves that the link reports). The flag says that the stream has begun again on another timeline.
    ///
    /// A power of zero or infinity counts as not measured: it has no place on a dB scale.
    pub(super) fn insert(
        &mut self,
        stamps: &Stamps,
        power: Arc<BeamPower>,
        floor: Option<CaptureTime>,
        now: Moment,
        counters: &mut StreamCounters,
    ) -> (Result<(CaptureTime, bool), DropReason>, bool) {
        let capture = stamps.capture;
        let place = self.entries.partition_point(|entry| entry.capture < capture);
        if self.entries.get(place).is_some_and(|entry| entry.capture == capture) {
            return (Err(DropReason::Duplicate), false);
        }
        match self.pace.guard.observe(stamps) {
            Verdict::Steady => {}
            Verdict::Backward => return (Err(DropReason::BackwardClock), false),
            Verdict::Forward => return (Err(DropReason::ClockStep), false),
            Verdict::Quarantined => return (Err(DropReason::Quarantined), false),
            Verdict::Released => {
                self.clear(counters);
                self.pace.reset();
                self.period.reset();
                return (Err(DropReason::Quarantined), true);
            }
        }
        if let Some(floor) = floor
            && capture < floor - self.rules.max_age
        {
            if floor - capture <= LITTLE_LATE {
                self.pace.hear(capture, now);
            }
            return (Err(DropReason::Late), false);
        }
        let bytes = power.linear.len() * size_of::<f64>();
        if bytes > BYTES {
            return (Err(DropReason::Oversize), false);
        }
        self.pace.keep(capture, now);
        let Some((best, strongest)) =
            power.best().filter(|&(_, strongest)| strongest > 0.0 && strongest.is_finite())
        else {
            return (Ok((capture, false)), false);
        };
        let entry = Entry {
            capture,
            arrival: stamps.arrival,
            power,
            best,
            best_db: 10.0 * strongest.log10(),
            bytes,
            report: None,
            used: false,
        };
        self.bytes += bytes;
        counters.retained += 1;
        self.entries.insert(place, entry);
        while self.entries.len() > self.rules.capacity() || self.bytes > BYTES {
            self.drop_oldest(Fate::Capacity, counters);
        }
        (Ok((capture, true)), false)
    }

    /// Reports count when captured strictly before `t` minus this.
    ///
    /// Half the report period: the report of the frame's own instant stays out and the one a period earlier counts,
    /// whatever their jitter up to half a period.
    fn lag(&self) -> Span {
        self.rules.lag.unwrap_or_else(|| self.period.median().unwrap_or(self.tick).half())
    }

    /// The history at `time`, oldest first, and the arrival of its newest report.
    pub(super) fn history(
        &mut self,
        time: CaptureTime,
        counters: &mut StreamCounters,
    ) -> (Vec<Arc<LinkReport>>, Option<Moment>) {
        let end = self.reveal(time - self.lag());
        let mut first = end;
        let mut later: Option<CaptureTime> = None;
        for (index, entry) in self.entries.iter().enumerate().take(end).rev().take(self.rules.reports) {
            let connected = match later {
                None => time - entry.capture <= self.rules.max_age,
                Some(later) => later - entry.capture <= self.rules.gap,
            };
            if !connected {
                break;
            }
            later = Some(entry.capture);
            first = index;
        }
        let mut reports = Vec::with_capacity(end - first);
        let mut arrival: Option<Moment> = None;
        for entry in self.entries.range_mut(first..end) {
            counters.settle(entry.used, Fate::Used);
            entry.used = true;
            reports.extend(entry.report.clone());
            if arrival.is_none_or(|newest| entry.arrival.monotonic > newest.monotonic) {
                arrival = Some(entry.arrival);
            }
        }
        (reports, arrival)
    }

    /// Makes the reports captured before `cutoff`, in order of capture, and says how many entries lie before it.
    fn reveal(&mut self, cutoff: CaptureTime) -> usize {
        let end = self.entries.partition_point(|entry| entry.capture < cutoff);
        for entry in self.entries.range_mut(..end).filter(|entry| entry.report.is_none()) {
            self.period.observe(entry.capture);
            entry.report = Some(Arc::new(LinkReport {
                capture: entry.capture,
                power: Arc::clone(&entry.power),
                best: entry.best,
                best_db: entry.best_db,
                reference_db: self.level.push(entry.capture, entry.best_db),
            }));
        }
        end
    }

    /// Lets go of what no frame after `floor` can use.
    pub(super) fn prune(&mut self, floor: CaptureTime, counters: &mut StreamCounters) {
        let cutoff = floor - self.lag();
        let before = self.entries.partition_point(|entry| entry.capture < cutoff);
        for _ in self.rules.reports..before {
            self.drop_oldest(Fate::Expired, counters);
        }
        // Too far back for even the oldest report that is not late to connect to it.
        let reach = self.rules.max_age + self.rules.gap;
        if self.entries.back().is_some_and(|newest| floor - newest.capture > reach) {
            self.reveal(cutoff);
            self.clear(counters);
        }
    }

    /// Lets go of every report; the level stays.
    pub(super) fn clear(&mut self, counters: &mut StreamCounters) {
        while !self.entries.is_empty() {
            self.drop_oldest(Fate::Expired, counters);
        }
    }

    fn drop_oldest(&mut self, fate: Fate, counters: &mut StreamCounters) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.bytes;
            counters.settle(entry.used, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::CaptureSource;

    fn ms(value: i64) -> CaptureTime {
        CaptureTime::from_nanos(value * 1_000_000)
    }

    struct Bench {
        track: LinkTrack,
        counters: StreamCounters,
    }

    impl Bench {
        fn new(config: &config::Align) -> Self {
            let timing = Timing::new(config);
            let track = LinkTrack::new(LinkRules::new(config, timing), timing);
            Self { track, counters: StreamCounters::default() }
        }

        fn push(&mut self, capture: i64, power: &[f64]) -> Result<bool, DropReason> {
            let stamps = Stamps {
                capture: ms(capture),
                capture_source: CaptureSource::Recording,
                sequence: None,
                arrival: Moment::at(ms(capture)),
                transport_ns: None,
            };
            let power = Arc::new(BeamPower { linear: power.to_vec() });
            let now = Moment::at(ms(capture));
            let (kept, _) = self.track.insert(&stamps, power, None, now, &mut self.counters);
            kept.map(|(_, measured)| measured)
        }

        fn captures(&mut self, time: i64) -> Vec<i64> {
            let (reports, _) = self.track.history(ms(time), &mut self.counters);
            reports.iter().map(|report| report.capture.as_nanos() / 1_000_000).collect()
        }
    }

    #[test]
    fn the_own_report_stays_out_and_the_one_before_counts_whatever_its_jitter() {
        let mut bench = Bench::new(&config::Align::default());
        for capture in [0, 104, 195, 300] {
            assert_eq!(bench.push(capture, &[1.0, 2.0]), Ok(true));
        }
        assert_eq!(bench.captures(300), [0, 104, 195]);
        assert_eq!(bench.captures(290), [0, 104, 195]);
        assert_eq!(bench.captures(240), [0, 104]);
    }

    #[test]
    fn a_gap_cuts_the_history_and_age_ends_it() {
        let mut bench = Bench::new(&config::Align::default());
        for capture in [0, 100, 700, 800] {
            bench.push(capture, &[1.0]).unwrap();
        }
        assert_eq!(bench.captures(900), [700, 800]);
        assert_eq!(bench.captures(1300), [700, 800]);
        assert!(bench.captures(1301).is_empty());
    }

    #[test]
    fn only_the_last_reports_are_kept() {
        let config = config::Align { link_reports: 3, ..config::Align::default() };
        let mut bench = Bench::new(&config);
        for capture in 0..10 {
            bench.push(capture * 100, &[1.0]).unwrap();
        }
        assert_eq!(bench.captures(900), [600, 700, 800]);
        bench.track.prune(ms(900), &mut bench.counters);
        assert_eq!(bench.track.len(), 4);
        assert_eq!(bench.counters.expired, 6);
        bench.track.prune(ms(2000), &mut bench.counters);
        assert_eq!(bench.track.len(), 0);
    }

    #[test]
    fn the_order_of_arrival_does_not_change_the_level() {
        let run = |order: &[i64]| {
            let mut bench = Bench::new(&config::Align::default());
            for &capture in order {
                bench.push(capture, &[0.5, 1.0 + capture as f64]).unwrap();
            }
            let (reports, _) = bench.track.history(ms(500), &mut bench.counters);
            reports.iter().map(|report| (report.capture, report.reference_db)).collect::<Vec<_>>()
        };
        assert_eq!(run(&[0, 100, 200, 300, 400]), run(&[200, 0, 100, 400, 300]));
        assert_eq!(run(&[0, 100, 200, 300, 400]).len(), 5);
    }

    #[test]
    fn a_report_without_a_measured_beam_makes_no_entry() {
        let mut bench = Bench::new(&config::Align::default());
        for (capture, power) in [(0, f64::NAN), (100, 0.0), (200, f64::INFINITY)] {
            assert_eq!(bench.push(capture, &[power]), Ok(false));
        }
        assert_eq!(bench.track.len(), 0);
        assert_eq!(bench.push(300, &[f64::NAN, 10.0]), Ok(true));
        let (reports, _) = bench.track.history(ms(400), &mut bench.counters);
        assert_eq!((reports[0].best, reports[0].best_db), (BeamIndex(1), 10.0));
    }
}
