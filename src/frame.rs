//! A *frame* is the samples of one unit that belong to one instant; a *window* is a few frames, a fixed stride apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sample::{BeamIndex, BeamPower, Modality, Sample, UeId, UnitId};
use crate::time::{CaptureTime, Moment, Span};

/// Where a frame's instant comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FrameReference {
    /// A sample of this modality.
    Camera,
    /// A sample of this modality.
    Radar,
    /// A sample of this modality.
    Lidar,
    /// A report of the unit's leading UE.
    Link,
    /// A position of the unit's leading UE.
    Position,
    /// The clock: no reference modality was there.
    Tick,
}

/// Why a frame closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Every live stream was settled.
    Settled,
    /// `max_wait` after it opened.
    Deadline,
    /// A newer frame was complete.
    Superseded,
    /// The input ended.
    Flushed,
}

/// A sample in its place in a frame.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The reading.
    pub sample: Arc<Sample>,
    /// Its capture time plus the stream's calibrated offset.
    pub capture: CaptureTime,
    /// `capture` minus the frame's time: positive when it was taken after the instant.
    pub skew: Span,
    /// Whether it lies within the stream's tolerance (fresh); else it is an older one that stands in (held).
    pub fresh: bool,
}

/// One beam-power report of a UE, with what is known of the link up to it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkReport {
    /// When the powers were measured.
    pub capture: CaptureTime,
    /// Linear power per beam.
    pub power: Arc<BeamPower>,
    /// The strongest measured beam.
    pub best: BeamIndex,
    /// Its power in dB (10 log10 of the linear power).
    pub best_db: f64,
    /// Running 90th percentile of `best_db` over the reports of this UE up to and with this one, dB.
    pub reference_db: f64,
}

/// One UE in a frame.
#[derive(Clone, Debug, Default)]
pub struct UeView {
    /// Its position at the frame's instant, if it tells.
    pub position: Option<Placed>,
    /// Its last reports, oldest first, all captured strictly before `t − link_lag`.
    pub link: Vec<Arc<LinkReport>>,
}

/// The samples of one unit that belong to one instant.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The unit.
    pub unit: UnitId,
    /// The instant t, in capture time.
    pub time: CaptureTime,
    /// Running number of the unit's frames, from 0.
    pub sequence: u64,
    /// Where `time` comes from.
    pub reference: FrameReference,
    /// Sensors of the unit that are present, fresh or held. Camera, radar and lidar only.
    pub sensors: BTreeMap<Modality, Placed>,
    /// Sensors and per-UE modalities that the pipeline declares required and that are not fresh.
    pub missing_required: Vec<Modality>,
    /// The UEs that the unit serves at this instant; at least the implied one.
    pub ues: BTreeMap<UeId, UeView>,
    /// Whether the pipeline declares or any UE has been seen, i.e. `ues` is not just the implied one.
    pub ues_known: bool,
    /// Whether a gap in capture time before this frame ends every window.
    pub after_gap: bool,
    /// Why it closed.
    pub close: CloseReason,
    /// When it opened.
    pub opened: Moment,
    /// When it closed.
    pub closed: Moment,
    /// Arrival of the newest sample in it; `opened` when it has none.
    pub last_arrival: Moment,
}

impl Frame {
    /// How long the frame stood open.
    #[must_use]
    pub fn wait(&self) -> Span {
        self.closed.monotonic - self.opened.monotonic
    }

    /// Whether anything at all was sensed: a frame without any fresh or held sensor, position or link report
    /// gives a model nothing to look at.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.sensors.is_empty() || self.ues.values().any(|ue| ue.position.is_some() || !ue.link.is_empty())
    }
}

/// W slots of one unit a fixed stride apart, oldest first; the last one is the present frame.
#[derive(Clone, Debug)]
pub struct Window {
    /// Each slot holds the frame nearest to its instant within half a stride, or nothing.
    pub slots: Vec<Option<Arc<Frame>>>,
    /// The present frame, which is also the last slot.
    pub frame: Arc<Frame>,
}
