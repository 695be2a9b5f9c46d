//! Decide: one [`Decider`] per unit. It runs on the infer thread: it is pure and takes microseconds, less than waking
//! another thread does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::inferring::predict;
use super::queue::{Sender, Sent};
use super::status::Board;
use super::{Decided, OnDecided, Outgoing};
use crate::config;
use crate::decide::Decider;
use crate::frame::Window;
use crate::infer::{ModelError, ModelInfo, Prediction, Predictor};
use crate::message::Mode;
use crate::model::Task;
use crate::observe::event::{ModeChanged, ModeLog};
use crate::observe::{Metrics, Stage};
use crate::sample::{Sample, UnitId};

pub(super) struct Deciding {
    pub(super) decide: config::Decide,
    pub(super) codebook: config::Codebook,
    pub(super) model: ModelInfo,
    /// What the model is asked for.
    pub(super) tasks: Vec<Task>,
    pub(super) outgoing: Sender<Outgoing>,
    pub(super) status: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    /// Tells the monitor that a mode changed.
    pub(super) news: crossbeam_channel::Sender<()>,
    pub(super) deciders: BTreeMap<UnitId, (Decider, Mode)>,
    pub(super) mode_log: ModeLog,
    pub(super) on_decided: Option<OnDecided>,
    pub(super) fallback: Option<Fallback>,
}

/// A second opinion: decided and scored beside the model's, never published.
pub(super) struct Fallback {
    pub(super) predictor: Box<dyn Predictor>,
    pub(super) deciders: BTreeMap<UnitId, Decider>,
}

impl Deciding {
    /// Decides on a frame, which the model took up at `taken_up`; false when nobody takes decisions any more.
    pub(super) fn frame(
        &mut self,
        window: &Window,
        outcome: Result<&Prediction, &ModelError>,
        born: Instant,
        taken_up: Instant,
    ) -> bool {
        let frame = &window.frame;
        self.meet(&frame.unit);
        let Some((decider, mode)) = self.deciders.get_mut(&frame.unit) else { return true };
        let begun = Instant::now();
        let messages = decider.decide(frame, outcome);
        self.metrics.took(Stage::Decide, begun.elapsed());
        self.metrics.frame();
        self.status.decided(frame, decider.mode(), decider.mode_reasons(), &messages);
        if let Some(on_decided) = &mut self.on_decided {
            on_decided(&Decided { frame, messages: &messages, took: taken_up.elapsed() });
        }
        let now = decider.mode();
        if now != *mode {
            let reasons = decider.mode_reasons();
            ModeChanged { unit: &frame.unit, from: *mode, to: now, reasons }.emit(&mut self.mode_log);
            *mode = now;
            // Full means that the monitor has not yet looked at the last news: it will see both.
            let _ = self.news.try_send(());
        }
        let sent = self.send(Outgoing { messages, queued: Instant::now(), born: Some(born) });
        if let Some(Fallback { predictor, deciders }) = &mut self.fallback
            && let Some(decider) = deciders.get_mut(&frame.unit)
        {
            let outcome = predict(predictor.as_mut(), std::slice::from_ref(window));
            let nothing = Prediction::default();
            let said = outcome.as_ref().map(|predictions| predictions.first().unwrap_or(&nothing));
            decider.decide(frame, said);
        }
        sent
    }

    /// Scores against a truth; false when nobody takes decisions any more.
    pub(super) fn truth(&mut self, sample: &Sample) -> bool {
        self.meet(&sample.unit);
        let Some((decider, _)) = self.deciders.get_mut(&sample.unit) else { return true };
        let Some(message) = decider.observe(sample) else { return true };
        self.status.scored(&sample.unit, decider.score_totals());
        if let Some(decider) =
            self.fallback.as_mut().and_then(|fallback| fallback.deciders.get_mut(&sample.unit))
        {
            decider.observe(sample);
        }
        self.send(Outgoing { messages: vec![message], queued: Instant::now(), born: None })
    }

    /// Scores what still waits: no more will come.
    pub(super) fn finish(mut self) {
        for (unit, (decider, _)) in &mut self.deciders {
            decider.finish();
            self.status.scored(unit, decider.score_totals());
        }
        if let Some(Fallback { predictor, mut deciders }) = self.fallback {
            for (unit, decider) in &mut deciders {
                decider.finish();
                self.status.compared(unit, predictor.info(), decider.score_totals());
            }
        }
    }

    fn meet(&mut self, unit: &UnitId) {
        if !self.deciders.contains_key(unit) {
            let decider = Decider::new(unit.clone(), &self.decide, &self.codebook, self.model.clone());
            let decider = decider.asked_for(&self.tasks);
            self.deciders.insert(unit.clone(), (decider, Mode::Unknown));
            if let Some(Fallback { predictor, deciders }) = &mut self.fallback {
                let decider = Decider::new(unit.clone(), &self.decide, &self.codebook, predictor.info());
                deciders.insert(unit.clone(), decider);
            }
        }
    }

    fn send(&self, outgoing: Outgoing) -> bool {
        match self.outgoing.send(outgoing) {
            Sent::Queued => true,
            Sent::Displaced(lost) => {
                lost.iter().for_each(|lost| lost.overrun(&self.metrics));
                true
            }
            Sent::Closed => false,
        }
    }
}
