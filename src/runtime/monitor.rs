//! The monitor thread: `health` about once a second and at every change of mode, and the snapshot for the live line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select};

use super::Outgoing;
use super::queue::{Sender, Sent};
use super::status::{Board, UnitStatus};
use crate::infer::ModelInfo;
use crate::message::{Header, HealthMessage, Message, Nanos, StageLatency};
use crate::observe::Metrics;
use crate::sample::UnitId;

/// How a pipeline is, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The latest state of every unit.
    pub units: BTreeMap<UnitId, UnitStatus>,
    /// Latency per stage over the last second.
    pub stages: BTreeMap<String, StageLatency>,
    /// Frames decided since start.
    pub frames: u64,
    /// Samples and frames lost since start.
    pub drops: BTreeMap<String, u64>,
    /// Whether this is the regular one, rather than one that a change of mode brought.
    pub regular: bool,
}

pub(super) struct Monitor {
    pub(super) status: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) outgoing: Sender<Outgoing>,
    pub(super) model: ModelInfo,
    pub(super) started: Instant,
    pub(super) on_snapshot: Box<dyn FnMut(&Snapshot) + Send>,
}

const PERIOD: Duration = Duration::from_secs(1);

impl Monitor {
    pub(super) fn run(mut self, mode_news: &Receiver<()>, stopped: &Receiver<()>) {
        let mut next = self.started + PERIOD;
        let mut stages = BTreeMap::new();
        let mut mode_news = mode_news.clone();
        loop {
            let mut regular = false;
            select! {
                recv(stopped) -> _ => {
                    self.report(self.metrics.take_interval(), false);
                    return;
                }
                recv(mode_news) -> news => if news.is_err() {
                    // Decide has ended: there will be no more news.
                    mode_news = crossbeam_channel::never();
                    continue;
                },
                recv(after(next.saturating_duration_since(Instant::now()))) -> _ => {
                    next += PERIOD;
                    regular = true;
                    stages = self.metrics.take_interval();
                }
            }
            self.report(stages.clone(), regular);
        }
    }

    fn report(&mut self, stages: BTreeMap<String, StageLatency>, regular: bool) {
        let snapshot = Snapshot {
            units: self.status.units(),
            stages,
            frames: self.metrics.frames(),
            drops: self.metrics.losses().iter().map(|(loss, count)| (loss.key(), *count)).collect(),
            regular,
        };
        let received: BTreeMap<String, u64> = self
            .metrics
            .received_by_modality()
            .into_iter()
            .map(|(modality, count)| (modality.name().to_owned(), count))
            .collect();
        let health = snapshot.units.iter().map(|(unit, status)| {
            Message::Health(HealthMessage {
                header: Header {
                    schema: "mmsense/health/1".to_owned(),
                    unit: unit.clone(),
                    capture_ns: Nanos(status.capture.as_nanos()),
                    issued_ns: Nanos::default(),
                    sequence: status.sequence,
                },
                mode: status.mode,
                reasons: status.reasons.clone(),
                frames: snapshot.frames,
                stages: snapshot.stages.clone(),
                received: received.clone(),
                drops: snapshot.drops.clone(),
                device: self.status.device(),
                model: self.model.clone(),
                uptime_s: self.started.elapsed().as_secs_f64(),
            })
        });
        let messages: Vec<Message> = health.collect();
        if !messages.is_empty() {
            let sent = self.outgoing.send(Outgoing { messages, queued: Instant::now(), born: None });
            if let Sent::Displaced(lost) = sent {
                lost.iter().for_each(|lost| lost.overrun(&self.metrics));
            }
        }
        (self.on_snapshot)(&snapshot);
    }
}
