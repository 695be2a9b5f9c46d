//! Reports: a run's training curves and what its network, and others beside it, are worth, as a page to look at.

pub mod evaluation;

use std::path::PathBuf;

pub use evaluation::{Evaluation, Measured, VERSION};

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file that cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is no evaluation, or one of another version.
    #[error("{}: {reason}", file.display())]
    Evaluation {
        /// The file.
        file: PathBuf,
        /// What was found and what is allowed.
        reason: String,
    },
}
