//! The decide thread: one [`Decider`] per unit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::queue::{Sender, Sent};
use super::status::Board;
use super::{Inferred, Outgoing};
use crate::config;
use crate::decide::Decider;
use crate::infer::ModelInfo;
use crate::message::Mode;
use crate::observe::event::{ModeChanged, ModeLog};
use crate::observe::{Metrics, Stage};
use crate::sample::UnitId;

pub(super) struct Deciding {
    pub(super) decide: config::Decide,
    pub(super) codebook: config::Codebook,
    pub(super) model: ModelInfo,
    pub(super) outgoing: Sender<Outgoing>,
    pub(super) status: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    /// Tells the monitor that a mode changed.
    pub(super) news: crossbeam_channel::Sender<()>,
}

impl Deciding {
    pub(super) fn run(self, inferred: &Receiver<Inferred>) {
        let mut deciders: BTreeMap<UnitId, (Decider, Mode)> = BTreeMap::new();
        let mut mode_log = ModeLog::default();
        for item in inferred {
            let unit = match &item {
                Inferred::Frame { frame, .. } => &frame.unit,
                Inferred::Truth(sample) => &sample.unit,
            };
            let (decider, mode) = deciders.entry(unit.clone()).or_insert_with(|| {
                let decider = Decider::new(unit.clone(), &self.decide, &self.codebook, self.model.clone());
                (decider, Mode::Unknown)
            });
            let outgoing = match item {
                Inferred::Truth(sample) => {
                    let Some(message) = decider.observe(&sample) else { continue };
                    self.status.scored(&sample.unit, decider.score_totals());
                    Outgoing { messages: vec![message], queued: Instant::now(), born: None }
                }
                Inferred::Frame { frame, outcome, born } => {
                    let begun = Instant::now();
                    let messages = decider.decide(&frame, outcome.as_ref());
                    self.metrics.took(Stage::Decide, begun.elapsed());
                    self.metrics.frame();
                    self.status.decided(&frame, decider.mode(), decider.mode_reasons(), &messages);
                    let now = decider.mode();
                    if now != *mode {
                        let reasons = decider.mode_reasons();
                        ModeChanged { unit: &frame.unit, from: *mode, to: now, reasons }.emit(&mut mode_log);
                        *mode = now;
                        // Full means that the monitor has not yet looked at the last news: it will see both.
                        let _ = self.news.try_send(());
                    }
                    Outgoing { messages, queued: Instant::now(), born: Some(born) }
                }
            };
            match self.outgoing.send(outgoing) {
                Sent::Queued => {}
                Sent::Displaced(lost) => lost.iter().for_each(|lost| lost.overrun(&self.metrics)),
                Sent::Closed => return,
            }
        }
        for (unit, (decider, _)) in &mut deciders {
            decider.finish();
            self.status.scored(unit, decider.score_totals());
        }
    }
}
