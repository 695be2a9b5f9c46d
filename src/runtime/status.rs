//! What the pipeline has concluded last, for the monitor, the live line and the summary.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;

use crate::decide::ScoreTotals;
use crate::frame::{Frame, FrameReference};
use crate::infer::ModelInfo;
use crate::message::{
    ActivityMessage, BeamMessage, BlockageMessage, Message, Mode, PoseMessage, StageLatency,
};
use crate::observe::{Loss, Metrics, lock};
use crate::sample::{Modality, UeId, UnitId};
use crate::time::CaptureTime;

/// What was last concluded of one UE.
#[derive(Clone, Debug, Default)]
pub struct UeStatus {
    /// Its last beam message.
    pub beam: Option<BeamMessage>,
    /// Its last blockage message.
    pub blockage: Option<BlockageMessage>,
}

/// What was last concluded of one unit.
#[derive(Clone, Debug)]
pub struct UnitStatus {
    /// Its mode.
    pub mode: Mode,
    /// Why it is not full.
    pub reasons: Vec<String>,
    /// Capture time of its last frame.
    pub capture: CaptureTime,
    /// Number of its last frame.
    pub sequence: u64,
    /// Its UEs at the last frame.
    pub ues: BTreeMap<UeId, UeStatus>,
    /// Its last activity message, where the network is asked for activities.
    pub activity: Option<ActivityMessage>,
    /// Its last pose message, where the network is asked for poses.
    pub pose: Option<PoseMessage>,
    frames: BTreeMap<FrameReference, BTreeMap<Mode, u64>>,
    score: ScoreTotals,
    fallback: Option<(ModelInfo, ScoreTotals)>,
}

/// One unit in the summary of a run.
#[derive(Clone, Debug, Serialize)]
pub struct UnitSummary {
    /// Frames by where their instant came from, then by mode.
    pub frames: BTreeMap<FrameReference, BTreeMap<Mode, u64>>,
    /// The model that decided.
    pub model: ModelInfo,
    /// Its decisions against measured truth.
    pub score: ScoreTotals,
    /// What the rules would have decided on the same frames, where a network decided.
    pub fallback: Option<Fallback>,
}

/// A second opinion on every frame.
#[derive(Clone, Debug, Serialize)]
pub struct Fallback {
    /// Whose.
    pub model: ModelInfo,
    /// Its decisions against measured truth.
    pub score: ScoreTotals,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Per unit.
    pub units: BTreeMap<UnitId, UnitSummary>,
    /// Samples that came in, by modality.
    pub received: BTreeMap<Modality, u64>,
    /// What was lost or turned away, by `place/modality/reason`.
    pub drops: BTreeMap<String, u64>,
    /// Latency per stage.
    pub stages: BTreeMap<String, StageLatency>,
    /// Where the model ran.
    pub device: String,
    /// Wall-clock time of the run, seconds.
    pub seconds: f64,
    /// SHA-256 of the decision log, where there is one.
    pub decisions_sha256: Option<String>,
    /// Whether data was lost that was meant to be used.
    pub data_lost: bool,
}

/// The latest state of every unit.
#[derive(Default)]
pub(super) struct Board {
    units: Mutex<BTreeMap<UnitId, UnitStatus>>,
    /// Where the model runs.
    device: Mutex<String>,
}

impl Board {
    /// Notes the decisions of a frame.
    pub(super) fn decided(&self, frame: &Frame, mode: Mode, reasons: &[String], messages: &[Message]) {
        let mut board = lock(&self.units);
        let status = board.entry(frame.unit.clone()).or_insert_with(|| UnitStatus {
            mode,
            reasons: Vec::new(),
            capture: frame.time,
            sequence: frame.sequence,
            ues: BTreeMap::new(),
            activity: None,
            pose: None,
            frames: BTreeMap::new(),
            score: ScoreTotals::default(),
            fallback: None,
        });
        status.mode = mode;
        status.reasons = reasons.to_vec();
        status.capture = frame.time;
        status.sequence = frame.sequence;
        *status.frames.entry(frame.reference).or_default().entry(mode).or_default() += 1;
        status.ues.retain(|ue, _| frame.ues.contains_key(ue));
        for message in messages {
            match message {
                Message::Beam(beam) => {
                    status.ues.entry(beam.ue.clone()).or_default().beam = Some(beam.clone());
                }
                Message::Blockage(blockage) => {
                    status.ues.entry(blockage.ue.clone()).or_default().blockage = Some(blockage.clone());
                }
                Message::Activity(activity) => status.activity = Some(activity.clone()),
                Message::Pose(pose) => status.pose = Some(pose.clone()),
                Message::Frame(_) | Message::Health(_) | Message::Score(_) => {}
            }
        }
    }

    /// Notes where the model runs.
    pub(super) fn runs_on(&self, device: &str) {
        let mut noted = lock(&self.device);
        if *noted != device {
            device.clone_into(&mut noted);
        }
    }

    /// Where the model runs.
    pub(super) fn device(&self) -> String {
        lock(&self.device).clone()
    }

    /// Notes the score so far.
    pub(super) fn scored(&self, unit: &UnitId, totals: ScoreTotals) {
        if let Some(status) = lock(&self.units).get_mut(unit) {
            status.score = totals;
        }
    }

    /// Notes what the fallback has scored.
    pub(super) fn compared(&self, unit: &UnitId, model: ModelInfo, totals: ScoreTotals) {
        if let Some(status) = lock(&self.units).get_mut(unit) {
            status.fallback = Some((model, totals));
        }
    }

    /// The latest state of every unit.
    pub(super) fn units(&self) -> BTreeMap<UnitId, UnitStatus> {
        lock(&self.units).clone()
    }

    /// What the run did.
    pub(super) fn summary(
        &self,
        metrics: &Metrics,
        model: &ModelInfo,
        decisions_sha256: Option<String>,
        time: Duration,
    ) -> Summary {
        let losses = metrics.losses();
        Summary {
            units: lock(&self.units)
                .iter()
                .map(|(unit, status)| {
                    let fallback = status.fallback.clone().map(|(model, score)| Fallback { model, score });
                    let summary = UnitSummary {
                        frames: status.frames.clone(),
                        model: model.clone(),
                        score: status.score.clone(),
                        fallback,
                    };
                    (unit.clone(), summary)
                })
                .collect(),
            received: metrics.received_by_modality(),
            data_lost: losses.keys().any(Loss::is_data_loss),
            drops: losses.iter().map(|(loss, count)| (loss.key(), *count)).collect(),
            stages: metrics.since_start(),
            device: self.device(),
            seconds: time.as_secs_f64(),
            decisions_sha256,
        }
    }
}
