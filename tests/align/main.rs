//! The promises of the aligner, real stamps, and scenes one by one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it skips"
)]

mod promises;
mod radiate;
mod scenes;
mod support;
