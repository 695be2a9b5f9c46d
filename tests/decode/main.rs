//! Payloads of every kind, real files, and radar processing against known answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it skips"
)]

mod clouds;
mod radar;
mod radiate;
mod support;
