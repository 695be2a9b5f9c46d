//! Decisions against measured truth, as it arrives.
//!
//! A link report captured at c scores the decision of the frame whose time is nearest to c, no farther than half a
//! report period and half a frame period (medians of the last intervals; 50 ms while neither is known). It waits
//! until a frame at or after c has been decided, so that the nearest one is certain, whichever of the two comes
//! first. A decision is scored at most once per UE, and never against a report that it could have seen.
//!
//! The best measured beam of the report is the truth. Beside our decision stand the two rules, each from the reports
//! before c: all three are scored on the same reports, those for which each of them names a beam, and
//! [`ReportCounts`] accounts for the rest. With a partial sweep the truth is the best of what was measured; a choice
//! that was not measured counts as not the best and has no power loss.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::beam::Choice;
use super::events::Events;
use super::tally::{BlockageTally, Tally};
use serde::Serialize;

use crate::config;
use crate::frame::{Frame, LinkReport};
use crate::infer::{extrapolation, persistence};
use crate::message::{BeamScore, BlockageScore, BlockageTruth, Header, ReportCounts, ScoreMessage, Warning};
use crate::percentile::LinkReference;
use crate::sample::{BeamIndex, BeamPower, UeId};
use crate::time::{CaptureTime, Span};

/// Most UEs with a score of their own.
const MOST_UES: usize = 256;
/// Decisions and reports of one UE that wait for each other.
const MOST_WAITING: usize = 64;
/// Reports that the rules see, as in a frame.
const HISTORY: usize = 16;
/// Intervals whose median is a period.
const INTERVALS: usize = 15;
/// Where a power of zero stands in dB.
const FLOOR_DB: f64 = -200.0;
/// Beams of a choice that are looked at.
pub(super) const TOP: usize = 3;
/// A reading this far behind the last one means that the clock was set back.
const SET_BACK: Span = Span::from_secs(10);
/// Tolerance while no period is known.
const FIRST_TOLERANCE: Span = Span::from_millis(50);
/// A UE that is in no frame is forgotten this long after its last report or decision.
const UE_TTL: Span = Span::from_secs(10);

/// Scores summed over every UE that the unit has served.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScoreTotals {
    /// What became of the link reports.
    pub reports: ReportCounts,
    /// Our decisions.
    pub beam: BeamScore,
    /// Persistence on the same reports.
    pub persistence: BeamScore,
    /// Linear extrapolation on the same reports.
    pub extrapolation: BeamScore,
    /// Always the beams that were most often the best, known afterwards, on the same reports.
    pub majority: BeamScore,
    /// Blockage warnings; `truth` is `None` when the UEs' truths are of different kinds.
    pub blockage: BlockageScore,
}

/// The scores of one unit.
#[derive(Clone, Debug)]
pub struct Scorer {
    circular: bool,
    hold_ttl: Span,
    blockage_db: f64,
    frames: Period,
    ues: BTreeMap<UeId, UeScore>,
    left: (Tally, BlockageTally),
}

impl Scorer {
    /// A scorer that has seen nothing.
    #[must_use]
    pub fn new(decide: &config::Decide, codebook: &config::Codebook) -> Self {
        Self {
            circular: codebook.circular,
            hold_ttl: config::millis(decide.hold_ttl_ms),
            blockage_db: decide.blockage_db,
            frames: Period::default(),
            ues: BTreeMap::new(),
            left: Default::default(),
        }
    }

    /// Notes that the unit's frame is decided next, and forgets UEs that have left.
    pub(super) fn open_frame(&mut self, frame: &Frame) {
        self.frames.note(frame.time);
        let gone = |ue: &UeId, score: &UeScore| {
            let quiet = score.last_sign.is_none_or(|last| (frame.time - last).abs() > UE_TTL);
            !frame.ues.contains_key(ue) && quiet
        };
        let leaving: Vec<UeId> =
            self.ues.iter().filter(|(ue, score)| gone(ue, score)).map(|(ue, _)| ue.clone()).collect();
        for ue in leaving {
            if let Some(mut score) = self.ues.remove(&ue) {
                score.settle(self.frames.median(), true);
                self.left.0.merge(&score.tally);
                self.left.1.merge(&score.events.tally);
            }
        }
    }

    /// Takes in what was decided of one UE of the frame.
    pub(super) fn decided(&mut self, frame: &Frame, ue: &UeId, choice: Option<&Choice>, warning: &Warning) {
        let frame_period = self.frames.median();
        let Some(score) = self.ue(ue) else { return };
        let top = choice.map(|choice| choice.first(TOP));
        let basis = frame.ues.get(ue).and_then(|view| view.link.last()).map(|report| report.capture);
        push(
            &mut score.decisions,
            Decided { time: frame.time, basis, top: top.unwrap_or_default(), used: false },
        );
        score.last_sign = score.last_sign.max(Some(frame.time));
        score.events.warned(frame.time, warning);
        score.settle(frame_period, false);
    }

