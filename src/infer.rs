//! Infer: a window in, probabilities out.
//!
//! Every model, from the persistence rule to the MMSense network, is a [`Predictor`]; nothing above it changes when
//! another one takes its place.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::frame::Window;
use crate::model::input::InputError;
use crate::sample::{Modality, UeId};

pub mod baseline;
pub mod check;
pub mod device;
pub mod extrapolation;
pub mod network;
pub mod persistence;
pub mod power_trend;
pub mod spread;

pub use baseline::Baseline;
pub use network::NetworkPredictor;

/// Which model concluded something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ModelInfo {
    /// Name of the model, with the hash of its parameters where it has some.
    pub id: String,
    /// False when the model has parameters that were never fitted to data. A rule has none and counts as trained.
    pub trained: bool,
}

/// What a model says of one UE.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UePrediction {
    /// Probability per beam of the codebook that it is the best one at the frame's instant; sums to 1.
    /// `None` when the model knows nothing of this UE's beam.
    pub beam: Option<Vec<f32>>,
    /// Probability that the link is blocked within each configured horizon, non-decreasing over the horizons
    /// (sorted, the first may be 0 = now). `None` when the model knows nothing of this UE's link.
    pub blockage: Option<Vec<f32>>,
    /// How much each modality counted, 0 for a missing one, together 1. Empty when the model does not weigh them.
    pub gate: BTreeMap<Modality, f32>,
}

/// What a model says of one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Per UE of the frame.
    pub ues: BTreeMap<UeId, UePrediction>,
    /// Probability per human activity that it is the one seen; sums to 1. `None` when the model was not asked.
    pub activity: Option<Vec<f32>>,
    /// Place of each joint of the body seen, metres, in the unit frame. `None` when the model was not asked.
    pub pose: Option<Vec<[f32; 3]>>,
}

/// Why a model gave no prediction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// It was asked about what it cannot be asked about.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A probability is NaN or infinite.
    #[error("the model returned a non-finite {what} for ue `{ue}`")]
    NonFinite {
        /// `beam` or `blockage`.
        what: &'static str,
        /// The UE.
        ue: UeId,
    },
    /// A vector of probabilities has the wrong length.
    #[error("the model returned {found} {what} probabilities for ue `{ue}`: {expected} are wanted")]
    Length {
        /// `beam` or `blockage`.
        what: &'static str,
        /// The UE.
        ue: UeId,
        /// Number returned.
        found: usize,
        /// Number of beams or of horizons.
        expected: usize,
    },
    /// A finite vector that is no probability.
    #[error("the model returned {what} {found} for ue `{ue}`: {allowed}")]
    Improbable {
        /// `beam` or `blockage`.
        what: &'static str,
        /// The UE.
        ue: UeId,
        /// The number that cannot be, as text.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// What it says of the unit itself cannot be.
    #[error("the model returned {what} with {found}")]
    ImprobableOfUnit {
        /// `activity` or `pose`.
        what: &'static str,
        /// What was found.
        found: String,
    },
    /// The model broke.
    #[error("the model failed: {0}")]
    Failed(String),
}

/// A model: a window in, probabilities out.
pub trait Predictor: Send {
    /// Who concludes.
    fn info(&self) -> ModelInfo;

    /// Where it runs: `cpu` or `cuda:N`.
    fn device(&self) -> &str {
        "cpu"
    }

    /// Predicts for one window per unit, all in one forward pass; one prediction per window, in order.
    ///
    /// # Errors
    /// [`ModelError`] when the model as a whole failed.
    fn predict(&mut self, windows: &[Window]) -> Result<Vec<Prediction>, ModelError>;
}
