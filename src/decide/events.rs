//! Blockages against warnings.
//!
//! A blockage lasts from the first reading that says blocked to the last one before a reading that says open (or
//! before a gap in the readings). A warning stands from its first message to the frame that clears it, not counting
//! that frame. A blockage that some warning met is a hit, with a lead time from that warning's first message to the
//! blockage's first reading (0 if the warning came later); one that none met is a miss; a warning that met none is a
//! false alarm. Each is judged when both sides are known past its end, so that the order of arrival does not matter.

use std::collections::VecDeque;

use super::tally::BlockageTally;
use crate::message::{BlockageTruth, Warning, WarningState};
use crate::time::{CaptureTime, Span};

/// Blockages, or warnings, that wait to be judged; the oldest is dropped unjudged beyond.
const MOST_WAITING: usize = 32;

#[derive(Clone, Debug)]
struct Blockage {
    first: CaptureTime,
    last: CaptureTime,
    over: bool,
    met: bool,
}

#[derive(Clone, Debug)]
struct Alarm {
    id: u64,
    raised: CaptureTime,
    ended: Option<CaptureTime>,
    met: bool,
}

/// The blockages and warnings of one UE, and how they met.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    pub tally: BlockageTally,
    blockages: VecDeque<Blockage>,
    alarms: VecDeque<Alarm>,
    last_truth: Option<CaptureTime>,
    last_decision: Option<CaptureTime>,
}

impl Events {
    /// Takes in the warning that was published for the frame at `t`.
    pub fn warned(&mut self, t: CaptureTime, warning: &Warning) {
        self.last_decision = Some(t);
        if let Some(id) = warning.id {
            let standing = matches!(warning.state, WarningState::Raised | WarningState::Active);
            match self.alarms.back_mut().filter(|alarm| alarm.id == id) {
                Some(alarm) if !standing => alarm.ended = alarm.ended.or(Some(t)),
                None if standing => {
                    push(&mut self.alarms, Alarm { id, raised: t, ended: None, met: false });
                }
                _ => {}
            }
        }
        self.judge();
    }

    /// Takes in a reading of the truth. Power does not count where labels are; the first label starts the score
    /// anew. A reading that is not newer than the last one is ignored.
    pub fn read(&mut self, kind: BlockageTruth, t: CaptureTime, blocked: bool, gap: Span) {
        match (self.tally.truth, kind) {
            (Some(BlockageTruth::Label), BlockageTruth::Power) => return,
            (Some(BlockageTruth::Power), BlockageTruth::Label) => {
                self.tally = BlockageTally::default();
                self.blockages.clear();
                self.last_truth = None;
                for alarm in &mut self.alarms {
                    alarm.met = false;
                }
            }
            _ => {}
        }
        if self.last_truth.is_some_and(|last| t <= last) {
            return;
        }
        let after_gap = self.last_truth.is_some_and(|last| t - last > gap);
        self.last_truth = Some(t);
        self.tally.truth = Some(kind);
        self.tally.count += 1;
        self.tally.blocked += u64::from(blocked);
        if let Some(open) = self.blockages.back_mut().filter(|blockage| !blockage.over) {
            if blocked && !after_gap {
                open.last = t;
            } else {
                open.over = true;
            }
        }
        if blocked && self.blockages.back().is_none_or(|blockage| blockage.over) {
            push(&mut self.blockages, Blockage { first: t, last: t, over: false, met: false });
        }
        self.judge();
    }

    /// Forgets what waits to be judged, and keeps the sums: the clock was set back.
    pub fn restart(&mut self) {
        *self = Self { tally: self.tally, ..Self::default() };
    }

