//! A pipeline file, typed.
//!
//! Every key has a default, so a file states only what it changes. [`load()`] reports everything that is wrong at once,
//! each with file, key and what is allowed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::infer::device::DeviceChoice;
use crate::model::Task;
use crate::sample::{Modality, UeId, UnitId};
use crate::time::Span;

pub(crate) mod load;

pub use load::{ConfigError, Problem, load, load_network, parse};

/// One pipeline: what comes in, how it is aligned, what decides, what goes out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// Where samples come from.
    pub input: Input,
    /// What may come in.
    pub limits: Limits,
    /// Where the unit stands.
    pub site: Option<Site>,
    /// Sensor poses in the unit frame; a sensor without one stands in its origin, looking along y.
    pub pose: Poses,
    /// What the radar's numbers mean.
    pub radar: Radar,
    /// The unit's beams.
    pub codebook: Codebook,
    /// How samples become frames.
    pub align: Align,
    /// What decides.
    pub model: Model,
    /// How probabilities become decisions.
    pub decide: Decide,
    /// What goes out.
    pub output: Output,
    /// Sensors of a simulated street, in the same process.
    pub demo: Option<Demo>,
}

/// `[demo]`: a recording of a simulated street is published to the unit over zenoh, and the run ends with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demo {
    /// Scene file, beside the pipeline file.
    pub scene: PathBuf,
    /// Folder in which the recording is made on first use, beside the pipeline file.
    pub folder: PathBuf,
    /// Speed of the recording; 1 as it was. Another one needs `input.clock = "recorded"`.
    #[serde(default = "Demo::real_time")]
    pub rate: f64,
}

impl Demo {
    const fn real_time() -> f64 {
        1.0
    }
}

/// Which clock is "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockKind {
    /// Our own clock.
    #[default]
    System,
    /// The newest capture time seen: for a replay over the network at a rate other than 1.
    Recorded,
}

/// `[input]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// Take samples from zenoh subscribers (else from the recording given on the command line).
    pub zenoh: bool,
    /// zenoh key expression of the units that this process serves; one chunk.
    pub units: String,
    /// What "now" means.
    pub clock: ClockKind,
    /// Most units that one process serves.
    pub max_units: usize,
    /// Decoding threads.
    pub decode_threads: usize,
    /// Waiting messages of one stream before the oldest is dropped.
    pub mailbox_items: usize,
    /// Waiting bytes of one stream before the oldest is dropped.
    pub mailbox_bytes: usize,
    /// How a recording is taken in.
    pub recording: RecordingInput,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            zenoh: true,
            units: "*".to_owned(),
            clock: ClockKind::System,
            max_units: 16,
            decode_threads: 2,
            mailbox_items: 8,
            mailbox_bytes: 64 << 20,
            recording: RecordingInput::default(),
        }
    }
}

/// `[input.recording]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingInput {
    /// Unit name that the recording's samples get.
    pub unit: UnitId,
    /// Rows per second where the recording has no time stamps, Hz.
    pub rate_hz: f64,
    /// Time from capture to (virtual) arrival, ms.
    pub latency_ms: f64,
}

impl Default for RecordingInput {
    fn default() -> Self {
        let unit = UnitId::new("unit1").unwrap_or_else(|_| unreachable!());
        Self { unit, rate_hz: 10.0, latency_ms: 0.0 }
    }
}

/// `[limits]`: larger input is refused before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Encoded image, bytes.
    pub camera_bytes: usize,
    /// Encoded radar reading, bytes.
    pub radar_bytes: usize,
    /// Encoded point cloud, bytes.
    pub lidar_bytes: usize,
    /// Anything of a UE, bytes.
    pub ue_bytes: usize,
    /// Image width and height, pixels.
    pub image_side: u32,
    /// Decoded image, bytes.
    pub image_decoded_bytes: usize,
    /// Points of one cloud or point list.
    pub points: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            camera_bytes: 16 << 20,
            radar_bytes: 16 << 20,
            lidar_bytes: 32 << 20,
            ue_bytes: 64 << 10,
            image_side: 4096,
            image_decoded_bytes: 64 << 20,
            points: 1 << 20,
        }
    }
}

impl Limits {
    /// Largest payload of a modality, bytes.
    #[must_use]
    pub const fn payload_bytes(&self, modality: Modality) -> usize {
        match modality {
            Modality::Camera => self.camera_bytes,
            Modality::Radar => self.radar_bytes,
            Modality::Lidar => self.lidar_bytes,
            Modality::Link | Modality::Position | Modality::Blocked => self.ue_bytes,
        }
    }
}

/// `[site]`: where the origin of the unit frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Degrees north, −90…90.
    pub latitude: f64,
    /// Degrees east, −180…180.
    pub longitude: f64,
    /// Metres above the ellipsoid.
    #[serde(default)]
    pub altitude_m: f64,
    /// Direction of boresight (+y), degrees clockwise from north.
    #[serde(default)]
    pub heading_deg: f64,
}

