//! What a network cannot be asked about.

use candle_core::Error;

use super::checkpoint::inside;

/// An input that has nothing in it, or numbers that are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A row in which everything is missing.
    #[error("row {row} of {rows} has no token that counts, allowed is one or more")]
    Blind {
        /// The row.
        row: usize,
        /// How many there are.
        rows: usize,
    },
    /// A point that is NaN or infinite.
    #[error("cloud {cloud}, point {point}: found {found}, allowed are finite coordinates")]
    Point {
        /// The cloud.
        cloud: usize,
        /// The point in it.
        point: usize,
        /// Its coordinates.
        found: String,
    },
    /// A feature of a point that is NaN or infinite.
    #[error("features of point {point}: found {found}, allowed are finite numbers")]
    Feature {
        /// The point, counted over all clouds.
        point: usize,
        /// What it is.
        found: String,
    },
    /// Numbers on the way through the network that are NaN or infinite.
    #[error("{what}: found numbers that are not finite")]
    NotFinite {
        /// Which.
        what: &'static str,
    },
}

impl InputError {
    /// The typed error inside one of candle's, where there is one.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        inside(error)
    }
}

/// Of candle's variants, that of I/O shows what it wraps as it is and gives it back ([`InputError::of`]).
impl From<InputError> for Error {
    fn from(error: InputError) -> Self {
        Self::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}
