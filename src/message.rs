//! What the pipeline says on the wire: one struct per output key, each the source of a schema file in
//! `config/schemas/`.
//!
//! Times are decimal strings (`*_ns` pass 2^53, where JSON numbers lose digits). Nothing here is ever NaN.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::frame::{CloseReason, FrameReference};
use crate::infer::ModelInfo;
use crate::sample::{BeamIndex, CaptureSource, Modality, UeId, UnitId};

pub mod schema;

/// Nanoseconds since the Unix epoch, written as a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[schemars(extend("pattern" = "^-?[0-9]{1,19}$"))]
pub struct Nanos(pub i64);

impl From<Nanos> for String {
    fn from(nanos: Nanos) -> Self {
        nanos.0.to_string()
    }
}

impl TryFrom<String> for Nanos {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// What every message carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Name and version of the message's schema, e.g. `mmsense/beam/1`.
    pub schema: String,
    /// The unit that speaks.
    pub unit: UnitId,
    /// Capture time of the frame's reference.
    pub capture_ns: Nanos,
    /// When the message was handed to the transport, on our clock.
    pub issued_ns: Nanos,
    /// Running number of the unit's frames.
    pub sequence: u64,
}

/// How much of the pipeline's declared input the decisions rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every required modality is fresh.
    Full,
    /// A required modality is missing.
    Degraded,
    /// No usable frame, or the model failed: the last good beam stands until its time to live.
    Hold,
    /// Nothing is known.
    Unknown,
}

impl Mode {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Degraded => "degraded",
            Self::Hold => "hold",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a beam choice comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BeamSource {
    /// The model concluded it from this frame.
    Model,
    /// The last good choice, `age_ms` old.
    Hold,
    /// Nothing is known: sweep.
    Unknown,
}

/// A beam with its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct BeamCandidate {
    /// Index in the codebook, from 0.
    pub index: BeamIndex,
    /// Probability that it is the best beam, 0…1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
}

/// `ue/<ue>/beam`: which beam to use, and which to sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[schemars(extend(
    "if" = { "properties": { "source": { "const": "unknown" } } },
    "then" = { "properties": {
        "best": { "type": "null" }, "age_ms": { "type": "null" }, "sweep": { "maxItems": 0 },
        "actionable": { "const": false }
    } },
    "else" = { "properties": {
        "best": { "type": "object" }, "age_ms": { "type": "number" }, "sweep": { "minItems": 1 }
    } }
))]
pub struct BeamMessage {
    /// Common part.
    #[serde(flatten)]
    pub header: Header,
    /// The UE.
    pub ue: UeId,
    /// Where the choice comes from.
    pub source: BeamSource,
    /// The best beam; null when unknown.
    pub best: Option<BeamCandidate>,
    /// The beams to sweep, most probable first; empty when unknown (sweep them all).
    pub sweep: Vec<BeamCandidate>,
    /// Age of the choice: 0 from the model, older when held; null when unknown.
    #[schemars(range(min = 0.0))]
    pub age_ms: Option<f64>,
    /// Codebook that the indices belong to.
    pub codebook: String,
    /// The model.
    pub model: ModelInfo,
    /// Whether a controller may act on it.
    pub actionable: bool,
}

/// State of a blockage warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WarningState {
    /// Nothing to warn of.
    None,
    /// A blockage is expected.
    Raised,
    /// The link is blocked now.
    Active,
    /// A warning has just ended.
    Cleared,
}

/// The warning of one UE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[schemars(extend(
    "if" = { "properties": { "state": { "const": "none" } } },
    "then" = { "properties": {
        "id": { "type": "null" }, "since_ns": { "type": "null" }, "expected_in_ms": { "type": "null" }
    } },
    "else" = { "properties": { "id": { "type": "integer", "minimum": 1 }, "since_ns": { "type": "string" } } }
))]
pub struct Warning {
    /// Its state.
    pub state: WarningState,
    /// Number of the warning, from 1 per UE, the same from raised to cleared; null when there is none.
    pub id: Option<u64>,
    /// Capture time of the frame at which this state began; null when there is none.
    pub since_ns: Option<Nanos>,
    /// Expected time to blockage, where its probability crosses `raise_at`: 0 when active, null when it does not within
    /// the longest horizon or is not known.
    #[schemars(range(min = 0.0))]
    pub expected_in_ms: Option<f64>,
}

