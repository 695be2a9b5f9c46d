//! Losses, Eq. 14 and the optimiser against finite differences and plain formulas.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod archives;
mod beginnings;
mod bounds;
mod commands;
mod learning;
mod losses;
mod optimiser;
mod partial;
mod report;
mod shipped;
mod splits;
mod support;
mod uncertainty;
