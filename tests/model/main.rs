//! The network: parts against reference implementations, the whole against its promises.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod baselines;
mod fusion;
mod parity;
mod predictor;
mod scenes;
