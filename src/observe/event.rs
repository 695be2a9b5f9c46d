//! Events: each is a struct that knows its counter and its log line.
//!
//! Loss events log their first eight occurrences and then each time their count doubles, so that a hostile sender
//! cannot fill a disk with log lines; the counters in `health` stay exact.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Loss, Metrics, Place};
use crate::message::Mode;
use crate::sample::{Modality, UnitId};

/// Whether the `count`-th occurrence is worth a line.
const fn is_worth_a_line(count: u64) -> bool {
    count <= 8 || count.is_power_of_two()
}

/// A message on an input key was not accepted.
pub struct MessageRefused<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its modality, when the key is an input key.
    pub modality: Option<Modality>,
    /// Short reason.
    pub reason: &'static str,
    /// What was found and what is allowed.
    pub detail: &'a dyn Display,
}

impl MessageRefused<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let loss = Loss { place: Place::Ingest, modality: self.modality, reason: self.reason };
        let count = metrics.lost(loss, 1);
        if is_worth_a_line(count) {
            tracing::warn!(key = self.key, reason = self.reason, count, "message refused: {}", self.detail);
        }
    }
}

/// A waiting sample made room for a newer one.
pub struct SampleOverrun<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// Its modality.
    pub modality: Modality,
    /// How many.
    pub dropped: u64,
}

impl SampleOverrun<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let loss = Loss { place: Place::Ingest, modality: Some(self.modality), reason: "overrun" };
        let count = metrics.lost(loss, self.dropped);
        if is_worth_a_line(count) {
            tracing::warn!(unit = %self.unit, modality = %self.modality, count, "mailbox full: oldest sample dropped");
        }
    }
}

/// A payload could not be decoded.
pub struct SampleRejected<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// Its modality.
    pub modality: Modality,
    /// Short reason.
    pub reason: &'static str,
    /// What was found and what is allowed.
    pub detail: &'a dyn Display,
}

impl SampleRejected<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let loss = Loss { place: Place::Decode, modality: Some(self.modality), reason: self.reason };
        let count = metrics.lost(loss, 1);
        if is_worth_a_line(count) {
            tracing::warn!(
                unit = %self.unit, modality = %self.modality, reason = self.reason, count,
                "sample rejected: {}", self.detail
            );
        }
    }
}

/// The aligner turned a sample away.
pub struct SampleTurnedAway<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// Its modality.
    pub modality: Modality,
    /// Short reason.
    pub reason: &'static str,
}

impl SampleTurnedAway<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let loss = Loss { place: Place::Align, modality: Some(self.modality), reason: self.reason };
        let count = metrics.lost(loss, 1);
        if is_worth_a_line(count) {
            tracing::info!(unit = %self.unit, modality = %self.modality, reason = self.reason, count, "sample turned away");
        }
    }
}

/// A file of a recording is there but cannot be read.
pub struct FileUnreadable<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its modality.
    pub modality: Modality,
    /// Why.
    pub detail: &'a dyn Display,
}

impl FileUnreadable<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let loss = Loss { place: Place::Recording, modality: Some(self.modality), reason: "unreadable" };
        let count = metrics.lost(loss, 1);
        if is_worth_a_line(count) {
            tracing::warn!(file = %self.path.display(), count, "file unreadable: {}", self.detail);
        }
    }
}

/// A row of a recording's index cannot be read.
pub struct RowMalformed<'a> {
    /// The index.
    pub file: &'a str,
    /// Line, from 1.
    pub line: u64,
    /// Why.
    pub detail: &'a dyn Display,
}

impl RowMalformed<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let count =
            metrics.lost(Loss { place: Place::Recording, modality: None, reason: "malformed_row" }, 1);
        if is_worth_a_line(count) {
            tracing::warn!(file = self.file, line = self.line, count, "row skipped: {}", self.detail);
        }
    }
}

/// The model was late: an older frame made room for a newer one.
pub struct FrameOverrun<'a> {
    /// The unit.
    pub unit: &'a UnitId,
}

impl FrameOverrun<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let count = metrics.lost(Loss { place: Place::Infer, modality: None, reason: "overrun" }, 1);
        if is_worth_a_line(count) {
            tracing::warn!(unit = %self.unit, count, "model behind: frame skipped for a newer one");
        }
    }
}

/// A message could not be published.
pub struct PublishFailed<'a> {
    /// Its key.
    pub key: &'a str,
    /// Short reason.
    pub reason: &'static str,
    /// Why.
    pub detail: &'a dyn Display,
}

impl PublishFailed<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let count = metrics.lost(Loss { place: Place::Publish, modality: None, reason: self.reason }, 1);
        if is_worth_a_line(count) {
            tracing::warn!(
                key = self.key,
                reason = self.reason,
                count,
                "message not published: {}",
                self.detail
            );
        }
    }
}

/// A unit's mode changed.
pub struct ModeChanged<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// The mode it was in.
    pub from: Mode,
    /// The mode it is in now.
    pub to: Mode,
    /// Why it is not full.
    pub reasons: &'a [String],
}

/// Target of log lines about modes: of no interest where a recording goes down the road only to be learned from.
pub const MODE: &str = "mmsense::mode";

/// Keeps the log of mode changes to a line per second: a replay, or a loose cable, changes it far more often.
#[derive(Debug, Default)]
pub struct ModeLog {
    last: Option<Instant>,
    unsaid: u64,
}

impl ModeChanged<'_> {
    /// Logs it, if the last line is a second old.
    pub fn emit(&self, log: &mut ModeLog) {
        if log.last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            log.unsaid += 1;
            return;
        }
        log.last = Some(Instant::now());
        let unsaid = match std::mem::take(&mut log.unsaid) {
            0 => String::new(),
            count => format!(" ({count} changes before it were not logged)"),
        };
        let (from, to) = (self.from.name(), self.to.name());
        if self.to > self.from {
            let reasons = self.reasons.join("; ");
            tracing::warn!(target: MODE, unit = %self.unit, "mode {from} -> {to}: {reasons}{unsaid}");
        } else {
            tracing::info!(target: MODE, unit = %self.unit, "mode {from} -> {to}{unsaid}");
        }
    }
}

/// The model failed on a batch.
pub struct ModelFailed<'a> {
    /// Why.
    pub detail: &'a dyn Display,
}

impl ModelFailed<'_> {
    /// Counts and logs it.
    pub fn emit(&self, metrics: &Metrics) {
        let count = metrics.lost(Loss { place: Place::Infer, modality: None, reason: "model_failed" }, 1);
        if is_worth_a_line(count) {
            tracing::error!(count, "{}", self.detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_grow_with_the_logarithm() {
        assert_eq!((1..=1024).filter(|count| is_worth_a_line(*count)).count(), 15);
    }
}
