//! Publishes a recording on the input keys, each sample at its own time.
//!
//! One constant is added to all stamps of the recording (first = now; each loop adds its length and one period), so
//! that the offsets between the sensors stay exact.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde::Serialize;
use zenoh::bytes::Encoding;
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::{Session, Wait};

use super::{Failure, text};
use crate::ingest::Attachment;
use crate::ingest::clock::system_time;
use crate::recording::{LoadError, RecordedSample, Recording};
use crate::sample::{Format, Modality, Stream, UnitId};
use crate::time::CaptureTime;

/// What a replay published.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    pub(super) published: BTreeMap<Modality, u64>,
    pub(super) absent: BTreeMap<Modality, u64>,
    pub(super) unreadable: BTreeMap<Modality, u64>,
    pub(super) loops: u64,
    pub(super) seconds: f64,
}

/// Puts samples of a recording on the wire.
pub(super) struct Sender<'a> {
    recording: &'a Recording,
    session: &'a Session,
    unit: &'a UnitId,
    publishers: BTreeMap<Stream, Publisher<'static>>,
    reported: BTreeSet<PathBuf>,
    sequence: u64,
    summary: Sent,
}

impl<'a> Sender<'a> {
    /// A sender of `recording`'s samples for `unit`.
    pub(super) const fn new(recording: &'a Recording, session: &'a Session, unit: &'a UnitId) -> Self {
        Self {
            recording,
            session,
            unit,
            publishers: BTreeMap::new(),
            reported: BTreeSet::new(),
            sequence: 0,
            summary: Sent {
                published: BTreeMap::new(),
                absent: BTreeMap::new(),
                unreadable: BTreeMap::new(),
                loops: 0,
                seconds: 0.0,
            },
        }
    }

    fn publisher(&mut self, stream: &Stream) -> Result<&Publisher<'static>, Failure> {
        if !self.publishers.contains_key(stream) {
            let publisher = self
                .session
                .declare_publisher(format!("mmsense/{}/v1/{}", self.unit, stream.key()))
                .congestion_control(CongestionControl::Block)
                .wait()
                .map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
            self.publishers.insert(stream.clone(), publisher);
        }
        self.publishers.get(stream).ok_or_else(|| Failure::Failed("no publisher".to_owned()))
    }

    /// Gives a pipeline two seconds to be there; without one, publishing goes on unheard, and that is said. False
    /// when told to stop.
    pub(super) fn wait_for_subscriber(
        &mut self,
        samples: &[RecordedSample],
        stop: &Receiver<()>,
    ) -> Result<bool, Failure> {
        let Some(first) = samples.first() else { return Ok(true) };
        let key = format!("mmsense/{}/v1/{}", self.unit, first.stream.key());
        let publisher = self.publisher(&first.stream)?;
        for _ in 0..40 {
            let status = publisher
                .matching_status()
                .wait()
                .map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
            if status.matching() {
                return Ok(true);
            }
            if stop.recv_timeout(Duration::from_millis(50)).is_ok() {
                return Ok(false);
            }
        }
        text::progress(format!("nobody subscribes to {key}: publishing all the same"));
        Ok(true)
    }

    /// Publishes the samples, each at its time, until their end (with `repeat` again and again) or until told to stop.
    /// `rate` is the speed, 0 as fast as possible; `sent` is called after each.
    pub(super) fn publish_all(
        &mut self,
        samples: &[RecordedSample],
        rate: f64,
        repeat: bool,
        stop: &Receiver<()>,
        mut sent: impl FnMut(&Sent),
    ) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(()) };
        let (first, length) = (first.capture, last.capture - first.capture + self.recording.period());
        let (begun, shift) = (Instant::now(), system_time() - first);
        loop {
            let lap = length * i64::try_from(self.summary.loops).unwrap_or(i64::MAX);
            for sample in samples {
                let Some((format, bytes)) = self.load(sample) else { continue };
                let since_first = sample.capture - first + lap;
                let due = if rate > 0.0 {
                    begun + Duration::from_secs_f64((since_first.as_secs_f64() / rate).max(0.0))
                } else {
                    begun
                };
                match stop.recv_deadline(due) {
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Err(RecvTimeoutError::Timeout) => {}
                }
                self.publish(sample, sample.capture + shift + lap, format, bytes)?;
                sent(&self.summary);
            }
            self.summary.loops += 1;
            if !repeat {
                return Ok(());
            }
        }
    }

    /// What has been published, with the time since `started`.
    pub(super) fn finish(self, started: Instant) -> Sent {
        Sent { seconds: started.elapsed().as_secs_f64(), ..self.summary }
    }

    fn load(&mut self, sample: &RecordedSample) -> Option<(Format, Vec<u8>)> {
        let modality = sample.stream.modality();
        match self.recording.load(sample) {
            Ok(loaded) => Some(loaded),
            Err(LoadError::Absent { .. }) => {
                *self.summary.absent.entry(modality).or_default() += 1;
                None
            }
            Err(error) => {
                *self.summary.unreadable.entry(modality).or_default() += 1;
                if self.reported.len() < 8 && self.reported.insert(sample.path().to_owned()) {
                    tracing::warn!("{error}");
                }
                None
            }
        }
    }

    fn publish(
        &mut self,
        sample: &RecordedSample,
        capture: CaptureTime,
        format: Format,
        bytes: Vec<u8>,
    ) -> Result<(), Failure> {
        let attachment = Attachment { capture, sequence: self.sequence }.to_bytes();
        self.publisher(&sample.stream)?
            .put(bytes)
            .encoding(Encoding::from(format.media_type()))
            .attachment(attachment.as_slice())
            .wait()
            .map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
        self.sequence += 1;
        *self.summary.published.entry(sample.stream.modality()).or_default() += 1;
        Ok(())
    }
}
