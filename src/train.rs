//! What training is made of: losses, their weighting (Eq. 14), the optimiser, and what is measured on held-out rows.
//!
//! ```text
//!  scores ──▶ losses: L_t per task ──▶ uncertainty: Σ_t ½ e^{−v_t} L_t + ½ v_t ──▶ backward
//!                                                                                    │ GradStore
//!  variables ◀── optimiser: AdamW, learning rate of schedule ◀── clip: norm ≤ 1 ◀────┘
//! ```
//!
//! [`losses`] and [`uncertainty`] are candle tensors that can be differentiated, in `f32` and in `f64`; [`optimiser`] and
//! [`clip`] work on the named variables of [`crate::model::parameters::Parameters`]. [`measures`] is plain Rust in 64
//! bits: a measure that is reported does not go through the code that was trained.

pub mod batch;
pub mod clip;
pub mod data;
pub mod evaluate;
pub mod learned;
pub mod live;
mod log;
pub mod losses;
pub mod measures;
pub mod memory;
pub mod optimiser;
pub mod recipe;
pub mod report;
pub mod schedule;
pub mod score;
pub mod simple;
pub mod step;
mod tensorboard;
pub mod trainer;
pub mod uncertainty;
pub mod workers;

use std::path::PathBuf;

/// Something that a training step cannot go on with.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A gradient that is NaN or infinite.
    #[error("gradient of `{name}`: found a number that is not finite")]
    NotFinite {
        /// The parameter.
        name: String,
    },
    /// A gradient of another shape than its parameter.
    #[error("gradient of `{name}`: found shape {found:?}, allowed is {allowed:?}")]
    GradientShape {
        /// The parameter.
        name: String,
        /// Shape of the gradient.
        found: Vec<usize>,
        /// Shape of the parameter.
        allowed: Vec<usize>,
    },
    /// The state of a run or of its optimiser, which is not that of this recipe, these data or these parameters.
    #[error("state{}: {reason}", .file.as_ref().map(|file| format!(" {}", file.display())).unwrap_or_default())]
    State {
        /// Where it was read, when it was a file.
        file: Option<PathBuf>,
        /// What was found and what is allowed.
        reason: String,
    },
    /// A loss of validation that is NaN or infinite.
    #[error("validation of {task} after {step} steps: found a loss of {loss}, allowed is a finite one")]
    Validation {
        /// The task.
        task: crate::model::Task,
        /// Steps done in the stage.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// Data sets that cannot be learned from.
    #[error("data: {0}")]
    Data(String),
    /// A reading that cannot be looked up.
    #[error(transparent)]
    Reading(#[from] Box<data::store::StoreError>),
    /// The network cannot be built.
    #[error(transparent)]
    Build(#[from] Box<crate::model::BuildError>),
    /// The network cannot be written.
    #[error(transparent)]
    Deploy(#[from] Box<crate::model::deployed::DeployError>),
    /// A file.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<crate::model::BuildError> for TrainError {
    fn from(error: crate::model::BuildError) -> Self {
        Self::Build(Box::new(error))
    }
}

impl From<crate::model::checkpoint::CheckpointError> for TrainError {
    fn from(error: crate::model::checkpoint::CheckpointError) -> Self {
        Self::from(crate::model::BuildError::from(error))
    }
}

impl From<data::store::StoreError> for TrainError {
    fn from(error: data::store::StoreError) -> Self {
        Self::Reading(Box::new(error))
    }
}

impl From<crate::model::deployed::DeployError> for TrainError {
    fn from(error: crate::model::deployed::DeployError) -> Self {
        Self::Deploy(Box::new(error))
    }
}