    /// Takes in a link report; false when there are too many UEs to keep a score of this one.
    pub(super) fn measured(&mut self, ue: &UeId, capture: CaptureTime, power: &Arc<BeamPower>) -> bool {
        let (circular, hold_ttl, blockage_db) = (self.circular, self.hold_ttl, self.blockage_db);
        let frame_period = self.frames.median();
        let Some(score) = self.ue(ue) else { return false };
        score.measured(capture, power, circular, hold_ttl, blockage_db);
        score.settle(frame_period, false);
        true
    }

    /// Takes in a label; false when there are too many UEs to keep a score of this one.
    pub(super) fn labelled(&mut self, ue: &UeId, capture: CaptureTime, blocked: bool) -> bool {
        let hold_ttl = self.hold_ttl;
        let Some(score) = self.ue(ue) else { return false };
        if score.labels.last.is_some_and(|last| last - capture > SET_BACK) {
            score.restart();
        }
        score.last_sign = score.last_sign.max(Some(capture));
        score.labels.note(capture);
        let gap = score.labels.gap(hold_ttl);
        score.events.read(BlockageTruth::Label, capture, blocked, gap);
        true
    }

    /// The latest totals of one UE since it appeared.
    pub(super) fn message(&self, ue: &UeId, header: Header) -> Option<ScoreMessage> {
        let score = self.ues.get(ue)?;
        Some(ScoreMessage {
            header,
            ue: ue.clone(),
            coverage: score.coverage,
            reports: score.tally.reports,
            beam: score.tally.beam.score(),
            persistence: score.tally.persistence.score(),
            extrapolation: score.tally.extrapolation.score(),
            blockage: score.events.tally.score(),
        })
    }

    /// Scores every report that still waits for a later frame against the decisions there are: no more will come.
    pub(super) fn finish(&mut self) {
        let frame_period = self.frames.median();
        for score in self.ues.values_mut() {
            score.settle(frame_period, true);
        }
    }

    /// The sums over all UEs, also those that have left.
    #[must_use]
    pub fn totals(&self) -> ScoreTotals {
        let (mut tally, mut blockage) = self.left.clone();
        for score in self.ues.values() {
            tally.merge(&score.tally);
            blockage.merge(&score.events.tally);
        }
        ScoreTotals {
            reports: tally.reports,
            beam: tally.beam.score(),
            persistence: tally.persistence.score(),
            extrapolation: tally.extrapolation.score(),
            majority: tally.majority.score(),
            blockage: blockage.score(),
        }
    }

    fn ue(&mut self, ue: &UeId) -> Option<&mut UeScore> {
        if !self.ues.contains_key(ue) {
            if self.ues.len() >= MOST_UES {
                return None;
            }
            self.ues.insert(ue.clone(), UeScore::new());
        }
        self.ues.get_mut(ue)
    }
}

/// A decision that waits for its truth.
#[derive(Clone, Debug)]
struct Decided {
    time: CaptureTime,
    /// Capture of the newest report that it could have seen.
    basis: Option<CaptureTime>,
    /// Its first beams, best first; empty when it was unknown.
    top: Vec<BeamIndex>,
    used: bool,
}

/// A report that waits for its decision, with what the rules said of it.
#[derive(Clone, Debug)]
struct Truth {
    capture: CaptureTime,
    power: Arc<BeamPower>,
    best: BeamIndex,
    best_power: f64,
    persistence: Vec<BeamIndex>,
    extrapolation: Vec<BeamIndex>,
}

#[derive(Clone, Debug)]
struct UeScore {
    tally: Tally,
    events: Events,
    coverage: Option<f64>,
    decisions: VecDeque<Decided>,
    waiting: VecDeque<Truth>,
    history: VecDeque<Arc<LinkReport>>,
    reports: Period,
    labels: Period,
    reference: LinkReference,
    last_sign: Option<CaptureTime>,
}

impl UeScore {
    fn new() -> Self {
        Self {
            tally: Tally::default(),
            events: Events::default(),
            coverage: None,
            decisions: VecDeque::new(),
            waiting: VecDeque::new(),
            history: VecDeque::new(),
            reports: Period::default(),
            labels: Period::default(),
            reference: LinkReference::default(),
            last_sign: None,
        }
    }

