//! Align: samples in, frames out.
//!
//! A pure state machine, one per unit: no clock, no channel, no thread. Whoever drives it says what time it is, so
//! that a replay is exact and a property test can drive it.
//!
//! ```
//! use mmsense::align::{Aligner, Windower};
//! use mmsense::config;
//! use mmsense::sample::{CaptureSource, Data, Position, Sample, Stamps, Stream, UeId, UnitId};
//! use mmsense::time::{CaptureTime, Moment};
//!
//! let unit = UnitId::new("unit1")?;
//! let config = config::Align { reference: vec![mmsense::sample::Modality::Position], ..Default::default() };
//! let mut aligner = Aligner::new(unit.clone(), &config);
//! let mut windower = Windower::new(&config);
//!
//! let now = Moment::at(CaptureTime::from_nanos(1_700_000_000_000_000_000));
//! let place = Position { latitude: 33.4, longitude: -111.9, altitude_m: None, speed_mps: None, local: None };
//! let stamps = Stamps {
//!     capture: now.unix,
//!     capture_source: CaptureSource::Recording,
//!     sequence: None,
//!     arrival: now,
//!     transport_ns: None,
//! };
//! let sample = Sample { unit, stream: Stream::Position(UeId::implied()), stamps, data: Data::Position(place) };
//! aligner.push(sample, now);
//! while let Some(frame) = aligner.poll(now) {
//!     let window = windower.push(frame.into());
//!     assert_eq!(window.frame.time, now.unix);
//! }
//! assert_eq!(aligner.counters().frames, 1);
//! # Ok::<(), mmsense::sample::NameError>(())
//! ```
//!
//! # Driving it
//!
//! Before pushing what arrived at `a`, poll at every [`Aligner::next_deadline`] before `a`; push everything that
//! arrived at `a`; then poll at `a` until there is nothing more. That order (a sample beats a timer of the same
//! instant, and samples of one instant come together) makes a replay independent of how fast it runs.
//!
//! # Frames
//!
//! The first *live* modality of `align.reference` is the reference: each of its samples opens a frame at its capture
//! time. A stream is live until two of its median periods and `max_wait` have passed since its last sample. Links and
//! positions follow one UE, the live one with the smallest name.
//!
//! A frame closes when every live stream is settled (see below), when a newer frame is complete, or `max_wait` after
//! it opened. A stream is settled when it has a sample at or after the frame's time, when its best sample within tolerance
//! cannot be beaten by the next expected one (last capture + median period), or when that one will lie out of tolerance or
//! come after the deadline. Links hold nothing up: only what was reported before counts anyway.
//!
//! When no reference is live, a tick takes over: instants a period apart in phase with the last reference, each made
//! `max_wait` after a sample of that instant would have arrived, because until then the reference may still return.
//! Such a frame counts as opened at the instant's expected arrival and closes with the reason `deadline`; the first
//! lies two periods after the last reference. A unit that never hears anything ticks too, two periods after its first
//! push or poll: what knows nothing must say so. With no reference configured at all the tick stands in its place, starts
//! at once and its frames wait like any other. A poll that comes periods late gives the newest due instant, not a burst.
//!
//! # Clocks
//!
//! Captures more than 100 ms after now, and streams whose clock steps by more than a second against ours, never enter a frame
//! (see [`DropReason`]). Frame times strictly increase whatever the clocks do: after all clocks of a unit went back,
//! its samples are late until they pass the last frame's time, and the tick goes on saying that nothing is known. UEs
//! age on the monotonic clock.

mod counters;
mod guard;
mod link;
mod pace;
mod period;
mod tick;
mod track;
mod ue;
mod window;

pub use counters::{Counters, DropReason, PushOutcome, StreamCounters};
pub use window::Windower;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config;
use crate::frame::{CloseReason, Frame, FrameReference, UeView};
use crate::sample::{Data, Modality, Sample, Stream, UeId, UnitId};
use crate::time::{CaptureTime, Moment, Span};

use pace::Timing;
use tick::Tick;
use track::{Rules, Track, Waiting};
use ue::Ues;

/// A capture time this far after now is still believed: clocks disagree a little.
const FUTURE: Span = Span::from_millis(100);
/// Frames that may stand open; the oldest of more leaves as superseded.
const MAX_OPEN: usize = 32;

