//! The network: parts against reference implementations, the whole against its promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod alone;
mod backbone;
mod baselines;
mod checkpoint;
mod fusion;
mod lora;
mod network;
mod ops;
mod points;
mod predictor;
mod resnet;
mod scenes;
mod stored;
mod tokenizer;
