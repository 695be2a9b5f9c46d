//! Align: one [`Aligner`] and one [`Windower`] per unit, exact timers.
//!
//! In a replay it has a thread, which takes samples in the order of their tickets. Live it has a lock instead: the
//! decode thread that has a sample pushes it itself, because waking another thread takes a hundred times as long as
//! aligning does. A thread of its own keeps the timers.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{Receiver, Sender, Sent};
use super::{Aligned, Decoded};
use crate::align::{Aligner, PushOutcome, Windower};
use crate::config::{self, millis};
use crate::frame::Frame;
use crate::ingest::clock::Clock;
use crate::observe::event::{FrameOverrun, SampleTurnedAway};
use crate::observe::{Metrics, Stage};
use crate::sample::{Modality, UnitId};
use crate::time::{CaptureTime, Moment, Span};

struct Unit {
    aligner: Aligner,
    windower: Windower,
}

pub(super) struct Aligning {
    config: config::Align,
    units: BTreeMap<UnitId, Unit>,
    max_units: usize,
    aligned: Sender<Aligned>,
    metrics: Arc<Metrics>,
    /// A virtual clock that waits for the next sample runs at most this far ahead: long enough to say `unknown`, and
    /// a recording with a day between two sequences is not a day of ticks.
    idle: Span,
}

impl Aligning {
    pub(super) fn new(
        pipeline: &config::Pipeline,
        known_unit: Option<UnitId>,
        aligned: Sender<Aligned>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let idle = millis(pipeline.decide.hold_ttl_ms) + Span::from_secs(1);
        let config = pipeline.align.clone();
        let max_units = pipeline.input.max_units;
        let mut stage = Self { config, units: BTreeMap::new(), max_units, aligned, metrics, idle };
        if let Some(unit) = known_unit {
            stage.unit(&unit);
        }
        stage
    }

    fn unit(&mut self, unit: &UnitId) -> &mut Unit {
        self.units.entry(unit.clone()).or_insert_with(|| Unit {
            aligner: Aligner::new(unit.clone(), &self.config),
            windower: Windower::new(&self.config),
        })
    }

    /// Takes what is decoded until it ends, on a virtual clock that stands at each sample's arrival.
    pub(super) fn replay(mut self, decoded: &Receiver<Decoded>) {
        // Decoders finish in any order; samples are taken in the order of their tickets.
        let mut waiting: BTreeMap<u64, Decoded> = BTreeMap::new();
        let mut next_ticket = 0;
        let mut clock: Option<(Moment, Instant)> = None;
        for item in decoded.iter() {
            waiting.insert(item.ticket, item);
            while let Some(item) = waiting.remove(&next_ticket) {
                next_ticket += 1;
                // The clock moves on only once everything that arrived at one moment has been taken.
                if let Some((now, received)) = clock
                    && item.arrival.monotonic > now.monotonic
                    && !(self.emit(now, Aligner::poll, |_| received)
                        && self.run_timers(now, item.arrival, received))
                {
                    return;
                }
                let now = clock.map_or(item.arrival, |(now, _)| later(now, item.arrival));
                clock = Some((now, item.received));
                if !self.take(item, now) {
                    return;
                }
            }
        }
        if let Some((now, received)) = clock
            && self.emit(now, Aligner::poll, |_| received)
        {
            self.emit(now, Aligner::flush, |_| received);
        }
    }

    /// Fires every timer between two arrivals, each at its own time.
    fn run_timers(&mut self, from: Moment, to: Moment, received: Instant) -> bool {
        let limit = to.monotonic.min(from.monotonic + self.idle);
        while let Some(deadline) = self.next_deadline().filter(|at| *at < limit) {
            let at = later(from, Moment::at(CaptureTime::from_nanos(deadline.as_nanos())));
            if !self.emit(at, Aligner::poll, |_| received) {
                return false;
            }
        }
        true
    }

    fn next_deadline(&self) -> Option<Span> {
        self.units.values().filter_map(|unit| unit.aligner.next_deadline()).min()
    }

    fn take(&mut self, decoded: Decoded, now: Moment) -> bool {
        let Some(sample) = decoded.sample else { return true };
        let modality = sample.stream.modality();
        // A unit is taken on with its first good sample: garbage takes nobody's place.
        if !self.units.contains_key(&decoded.unit) && self.units.len() >= self.max_units {
            SampleTurnedAway { unit: &decoded.unit, modality, reason: "unit_limit" }.emit(&self.metrics);
            return true;
        }
        let truth = matches!(modality, Modality::Link | Modality::Blocked).then(|| sample.clone());
        match self.unit(&decoded.unit).aligner.push(sample, now) {
            PushOutcome::Kept | PushOutcome::Passed => {}
            PushOutcome::Dropped(reason) => {
                SampleTurnedAway { unit: &decoded.unit, modality, reason: reason.name() }.emit(&self.metrics);
                return true;
            }
        }
        truth.is_none_or(|truth| self.send(Aligned::Truth(truth)))
    }

