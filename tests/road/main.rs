//! The whole road, one file per promise: samples go in over zenoh or from a recording, messages come out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod access;
mod command;
mod faults;
mod ladder;
mod replay;
mod scenarios;
mod support;
mod users;
mod wire;
