//! The waiting samples of one sensor, or of one UE's position, and how a frame picks among them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::{self, StreamRules};
use crate::frame::Placed;
use crate::sample::Sample;
use crate::time::{CaptureTime, Moment, Span};

use super::counters::{DropReason, Fate, StreamCounters};
use super::guard::Verdict;
use super::pace::{Pace, Timing};

/// A late sample still proves that its stream is alive when it missed its frame by no more than this.
pub(super) const LITTLE_LATE: Span = Span::from_secs(1);

/// Checked form of [`StreamRules`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    offset: Span,
    tolerance: Span,
    max_age: Span,
    items: usize,
    bytes: usize,
}

impl Rules {
    pub(super) fn new(rules: &StreamRules) -> Self {
        Self {
            offset: config::millis(rules.offset_ms),
            tolerance: config::millis(rules.tolerance_ms).max(Span::ZERO),
            max_age: config::millis(rules.max_age_ms).max(Span::ZERO),
            items: rules.capacity_items.max(1),
            bytes: rules.capacity_bytes,
        }
    }

    pub(super) const fn offset(&self) -> Span {
        self.offset
    }
}

/// When a frame stands open and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) time: CaptureTime,
    pub(super) opened: Span,
    pub(super) deadline: Span,
}

#[derive(Debug)]
struct Item {
    capture: CaptureTime,
    sample: Arc<Sample>,
    bytes: usize,
    used: bool,
}

/// Samples of one stream, sorted by capture time.
#[derive(Debug)]
pub(super) struct Track {
    rules: Rules,
    pub(super) pace: Pace,
    items: VecDeque<Item>,
    bytes: usize,
}

