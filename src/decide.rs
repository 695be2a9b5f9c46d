//! Decide: probabilities become warnings and beams, and truth becomes a score.
//!
//! A [`Decider`] is pure: what it says follows from the frames, predictions and truths that it was given, in order. It
//! stands for one unit.
//!
//! Of a frame it says, in this order: what the frame was made of, then for each UE (by name) the blockage forecast
//! with its warning ([`warning`]) and the beam. A UE's beam comes from the model when the frame is usable, the model
//! is sound ([`crate::infer::check`]) and knows something of that UE; else the last choice is held, with its age in
//! capture time, for `hold_ttl_ms`; after that it is unknown, and said to be. The mode ([`mode`]) belongs to the unit:
//! a UE of which the model knows nothing does not change it.
//!
//! With several UEs, one without position and link history cannot be told from the others: whatever the model says of
//! it is not used.

use std::collections::BTreeMap;

use crate::config::{self, Floor};
use crate::frame::{Frame, UeView};
use crate::infer::check::check;
use crate::infer::{ModelError, ModelInfo, Prediction, UePrediction};
use crate::message::{
    BeamMessage, BeamSource, BlockageMessage, Header, HorizonProbability, Message, Mode, Nanos,
};
use crate::model::Task;
use crate::sample::{Data, Sample, Stream, UeId, UnitId};
use crate::time::{CaptureTime, Span};

pub mod beam;
mod describe;
mod events;
mod human;
pub mod mode;
pub mod score;
mod tally;
pub mod warning;

use beam::{Choice, Held};
use mode::Ladder;
pub use score::ScoreTotals;
use score::Scorer;
use warning::{LifeCycle, Outlook, WarningRules};

/// Decides for one unit.
#[derive(Clone, Debug)]
pub struct Decider {
    unit: UnitId,
    rules: config::Decide,
    hold_ttl: Span,
    warning_rules: WarningRules,
    codebook: config::Codebook,
    model: ModelInfo,
    ladder: Ladder,
    ues: BTreeMap<UeId, UeState>,
    scorer: Scorer,
    sequence: u64,
    /// What the model is asked about the unit itself.
    of_unit: Vec<Task>,
}

/// What is remembered of a UE from frame to frame.
#[derive(Clone, Debug, Default)]
struct UeState {
    held: Option<Held>,
    warning: LifeCycle,
}

impl Decider {
    /// A decider that has seen no frame: its mode is unknown.
    #[must_use]
    pub fn new(unit: UnitId, rules: &config::Decide, codebook: &config::Codebook, model: ModelInfo) -> Self {
        let hold_ttl = config::millis(rules.hold_ttl_ms);
        Self {
            unit,
            hold_ttl,
            warning_rules: WarningRules {
                raise_at: rules.raise_at,
                clear_at: rules.clear_at,
                raise_frames: rules.raise_frames,
                clear_frames: rules.clear_frames,
                hold_ttl,
            },
            codebook: codebook.clone(),
            model,
            ladder: Ladder::new(hold_ttl, rules.recover_frames),
            ues: BTreeMap::new(),
            scorer: Scorer::new(rules, codebook),
            sequence: 0,
            rules: rules.clone(),
            of_unit: Vec::new(),
        }
    }

    /// The decider of a model that is asked for `tasks`: of those about the unit itself it says for every frame what
    /// the model said, or that it said nothing.
    #[must_use]
    pub fn asked_for(mut self, tasks: &[Task]) -> Self {
        self.of_unit = tasks.iter().copied().filter(|task| task.is_of_unit()).collect();
        self
    }