/// Probability of a blockage within one horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct HorizonProbability {
    /// 0 = now, else milliseconds ahead.
    pub horizon_ms: u32,
    /// Probability that the link is blocked within it, 0…1, non-decreasing over the horizons.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
}

/// `ue/<ue>/blockage`: the forecast and the warning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[schemars(extend(
    "if" = { "properties": { "known": { "const": false } } },
    "then" = { "properties": { "horizons": { "maxItems": 0 }, "actionable": { "const": false } } },
    "else" = { "properties": { "horizons": { "minItems": 1 } } }
))]
pub struct BlockageMessage {
    /// Common part.
    #[serde(flatten)]
    pub header: Header,
    /// The UE.
    pub ue: UeId,
    /// Whether the forecast is known; when false `horizons` is empty.
    pub known: bool,
    /// Per horizon, ascending.
    pub horizons: Vec<HorizonProbability>,
    /// The warning.
    pub warning: Warning,
    /// The model.
    pub model: ModelInfo,
    /// Whether a controller may act on it.
    pub actionable: bool,
}

/// A human activity with its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ActivityCandidate {
    /// Its place among the activities that the model was trained on, from 0.
    pub index: u32,
    /// Probability that it is the one seen, 0…1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
}

/// `activity`: what the person in front of the unit does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[schemars(extend(
    "if" = { "properties": { "known": { "const": false } } },
    "then" = { "properties": { "ranked": { "maxItems": 0 }, "actionable": { "const": false } } },
    "else" = { "properties": { "ranked": { "minItems": 1 } } }
))]
pub struct ActivityMessage {
    /// Common part.
    #[serde(flatten)]
    pub header: Header,
    /// Whether the model said anything; when false `ranked` is empty.
    pub known: bool,
    /// Up to five activities, the most probable first.
    #[schemars(extend("maxItems" = 5))]
    pub ranked: Vec<ActivityCandidate>,
    /// The model.
    pub model: ModelInfo,
    /// Whether a controller may act on it.
    pub actionable: bool,
}

/// `pose`: where the joints of the person in front of the unit are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[schemars(extend(
    "if" = { "properties": { "known": { "const": false } } },
    "then" = { "properties": { "joints_m": { "maxItems": 0 }, "actionable": { "const": false } } },
    "else" = { "properties": { "joints_m": { "minItems": 1 } } }
))]
pub struct PoseMessage {
    /// Common part.
    #[serde(flatten)]
    pub header: Header,
    /// Whether the model said anything; when false `joints_m` is empty.
    pub known: bool,
    /// x, y, z of each joint in metres, in the frame of the labels that the model was trained on (MM-Fi: the camera's, x
    /// right, y down, z forward), in Human3.6M's order: pelvis, R hip, R knee, R ankle, L hip, L knee, L ankle, spine,
    /// thorax, neck, head, L shoulder, L elbow, L wrist, R shoulder, R elbow, R wrist.
    pub joints_m: Vec<[f64; 3]>,
    /// The model.
    pub model: ModelInfo,
    /// Whether a controller may act on it.
    pub actionable: bool,
}

/// State of one modality in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Within tolerance of the instant.
    Fresh,
    /// An older one stands in.
    Held,
    /// Not there.
    Missing,
}

/// What a frame holds of one modality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[schemars(extend(
    "if" = { "properties": { "state": { "const": "missing" } } },
    "then" = { "properties": {
        "capture_ns": { "type": "null" }, "capture_source": { "type": "null" },
        "age_ms": { "type": "null" }, "skew_ms": { "type": "null" }
    } },
    "else" = { "properties": {
        "capture_ns": { "type": "string" }, "capture_source": { "type": "string" },
        "age_ms": { "type": "number" }, "skew_ms": { "type": "number" }
    } }
))]
pub struct FrameModality {
    /// Fresh, held or missing.
    pub state: Presence,
    /// Capture time of the sample; null when missing.
    pub capture_ns: Option<Nanos>,
    /// How the capture time is known; null when missing.
    pub capture_source: Option<CaptureSource>,
    /// How old the sample is at the frame's instant; null when missing.
    #[schemars(range(min = 0.0))]
    pub age_ms: Option<f64>,
    /// Corrected capture time minus the frame's instant; null when missing.
    pub skew_ms: Option<f64>,
    /// The gate's weight; null when the model has no gate.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gate_weight: Option<f64>,
}

