//! The degradation ladder: full → degraded → hold → unknown.

use std::collections::VecDeque;

use crate::frame::Frame;
use crate::infer::ModelError;
use crate::message::Mode;
use crate::time::{CaptureTime, Span};

/// The mode of one unit.
///
/// Each frame has a level of its own:
///
/// | frame | level |
/// |---|---|
/// | usable, model ok, nothing required missing | full |
/// | usable, model ok, something required missing | degraded |
/// | not usable or the model failed, last good frame at most `hold_ttl_ms` before | hold |
/// | the same, last good frame longer ago, or none yet | unknown |
///
/// The mode is the worst level of the last `recover_frames` frames: one bad frame takes it down at once, and only that
/// many good ones in a row bring it up. Before there are so many, it is the worst of those there are.
#[derive(Clone, Debug)]
pub struct Ladder {
    hold_ttl: Span,
    recover_frames: usize,
    recent: VecDeque<Mode>,
    last_good: Option<CaptureTime>,
    mode: Mode,
    reasons: Vec<String>,
}

impl Ladder {
    /// A ladder on which nothing is known yet.
    #[must_use]
    pub fn new(hold_ttl: Span, recover_frames: usize) -> Self {
        Self {
            hold_ttl,
            recover_frames: recover_frames.max(1),
            recent: VecDeque::new(),
            last_good: None,
            mode: Mode::Unknown,
            reasons: vec!["no frame yet".to_owned()],
        }
    }

    /// The mode after the last frame.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Why the mode is not full, one phrase each; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Takes in a frame and how the model fared on it; returns the mode after it.
    pub fn step(&mut self, frame: &Frame, failure: Option<&ModelError>) -> Mode {
        self.reasons.clear();
        let level = self.level(frame, failure);
        if self.recent.len() == self.recover_frames {
            self.recent.pop_front();
        }
        self.recent.push_back(level);
        self.mode = self.recent.iter().copied().max().unwrap_or(Mode::Unknown);
        if self.mode > level {
            let good = self.recent.iter().rev().take_while(|&&past| past < self.mode).count();
            self.reasons.push(format!("recovering: {good} of {} better frames", self.recover_frames));
        }
        self.mode
    }

    fn level(&mut self, frame: &Frame, failure: Option<&ModelError>) -> Mode {
        if frame.is_usable() && failure.is_none() {
            self.last_good = Some(frame.time);
            let missing = frame.missing_required.iter();
            self.reasons.extend(missing.map(|modality| format!("required {modality} is missing")));
            return if frame.missing_required.is_empty() { Mode::Full } else { Mode::Degraded };
        }
        if !frame.is_usable() {
            self.reasons.push("nothing was sensed".to_owned());
        }
        self.reasons.extend(failure.map(ToString::to_string));
        // A good frame that lies ahead belongs to a clock that has been set back: it vouches for nothing.
        let age = self.last_good.map(|good| frame.time - good);
        match age {
            Some(age) if age >= Span::ZERO && age <= self.hold_ttl => Mode::Hold,
            _ => Mode::Unknown,
        }
    }
}