    fn measured(
        &mut self,
        capture: CaptureTime,
        power: &Arc<BeamPower>,
        circular: bool,
        hold_ttl: Span,
        blockage_db: f64,
    ) {
        if self.reports.last.is_some_and(|last| last - capture > SET_BACK) {
            self.restart();
        }
        self.tally.reports.seen += 1;
        if self.reports.last.is_some_and(|last| capture <= last) {
            self.tally.reports.late += 1;
            return;
        }
        let gap = self.reports.gap(hold_ttl);
        if self.reports.last.is_some_and(|last| capture - last > gap) {
            // What was before the gap says nothing of now: the rules may not lean on it.
            self.history.clear();
        }
        self.reports.note(capture);
        self.last_sign = self.last_sign.max(Some(capture));
        let measured = power.measured();
        self.coverage = Some(measured as f64 / power.linear.len().max(1) as f64);

        let best = power.best().filter(|(_, strength)| strength.is_finite() && *strength >= 0.0);
        let best_db = best.map(|(_, strength)| (10.0 * strength.log10()).max(FLOOR_DB));
        let reference_db = best_db.map(|best_db| self.reference.push(capture, best_db));
        if let (Some(best_db), Some(reference_db)) = (best_db, reference_db) {
            let blocked = reference_db - best_db >= blockage_db;
            self.events.read(BlockageTruth::Power, capture, blocked, gap);
        }
        let Some((best, best_power)) = best.filter(|(_, strength)| *strength > 0.0) else {
            self.tally.reports.silent += 1;
            return;
        };

        let history = self.history.make_contiguous();
        let top = |law: Option<Vec<f32>>| -> Vec<BeamIndex> {
            let choice = law.and_then(|law| Choice::from_probabilities(&law, TOP));
            choice.map(|choice| choice.first(TOP)).unwrap_or_default()
        };
        let truth = Truth {
            capture,
            power: Arc::clone(power),
            best,
            best_power,
            persistence: top(persistence::predict(history, capture, circular)),
            extrapolation: top(extrapolation::predict(history, capture, circular)),
        };
        self.waiting.push_back(truth);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Arc::new(LinkReport {
            capture,
            power: Arc::clone(power),
            best,
            best_db: best_db.unwrap_or(FLOOR_DB),
            reference_db: reference_db.unwrap_or(FLOOR_DB),
        }));
    }

    /// Forgets everything that carries a time, and keeps the sums: the clock was set back.
    fn restart(&mut self) {
        self.settle(None, true);
        self.events.restart();
        let (tally, events) = (std::mem::take(&mut self.tally), std::mem::take(&mut self.events));
        *self = Self { tally, events, coverage: self.coverage, ..Self::new() };
    }

    /// Scores the reports whose nearest decision is certain, or all of them.
    fn settle(&mut self, frame_period: Option<Span>, all: bool) {
        let period = [self.reports.median(), frame_period].into_iter().flatten().min();
        let tolerance = period.map_or(FIRST_TOLERANCE, Span::half);
        while let Some(truth) = self.waiting.front() {
            let certain = self.decisions.back().is_some_and(|newest| newest.time >= truth.capture);
            if !(certain || all || self.waiting.len() > MOST_WAITING) {
                break;
            }
            let Some(truth) = self.waiting.pop_front() else { break };
            self.score(&truth, tolerance);
        }
    }

    fn score(&mut self, truth: &Truth, tolerance: Span) {
        let reports = &mut self.tally.reports;
        let distance = |decision: &Decided| (decision.time - truth.capture).abs();
        let nearest = (0..self.decisions.len())
            .min_by_key(|&index| self.decisions.get(index).map_or(Span::MAX, distance))
            .unwrap_or(0);
        // Later reports are nearer to later decisions.
        self.decisions.drain(..nearest);
        let fits = |decision: &&mut Decided| {
            !decision.used
                && distance(decision) <= tolerance
                && decision.basis.is_none_or(|basis| basis < truth.capture)
        };
        let Some(decision) = self.decisions.front_mut().filter(fits) else {
            reports.unmatched += 1;
            return;
        };
        decision.used = true;
        if decision.top.is_empty() {
            reports.undecided += 1;
        } else if truth.persistence.is_empty() || truth.extrapolation.is_empty() {
            reports.incomparable += 1;
        } else {
            reports.scored += 1;
            let Tally { beam, persistence, extrapolation, majority, .. } = &mut self.tally;
            majority.add(&truth.power, truth.best, truth.best_power);
            let answers = [
                (beam, &decision.top),
                (persistence, &truth.persistence),
                (extrapolation, &truth.extrapolation),
            ];
            for (tally, choice) in answers {
                tally.add(choice, &truth.power, truth.best, truth.best_power);
            }
        }
    }
}

/// The period of something that recurs: the median of its last intervals.
#[derive(Clone, Debug, Default)]
struct Period {
    last: Option<CaptureTime>,
    intervals: VecDeque<Span>,
    median: Option<Span>,
}

impl Period {
    /// Notes an occurrence; an interval that is not positive is left out.
    fn note(&mut self, t: CaptureTime) {
        if let Some(last) = self.last
            && t > last
        {
            if self.intervals.len() == INTERVALS {
                self.intervals.pop_front();
            }
            self.intervals.push_back(t - last);
            let mut sorted: Vec<Span> = self.intervals.iter().copied().collect();
            sorted.sort_unstable();
            self.median = sorted.get((sorted.len() - 1) / 2).copied();
        }
        self.last = Some(t);
    }

    /// The median interval (the lower one of an even number); `None` before the second occurrence.
    const fn median(&self) -> Option<Span> {
        self.median
    }

    /// How long an interval may be before it is a gap: the time to live of a held choice, or two periods where that is
    /// longer.
    fn gap(&self, hold_ttl: Span) -> Span {
        self.median.map_or(hold_ttl, |median| hold_ttl.max(median * 2))
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MOST_WAITING {
        queue.pop_front();
    }
    queue.push_back(item);
}
