//! What can be wrong with a checkpoint.

use std::path::PathBuf;

/// What is wrong with a checkpoint, with the file and the tensor.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read.
    #[error("{}: cannot read it: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot write it: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is shorter or longer than its header claims.
    #[error("{}: has {found} bytes, its header claims {claimed}", file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that its header claims.
        claimed: u64,
    },
    /// A header is not one of safetensors.
    #[error("{}: not a safetensors header: {reason}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A list of shards is wrong.
    #[error("{}: not an index of shards: {reason}", file.display())]
    Index {
        /// The list.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard that the list names is not there.
    #[error("{}: its shard {} is not there", index.display(), shard.display())]
    ShardMissing {
        /// The list.
        index: PathBuf,
        /// The shard.
        shard: PathBuf,
    },
    /// A tensor that the model needs is not there.
    #[error("{}: tensor `{name}` is missing", file.display())]
    Missing {
        /// The tensor.
        name: String,
        /// The weight file, or the index of shards.
        file: PathBuf,
    },
    /// A tensor has another shape than the model needs.
    #[error("{}: tensor `{name}` has shape {found:?}, the model needs {wanted:?}", file.display())]
    Shape {
        /// The tensor.
        name: String,
        /// The file.
        file: PathBuf,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that the model needs.
        wanted: Vec<usize>,
    },
    /// A tensor does not hold floating-point numbers.
    #[error("{}: tensor `{name}` holds {found}, allowed are BF16, F16, F32 and F64", file.display())]
    Dtype {
        /// The tensor.
        name: String,
        /// The file.
        file: PathBuf,
        /// What it holds, as safetensors spells it.
        found: String,
    },
    /// A tensor holds a number that is NaN or infinite.
    #[error("{}: tensor `{name}` holds {found} at number {at}, allowed are finite numbers", file.display())]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file.
        file: PathBuf,
        /// Position of the first such number, row after row.
        at: usize,
        /// What it is.
        found: f32,
    },
    /// A tensor that no part of the model asked for.
    #[error("{}: tensor `{name}` belongs to no part of the model (and {others} more do not)", file.display())]
    Extra {
        /// The first such tensor in the order of names.
        name: String,
        /// Its file.
        file: PathBuf,
        /// How many more there are.
        others: usize,
    },
}

impl CheckpointError {
    /// The typed error out of one of candle's, or that one back.
    ///
    /// # Errors
    /// The error itself, when there is no typed one in it.
    pub fn take(error: candle_core::Error) -> Result<Self, candle_core::Error> {
        if Self::of(&error).is_none() {
            return Err(error);
        }
        match error {
            candle_core::Error::Io(error) => error.downcast().map_err(candle_core::Error::Io),
            candle_core::Error::WithBacktrace { inner, .. }
            | candle_core::Error::WithPath { inner, .. }
            | candle_core::Error::Context { inner, .. } => Self::take(*inner),
            other => Err(other),
        }
    }

    /// The typed error inside one of candle's, where there is one.
    #[must_use]
    pub fn of(error: &candle_core::Error) -> Option<&Self> {
        inside(error)
    }
}

/// The error of a type of ours that one of candle's wraps, where there is one.
pub(crate) fn inside<E: std::error::Error + 'static>(error: &candle_core::Error) -> Option<&E> {
    match error {
        candle_core::Error::Io(error) => error.get_ref()?.downcast_ref(),
        candle_core::Error::WithBacktrace { inner, .. }
        | candle_core::Error::WithPath { inner, .. }
        | candle_core::Error::Context { inner, .. } => inside(inner),
        _ => None,
    }
}

/// Of candle's variants, only that of I/O shows what it wraps as it is and gives it back ([`CheckpointError::of`]).
impl From<CheckpointError> for candle_core::Error {
    fn from(error: CheckpointError) -> Self {
        Self::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}
