//! *decode* turns the bytes of a sample into a reading.
//!
//! Pure functions: bytes and configuration in, [`Data`] or a [`DecodeError`] out; no clock, no thread, no file.
//! A payload decides nothing about memory: every count of a header is checked against the bytes that are there and
//! against `[limits]` before anything is allocated, and a panic inside a format library costs its sample only.
//!
//! | stream | formats | reading |
//! |---|---|---|
//! | camera | JPEG, PNG | 8-bit RGB image |
//! | radar | `.npy` cube, range-angle map or point list | points in the unit frame and the map ([`radar`]) |
//! | LiDAR | PCD, PLY | points in the unit frame ([`lidar`]) |
//! | link power | `.npy`, JSON | linear power per beam |
//! | position | JSON | degrees, and metres in the unit frame |
//! | blocked | JSON | yes or no |

mod camera;
mod contain;
mod error;
pub mod lidar;
mod link;
pub mod npy;
mod position;
pub mod radar;

use std::sync::Arc;

use nalgebra::Isometry3;

use crate::config::{Limits, Pipeline};
use crate::sample::{Data, Format, Modality, RawSample};
use crate::space::{self, LocalFrame};

pub use error::DecodeError;
use radar::RadarDecoder;

/// Decodes the samples of one pipeline; shared by reference between worker threads.
///
/// The radar's FFT plans and buffers are kept from sample to sample, one set per thread that decodes at the same time.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    lidar_pose: Isometry3<f64>,
    radar: RadarDecoder,
    beams: Option<usize>,
    site: Option<LocalFrame>,
}

impl Decoder {
    /// Takes limits, poses, site, radar axes and the length of the codebook from a pipeline.
    #[must_use]
    pub fn new(pipeline: &Pipeline) -> Self {
        Self {
            limits: pipeline.limits,
            lidar_pose: space::sensor_to_unit(&pipeline.pose.lidar),
            radar: RadarDecoder::new(pipeline.radar, &pipeline.pose.radar, pipeline.limits.points),
            beams: pipeline.codebook.beams,
            site: pipeline.site.as_ref().map(LocalFrame::new),
        }
    }

    /// Decodes one sample.
    ///
    /// The format is the sender's word; without one the first bytes tell.
    ///
    /// # Errors
    /// [`DecodeError`] with what was found and what is allowed. Never panics, whatever the bytes are.
    pub fn decode(&self, raw: &RawSample) -> Result<Data, DecodeError> {
        let modality = raw.stream.modality();
        let allowed = self.limits.payload_bytes(modality);
        let found = raw.payload.len();
        if found > allowed {
            return Err(DecodeError::oversize("payload bytes", found, allowed));
        }
        let bytes = raw.payload.bytes();
        contain::contain(|| self.decode_bytes(modality, raw.format, &bytes))
            .unwrap_or_else(|message| Err(DecodeError::Panicked { decoder: modality.name(), message }))
    }

    fn decode_bytes(
        &self,
        modality: Modality,
        declared: Option<Format>,
        bytes: &[u8],
    ) -> Result<Data, DecodeError> {
        let format = match declared.or_else(|| sniff(modality, bytes)) {
            Some(format) if formats(modality).contains(&format) => format,
            Some(format) => return Err(unsupported(modality, format.media_type().to_owned())),
            None => return Err(unsupported(modality, first_bytes(bytes))),
        };
        match modality {
            Modality::Camera => {
                camera::decode(format, bytes, &self.limits).map(|image| Data::Image(Arc::new(image)))
            }
            Modality::Radar => self.radar.decode(bytes).map(|reading| Data::Radar(Arc::new(reading))),
            Modality::Lidar => {
                let table = lidar::read_table(format, bytes, self.limits.points, self.limits.lidar_bytes)?;
                table.into_cloud(&self.lidar_pose).map(|cloud| Data::Cloud(Arc::new(cloud)))
            }
            Modality::Link => {
                link::decode(format, bytes, self.beams).map(|power| Data::Power(Arc::new(power)))
            }
            Modality::Position => position::decode(bytes, self.site.as_ref()).map(Data::Position),
            Modality::Blocked => position::decode_blocked(bytes).map(Data::Blocked),
        }
    }
}

