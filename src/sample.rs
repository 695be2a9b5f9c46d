//! A *sample* is one reading of one stream of one unit, with three times.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{CaptureTime, Moment};

/// The identity of a unit or a UE is not one chunk of a zenoh key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a name: 1 to 64 letters, digits, `-` or `_` are allowed")]
pub struct NameError {
    /// What was given, cut to 80 characters.
    pub found: String,
}

fn checked_name(name: &str) -> Result<Arc<str>, NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(NameError { found: name.chars().take(80).collect() });
    }
    Ok(Arc::from(name))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        #[schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name of 1 to 64 letters, digits, `-` or `_`: one chunk of a zenoh key.
            ///
            /// # Errors
            /// [`NameError`] when it is anything else.
            pub fn new(name: &str) -> Result<Self, NameError> {
                checked_name(name).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name_type! {
    /// One roadside unit: a mmWave basestation with its sensors.
    UnitId
}
name_type! {
    /// One user equipment that a unit serves.
    UeId
}

impl UeId {
    /// The user that a unit serves when none is declared or seen, and the one user of a DeepSense 6G recording.
    #[must_use]
    pub fn implied() -> Self {
        Self(Arc::from("0"))
    }
}

/// The kind of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// RGB image of the unit.
    Camera,
    /// FMCW radar of the unit.
    Radar,
    /// LiDAR of the unit.
    Lidar,
    /// Beam-power reports of a UE.
    Link,
    /// Position of a UE.
    Position,
    /// Blockage truth of a UE: scored against, never an input of a model.
    Blocked,
}

impl Modality {
    /// Every modality, in the order in which they are listed everywhere.
    pub const ALL: [Self; 6] =
        [Self::Camera, Self::Radar, Self::Lidar, Self::Link, Self::Position, Self::Blocked];

    /// Lower-case name as it stands in configurations and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Radar => "radar",
            Self::Lidar => "lidar",
            Self::Link => "link",
            Self::Position => "position",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a sample comes from: a sensor of the unit, or one UE.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The unit's camera.
    Camera,
    /// The unit's radar.
    Radar,
    /// The unit's LiDAR.
    Lidar,
    /// Beam-power reports of a UE.
    Link(UeId),
    /// Positions of a UE.
    Position(UeId),
    /// Blockage truth of a UE.
    Blocked(UeId),
}

impl Stream {
    /// The kind of this stream's readings.
    #[must_use]
    pub const fn modality(&self) -> Modality {
        match self {
            Self::Camera => Modality::Camera,
            Self::Radar => Modality::Radar,
            Self::Lidar => Modality::Lidar,
            Self::Link(_) => Modality::Link,
            Self::Position(_) => Modality::Position,
            Self::Blocked(_) => Modality::Blocked,
        }
    }

    /// The UE that this stream belongs to, if it is not a sensor of the unit.
    #[must_use]
    pub const fn ue(&self) -> Option<&UeId> {
        match self {
            Self::Camera | Self::Radar | Self::Lidar => None,
            Self::Link(ue) | Self::Position(ue) | Self::Blocked(ue) => Some(ue),
        }
    }

    /// The input key of this stream below `mmsense/<unit>/v1/`.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Camera => "sensor/camera".to_owned(),
            Self::Radar => "sensor/radar".to_owned(),
            Self::Lidar => "sensor/lidar".to_owned(),
            Self::Link(ue) => format!("ue/{ue}/link/power"),
            Self::Position(ue) => format!("ue/{ue}/position"),
            Self::Blocked(ue) => format!("ue/{ue}/link/blocked"),
        }
    }

    /// The stream of an input key below `mmsense/<unit>/v1/`; `None` when it is no input key.
    #[must_use]
    pub fn from_key(suffix: &str) -> Option<Self> {
        match suffix {
            "sensor/camera" => return Some(Self::Camera),
            "sensor/radar" => return Some(Self::Radar),
            "sensor/lidar" => return Some(Self::Lidar),
            _ => {}
        }
        let (ue, rest) = suffix.strip_prefix("ue/")?.split_once('/')?;
        let ue = UeId::new(ue).ok()?;
        match rest {
            "link/power" => Some(Self::Link(ue)),
            "link/blocked" => Some(Self::Blocked(ue)),
            "position" => Some(Self::Position(ue)),
            _ => None,
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ue() {
            Some(ue) => write!(f, "{}[{ue}]", self.modality()),
            None => write!(f, "{}", self.modality()),
        }
    }
}

