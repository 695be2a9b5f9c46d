//! How far a command has come: a bar on a terminal, elsewhere a line every five seconds.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::text;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar on stderr; it is gone when this is.
pub(super) struct Progress {
    bar: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self { bar: ProgressBar::new(0), last_line: Mutex::new(Instant::now()) }
    }

    /// A bar with a line of text behind it.
    pub(super) fn with_text() -> Self {
        let progress = Self::new();
        // Given up where the pattern is wrong, which it is not: a bar without text is a bar.
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}") {
            progress.bar.set_style(style);
        }
        progress
    }

    /// So much is done; `line` tells it where there is no terminal.
    pub(super) fn show(&self, done: u64, all: u64, line: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_length(all);
            self.bar.set_position(done);
            return;
        }
        let mut last_line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= LINE_EVERY {
            *last_line = Instant::now();
            text::progress(line());
        }
    }

    /// So much is done, and this is how it stands: behind the bar, or as a line of its own.
    pub(super) fn tell(&self, done: u64, all: u64, how: impl Display, line: impl Display) {
        if self.bar.is_hidden() {
            text::progress(line);
            return;
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.set_message(how.to_string());
    }

    /// A line that stays, above the bar.
    pub(super) fn say(&self, line: impl Display) {
        self.bar.suspend(|| text::progress(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
