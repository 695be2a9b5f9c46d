//! A recording as the source of a pipeline.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{LoadError, RecordedSample, Recording};
use crate::config::{Pipeline, Site};
use crate::observe::Metrics;
use crate::observe::event::{FileUnreadable, RowMalformed};
use crate::sample::{Modality, RawSample, Stamps};
use crate::time::{Moment, Span};

/// Files of each modality that a recording names but that are not there.
pub type Absent = BTreeMap<Modality, u64>;

/// Takes from the recording what the pipeline file leaves open: the number of beams, whether they go round, where the
/// unit stands. Of `align.reference`, the modality that the recording has most files of comes first (in the order of
/// the file where several have as many), so that the rows are decided although one modality has holes.
/// Returns what is absent.
pub fn fill_in(pipeline: &mut Pipeline, recording: &Recording) -> Absent {
    if pipeline.codebook.beams.is_none() {
        pipeline.codebook.beams = recording.beams();
        pipeline.codebook.circular |= recording.power_arrays() > 1;
    }
    if pipeline.site.is_none()
        && let Some((latitude, longitude)) = recording.site()
    {
        pipeline.site = Some(Site { latitude, longitude, altitude_m: 0.0, heading_deg: 0.0 });
    }
    let (mut present, mut absent) = (BTreeMap::<Modality, u64>::new(), Absent::new());
    for sample in recording.samples() {
        let counts = if sample.path().exists() { &mut present } else { &mut absent };
        *counts.entry(sample.stream.modality()).or_default() += 1;
    }
    let count = |modality: &Modality| present.get(modality).copied().unwrap_or(0);
    pipeline.align.reference.sort_by_key(|modality| Reverse(count(modality)));
    absent
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
        for row in recording.malformed() {
            RowMalformed { file: &row.file, line: row.line, detail: &row.reason }.emit(&metrics);
        }
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