/// The formats that a modality comes in.
const fn formats(modality: Modality) -> &'static [Format] {
    match modality {
        Modality::Camera => &[Format::Jpeg, Format::Png],
        Modality::Radar => &[Format::Npy],
        Modality::Lidar => &[Format::Pcd, Format::Ply],
        Modality::Link => &[Format::Npy, Format::Json],
        Modality::Position | Modality::Blocked => &[Format::Json],
    }
}

/// The format that the first bytes show, among those of the modality.
fn sniff(modality: Modality, bytes: &[u8]) -> Option<Format> {
    formats(modality).iter().copied().find(|format| match format {
        Format::Jpeg => bytes.starts_with(&[0xff, 0xd8, 0xff]),
        Format::Png => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        Format::Npy => bytes.starts_with(npy::MAGIC),
        Format::Ply => bytes.trim_ascii_start().starts_with(b"ply"),
        Format::Pcd => lidar::looks_like_pcd(bytes),
        Format::Json => bytes.trim_ascii_start().starts_with(b"{"),
    })
}

fn unsupported(modality: Modality, found: String) -> DecodeError {
    let allowed: Vec<_> = formats(modality).iter().map(|format| format.media_type()).collect();
    DecodeError::Unsupported { what: modality.name(), found, allowed: allowed.join(" or ") }
}

fn first_bytes(bytes: &[u8]) -> String {
    match bytes.get(..8).unwrap_or(bytes) {
        [] => "an empty payload".to_owned(),
        start => format!("bytes that begin \"{}\"", start.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{CaptureSource, Stamps, Stream, UeId, UnitId};
    use crate::time::{CaptureTime, Moment};

    fn raw(stream: Stream, format: Option<Format>, payload: &[u8]) -> RawSample {
        let capture = CaptureTime::from_nanos(0);
        RawSample {
            unit: UnitId::new("rsu").unwrap(),
            stream,
            stamps: Stamps {
                capture,
                capture_source: CaptureSource::Arrival,
                sequence: None,
                arrival: Moment::at(capture),
                transport_ns: None,
            },
            format,
            payload: Arc::new(payload.to_vec()),
        }
    }

    const fn is_sync<T: Sync + Send>() {}

    #[test]
    fn a_decoder_is_shared_between_threads() {
        is_sync::<Decoder>();
    }

    #[test]
    fn the_sender_is_taken_at_its_word_and_else_the_bytes_tell() {
        let decoder = Decoder::new(&Pipeline::default());
        let json = br#"{"power":[1,2,3]}"#;
        let link = Stream::Link(UeId::implied());
        assert!(decoder.decode(&raw(link.clone(), None, json)).is_ok());
        assert!(decoder.decode(&raw(link.clone(), Some(Format::Json), json)).is_ok());
        let error = decoder.decode(&raw(link.clone(), Some(Format::Npy), json)).unwrap_err();
        assert_eq!(error.reason(), "malformed");
        let error = decoder.decode(&raw(link, Some(Format::Png), json)).unwrap_err();
        assert_eq!(error.reason(), "unsupported");
        let error = decoder.decode(&raw(Stream::Camera, None, b"GIF89a..")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "camera: found bytes that begin \"GIF89a..\", allowed is image/jpeg or image/png"
        );
    }

    #[test]
    fn a_payload_over_its_limit_is_not_looked_at() {
        let decoder = Decoder::new(&Pipeline::default());
        let error =
            decoder.decode(&raw(Stream::Blocked(UeId::implied()), None, &[b' '; 70_000])).unwrap_err();
        assert_eq!(error.reason(), "oversize");
        assert_eq!(error.to_string(), "payload bytes: found 70000, allowed are at most 65536");
    }
}