/// What a stream holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffered {
    /// Samples.
    pub items: usize,
    /// Bytes of their readings.
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    time: CaptureTime,
    reference: FrameReference,
    opened: Moment,
    deadline: Span,
    /// Stays open to the deadline even when settled: a tick that waits for its reference.
    patient: bool,
}

/// A kept sample that opens a frame if its stream turns out to be the reference.
#[derive(Debug)]
struct Candidate {
    capture: CaptureTime,
    stream: Stream,
    arrival: Moment,
    taken: Moment,
}

#[derive(Debug)]
struct Sensor {
    modality: Modality,
    track: Track,
}

/// Puts the samples of one unit together into frames.
#[derive(Debug)]
pub struct Aligner {
    unit: UnitId,
    timing: Timing,
    reference: Vec<Modality>,
    /// Modalities that the pipeline declares required, sorted.
    required: Vec<Modality>,
    sensors: [Sensor; 3],
    ues: Ues,
    /// Pushed since the last poll: which of them is the reference must not depend on which came first.
    candidates: Vec<Candidate>,
    /// Sorted by time; all after `closed`.
    open: VecDeque<Open>,
    /// Time of the last frame that left.
    closed: Option<CaptureTime>,
    /// Time of the last frame that held anything new.
    sensed: Option<CaptureTime>,
    /// Capture times mean something else from here on: the next frame comes after a gap.
    timeline_changed: bool,
    /// None until the first push or poll says what time it is.
    tick: Option<Tick>,
    sequence: u64,
    counters: Counters,
}

impl Aligner {
    /// An aligner that has seen nothing. Settings that make no sense (NaN, negative) count as zero, a tick is at
    /// least 1 ms.
    #[must_use]
    pub fn new(unit: UnitId, config: &config::Align) -> Self {
        let timing = Timing::new(config);
        let sensor = |modality, rules| Sensor { modality, track: Track::new(Rules::new(rules), timing) };
        let mut reference = config.reference.clone();
        reference.retain(|&modality| modality != Modality::Blocked);
        let mut required = Modality::ALL.to_vec();
        required.retain(|&modality| config.rules(modality).is_some_and(|rules| rules.required));
        Self {
            unit,
            timing,
            reference,
            required,
            sensors: [
                sensor(Modality::Camera, &config.camera),
                sensor(Modality::Radar, &config.radar),
                sensor(Modality::Lidar, &config.lidar),
            ],
            ues: Ues::new(config, timing),
            candidates: Vec::new(),
            open: VecDeque::new(),
            closed: None,
            sensed: None,
            timeline_changed: false,
            tick: None,
            sequence: 0,
            counters: Counters::default(),
        }
    }