/// `frame`: what the frame was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct FrameMessage {
    /// Common part.
    #[serde(flatten)]
    pub header: Header,
    /// Where its instant comes from.
    pub reference: FrameReference,
    /// Per modality of the unit: camera, radar, lidar.
    #[schemars(extend(
        "required" = ["camera", "radar", "lidar"],
        "propertyNames" = { "enum": ["camera", "radar", "lidar"] }
    ))]
    pub modalities: BTreeMap<Modality, FrameModality>,
    /// Per UE: number of link reports in its history and state of its position.
    pub ues: BTreeMap<UeId, FrameUe>,
    /// Why it closed.
    pub close_reason: CloseReason,
    /// How long it stood open.
    #[schemars(range(min = 0.0))]
    pub wait_ms: f64,
    /// The mode after this frame.
    pub mode: Mode,
}

/// One UE in a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct FrameUe {
    /// Number of past beam-power reports that the decision may use.
    pub link_reports: u32,
    /// How much they counted, 0…1; null when the model does not weigh modalities.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub link_gate_weight: Option<f64>,
    /// Its position.
    pub position: FrameModality,
}

/// Latency of one stage over the last second, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct StageLatency {
    /// Median.
    #[schemars(range(min = 0.0))]
    pub p50_ms: f64,
    /// 99th percentile.
    #[schemars(range(min = 0.0))]
    pub p99_ms: f64,
    /// Number of measurements.
    pub count: u64,
}

/// `health`: how the unit is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct HealthMessage {
    /// Common part; `capture_ns` and `sequence` are those of the last frame (0 before the first).
    #[serde(flatten)]
    pub header: Header,
    /// The mode.
    pub mode: Mode,
    /// Why it is not full, one phrase each.
    pub reasons: Vec<String>,
    /// Frames decided since start, by the whole process: all of its units together.
    pub frames: u64,
    /// Latency per stage over the last second, of the whole process: decode, align, infer, decide, publish and `total`
    /// (last arrival to wire).
    pub stages: BTreeMap<String, StageLatency>,
    /// Samples received per modality since start, by the whole process.
    pub received: BTreeMap<String, u64>,
    /// Samples and frames lost since start by the whole process, by `where/reason`.
    pub drops: BTreeMap<String, u64>,
    /// Device that infers.
    pub device: String,
    /// The model.
    pub model: ModelInfo,
    /// Seconds since start.
    #[schemars(range(min = 0.0))]
    pub uptime_s: f64,
}

/// How one predictor has done on beams so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct BeamScore {
    /// Decisions scored.
    pub count: u64,
    /// Share in which the first choice was the best measured beam; null before the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top1: Option<f64>,
    /// Share in which the best measured beam was among the first three.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top3: Option<f64>,
    /// Mean power of the chosen beam below the best measured one, dB, where the chosen one was measured.
    #[schemars(range(min = 0.0))]
    pub power_loss_db: Option<f64>,
    /// Decisions whose chosen beam was measured, so that `power_loss_db` is known.
    pub loss_count: u64,
}

/// Which blockage truth was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockageTruth {
    /// `link/blocked` messages or labels.
    Label,
    /// Best measured power below its running 90th percentile by `blockage_db`.
    Power,
}

/// How the warnings have done so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct BlockageScore {
    /// Which truth was used last; null before any.
    pub truth: Option<BlockageTruth>,
    /// Truth readings seen.
    pub count: u64,
    /// Share of truth readings that say blocked.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prevalence: Option<f64>,
    /// Blockages that a warning preceded or met.
    pub hits: u64,
    /// Of these, blockages that had begun when their warning came.
    pub late_hits: u64,
    /// Blockages that began and ended without one.
    pub misses: u64,
    /// Warnings that ended without a blockage.
    pub false_alarms: u64,
    /// Mean time from the warning's first message to the blockage, over hits, ms (0 when it came with it).
    #[schemars(range(min = 0.0))]
    pub lead_time_ms: Option<f64>,
}