    /// The mode after the last frame; unknown before the first.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.ladder.mode()
    }

    /// Why the mode is not full, one phrase each.
    #[must_use]
    pub fn mode_reasons(&self) -> &[String] {
        self.ladder.reasons()
    }

    /// The scores so far, summed over all UEs, also those that have left.
    #[must_use]
    pub fn score_totals(&self) -> ScoreTotals {
        self.scorer.totals()
    }

    /// Says that no frame will come any more: reports that still wait for a later frame are scored against the
    /// decisions there are.
    pub fn finish(&mut self) {
        self.scorer.finish();
    }

    /// Decides a frame, given what the model said of it: the `blockage` and `beam` of each UE by name, which are
    /// waited for, then `activity` and `pose` where the model is asked for them, then the `frame` message. `issued_ns` is 0 until they are published.
    pub fn decide(&mut self, frame: &Frame, outcome: Result<&Prediction, &ModelError>) -> Vec<Message> {
        self.sequence = frame.sequence;
        let judged = outcome.map_err(Clone::clone).and_then(|prediction| {
            check(prediction, frame, self.codebook.beams, self.rules.horizons_ms.len()).map(|()| prediction)
        });
        let mode = self.ladder.step(frame, judged.as_ref().err());
        let prediction = judged.ok().filter(|_| frame.is_usable());
        self.ues.retain(|ue, _| frame.ues.contains_key(ue));
        self.scorer.open_frame(frame);

        let mut messages = Vec::with_capacity(1 + 2 * frame.ues.len());
        for (ue, view) in &frame.ues {
            let nothing = UePrediction::default();
            let told_apart = frame.ues.len() == 1 || distinct(view);
            let said = prediction
                .filter(|_| told_apart)
                .and_then(|prediction| prediction.ues.get(ue))
                .unwrap_or(&nothing);
            let mut state = self.ues.remove(ue).unwrap_or_default();
            let blockage = self.blockage(frame, ue, &mut state.warning, said, mode);
            let (beam, choice) = self.beam(frame, ue, &mut state.held, said, mode);
            self.scorer.decided(frame, ue, choice.as_ref(), &blockage.warning);
            self.ues.insert(ue.clone(), state);
            messages.push(Message::Blockage(blockage));
            messages.push(Message::Beam(beam));
        }
        let actionable = self.model.trained && self.above_floor(mode);
        for task in &self.of_unit {
            let header = self.header(task.name(), frame);
            messages.extend(human::say(*task, prediction, header, &self.model, actionable));
        }
        let header = self.header("frame", frame);
        messages.push(Message::Frame(describe::describe(frame, header, mode, prediction)));
        messages
    }

    /// Takes in a truth, a link report or a blockage label of some UE, and says that UE's latest score. `None` for any
    /// other reading.
    pub fn observe(&mut self, sample: &Sample) -> Option<Message> {
        let capture = sample.stamps.capture;
        let (ue, counted) = match (&sample.stream, &sample.data) {
            (Stream::Link(ue), Data::Power(power)) => (ue, self.scorer.measured(ue, capture, power)),
            (Stream::Blocked(ue), Data::Blocked(blocked)) => {
                (ue, self.scorer.labelled(ue, capture, *blocked))
            }
            _ => return None,
        };
        let header = self.header_at("score", capture, self.sequence);
        self.scorer.message(ue, header).filter(|_| counted).map(Message::Score)
    }

    fn blockage(
        &self,
        frame: &Frame,
        ue: &UeId,
        life: &mut LifeCycle,
        said: &UePrediction,
        mode: Mode,
    ) -> BlockageMessage {
        let forecast: Vec<(u32, f64)> = said.blockage.as_ref().map_or_else(Vec::new, |probabilities| {
            let pairs = self.rules.horizons_ms.iter().copied().zip(probabilities);
            pairs.map(|(horizon, &probability)| (horizon, f64::from(probability))).collect()
        });
        let outlook = Outlook::new(&forecast, self.rules.raise_at);
        let horizons = forecast
            .into_iter()
            .map(|(horizon_ms, probability)| HorizonProbability { horizon_ms, probability });
        BlockageMessage {
            header: self.header("blockage", frame),
            ue: ue.clone(),
            known: outlook.is_some(),
            horizons: horizons.collect(),
            warning: life.step(frame.time, outlook, &self.warning_rules),
            model: self.model.clone(),
            actionable: self.model.trained && self.above_floor(mode) && outlook.is_some(),
        }
    }

    fn beam(
        &self,
        frame: &Frame,
        ue: &UeId,
        held: &mut Option<Held>,
        said: &UePrediction,
        mode: Mode,
    ) -> (BeamMessage, Option<Choice>) {
        let sweep = self.rules.sweep.max(1);
        let fresh = said.beam.as_ref().and_then(|law| Choice::from_probabilities(law, sweep.max(score::TOP)));
        let (source, choice, age) = match fresh {
            Some(choice) => {
                *held = Some(Held { choice: choice.clone(), at: frame.time });
                (BeamSource::Model, Some(choice), Some(Span::ZERO))
            }
            None => {
                let alive =
                    |held: &Held| held.age(frame.time, self.hold_ttl).map(|age| (held.choice.clone(), age));
                match held.as_ref().and_then(alive) {
                    Some((choice, age)) => (BeamSource::Hold, Some(choice), Some(age)),
                    None => {
                        *held = None;
                        (BeamSource::Unknown, None, None)
                    }
                }
            }
        };
        let source_allowed = match source {
            BeamSource::Model => true,
            BeamSource::Hold => self.rules.actionable_floor == Floor::Hold,
            BeamSource::Unknown => false,
        };
        let message = BeamMessage {
            header: self.header("beam", frame),
            ue: ue.clone(),
            source,
            best: choice.as_ref().map(|choice| choice.best),
            sweep: choice.iter().flat_map(|choice| choice.ranked.iter().take(sweep).copied()).collect(),
            age_ms: age.map(Span::as_millis_f64),
            codebook: self.codebook.id.clone(),
            model: self.model.clone(),
            actionable: self.model.trained && self.above_floor(mode) && source_allowed,
        };
        (message, choice)
    }

    fn above_floor(&self, mode: Mode) -> bool {
        let lowest = match self.rules.actionable_floor {
            Floor::Full => Mode::Full,
            Floor::Degraded => Mode::Degraded,
            Floor::Hold => Mode::Hold,
        };
        mode <= lowest
    }

    fn header(&self, kind: &str, frame: &Frame) -> Header {
        self.header_at(kind, frame.time, frame.sequence)
    }

    fn header_at(&self, kind: &str, capture: CaptureTime, sequence: u64) -> Header {
        Header {
            schema: format!("mmsense/{kind}/1"),
            unit: self.unit.clone(),
            capture_ns: Nanos(capture.as_nanos()),
            issued_ns: Nanos(0),
            sequence,
        }
    }
}

/// Whether anything but its name tells a UE from the others.
fn distinct(view: &UeView) -> bool {
    view.position.is_some() || !view.link.is_empty()
}
