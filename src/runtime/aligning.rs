//! The align thread: one [`Aligner`] and one [`Windower`] per unit, exact timers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::queue::{Sender, Sent};
use super::{Aligned, Decoded, Timing};
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
    timing: Timing,
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
        timing: Timing,
        aligned: Sender<Aligned>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let idle = millis(pipeline.decide.hold_ttl_ms) + Span::from_secs(1);
        let config = pipeline.align.clone();
        let max_units = pipeline.input.max_units;
        let mut stage = Self { config, timing, units: BTreeMap::new(), max_units, aligned, metrics, idle };
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

    pub(super) fn run(mut self, decoded: &Receiver<Decoded>) {
        match self.timing.clone() {
            Timing::Real(clock) => self.run_real(decoded, &clock),
            Timing::Virtual => self.run_virtual(decoded),
        }
    }

    fn run_real(&mut self, decoded: &Receiver<Decoded>, clock: &Clock) {
        // A frame of held samples is not as old as they are: its latency counts from when it opened.
        let born = |frame: &Frame| clock.instant(frame.last_arrival.monotonic.max(frame.opened.monotonic));
        // A unit whose sensors are all dead has to say so: its ticks start now, not with the first sample.
        if !self.emit(clock.now(), Aligner::poll, born) {
            return;
        }
        loop {
            let next = self.units.values().filter_map(|unit| unit.aligner.next_deadline()).min();
            let received = match next {
                Some(deadline) => decoded.recv_deadline(clock.instant(deadline)),
                None => decoded.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let now = clock.now();
            match received {
                Ok(decoded) => {
                    if !self.take(decoded, now) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !self.emit(now, Aligner::poll, born) {
                return;
            }
        }
        self.emit(clock.now(), Aligner::flush, born);
    }

    fn run_virtual(&mut self, decoded: &Receiver<Decoded>) {
        // Decoders finish in any order; samples are taken in the order of their tickets.
        let mut waiting: BTreeMap<u64, Decoded> = BTreeMap::new();
        let mut next_ticket = 0;
        let mut clock: Option<(Moment, Instant)> = None;
        for item in decoded {
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
        while let Some(deadline) =
            self.units.values().filter_map(|unit| unit.aligner.next_deadline()).min().filter(|at| *at < limit)
        {
            let at = later(from, Moment::at(CaptureTime::from_nanos(deadline.as_nanos())));
            if !self.emit(at, Aligner::poll, |_| received) {
                return false;
            }
        }
        true
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
