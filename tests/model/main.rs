//! The network: parts against reference implementations, the whole against its promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod backbone;
mod checkpoint;
mod fusion;
mod lora;
mod parity;
mod predictor;
mod scenes;
mod tokenizer;
