//! The network: parts against reference implementations, the whole against its promises.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod fusion;
mod parity;
mod points;
mod predictor;
mod scenes;