/// `[pose.camera]`, `[pose.radar]`, `[pose.lidar]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Poses {
    /// Of the camera.
    pub camera: Pose,
    /// Of the radar.
    pub radar: Pose,
    /// Of the LiDAR.
    pub lidar: Pose,
}

/// A sensor in the unit frame (x right, y boresight, z up).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pose {
    /// Position in metres.
    pub position_m: [f64; 3],
    /// Turn about z, degrees, positive to the left (counter-clockwise seen from above).
    pub yaw_deg: f64,
    /// Turn about x after yaw, degrees, positive upwards.
    pub pitch_deg: f64,
    /// Turn about y after pitch, degrees, positive to the right.
    pub roll_deg: f64,
    /// The axes in which the sensor itself counts.
    pub axes: Axes,
}

/// Axes of a sensor's own points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axes {
    /// x right, y forward, z up: ours, and Velodyne's.
    #[default]
    RightForwardUp,
    /// x forward, y left, z up: ROS (REP 103), Ouster, Hesai.
    ForwardLeftUp,
    /// x right, y down, z forward: cameras.
    RightDownForward,
}

/// `[radar]`: a cube or a map alone does not carry its axes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Radar {
    /// Carrier wavelength, metres.
    pub wavelength_m: f64,
    /// Distance between receive antennas, metres.
    pub rx_spacing_m: f64,
    /// Range per bin of the range FFT or map, metres.
    pub range_bin_m: f64,
    /// Time from chirp to chirp (of one transmitter), seconds: sets the Doppler axis.
    pub chirp_period_s: f64,
    /// Bins of the angle FFT (zero-padded).
    pub angle_bins: usize,
    /// Angle axis of a map given as input.
    pub map_angle: AngleAxis,
    /// Whether antenna 0 is the left-most one seen from behind the radar, so that phase grows with sin α.
    pub phase_grows_right: bool,
    /// Most points per peak set (moving, static).
    pub max_peaks: usize,
}

impl Default for Radar {
    fn default() -> Self {
        // The AWR2243 of DeepSense 6G: 77 GHz, λ/2 spacing, 15.015 MHz/µs × 256 samples at 5 Msps, 65 µs chirps.
        let wavelength = crate::space::LIGHT_MPS / 77e9;
        Self {
            wavelength_m: wavelength,
            rx_spacing_m: wavelength / 2.0,
            range_bin_m: 0.195,
            chirp_period_s: 65e-6,
            angle_bins: 64,
            map_angle: AngleAxis::SinFft,
            phase_grows_right: true,
            max_peaks: 256,
        }
    }
}

/// What the columns of a range-angle map mean. α counts from boresight, positive to the right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AngleAxis {
    /// A shifted angle FFT of N bins: uniform in sin α, `sin α = (k − N/2)·λ/(N·d)`.
    #[default]
    SinFft,
    /// Uniform in degrees: α of column k is `first + k·step`.
    Degrees {
        /// α of column 0.
        first: f64,
        /// α from column to column, negative when columns run to the left.
        step: f64,
    },
}

/// `[codebook]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codebook {
    /// Its name on the wire.
    pub id: String,
    /// Number of beams; left out, it is that of the recording (zenoh input must say).
    pub beams: Option<usize>,
    /// Whether the last beam is next to the first.
    pub circular: bool,
    /// Peak angle of each beam, degrees from boresight, positive to the right; left out, the network takes beams to
    /// stand evenly over ±45° (all around when circular).
    pub peaks_deg: Option<Vec<f64>>,
}

impl Default for Codebook {
    fn default() -> Self {
        Self { id: "unnamed".to_owned(), beams: None, circular: false, peaks_deg: None }
    }
}

/// `[align]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Align {
    /// Modalities that may open frames, best first: the first live one does; none live, the tick does.
    /// Empty: always the tick.
    pub reference: Vec<Modality>,
    /// Period of the tick until a reference's own period is known, ms.
    pub tick_ms: f64,
    /// Longest time that a frame stands open, ms.
    pub max_wait_ms: f64,
    /// Link reports count as input when captured strictly before t − this, ms; left out, half a report period.
    pub link_lag_ms: Option<f64>,
    /// Most link reports that a decision sees.
    pub link_reports: usize,
    /// Link reports older than this at the frame's instant say nothing, ms.
    pub link_max_age_ms: f64,
    /// Most UEs of one unit.
    pub max_ues: usize,
    /// A UE that says nothing for this long is forgotten, s.
    pub ue_ttl_s: f64,
    /// UEs that are there from the start.
    pub ues: Vec<UeId>,
    /// Slots of a window.
    pub window: usize,
    /// Time from slot to slot, ms.
    pub stride_ms: f64,
    /// A gap in capture time longer than this clears a window, ms.
    pub gap_ms: f64,
    /// Camera.
    pub camera: StreamRules,
    /// Radar.
    pub radar: StreamRules,
    /// LiDAR.
    pub lidar: StreamRules,
    /// Positions of UEs.
    pub position: StreamRules,
}

