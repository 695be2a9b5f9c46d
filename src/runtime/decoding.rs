//! The decode threads.

use std::time::Instant;

use super::Decoded;
use crate::decode::Decoder;
use crate::observe::event::SampleRejected;
use crate::observe::{Metrics, Stage};
use crate::sample::{RawSample, Sample};

/// Decodes `samples` (ticket, real time of arrival, bytes) until they end or `pass_on` says that nobody takes them.
pub(super) fn run(
    samples: impl Iterator<Item = (u64, Instant, RawSample)>,
    decoder: &Decoder,
    pass_on: impl Fn(Decoded) -> bool,
    metrics: &Metrics,
) {
    for (ticket, received, raw) in samples {
        let begun = Instant::now();
        let sample = match decoder.decode(&raw) {
            Ok(data) => Some(Sample { unit: raw.unit.clone(), stream: raw.stream, stamps: raw.stamps, data }),
            Err(error) => {
                SampleRejected {
                    unit: &raw.unit,
                    modality: raw.stream.modality(),
                    reason: error.reason(),
                    detail: &error,
                }
                .emit(metrics);
                None
            }
        };
        metrics.took(Stage::Decode, begun.elapsed());
        let arrival = raw.stamps.arrival;
        if !pass_on(Decoded { ticket, unit: raw.unit, arrival, received, sample }) {
            return;
        }
    }
}
