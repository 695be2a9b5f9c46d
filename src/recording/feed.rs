//! A recording as the source of a pipeline.

use std::sync::Arc;

use super::{LoadError, RecordedSample, Recording};
use crate::config::{Pipeline, Site};
use crate::observe::Metrics;
use crate::observe::event::FileUnreadable;
use crate::sample::{RawSample, Stamps};
use crate::time::{Moment, Span};

/// Takes from the recording what the pipeline file leaves open: the number of beams and where the unit stands.
pub fn fill_in(pipeline: &mut Pipeline, recording: &Recording) {
    if pipeline.codebook.beams.is_none() {
        pipeline.codebook.beams = recording.beams();
    }
    if pipeline.site.is_none()
        && let Some((latitude, longitude)) = recording.site()
    {
        pipeline.site = Some(Site { latitude, longitude, altitude_m: 0.0, heading_deg: 0.0 });
    }
}

/// The samples of a recording in capture order, loaded one by one. A missing file is the normal case and is passed
/// over; an unreadable one is reported and counted.
pub struct Feed {
    recording: Recording,
    next: usize,
    latency: Span,
    metrics: Arc<Metrics>,
}

impl Feed {
    /// A feed whose samples arrive `latency` after their capture.
    pub fn new(recording: Recording, latency: Span, metrics: Arc<Metrics>) -> Self {
        Self { recording, next: 0, latency, metrics }
    }
}

impl Iterator for Feed {
    type Item = RawSample;

    fn next(&mut self) -> Option<RawSample> {
        loop {
            let recorded = self.recording.samples().get(self.next)?;
            self.next += 1;
            let (format, bytes) = match self.recording.load(recorded) {
                Ok(loaded) => loaded,
                Err(LoadError::Absent { .. }) => continue,
                Err(error) => {
                    let modality = recorded.stream.modality();
                    FileUnreadable { path: recorded.path(), modality, detail: &error }.emit(&self.metrics);
                    continue;
                }
            };
            let RecordedSample { row, stream, capture, capture_source, .. } = recorded.clone();
            return Some(RawSample {
                unit: self.recording.unit().clone(),
                stream,
                stamps: Stamps {
                    capture,
                    capture_source,
                    sequence: u64::try_from(row).ok(),
                    arrival: Moment::at(capture + self.latency),
                    transport_ns: None,
                },
                format: Some(format),
                payload: Arc::new(bytes),
            });
        }
    }
}