    fn judge(&mut self) {
        let decided = self.last_decision;
        // Whether a warning stands when a blockage begins is known once that instant has been decided.
        let begun = |blockage: &&mut Blockage| decided.is_some_and(|decided| decided >= blockage.first);
        for blockage in self.blockages.iter_mut().filter(begun) {
            for alarm in &mut self.alarms {
                let meets =
                    alarm.raised <= blockage.last && alarm.ended.is_none_or(|ended| ended > blockage.first);
                if !meets {
                    continue;
                }
                alarm.met = true;
                // Alarms stand in order, so the first that meets a blockage is the earliest.
                if !blockage.met {
                    blockage.met = true;
                    self.tally.hits += 1;
                    self.tally.late_hits += u64::from(alarm.raised > blockage.first);
                    self.tally.lead_sum_ms += (blockage.first - alarm.raised).max(Span::ZERO).as_millis_f64();
                }
            }
        }
        let read = self.last_truth;
        let tally = &mut self.tally;
        self.blockages.retain(|blockage| {
            let judged = blockage.over && decided.is_some_and(|decided| decided >= blockage.last);
            tally.misses += u64::from(judged && !blockage.met);
            !judged
        });
        self.alarms.retain(|alarm| {
            let judged = alarm.ended.is_some_and(|ended| read.is_some_and(|read| read >= ended));
            tally.false_alarms += u64::from(judged && !alarm.met);
            !judged
        });
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MOST_WAITING {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> CaptureTime {
        CaptureTime::from_nanos(0) + Span::from_millis(ms)
    }

    fn warning(id: u64, state: WarningState) -> Warning {
        Warning { state, id: Some(id), since_ns: None, expected_in_ms: None }
    }

    fn quiet() -> Warning {
        Warning { state: WarningState::None, id: None, since_ns: None, expected_in_ms: None }
    }

    const GAP: Span = Span::from_millis(1000);

    #[test]
    fn hit_miss_and_false_alarm_by_hand() {
        let mut events = Events::default();
        let label = |events: &mut Events, ms, blocked| {
            events.read(BlockageTruth::Label, at(ms), blocked, GAP);
        };
        // Raised at 100, blocked 300…400, cleared at 600: a hit with 200 ms of lead.
        for (ms, state) in
            [(100, WarningState::Raised), (300, WarningState::Active), (600, WarningState::Cleared)]
        {
            events.warned(at(ms), &warning(1, state));
        }
        for (ms, blocked) in [(100, false), (300, true), (400, true), (500, false), (600, false)] {
            label(&mut events, ms, blocked);
        }
        // Blocked 800…900, never warned of.
        for (ms, blocked) in [(800, true), (900, true), (1000, false)] {
            label(&mut events, ms, blocked);
        }
        assert_eq!(events.tally.misses, 0, "no decision past its end yet");
        events.warned(at(1000), &quiet());
        // Raised at 1100, cleared at 1300, nothing there.
        events.warned(at(1100), &warning(2, WarningState::Raised));
        events.warned(at(1300), &warning(2, WarningState::Cleared));
        assert_eq!(events.tally.false_alarms, 0, "no truth past its end yet");
        label(&mut events, 1300, false);
        let score = events.tally.score();
        assert_eq!((score.hits, score.misses, score.false_alarms), (1, 1, 1));
        assert_eq!(score.lead_time_ms, Some(200.0));
        assert_eq!((score.count, score.prevalence), (9, Some(4.0 / 9.0)));
        assert_eq!(score.truth, Some(BlockageTruth::Label));
    }

    #[test]
    fn a_warning_that_comes_with_the_blockage_has_no_lead_and_one_may_meet_two() {
        let mut events = Events::default();
        for (ms, blocked) in [(0, true), (100, true), (200, false), (300, true), (400, false)] {
            events.read(BlockageTruth::Power, at(ms), blocked, GAP);
        }
        events.warned(at(100), &warning(1, WarningState::Active));
        events.warned(at(500), &warning(1, WarningState::Cleared));
        let score = events.tally.score();
        assert_eq!(score.late_hits, 1);
        // Leads 0 (the warning came 100 ms late) and 200 ms.
        assert_eq!((score.hits, score.misses, score.lead_time_ms), (2, 0, Some(100.0)));
    }

    #[test]
    fn the_frame_that_clears_does_not_meet_whichever_arrives_first() {
        for truth_first in [false, true] {
            let mut events = Events::default();
            events.warned(at(0), &warning(1, WarningState::Raised));
            if truth_first {
                events.read(BlockageTruth::Label, at(300), true, GAP);
                events.warned(at(300), &warning(1, WarningState::Cleared));
            } else {
                events.warned(at(300), &warning(1, WarningState::Cleared));
                events.read(BlockageTruth::Label, at(300), true, GAP);
            }
            events.read(BlockageTruth::Label, at(400), false, GAP);
            let score = events.tally.score();
            assert_eq!((score.hits, score.misses, score.false_alarms), (0, 1, 1), "{truth_first}");
        }
    }

    #[test]
    fn labels_replace_power_and_a_gap_ends_a_blockage() {
        let mut events = Events::default();
        events.read(BlockageTruth::Power, at(0), true, GAP);
        events.read(BlockageTruth::Label, at(0), true, GAP);
        events.read(BlockageTruth::Power, at(100), false, GAP);
        assert_eq!((events.tally.count, events.tally.truth), (1, Some(BlockageTruth::Label)));
        events.read(BlockageTruth::Label, at(5000), true, GAP);
        events.read(BlockageTruth::Label, at(5100), false, GAP);
        events.warned(at(6000), &quiet());
        assert_eq!(events.tally.misses, 2);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut events = Events::default();
        for id in 1..1000 {
            events.warned(at(200 * id), &warning(id as u64, WarningState::Raised));
            events.warned(at(200 * id + 100), &warning(id as u64, WarningState::Cleared));
        }
        assert!(events.alarms.len() <= MOST_WAITING);
        for ms in 0..1000 {
            events.read(BlockageTruth::Label, at(1_000_000 + 200 * ms), ms % 2 == 0, GAP);
        }
        assert!(events.blockages.len() <= MOST_WAITING);
    }
}
