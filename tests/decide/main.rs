//! Modes, warnings, beams and scores, and the schemas of what is said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it skips"
)]

mod ladder;
mod properties;
mod scenes;
mod schemas;
mod score;
