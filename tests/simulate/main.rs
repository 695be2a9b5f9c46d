//! The simulator: one truck in every file, the same bytes from every number of threads, and errors that help.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod command;
mod consistency;
mod people;
mod recording;
mod scenes;
mod support;