impl Track {
    pub(super) fn new(rules: Rules, timing: Timing) -> Self {
        Self { rules, pace: Pace::new(timing), items: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calibrated difference that is added to every capture time.
    pub(super) const fn offset(&self) -> Span {
        self.rules.offset
    }

    /// Takes a sample, or says why not. `floor` is the last closed frame's time: every later frame lies after it.
    /// The flag says that the stream has just begun again on another timeline.
    pub(super) fn insert(
        &mut self,
        sample: Sample,
        floor: Option<CaptureTime>,
        now: Moment,
        counters: &mut StreamCounters,
    ) -> (Result<CaptureTime, DropReason>, bool) {
        let capture = sample.stamps.capture + self.rules.offset;
        let place = self.items.partition_point(|item| item.capture < capture);
        if self.items.get(place).is_some_and(|item| item.capture == capture) {
            return (Err(DropReason::Duplicate), false);
        }
        match self.pace.guard.observe(&sample.stamps) {
            Verdict::Steady => {}
            Verdict::Backward => return (Err(DropReason::BackwardClock), false),
            Verdict::Forward => return (Err(DropReason::ClockStep), false),
            Verdict::Quarantined => return (Err(DropReason::Quarantined), false),
            Verdict::Released => {
                self.clear(counters);
                self.pace.reset();
                return (Err(DropReason::Quarantined), true);
            }
        }
        if let Some(floor) = floor
            && self.is_late(capture, place, floor)
        {
            if floor - capture <= LITTLE_LATE {
                self.pace.hear(capture, now);
            }
            return (Err(DropReason::Late), false);
        }
        let bytes = sample.data.size_bytes();
        if bytes > self.rules.bytes {
            return (Err(DropReason::Oversize), false);
        }
        self.pace.keep(capture, now);
        self.bytes += bytes;
        counters.retained += 1;
        self.items.insert(place, Item { capture, sample: Arc::new(sample), bytes, used: false });
        while self.items.len() > self.rules.items || self.bytes > self.rules.bytes {
            self.drop_oldest(Fate::Capacity, counters);
        }
        (Ok(capture), false)
    }

    /// Whether this stream has nothing more to add to a frame. It has a sample at or after the frame's time; or its
    /// best one cannot be beaten by the next expected one; or that one will lie out of tolerance, or come after the
    /// deadline (by a sixteenth of a period, so that jitter does not decide); or the stream is dead.
    ///
    /// Between pushes the answer never changes: only pushes and the deadline close a frame.
    pub(super) fn is_settled(&self, frame: Waiting) -> bool {
        if !self.pace.is_awaited(frame.opened) {
            return true;
        }
        let Some(newest) = self.pace.newest() else { return true };
        if newest >= frame.time {
            return true;
        }
        let Some((expected, taken)) = self.pace.expected() else { return false };
        let jitter = Span::from_nanos(self.pace.period_or_tick().as_nanos() / 16);
        if taken > frame.deadline + jitter {
            return true;
        }
        let age = frame.time - newest;
        if age <= self.rules.tolerance {
            // At equal distance the earlier sample wins.
            (expected - frame.time).abs() >= age
        } else {
            expected > frame.time + self.rules.tolerance
        }
    }

    /// The nearest sample within tolerance of `time`, else the newest before it within `max_age`.
    pub(super) fn select(&mut self, time: CaptureTime, counters: &mut StreamCounters) -> Option<Placed> {
        let after = self.items.partition_point(|item| item.capture <= time);
        let before = after.checked_sub(1);
        let age = before.and_then(|index| self.items.get(index)).map(|item| time - item.capture);
        let lead = self.items.get(after).map(|item| item.capture - time);
        let within = |distance: Option<Span>| distance.filter(|&distance| distance <= self.rules.tolerance);
        let (index, fresh) = match (within(age), within(lead)) {
            (Some(age), Some(lead)) if lead < age => (after, true),
            (Some(_), _) => (before?, true),
            (None, Some(_)) => (after, true),
            (None, None) if age? <= self.rules.max_age => (before?, false),
            (None, None) => return None,
        };
        let item = self.items.get_mut(index)?;
        counters.settle(item.used, Fate::Used);
        item.used = true;
        Some(Placed {
            sample: Arc::clone(&item.sample),
            capture: item.capture,
            skew: item.capture - time,
            fresh,
        })
    }

    /// Lets go of what no frame after `floor` can use.
    pub(super) fn prune(&mut self, floor: CaptureTime, counters: &mut StreamCounters) {
        // Of two samples at or before the floor every later frame prefers the newer one.
        while self.items.get(1).is_some_and(|item| item.capture <= floor) {
            self.drop_oldest(Fate::Expired, counters);
        }
        let horizon = self.horizon(floor);
        if self.items.front().is_some_and(|item| item.capture < horizon) {
            self.drop_oldest(Fate::Expired, counters);
        }
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self, counters: &mut StreamCounters) {
        while !self.items.is_empty() {
            self.drop_oldest(Fate::Expired, counters);
        }
    }

    fn horizon(&self, floor: CaptureTime) -> CaptureTime {
        floor - self.rules.max_age.max(self.rules.tolerance)
    }

    fn is_late(&self, capture: CaptureTime, place: usize, floor: CaptureTime) -> bool {
        capture < self.horizon(floor) || self.items.get(place).is_some_and(|next| next.capture <= floor)
    }

    fn drop_oldest(&mut self, fate: Fate, counters: &mut StreamCounters) {
        if let Some(item) = self.items.pop_front() {
            self.bytes -= item.bytes;
            counters.settle(item.used, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{CaptureSource, Data, Position, Stamps, Stream, UeId, UnitId};

    fn ms(value: i64) -> CaptureTime {
        CaptureTime::from_nanos(value * 1_000_000)
    }

    fn sample(capture: i64) -> Sample {
        Sample {
            unit: UnitId::new("u").unwrap(),
            stream: Stream::Position(UeId::implied()),
            stamps: Stamps {
                capture: ms(capture),
                capture_source: CaptureSource::Recording,
                sequence: None,
                arrival: Moment::at(ms(capture)),
                transport_ns: None,
            },
            data: Data::Position(Position {
                latitude: 0.0,
                longitude: 0.0,
                altitude_m: None,
                speed_mps: None,
                local: None,
            }),
        }
    }

    struct Bench {
        track: Track,
        counters: StreamCounters,
    }

    impl Bench {
        fn new(rules: StreamRules) -> Self {
            let timing = Timing::new(&config::Align::default());
            Self { track: Track::new(Rules::new(&rules), timing), counters: StreamCounters::default() }
        }

        fn push(&mut self, capture: i64, floor: Option<i64>) -> Result<CaptureTime, DropReason> {
            let now = Moment::at(ms(capture));
            self.track.insert(sample(capture), floor.map(ms), now, &mut self.counters).0
        }

        fn pick(&mut self, time: i64) -> Option<(i64, bool)> {
            let placed = self.track.select(ms(time), &mut self.counters)?;
            Some((placed.skew.as_nanos() / 1_000_000, placed.fresh))
        }
    }

    #[test]
    fn the_nearest_within_tolerance_is_fresh_and_a_tie_goes_to_the_earlier() {
        let mut bench = Bench::new(StreamRules::default());
        for capture in [0, 60, 100] {
            bench.push(capture, None).unwrap();
        }
        assert_eq!(bench.pick(50), Some((10, true)));
        assert_eq!(bench.pick(80), Some((-20, true)));
        assert_eq!(bench.pick(81), Some((19, true)));
        assert_eq!(bench.pick(151), Some((-51, false)));
        assert_eq!(bench.pick(350), Some((-250, false)));
        assert_eq!(bench.pick(351), None);
        assert_eq!(bench.pick(-51), None);
        assert_eq!((bench.counters.used, bench.counters.retained), (2, 1));
    }

    #[test]
    fn what_no_frame_can_use_is_late_or_expires() {
        let mut bench = Bench::new(StreamRules::default());
        for capture in [100, 150, 300] {
            bench.push(capture, None).unwrap();
        }
        bench.track.prune(ms(200), &mut bench.counters);
        assert_eq!(bench.track.len(), 2);
        assert_eq!(bench.counters.expired, 1);
        assert_eq!(bench.push(120, Some(200)), Err(DropReason::Late));
        assert_eq!(bench.push(150, Some(200)), Err(DropReason::Duplicate));
        assert_eq!(bench.push(180, Some(200)), Ok(ms(180)));
        bench.track.prune(ms(600), &mut bench.counters);
        assert_eq!(bench.track.len(), 0);
        assert_eq!(bench.push(349, Some(600)), Err(DropReason::Late));
        assert_eq!(bench.push(350, Some(600)), Ok(ms(350)));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut bench = Bench::new(StreamRules { capacity_items: 2, ..StreamRules::default() });
        for capture in [0, 100, 200] {
            bench.push(capture, None).unwrap();
        }
        assert_eq!((bench.track.len(), bench.counters.capacity), (2, 1));
        let size = size_of::<Position>();
        let mut bench = Bench::new(StreamRules { capacity_bytes: 3 * size, ..StreamRules::default() });
        for capture in 0..5 {
            bench.push(capture * 100, None).unwrap();
        }
        assert_eq!((bench.track.len(), bench.track.bytes(), bench.counters.capacity), (3, 3 * size, 2));
        let mut bench = Bench::new(StreamRules { capacity_bytes: size - 1, ..StreamRules::default() });
        assert_eq!(bench.push(0, None), Err(DropReason::Oversize));
    }

    #[test]
    fn a_stream_is_settled_by_what_it_has_and_by_what_can_still_come() {
        let mut bench = Bench::new(StreamRules::default());
        let frame = |time: i64| Waiting {
            time: ms(time),
            opened: Span::from_millis(time),
            deadline: Span::from_millis(time + 30),
        };
        assert!(bench.track.is_settled(frame(0)), "a stream never seen holds nothing up");
        bench.push(0, None).unwrap();
        assert!(bench.track.is_settled(frame(0)));
        assert!(!bench.track.is_settled(frame(40)), "its period is not known yet");
        bench.push(100, None).unwrap();
        assert!(bench.track.is_settled(frame(100)));
        assert!(bench.track.is_settled(frame(149)), "the next, at 200, is farther than the one at 100");
        assert!(bench.track.is_settled(frame(150)), "an equal distance goes to the earlier one");
        assert!(bench.track.is_settled(frame(160)), "the one at 200 comes after the deadline at 190");
        assert!(!bench.track.is_settled(frame(180)), "the one at 200 comes in time");
        assert!(bench.track.is_settled(frame(400)), "dead since 330");
    }
}
