//! Observe: what happened, counted and said.
//!
//! Everything worth knowing is a named event ([`event`]); an event counts itself in [`Metrics`] and writes its log
//! line. Log levels are chosen by who reads them: `error` for what the operator must act on, `warn` for data that was
//! lost, `info` for what the program does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::message::StageLatency;
use crate::sample::Modality;

pub mod event;

/// Locks a mutex whose data stay valid even when a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stage of the road, as far as its latency is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Bytes to arrays, per sample.
    Decode,
    /// Last arrival to closed frame, per frame: includes the wait for slower sensors.
    Align,
    /// Window to probabilities, per batch.
    Infer,
    /// Probabilities to messages, per frame.
    Decide,
    /// Messages to the transport, per frame, with the wait in the queue.
    Publish,
    /// Last arrival to the last message of its frame on the wire.
    Total,
}

impl Stage {
    /// Every stage, in the order of the road.
    pub const ALL: [Self; 6] =
        [Self::Decode, Self::Align, Self::Infer, Self::Decide, Self::Publish, Self::Total];

    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Align => "align",
            Self::Infer => "infer",
            Self::Decide => "decide",
            Self::Publish => "publish",
            Self::Total => "total",
        }
    }
}

/// Where something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A file of a recording.
    Recording,
    /// Before the mailbox.
    Ingest,
    /// In the decoder.
    Decode,
    /// In the aligner.
    Align,
    /// Before the model.
    Infer,
    /// Before the wire.
    Publish,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Ingest => "ingest",
            Self::Decode => "decode",
            Self::Align => "align",
            Self::Infer => "infer",
            Self::Publish => "publish",
        }
    }
}

/// What was lost, where and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loss {
    /// Where.
    pub place: Place,
    /// Of which modality; `None` for frames, messages and unknown keys.
    pub modality: Option<Modality>,
    /// Short reason, one word with underscores.
    pub reason: &'static str,
}

impl Loss {
    /// `place/modality/reason`, as it stands in `health`.
    #[must_use]
    pub fn key(&self) -> String {
        match self.modality {
            Some(modality) => format!("{}/{modality}/{}", self.place.name(), self.reason),
            None => format!("{}/{}", self.place.name(), self.reason),
        }
    }

    /// Whether data was lost that was meant to be used; a duplicate or a late sample is turned away by design.
    #[must_use]
    pub const fn is_data_loss(&self) -> bool {
        !matches!(self.place, Place::Align)
    }
}

struct StageHistograms {
    interval: Histogram<u64>,
    total: Histogram<u64>,
}

/// Counters and latencies of one process. Shared by every stage; all methods take `&self`.
pub struct Metrics {
    losses: Mutex<BTreeMap<Loss, u64>>,
    received: [AtomicU64; Modality::ALL.len()],
    frames: AtomicU64,
    stages: [Mutex<StageHistograms>; Stage::ALL.len()],
}

const LONGEST_NANOS: u64 = 60_000_000_000;

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || {
            // 2 significant digits up to a minute; `new` is the fallback that needs no bounds.
            Histogram::new_with_bounds(1, LONGEST_NANOS, 2)
                .unwrap_or_else(|_| unreachable!("the bounds are constant and valid"))
        };
        Self {
            losses: Mutex::default(),
            received: Default::default(),
            frames: AtomicU64::new(0),
            stages: std::array::from_fn(|_| {
                Mutex::new(StageHistograms { interval: histogram(), total: histogram() })
            }),
        }
    }
}

impl Metrics {
    /// Counts a loss; returns how often it has happened, this time included.
    pub fn lost(&self, loss: Loss, count: u64) -> u64 {
        let mut losses = lock(&self.losses);
        let total = losses.entry(loss).or_default();
        *total += count;
        *total
    }

    /// Counts a sample that reached us, accepted or not.
    pub fn received(&self, modality: Modality) {
        if let Some(counter) = self.received.get(modality as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a decided frame.
    pub fn frame(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// Decided frames so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Notes how long a stage took.
    pub fn took(&self, stage: Stage, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).clamp(1, LONGEST_NANOS);
        if let Some(histograms) = self.stages.get(stage as usize) {
            let mut histograms = lock(histograms);
            histograms.interval.saturating_record(nanos);
            histograms.total.saturating_record(nanos);
        }
    }

    /// Every loss so far by `place/modality/reason`.
    #[must_use]
    pub fn losses(&self) -> BTreeMap<Loss, u64> {
        lock(&self.losses).clone()
    }

    /// Samples received so far by modality; modalities without any are left out.
    #[must_use]
    pub fn received_by_modality(&self) -> BTreeMap<Modality, u64> {
        Modality::ALL
            .into_iter()
            .zip(&self.received)
            .map(|(modality, count)| (modality, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Latencies since the last call.
    #[must_use]
    pub fn take_interval(&self) -> BTreeMap<String, StageLatency> {
        self.latencies(|histograms| {
            let latency = summarise(&histograms.interval);
            histograms.interval.reset();
            latency
        })
    }

    /// Latencies since the start.
    #[must_use]
    pub fn since_start(&self) -> BTreeMap<String, StageLatency> {
        self.latencies(|histograms| summarise(&histograms.total))
    }

    fn latencies(
        &self,
        mut read: impl FnMut(&mut StageHistograms) -> Option<StageLatency>,
    ) -> BTreeMap<String, StageLatency> {
        Stage::ALL
            .into_iter()
            .zip(&self.stages)
            .filter_map(|(stage, histograms)| {
                read(&mut lock(histograms)).map(|latency| (stage.name().to_owned(), latency))
            })
            .collect()
    }
}

fn summarise(histogram: &Histogram<u64>) -> Option<StageLatency> {
    (!histogram.is_empty()).then(|| StageLatency {
        p50_ms: histogram.value_at_quantile(0.50) as f64 / 1e6,
        p99_ms: histogram.value_at_quantile(0.99) as f64 / 1e6,
        count: histogram.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_read_once_and_the_total_stays() {
        let metrics = Metrics::default();
        metrics.took(Stage::Infer, Duration::from_millis(2));
        let interval = metrics.take_interval();
        assert_eq!(interval.keys().collect::<Vec<_>>(), ["infer"]);
        assert!((interval["infer"].p50_ms - 2.0).abs() < 0.05);
        assert!(metrics.take_interval().is_empty());
        assert_eq!(metrics.since_start()["infer"].count, 1);
    }

    #[test]
    fn losses_are_counted_by_reason() {
        let metrics = Metrics::default();
        let loss = Loss { place: Place::Decode, modality: Some(Modality::Radar), reason: "wrong_dtype" };
        assert_eq!(metrics.lost(loss, 1), 1);
        assert_eq!(metrics.lost(loss, 2), 3);
        assert_eq!(metrics.losses().keys().next().unwrap().key(), "decode/radar/wrong_dtype");
    }
}
