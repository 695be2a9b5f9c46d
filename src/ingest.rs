//! Ingest: bytes in, stamped.
//!
//! In a zenoh callback nothing happens but this: the key says which stream, the size is checked, the clocks are read,
//! and the sample goes into our own [`mailbox`], which keeps the newest and counts what it drops. So a slow
//! pipeline never holds up zenoh's receive thread, and one flooded stream never costs another one a sample.

pub mod clock;
pub mod mailbox;
pub mod network;

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::Limits;
use crate::observe::Metrics;
use crate::observe::event::{MessageRefused, SampleOverrun};
use crate::sample::{Bytes, CaptureSource, Format, RawSample, Stamps, Stream, UnitId};
use crate::time::CaptureTime;

use clock::Clock;
use mailbox::{Full, Mailboxes};

/// Capture time and running number of an input, as its 16-byte attachment carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// When the world looked like this, on the sensor's clock.
    pub capture: CaptureTime,
    /// The sender's running number.
    pub sequence: u64,
}

impl Attachment {
    /// `i64` capture time in nanoseconds, `u64` sequence number, little endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (capture, sequence) = bytes.split_at_mut(8);
        capture.copy_from_slice(&self.capture.as_nanos().to_le_bytes());
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    /// Reads the 16 bytes; `None` when there are more or fewer.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        let (capture, sequence) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            capture: CaptureTime::from_nanos(i64::from_le_bytes(*capture)),
            sequence: u64::from_le_bytes(sequence.try_into().ok()?),
        })
    }
}

/// A message as a transport hands it over.
pub struct Incoming<'a> {
    /// The whole key, `mmsense/<unit>/v1/...`.
    pub key: &'a str,
    /// Media type, where the sender gave one.
    pub media_type: Option<Cow<'a, str>>,
    /// The bytes.
    pub payload: Arc<dyn Bytes>,
    /// The attachment, where there is one.
    pub attachment: Option<Cow<'a, [u8]>>,
    /// The transport's own time stamp, nanoseconds since the Unix epoch.
    pub transport_ns: Option<i64>,
}

/// The gate between a transport and the mailboxes: stamp, check, push.
pub struct Gate {
    limits: Limits,
    clock: Arc<Clock>,
    mailboxes: Arc<Mailboxes>,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// A gate in front of `mailboxes`.
    #[must_use]
    pub fn new(limits: Limits, clock: Arc<Clock>, mailboxes: Arc<Mailboxes>, metrics: Arc<Metrics>) -> Self {
        Self { limits, clock, mailboxes, metrics }
    }

    /// Takes one message; whatever is wrong with it is counted and costs nothing else.
    pub fn take(&self, message: Incoming<'_>) {
        let refuse = |stream: Option<&Stream>, reason, detail: &dyn std::fmt::Display| {
            MessageRefused { key: message.key, modality: stream.map(Stream::modality), reason, detail }
                .emit(&self.metrics);
        };
        let Some((unit, stream)) = parse_key(message.key) else {
            return refuse(
                None,
                "unknown_key",
                &"allowed are mmsense/<unit>/v1/ sensor/{camera,radar,lidar}, ue/<ue>/link/{power,blocked}, ue/<ue>/position",
            );
        };
        self.metrics.received(stream.modality());
        let size = message.payload.len();
        let limit = self.limits.payload_bytes(stream.modality());
        if size > limit {
            let detail = format!("found {size} bytes, allowed are {limit}");
            return refuse(Some(&stream), "oversize", &detail);
        }
        let format = match &message.media_type {
            None => None,
            Some(media_type) => match Format::from_media_type(media_type) {
                Some(format) => Some(format),
                None => {
                    let shown: String = media_type.chars().take(80).collect();
                    return refuse(Some(&stream), "encoding", &format!("encoding `{shown}` is none of ours"));
                }
            },
        };
        let attachment = match &message.attachment {
            None => None,
            Some(bytes) => match Attachment::from_bytes(bytes) {
                Some(attachment) => Some(attachment),
                None => {
                    let detail =
                        format!("found {} bytes, allowed are 16: i64 capture ns, u64 sequence", bytes.len());
                    return refuse(Some(&stream), "attachment", &detail);
                }
            },
        };
        let (capture, capture_source) = match (attachment, message.transport_ns) {
            (Some(attachment), _) => (Some(attachment.capture), CaptureSource::Attachment),
            (None, Some(nanos)) => (Some(CaptureTime::from_nanos(nanos)), CaptureSource::Transport),
            (None, None) => (None, CaptureSource::Arrival),
        };
        let arrival = self.clock.arrival(capture);
        let raw = RawSample {
            unit,
            stream,
            stamps: Stamps {
                capture: capture.unwrap_or(arrival.unix),
                capture_source,
                sequence: attachment.map(|attachment| attachment.sequence),
                arrival,
                transport_ns: message.transport_ns,
            },
            format,
            payload: message.payload,
        };
        let (unit, modality) = (raw.unit.clone(), raw.stream.modality());
        match self.mailboxes.push(raw) {
            Ok(0) => {}
            Ok(dropped) => SampleOverrun { unit: &unit, modality, dropped }.emit(&self.metrics),
            Err(Full::Streams { limit }) => {
                MessageRefused {
                    key: message.key,
                    modality: Some(modality),
                    reason: "stream_limit",
                    detail: &format!("{limit} streams have waiting samples already"),
                }
                .emit(&self.metrics);
            }
            Err(Full::Closed) => {}
        }
    }
}