    fn emit(
        &mut self,
        now: Moment,
        next: impl Fn(&mut Aligner, Moment) -> Option<Frame>,
        born: impl Fn(&Frame) -> Instant,
    ) -> bool {
        let mut windows = Vec::new();
        for unit in self.units.values_mut() {
            while let Some(frame) = next(&mut unit.aligner, now) {
                let born = born(&frame);
                self.metrics.took(Stage::Align, born.elapsed());
                windows.push(Aligned::Window { window: unit.windower.push(Arc::new(frame)), born });
            }
        }
        windows.into_iter().all(|window| self.send(window))
    }

    fn overrun(&self, lost: &Aligned) {
        match lost {
            Aligned::Window { window, .. } => {
                FrameOverrun { unit: &window.frame.unit }.emit(&self.metrics);
            }
            Aligned::Truth(sample) => {
                let modality = sample.stream.modality();
                SampleTurnedAway { unit: &sample.unit, modality, reason: "truth_overrun" }
                    .emit(&self.metrics);
            }
        }
    }

    fn send(&self, item: Aligned) -> bool {
        match self.aligned.send(item) {
            Sent::Queued => true,
            Sent::Displaced(lost) => {
                lost.iter().for_each(|lost| self.overrun(lost));
                true
            }
            Sent::Closed => false,
        }
    }
}

fn later(one: Moment, other: Moment) -> Moment {
    if other.monotonic > one.monotonic { other } else { one }
}

/// The aligner of a live pipeline, which the decode threads share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The timers' thread has to look again.
    changed: Condvar,
    clock: Arc<Clock>,
}

struct State {
    stage: Aligning,
    /// When the timers' thread looks again by itself.
    armed: Option<Span>,
    /// Decode threads that still run.
    feeders: usize,
    /// Nobody takes frames any more.
    closed: bool,
}

impl Shared {
    pub(super) fn new(stage: Aligning, clock: Arc<Clock>) -> Arc<Self> {
        let state = State { stage, armed: None, feeders: 0, closed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), clock })
    }

    /// `None` once aligning has panicked: the pipeline ends.
    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock().ok()
    }

    /// A frame of held samples is not as old as they are: its latency counts from when it opened.
    fn born(&self, frame: &Frame) -> Instant {
        self.clock.instant(frame.last_arrival.monotonic.max(frame.opened.monotonic))
    }

    fn emit(&self, state: &mut State, now: Moment, next: impl Fn(&mut Aligner, Moment) -> Option<Frame>) {
        state.closed |= !state.stage.emit(now, next, |frame| self.born(frame));
    }

    /// A decode thread's way in.
    pub(super) fn feeder(self: &Arc<Self>) -> Feeder {
        if let Some(mut state) = self.lock() {
            state.feeders += 1;
        }
        Feeder(Arc::clone(self))
    }

    /// Fires timers until the last feeder has gone, then closes what is open.
    pub(super) fn keep_time(&self) {
        let Some(mut state) = self.lock() else { return };
        while state.feeders > 0 && !state.closed {
            // A unit whose sensors are all dead has to say so: its ticks start now, not with the first sample.
            let now = self.clock.now();
            self.emit(&mut state, now, Aligner::poll);
            state.armed = state.stage.next_deadline();
            let waited = match state.armed {
                Some(deadline) => {
                    let left = self.clock.instant(deadline).saturating_duration_since(Instant::now());
                    // Due since we looked: look again at once.
                    if left == Duration::ZERO {
                        continue;
                    }
                    self.changed.wait_timeout(state, left).map(|(state, _)| state).ok()
                }
                None => self.changed.wait(state).ok(),
            };
            let Some(waited) = waited else { return };
            state = waited;
        }
        let now = self.clock.now();
        self.emit(&mut state, now, Aligner::flush);
    }
}

/// A decode thread's way in; dropping it says that the thread has ended.
pub(super) struct Feeder(Arc<Shared>);

impl Feeder {
    /// Pushes a sample and sends on the frames that it completes; false when nobody takes them any more.
    pub(super) fn take(&self, decoded: Decoded) -> bool {
        let Some(mut state) = self.0.lock() else { return false };
        let now = self.0.clock.now();
        if !state.stage.take(decoded, now) {
            state.closed = true;
        }
        self.0.emit(&mut state, now, Aligner::poll);
        let next = state.stage.next_deadline();
        let sooner = next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed));
        if sooner || state.closed {
            state.armed = next;
            self.0.changed.notify_one();
        }
        !state.closed
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.feeders = state.feeders.saturating_sub(1);
        self.0.changed.notify_one();
    }
}