/// What became of the link reports that decisions are scored against: `seen` is the sum of the others and of those
/// that still wait for their frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ReportCounts {
    /// Reports that arrived.
    pub seen: u64,
    /// Scored for our decision and both rules.
    pub scored: u64,
    /// The decision for their instant was unknown.
    pub undecided: u64,
    /// A rule had no report before this one to go by.
    pub incomparable: u64,
    /// No decision lies near their instant that could not have seen them.
    pub unmatched: u64,
    /// No power above zero was measured.
    pub silent: u64,
    /// Not newer than the report before.
    pub late: u64,
}

/// `ue/<ue>/score`: decisions against measured truth, as it arrives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ScoreMessage {
    /// Common part.
    #[serde(flatten)]
    pub header: Header,
    /// The UE.
    pub ue: UeId,
    /// Share of the codebook that the last report measured, 0…1; null before the first report.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub coverage: Option<f64>,
    /// What became of the link reports so far.
    pub reports: ReportCounts,
    /// Our decisions.
    pub beam: BeamScore,
    /// "The best beam of the last report" on the same truth.
    pub persistence: BeamScore,
    /// The line through the best beams of the last two reports, on the same truth.
    pub extrapolation: BeamScore,
    /// Blockage warnings.
    pub blockage: BlockageScore,
}

/// Any message, as decide hands it to publish.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// `ue/<ue>/beam`
    Beam(BeamMessage),
    /// `ue/<ue>/blockage`
    Blockage(BlockageMessage),
    /// `activity`
    Activity(ActivityMessage),
    /// `pose`
    Pose(PoseMessage),
    /// `frame`
    Frame(FrameMessage),
    /// `health`
    Health(HealthMessage),
    /// `ue/<ue>/score`
    Score(ScoreMessage),
}

impl Message {
    /// The key below `mmsense/<unit>/v1/`.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Beam(message) => format!("ue/{}/beam", message.ue),
            Self::Blockage(message) => format!("ue/{}/blockage", message.ue),
            Self::Score(message) => format!("ue/{}/score", message.ue),
            Self::Activity(_) => "activity".to_owned(),
            Self::Pose(_) => "pose".to_owned(),
            Self::Frame(_) => "frame".to_owned(),
            Self::Health(_) => "health".to_owned(),
        }
    }

    /// The common part.
    #[must_use]
    pub const fn header(&self) -> &Header {
        match self {
            Self::Beam(message) => &message.header,
            Self::Blockage(message) => &message.header,
            Self::Score(message) => &message.header,
            Self::Activity(message) => &message.header,
            Self::Pose(message) => &message.header,
            Self::Frame(message) => &message.header,
            Self::Health(message) => &message.header,
        }
    }

    /// The common part, to stamp the time of issue.
    pub const fn header_mut(&mut self) -> &mut Header {
        match self {
            Self::Beam(message) => &mut message.header,
            Self::Blockage(message) => &mut message.header,
            Self::Score(message) => &mut message.header,
            Self::Activity(message) => &mut message.header,
            Self::Pose(message) => &mut message.header,
            Self::Frame(message) => &mut message.header,
            Self::Health(message) => &mut message.header,
        }
    }

    /// The message as it stands in the decision log: without `issued_ns`, which differs from run to run.
    ///
    /// # Errors
    /// Never in practice: every field is a plain value.
    pub fn to_log(&self) -> serde_json::Result<serde_json::Value> {
        let mut value = match self {
            Self::Health(message) => serde_json::to_value(message),
            Self::Beam(message) => serde_json::to_value(message),
            Self::Blockage(message) => serde_json::to_value(message),
            Self::Score(message) => serde_json::to_value(message),
            Self::Activity(message) => serde_json::to_value(message),
            Self::Pose(message) => serde_json::to_value(message),
            Self::Frame(message) => serde_json::to_value(message),
        }?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("issued_ns");
        }
        Ok(value)
    }

    /// The message as JSON.
    ///
    /// # Errors
    /// Never in practice: every field is a plain value.
    pub fn to_json(&self) -> serde_json::Result<String> {
        match self {
            Self::Beam(message) => serde_json::to_string(message),
            Self::Blockage(message) => serde_json::to_string(message),
            Self::Score(message) => serde_json::to_string(message),
            Self::Activity(message) => serde_json::to_string(message),
            Self::Pose(message) => serde_json::to_string(message),
            Self::Frame(message) => serde_json::to_string(message),
            Self::Health(message) => serde_json::to_string(message),
        }
    }
}