/// Unit and stream of an input key.
fn parse_key(key: &str) -> Option<(UnitId, Stream)> {
    let (unit, rest) = key.strip_prefix("mmsense/")?.split_once('/')?;
    let stream = Stream::from_key(rest.strip_prefix("v1/")?)?;
    Some((UnitId::new(unit).ok()?, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limits: Limits) -> (Gate, Arc<Mailboxes>, Arc<Metrics>) {
        let mailboxes = Arc::new(Mailboxes::new(mailbox::Capacity { items: 2, bytes: 1 << 20, streams: 8 }));
        let metrics = Arc::new(Metrics::default());
        let clock = Arc::new(Clock::system());
        (Gate::new(limits, clock, mailboxes.clone(), metrics.clone()), mailboxes, metrics)
    }

    fn take(mailboxes: &Mailboxes) -> RawSample {
        let sample = mailboxes.pop().unwrap();
        mailboxes.release((sample.unit.clone(), sample.stream.clone()));
        sample
    }

    fn incoming(key: &str, size: usize) -> Incoming<'_> {
        Incoming {
            key,
            media_type: None,
            payload: Arc::new(vec![0u8; size]),
            attachment: None,
            transport_ns: None,
        }
    }

    fn losses(metrics: &Metrics) -> Vec<(String, u64)> {
        metrics.losses().into_iter().map(|(loss, count)| (loss.key(), count)).collect()
    }

    #[test]
    fn an_attachment_round_trips() {
        let attachment = Attachment { capture: CaptureTime::from_nanos(-5), sequence: 7 };
        let bytes = attachment.to_bytes();
        assert_eq!(bytes[0], 0xfb);
        assert_eq!(bytes[8], 7);
        assert_eq!(Attachment::from_bytes(&bytes), Some(attachment));
        assert_eq!(Attachment::from_bytes(&bytes[..15]), None);
    }

    #[test]
    fn capture_time_comes_from_the_best_source_there_is() {
        let (gate, mailboxes, _) = gate(Limits::default());
        let key = "mmsense/u/v1/sensor/camera";
        let stamp = Attachment { capture: CaptureTime::from_nanos(42), sequence: 9 }.to_bytes();
        gate.take(Incoming {
            attachment: Some(Cow::Borrowed(&stamp)),
            transport_ns: Some(7),
            ..incoming(key, 1)
        });
        let raw = take(&mailboxes);
        assert_eq!(raw.stamps.capture.as_nanos(), 42);
        assert_eq!((raw.stamps.capture_source, raw.stamps.sequence), (CaptureSource::Attachment, Some(9)));
        gate.take(Incoming { transport_ns: Some(7), ..incoming(key, 1) });
        let raw = take(&mailboxes);
        assert_eq!((raw.stamps.capture.as_nanos(), raw.stamps.capture_source), (7, CaptureSource::Transport));
        gate.take(incoming(key, 1));
        let raw = take(&mailboxes);
        assert_eq!(
            (raw.stamps.capture, raw.stamps.capture_source),
            (raw.stamps.arrival.unix, CaptureSource::Arrival)
        );
    }

    #[test]
    fn what_does_not_fit_is_counted_by_reason_and_costs_nothing_else() {
        let (gate, mailboxes, metrics) = gate(Limits { ue_bytes: 10, ..Limits::default() });
        gate.take(incoming("mmsense/u/v1/sensor/sonar", 1));
        gate.take(incoming("mmsense/u/v2/sensor/camera", 1));
        gate.take(incoming("mmsense/u/v1/ue/0/position", 11));
        gate.take(Incoming {
            attachment: Some(Cow::Borrowed(&[1, 2])),
            ..incoming("mmsense/u/v1/sensor/radar", 1)
        });
        gate.take(Incoming {
            media_type: Some("text/html".into()),
            ..incoming("mmsense/u/v1/sensor/lidar", 1)
        });
        gate.take(incoming("mmsense/u/v1/ue/0/position", 10));
        assert_eq!(
            losses(&metrics),
            [
                ("ingest/unknown_key".to_owned(), 2),
                ("ingest/radar/attachment".to_owned(), 1),
                ("ingest/lidar/encoding".to_owned(), 1),
                ("ingest/position/oversize".to_owned(), 1),
            ]
        );
        assert_eq!(take(&mailboxes).stream.key(), "ue/0/position");
    }

    #[test]
    fn a_full_mailbox_keeps_the_newest_and_counts() {
        let (gate, mailboxes, metrics) = gate(Limits::default());
        for size in 1..=5 {
            gate.take(incoming("mmsense/u/v1/sensor/camera", size));
        }
        assert_eq!(losses(&metrics), [("ingest/camera/overrun".to_owned(), 3)]);
        assert_eq!(take(&mailboxes).payload.len(), 4);
        assert_eq!(take(&mailboxes).payload.len(), 5);
    }
}
