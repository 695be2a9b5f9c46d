//! Recordings: each trap of the layout, and the real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it skips"
)]

mod deepsense;
mod synthetic;