impl Default for Align {
    fn default() -> Self {
        Self {
            reference: vec![Modality::Camera],
            tick_ms: 100.0,
            max_wait_ms: 30.0,
            link_lag_ms: None,
            link_reports: 16,
            link_max_age_ms: 500.0,
            max_ues: 16,
            ue_ttl_s: 10.0,
            ues: Vec::new(),
            window: 5,
            stride_ms: 100.0,
            gap_ms: 500.0,
            camera: StreamRules::default(),
            radar: StreamRules::default(),
            lidar: StreamRules::default(),
            position: StreamRules { tolerance_ms: 60.0, max_age_ms: 2000.0, ..StreamRules::default() },
        }
    }
}

impl Align {
    /// The rules of a modality that takes a place in frames; link and truth have none.
    #[must_use]
    pub const fn rules(&self, modality: Modality) -> Option<&StreamRules> {
        match modality {
            Modality::Camera => Some(&self.camera),
            Modality::Radar => Some(&self.radar),
            Modality::Lidar => Some(&self.lidar),
            Modality::Position => Some(&self.position),
            Modality::Link | Modality::Blocked => None,
        }
    }
}

/// `[align.camera]` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamRules {
    /// Added to every capture time (calibration), ms.
    pub offset_ms: f64,
    /// Largest |capture − t| of a fresh sample, ms.
    pub tolerance_ms: f64,
    /// Oldest sample that may stand in (held), ms.
    pub max_age_ms: f64,
    /// Whether the unit is degraded without it.
    pub required: bool,
    /// Most samples kept.
    pub capacity_items: usize,
    /// Most bytes of decoded samples kept.
    pub capacity_bytes: usize,
}

impl Default for StreamRules {
    fn default() -> Self {
        Self {
            offset_ms: 0.0,
            tolerance_ms: 50.0,
            max_age_ms: 250.0,
            required: false,
            capacity_items: 32,
            capacity_bytes: 256 << 20,
        }
    }
}

/// Rule that guesses the next beam from past ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeamRule {
    /// The best beam of the last report.
    #[default]
    Persistence,
    /// The line through the best beams of the last two reports.
    Extrapolation,
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// A network's configuration (`.toml`: its weights are fresh) or a stored network (`.safetensors`), beside the
    /// pipeline file; left out, rules decide.
    pub network: Option<PathBuf>,
    /// What the network is asked for: `beam`, `blockage`, `activity`, `pose`.
    pub tasks: Vec<Task>,
    /// Where the network runs: `"auto"`, `"cpu"` or `"cuda:N"`.
    pub device: DeviceChoice,
    /// The rule for beams, which decides where there is no network and is scored beside one; blockage goes by the trend
    /// of the received power.
    pub beam: BeamRule,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            network: None,
            tasks: vec![Task::Beam, Task::Blockage],
            device: DeviceChoice::default(),
            beam: BeamRule::default(),
        }
    }
}

/// `[decide]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decide {
    /// Blockage horizons, ms, ascending; 0 = now.
    pub horizons_ms: Vec<u32>,
    /// Beams to sweep.
    pub sweep: usize,
    /// A held beam lives this long, ms.
    pub hold_ttl_ms: f64,
    /// Good frames before the mode goes up.
    pub recover_frames: usize,
    /// Lowest mode in which decisions are actionable: full, degraded or hold.
    pub actionable_floor: Floor,
    /// Probability (any horizon) at which a warning is raised.
    pub raise_at: f64,
    /// Probability below which it is cleared.
    pub clear_at: f64,
    /// Frames in a row before a warning is raised.
    pub raise_frames: usize,
    /// Frames in a row before it is cleared.
    pub clear_frames: usize,
    /// The link counts as blocked when the best measured power lies this far below its running 90th percentile, dB.
    pub blockage_db: f64,
}

/// Lowest mode in which decisions are actionable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Floor {
    /// Only with every required modality.
    Full,
    /// Also without some.
    #[default]
    Degraded,
    /// Also a held beam.
    Hold,
}

impl Default for Decide {
    fn default() -> Self {
        Self {
            horizons_ms: vec![0, 100, 500, 1000],
            sweep: 5,
            hold_ttl_ms: 1000.0,
            recover_frames: 3,
            actionable_floor: Floor::Degraded,
            raise_at: 0.5,
            clear_at: 0.3,
            raise_frames: 2,
            clear_frames: 3,
            blockage_db: 8.0,
        }
    }
}

/// `[output]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// zenoh configuration file of the session, beside the pipeline file; left out, nothing goes to zenoh.
    pub zenoh_config: Option<PathBuf>,
    /// Decisions as JSON lines, without what changes from run to run.
    pub decision_log: Option<PathBuf>,
    /// Messages that wait to be published before the oldest is dropped.
    pub queue: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self { zenoh_config: None, decision_log: None, queue: 1024 }
    }
}

/// Milliseconds of a configuration as a [`Span`].
#[must_use]
pub fn millis(value: f64) -> Span {
    Span::from_millis_f64(value)
}
