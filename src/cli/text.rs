//! The only place that writes to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use super::Failure;

/// A result, on stdout. A reader that has gone away is no failure.
pub(super) fn result(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A result as one line of JSON, on stdout.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(Failure::failed)?;
    result(line);
    Ok(())
}

/// Progress, on stderr.
pub(super) fn progress(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Why a command failed, on stderr, each line marked.
pub(super) fn error(error: &Failure) {
    let mut stderr = std::io::stderr().lock();
    for line in error.to_string().lines() {
        let _ = writeln!(stderr, "error: {line}");
    }
}