    /// Takes a sample at `now`, when the stage gets to it (its stamps say when it arrived). Frames that it completes
    /// come from [`Aligner::poll`].
    pub fn push(&mut self, sample: Sample, now: Moment) -> PushOutcome {
        self.advance(now);
        let modality = sample.stream.modality();
        self.counters.of_mut(modality).received += 1;
        let outcome = match self.take(sample, now) {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.counters.of_mut(modality).count_dropped(reason);
                if matches!(reason, DropReason::BackwardClock | DropReason::ClockStep) {
                    self.counters.quarantines += 1;
                }
                PushOutcome::Dropped(reason)
            }
        };
        if outcome == PushOutcome::Passed {
            self.counters.of_mut(modality).passed += 1;
        }
        outcome
    }

    /// The next frame that is complete at `now`; call it until it gives none.
    pub fn poll(&mut self, now: Moment) -> Option<Frame> {
        self.advance(now);
        self.open_references();
        if let Some(frame) = self.close_next(now) {
            return Some(frame);
        }
        if self.open_tick(now) {
            return self.close_next(now);
        }
        None
    }

    /// Monotonic time at which [`Aligner::poll`] may have a frame without another push: the earliest deadline of an
    /// open frame, or the next tick. `None` before the first push or poll. Ask after a poll: only that opens the frames
    /// of what was pushed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Span> {
        let deadline = self.open.iter().map(|open| open.deadline).min();
        deadline.into_iter().chain(self.tick_due()).min()
    }

    /// The input has ended: gives the frames that still stand open, one per call, and no tick beyond the last sample.
    /// Once it gives none, samples that no frame used count as expired.
    pub fn flush(&mut self, now: Moment) -> Option<Frame> {
        self.open_references();
        let Some(oldest) = self.open.front() else {
            for Sensor { modality, track } in &mut self.sensors {
                track.clear(self.counters.of_mut(*modality));
            }
            self.ues.clear(&mut self.counters);
            return None;
        };
        let reason = if self.is_settled(oldest) { CloseReason::Settled } else { CloseReason::Flushed };
        self.close(now, reason)
    }

    /// What became of every sample so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What a stream holds at the moment; nothing for a UE that is not there.
    #[must_use]
    pub fn buffered(&self, stream: &Stream) -> Buffered {
        let of_track = |track: &Track| Buffered { items: track.len(), bytes: track.bytes() };
        let ue = stream.ue().and_then(|ue| self.ues.get(ue));
        match (stream, ue) {
            (Stream::Position(_), Some(ue)) => of_track(&ue.position),
            (Stream::Link(_), Some(ue)) => Buffered { items: ue.link.len(), bytes: ue.link.bytes() },
            _ => self.sensor(stream.modality()).map(of_track).unwrap_or_default(),
        }
    }

    /// Frames that stand open at the moment, at most 32.
    #[must_use]
    pub fn open_frames(&self) -> usize {
        self.open.len()
    }

    /// Starts the tick at the first sign of life, and forgets silent UEs.
    fn advance(&mut self, now: Moment) {
        if self.tick.is_none() {
            let Timing { tick, max_wait, .. } = self.timing;
            self.tick = Some(if self.reference.is_empty() {
                Tick::starting(now, tick)
            } else {
                Tick::after(now, tick, max_wait)
            });
        }
        self.ues.forget(now, &mut self.counters);
    }

    fn take(&mut self, sample: Sample, now: Moment) -> Result<PushOutcome, DropReason> {
        let Sample { unit, stream, stamps, data } = &sample;
        let (stream, stamps) = (stream.clone(), *stamps);
        if *unit != self.unit || !fits(&stream, data) {
            return Err(DropReason::Mismatched);
        }
        let modality = stream.modality();
        let offset = match modality {
            Modality::Position => self.ues.position_offset(),
            _ => self.sensor(modality).map_or(Span::ZERO, |track| track.offset()),
        };
        if stamps.capture + offset > now.unix + FUTURE {
            return Err(DropReason::Future);
        }
        let floor = self.closed;
        let (kept, released) = match (&stream, data) {
            (Stream::Link(ue), Data::Power(power)) => {
                let ue = self.ues.speak(ue, now).ok_or(DropReason::UeLimit)?;
                let counters = self.counters.of_mut(modality);
                ue.link.insert(&stamps, Arc::clone(power), floor, now, counters)
            }
            (Stream::Position(ue), _) => {
                let ue = self.ues.speak(ue, now).ok_or(DropReason::UeLimit)?;
                let (kept, released) = ue.position.insert(sample, floor, now, self.counters.of_mut(modality));
                (kept.map(|capture| (capture, true)), released)
            }
            _ => {
                let Some(sensor) = self.sensors.iter_mut().find(|sensor| sensor.modality == modality) else {
                    // Blockage truth: it must not even make its UE known.
                    return Ok(PushOutcome::Passed);
                };
                let (kept, released) =
                    sensor.track.insert(sample, floor, now, self.counters.of_mut(modality));
                (kept.map(|capture| (capture, true)), released)
            }
        };
        if released && self.reference.contains(&modality) {
            self.timeline_changed = true;
        }
        let (capture, input) = kept?;
        if self.reference.contains(&modality) {
            if self.candidates.len() >= MAX_OPEN {
                self.open_references();
            }
            self.candidates.push(Candidate { capture, stream, arrival: stamps.arrival, taken: now });
        }
        Ok(if input { PushOutcome::Kept } else { PushOutcome::Passed })
    }

    /// Opens a frame for each sample of the reference that was pushed since the last poll.
    fn open_references(&mut self) {
        let mut candidates = std::mem::take(&mut self.candidates);
        for Candidate { capture, stream, arrival, taken } in candidates.drain(..) {
            let Some(period) = self.leads(&stream, taken) else { continue };
            if let Some(tick) = &mut self.tick {
                tick.follow(capture, arrival, period);
            }
            self.open(capture, of_modality(stream.modality()), taken, false);
        }
        self.candidates = candidates;
    }

    /// The period of a stream if it is the reference at `now`.
    fn leads(&self, stream: &Stream, now: Moment) -> Option<Span> {
        let modality = stream.modality();
        for &preferred in &self.reference {
            if preferred != modality {
                if self.dead_at(preferred).is_some_and(|dead_at| now.monotonic < dead_at) {
                    return None;
                }
                continue;
            }
            let Some(ue) = stream.ue() else {
                return self.sensor(modality).map(|track| track.pace.period_or_tick());
            };
            let pace = |ue: &ue::Ue| match modality {
                Modality::Position => {
                    (ue.position.pace.is_live(now.monotonic), ue.position.pace.period_or_tick())
                }
                _ => (ue.link.pace.is_live(now.monotonic), ue.link.pace.period_or_tick()),
            };
            let leader = self.ues.iter().find(|ue| pace(ue).0)?;
            return (leader.id == *ue).then(|| pace(leader).1);
        }
        None
    }

    /// When the last live stream of a modality will count as dead.
    fn dead_at(&self, modality: Modality) -> Option<Span> {
        match modality {
            Modality::Position => self.ues.iter().filter_map(|ue| ue.position.pace.dead_at()).max(),
            Modality::Link => self.ues.iter().filter_map(|ue| ue.link.pace.dead_at()).max(),
            _ => self.sensor(modality)?.pace.dead_at(),
        }
    }

    fn sensor(&self, modality: Modality) -> Option<&Track> {
        self.sensors.iter().find(|sensor| sensor.modality == modality).map(|sensor| &sensor.track)
    }

    /// Time that a tick waits for the reference of its instant.
    fn grace(&self) -> Span {
        if self.reference.is_empty() { Span::ZERO } else { self.timing.max_wait }
    }

    fn newest(&self) -> Option<CaptureTime> {
        self.open.back().map(|open| open.time).or(self.closed)
    }

    fn tick_due(&self) -> Option<Span> {
        let due = self.tick.as_ref()?.due(self.newest(), self.grace());
        let dead_at = self.reference.iter().filter_map(|&modality| self.dead_at(modality)).max();
        Some(dead_at.map_or(due, |dead_at| due.max(dead_at)))
    }

    fn open_tick(&mut self, now: Moment) -> bool {
        if self.tick_due().is_none_or(|due| now.monotonic < due) {
            return false;
        }
        let (newest, grace) = (self.newest(), self.grace());
        let Some(tick) = &mut self.tick else { return false };
        let (time, stepped) = tick.take(newest, grace, now);
        self.timeline_changed |= stepped;
        // It has already waited for its reference.
        let opened = Moment { monotonic: now.monotonic - grace, unix: now.unix - grace };
        self.open(time, FrameReference::Tick, opened, grace > Span::ZERO);
        true
    }

    /// Opens a frame, unless its time has passed or stands open already.
    fn open(&mut self, time: CaptureTime, reference: FrameReference, opened: Moment, patient: bool) {
        if self.closed.is_some_and(|closed| time <= closed) {
            return;
        }
        let place = self.open.partition_point(|open| open.time < time);
        if self.open.get(place).is_some_and(|open| open.time == time) {
            return;
        }
        let deadline = opened.monotonic + self.timing.max_wait;
        self.open.insert(place, Open { time, reference, opened, deadline, patient });
        // Only a caller that does not poll gets here: poll lets the surplus go as superseded.
        if self.open.len() > 2 * MAX_OPEN
            && let Some(skipped) = self.open.pop_front()
        {
            self.counters.frames_skipped += 1;
            self.leave(skipped.time);
        }
    }

    fn is_settled(&self, open: &Open) -> bool {
        let frame = Waiting { time: open.time, opened: open.opened.monotonic, deadline: open.deadline };
        !open.patient
            && self.sensors.iter().all(|sensor| sensor.track.is_settled(frame))
            && self.ues.iter().all(|ue| ue.position.is_settled(frame))
    }

    fn close_next(&mut self, now: Moment) -> Option<Frame> {
        let oldest = self.open.front()?;
        let due = |open: &Open| open.deadline <= now.monotonic;
        let reason = if self.is_settled(oldest) {
            CloseReason::Settled
        } else if due(oldest) {
            CloseReason::Deadline
        } else if self.open.len() > MAX_OPEN
            || self.open.iter().skip(1).any(|newer| due(newer) || self.is_settled(newer))
        {
            CloseReason::Superseded
        } else {
            return None;
        };
        self.close(now, reason)
    }

    /// Makes the oldest open frame.
    fn close(&mut self, now: Moment, close: CloseReason) -> Option<Frame> {
        let Open { time, reference, opened, .. } = self.open.pop_front()?;
        let mut last_arrival: Option<Moment> = None;
        let mut arrived = |arrival: Moment| {
            if last_arrival.is_none_or(|last| arrival.monotonic > last.monotonic) {
                last_arrival = Some(arrival);
            }
        };
        let mut missing_required = self.required.clone();
        let mut sensed = reference != FrameReference::Tick;

        let mut sensors = BTreeMap::new();
        for Sensor { modality, track } in &mut self.sensors {
            if let Some(placed) = track.select(time, self.counters.of_mut(*modality)) {
                arrived(placed.sample.stamps.arrival);
                if placed.fresh {
                    sensed = true;
                    missing_required.retain(|missing| missing != modality);
                }
                sensors.insert(*modality, placed);
            }
        }

        let mut ues = BTreeMap::new();
        let mut all_placed = !self.ues.is_empty();
        for ue in self.ues.iter_mut() {
            let position = ue.position.select(time, self.counters.of_mut(Modality::Position));
            let (link, reported) = ue.link.history(time, self.counters.of_mut(Modality::Link));
            if let Some(placed) = &position {
                arrived(placed.sample.stamps.arrival);
            }
            if let Some(reported) = reported {
                arrived(reported);
                sensed = true;
            }
            let fresh = position.as_ref().is_some_and(|placed| placed.fresh);
            sensed |= fresh;
            all_placed &= fresh;
            ues.insert(ue.id.clone(), UeView { position, link });
        }
        if all_placed {
            missing_required.retain(|&missing| missing != Modality::Position);
        }
        let ues_known = !ues.is_empty();
        if !ues_known {
            ues.insert(UeId::implied(), UeView::default());
        }

        // Ticks bridge a silence with frames, but not with anything that a window may mix with what comes after it.
        let gap_since = |earlier: Option<CaptureTime>| earlier.is_some_and(|at| time - at > self.timing.gap);
        let after_gap = self.timeline_changed || gap_since(self.closed) || (sensed && gap_since(self.sensed));
        self.timeline_changed = false;
        if sensed {
            self.sensed = Some(time);
        }

        let sequence = self.sequence;
        self.sequence += 1;
        self.counters.frames += 1;
        self.leave(time);
        Some(Frame {
            unit: self.unit.clone(),
            time,
            sequence,
            reference,
            sensors,
            missing_required,
            ues,
            ues_known,
            after_gap,
            close,
            opened,
            closed: now,
            last_arrival: last_arrival.unwrap_or(opened),
        })
    }

    /// Every later frame lies after `time`.
    fn leave(&mut self, time: CaptureTime) {
        self.closed = Some(time);
        for Sensor { modality, track } in &mut self.sensors {
            track.prune(time, self.counters.of_mut(*modality));
        }
        self.ues.prune(time, &mut self.counters);
    }
}

/// Whether a reading is of its stream's kind.
const fn fits(stream: &Stream, data: &Data) -> bool {
    matches!(
        (stream, data),
        (Stream::Camera, Data::Image(_))
            | (Stream::Radar, Data::Radar(_))
            | (Stream::Lidar, Data::Cloud(_))
            | (Stream::Link(_), Data::Power(_))
            | (Stream::Position(_), Data::Position(_))
            | (Stream::Blocked(_), Data::Blocked(_))
    )
}

const fn of_modality(modality: Modality) -> FrameReference {
    match modality {
        Modality::Camera => FrameReference::Camera,
        Modality::Radar => FrameReference::Radar,
        Modality::Lidar => FrameReference::Lidar,
        Modality::Link => FrameReference::Link,
        Modality::Position => FrameReference::Position,
        // Truth opens no frame; the list of references leaves it out.
        Modality::Blocked => FrameReference::Tick,
    }
}