/// How we know a sample's capture time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptureSource {
    /// The 16-byte attachment of the message.
    Attachment,
    /// zenoh's own timestamp of the message.
    Transport,
    /// Our clock when it arrived: the sender said nothing.
    Arrival,
    /// The time stamp of a recording.
    Recording,
    /// Made up from the row number and the rate of a recording without time stamps.
    Synthetic,
}

/// The times of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// When the world looked like this, on the sensor's clock.
    pub capture: CaptureTime,
    /// How `capture` is known.
    pub capture_source: CaptureSource,
    /// The sender's running number, where it gave one.
    pub sequence: Option<u64>,
    /// When it reached us.
    pub arrival: Moment,
    /// zenoh's timestamp, nanoseconds since the Unix epoch: for diagnostics only.
    pub transport_ns: Option<i64>,
}

/// The bytes of a message, in whatever buffer the transport holds them.
pub trait Bytes: Send + Sync {
    /// The bytes; borrowed where they lie in one piece.
    fn bytes(&self) -> Cow<'_, [u8]>;
    /// Their number.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self)
    }
    fn len(&self) -> usize {
        Vec::len(self)
    }
}

/// What the bytes of a message are, as its zenoh encoding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// `image/jpeg`
    Jpeg,
    /// `image/png`
    Png,
    /// `application/x-npy`
    Npy,
    /// `application/x-pcd`
    Pcd,
    /// `application/x-ply`
    Ply,
    /// `application/json`
    Json,
}

impl Format {
    /// The media type that names this format on the wire.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Npy => "application/x-npy",
            Self::Pcd => "application/x-pcd",
            Self::Ply => "application/x-ply",
            Self::Json => "application/json",
        }
    }

    /// The format that a media type names, if it is one of ours; case and parameters do not matter (RFC 2045).
    #[must_use]
    pub fn from_media_type(name: &str) -> Option<Self> {
        let name = name.split(';').next().unwrap_or_default().trim();
        [Self::Jpeg, Self::Png, Self::Npy, Self::Pcd, Self::Ply, Self::Json]
            .into_iter()
            .find(|format| format.media_type().eq_ignore_ascii_case(name))
    }
}

/// A sample as it arrived: bytes and stamps, not looked at yet.
#[derive(Clone)]
pub struct RawSample {
    /// The unit that it belongs to.
    pub unit: UnitId,
    /// The stream within the unit.
    pub stream: Stream,
    /// Its times.
    pub stamps: Stamps,
    /// What the sender says the bytes are; `None` when it did not say, so that they must tell themselves.
    pub format: Option<Format>,
    /// The bytes.
    pub payload: Arc<dyn Bytes>,
}

impl fmt::Debug for RawSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSample")
            .field("unit", &self.unit)
            .field("stream", &self.stream)
            .field("stamps", &self.stamps)
            .field("format", &self.format)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

/// A decoded sample.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The unit that it belongs to.
    pub unit: UnitId,
    /// The stream within the unit.
    pub stream: Stream,
    /// Its times.
    pub stamps: Stamps,
    /// The reading.
    pub data: Data,
}

/// A decoded reading. Large ones are shared, never copied.
#[derive(Clone, Debug)]
pub enum Data {
    /// Camera image, 8-bit RGB.
    Image(Arc<image::RgbImage>),
    /// Radar points in the unit frame, and the map they came from.
    Radar(Arc<RadarReading>),
    /// LiDAR points in the unit frame.
    Cloud(Arc<PointCloud>),
    /// Measured beam powers.
    Power(Arc<BeamPower>),
    /// Where a UE says it is.
    Position(Position),
    /// Whether a UE's line of sight is blocked, as a recording or a radio knows.
    Blocked(bool),
}

impl Data {
    /// Memory that the reading holds, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Image(image) => image.as_raw().len(),
            Self::Radar(radar) => {
                radar.points.len() * size_of::<RadarPoint>()
                    + radar.map.as_ref().map_or(0, |map| map.magnitude.len() * size_of::<f32>())
            }
            Self::Cloud(cloud) => {
                cloud.points.len() * size_of::<[f32; 3]>() + cloud.intensity.len() * size_of::<f32>()
            }
            Self::Power(power) => power.linear.len() * size_of::<f64>(),
            Self::Position(_) => size_of::<Position>(),
            Self::Blocked(_) => 1,
        }
    }
}

