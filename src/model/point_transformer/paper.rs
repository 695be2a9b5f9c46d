//! Vector attention as the paper writes it.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::hierarchy::Level;
use crate::model::layers::{Dense, Mlp};

/// y_i = Σ_j softmax_j(s · γ(φ(x_i) − ψ(x_j) + δ)) ⊙ (α(x_j) + δ), δ = θ(p_i − p_j), with s = 1 in the paper (Eq. 2–3).
#[derive(Clone, Debug)]
pub struct PaperAttention {
    /// φ
    query: Dense,
    /// ψ
    key: Dense,
    /// α
    value: Dense,
    /// γ
    weight: Mlp,
    /// θ
    position: Mlp,
    /// s
    scale: f64,
}

/// What a code calls φ, ψ, α, γ, θ.
pub(super) type Names = [&'static str; 5];

impl PaperAttention {
    const NAMES: Names = ["phi", "psi", "alpha", "gamma", "theta"];

    /// Loads `phi`, `psi`, `alpha` (without biases), `gamma` and `theta` (`0` and `2` each), from `inputs` to `width`
    /// channels.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(inputs: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Self::load_named(inputs, width, &Self::NAMES, 1.0, vb)
    }

    pub(super) fn load_named(
        inputs: usize,
        width: usize,
        names: &Names,
        scale: f64,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let [query, key, value, weight, position] = names.map(|name| vb.pp(name));
        Ok(Self {
            query: Dense::load(inputs, width, false, &query)?,
            key: Dense::load(inputs, width, false, &key)?,
            value: Dense::load(inputs, width, false, &value)?,
            weight: Mlp::load(width, width, width, &weight)?,
            position: Mlp::load(3, width, width, &position)?,
            scale,
        })
    }

    /// Features `[n, inputs]` of a level's points to `[n, width]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor, level: &Level) -> Result<Tensor> {
        Ok(self.attend(x, level)?.0)
    }

    /// [`PaperAttention::forward`] with the attention weights `[n, k, width]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn attend(&self, x: &Tensor, level: &Level) -> Result<(Tensor, Tensor)> {
        // [n, k, c]
        let offset = self.position.forward(&level.offsets(x.dtype())?.neg()?)?;
        let query = self.query.forward(x)?.unsqueeze(1)?;
        let scores = (query.broadcast_sub(&level.gather(&self.key.forward(x)?)?)? + &offset)?;
        let scores = (self.weight.forward(&scores)? * self.scale)?;
        let weights = candle_nn::ops::softmax(&scores, 1)?;
        let values = level.shifted(&self.value.forward(x)?, None, &offset)?;
        Ok(((values * &weights)?.sum(1)?, weights))
    }
}
