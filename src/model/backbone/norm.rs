//! Root-mean-square norm.

use candle_core::{Result, Tensor};
use candle_nn::{VarBuilder, init};

use crate::model::ops;

/// y = x/√(mean(x²) + ε) · w over the last dimension, computed in f32 (in f64 where the input is).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Loads `weight` `[width]`.
    ///
    /// # Errors
    /// When the tensor is missing or has another shape.
    pub fn load(width: usize, eps: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get_with_hints(width, "weight", init::ONE)?, eps })
    }

    /// `[.., width]` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.weight, self.eps)
    }

    pub(super) fn is_trained(&self) -> bool {
        self.weight.is_variable()
    }
}