/// One radar detection in the unit frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RadarPoint {
    /// x right, y boresight, z up, metres.
    pub position: [f32; 3],
    /// Radial speed in m/s, positive away from the radar; 0 when `has_doppler` is false.
    pub doppler_mps: f32,
    /// Power in dB, relative to 1 in the units of the reading.
    pub power_db: f32,
    /// Whether the reading carried Doppler at all.
    pub has_doppler: bool,
    /// Whether the peak stands in the static map (mean over chirps kept) rather than the moving one.
    pub is_static: bool,
}

/// What one radar reading says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RadarReading {
    /// Detections in the unit frame.
    pub points: Vec<RadarPoint>,
    /// The range-angle map they were found in; `None` when the sensor sent points.
    pub map: Option<RangeAngleMap>,
}

/// Magnitude over range and angle.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAngleMap {
    /// `[range, angle]`, linear magnitude, finite and not negative.
    pub magnitude: ndarray::Array2<f32>,
}

/// LiDAR points in the unit frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointCloud {
    /// x right, y boresight, z up, metres; all finite.
    pub points: Vec<[f32; 3]>,
    /// Intensity per point in the sensor's own unit; empty when the file has none.
    pub intensity: Vec<f32>,
    /// Points that were dropped because a coordinate was not finite.
    pub dropped: usize,
}

/// Index of a beam in the unit's codebook, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BeamIndex(pub u16);

impl BeamIndex {
    /// The index as a position in a vector of beams.
    #[must_use]
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

/// Received power per beam of the codebook.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamPower {
    /// Linear power, ≥ 0; NaN where a beam was not measured.
    pub linear: Vec<f64>,
}

impl BeamPower {
    /// The strongest measured beam and its linear power; the lower index wins a tie. `None` when nothing was measured.
    #[must_use]
    pub fn best(&self) -> Option<(BeamIndex, f64)> {
        let mut best: Option<(BeamIndex, f64)> = None;
        for (index, &power) in (0u16..).zip(&self.linear) {
            if !power.is_nan() && best.is_none_or(|(_, strongest)| power > strongest) {
                best = Some((BeamIndex(index), power));
            }
        }
        best
    }

    /// Power of one beam; `None` when it was not measured or is not in the codebook.
    #[must_use]
    pub fn of(&self, beam: BeamIndex) -> Option<f64> {
        self.linear.get(beam.position()).copied().filter(|power| !power.is_nan())
    }

    /// Number of measured beams.
    #[must_use]
    pub fn measured(&self) -> usize {
        self.linear.iter().filter(|power| !power.is_nan()).count()
    }
}

/// Where a UE says it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Degrees north, −90…90.
    pub latitude: f64,
    /// Degrees east, −180…180.
    pub longitude: f64,
    /// Metres above the ellipsoid, where known.
    pub altitude_m: Option<f64>,
    /// Ground speed in m/s, where known.
    pub speed_mps: Option<f64>,
    /// The same place in the unit frame in metres; `None` when the pipeline does not say where the unit stands.
    pub local: Option<[f32; 3]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let ue = UeId::new("car-7").unwrap();
        for stream in [
            Stream::Camera,
            Stream::Radar,
            Stream::Lidar,
            Stream::Link(ue.clone()),
            Stream::Position(ue.clone()),
            Stream::Blocked(ue),
        ] {
            assert_eq!(Stream::from_key(&stream.key()), Some(stream));
        }
        assert_eq!(Stream::from_key("ue/a b/position"), None);
        assert_eq!(Stream::from_key("sensor/sonar"), None);
    }

    #[test]
    fn media_types_may_carry_case_and_parameters() {
        assert_eq!(Format::from_media_type("IMAGE/JPEG"), Some(Format::Jpeg));
        assert_eq!(Format::from_media_type("application/json; charset=utf-8"), Some(Format::Json));
        assert_eq!(Format::from_media_type("image/gif"), None);
    }

    #[test]
    fn a_name_is_one_key_chunk() {
        assert!(UnitId::new("rsu_1-north").is_ok());
        for bad in ["", "a/b", "a*", "ä", &"x".repeat(65)] {
            assert!(UnitId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn best_beam_ignores_what_was_not_measured() {
        let power = BeamPower { linear: vec![f64::NAN, 2.0, 3.0, 3.0] };
        assert_eq!(power.best(), Some((BeamIndex(2), 3.0)));
        assert_eq!(power.measured(), 3);
        assert_eq!(BeamPower { linear: vec![f64::NAN] }.best(), None);
    }
}
