//! Vector attention as the authors' lab wrote it.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::hierarchy::Level;
use crate::model::layers::{BatchNorm, Dense, Mode};
use crate::model::ops;

/// Σ_j softmax_j(ω(ψ(x_j) − φ(x_i) + δ)) ⊙ (α(x_j) + δ), δ = θ(p_j − p_i).
#[derive(Clone, Debug)]
pub struct PostechAttention {
    pub(super) query: Dense,
    pub(super) key: Dense,
    pub(super) value: Dense,
    // θ
    pub(super) position_0: Dense,
    pub(super) position_1: BatchNorm,
    pub(super) position_3: Dense,
    // ω
    pub(super) weight_0: BatchNorm,
    pub(super) weight_2: Dense,
    pub(super) weight_3: BatchNorm,
    pub(super) weight_5: Dense,
    pub(super) width: usize,
    pub(super) share: usize,
}

impl PostechAttention {
    /// Loads `linear_q`, `linear_k`, `linear_v`, `linear_p` and `linear_w`, for `width` channels of which every
    /// `width / share`-th has the same attention weight.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or `share` does not divide `width`.
    pub fn load(width: usize, share: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        if share == 0 || !width.is_multiple_of(share) {
            bail!("share: found {share}, allowed are divisors of the width {width}");
        }
        let dense = |inputs, outputs, name: &str| Dense::load(inputs, outputs, true, &vb.pp(name));
        Ok(Self {
            query: dense(width, width, "linear_q")?,
            key: dense(width, width, "linear_k")?,
            value: dense(width, width, "linear_v")?,
            position_0: dense(3, 3, "linear_p.0")?,
            position_1: BatchNorm::load(3, &vb.pp("linear_p.1"))?,
            position_3: dense(3, width, "linear_p.3")?,
            weight_0: BatchNorm::load(width, &vb.pp("linear_w.0"))?,
            weight_2: dense(width, width / share, "linear_w.2")?,
            weight_3: BatchNorm::load(width / share, &vb.pp("linear_w.3"))?,
            weight_5: dense(width / share, width / share, "linear_w.5")?,
            width,
            share,
        })
    }

    /// Features `[n, width]` of a level's points to the same.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor, level: &Level, mode: Mode) -> Result<Tensor> {
        // [n, k, c]
        let offset = level.offsets(x.dtype())?;
        let offset = self.position_1.rectified(&self.position_0.forward(&offset)?, mode)?;
        let offset = self.position_3.forward(&offset)?;
        let scores = level.shifted(&self.key.forward(x)?, Some(&self.query.forward(x)?), &offset)?;
        let scores = self.weight_0.rectified(&scores, mode)?;
        let scores = self.weight_3.rectified(&self.weight_2.forward(&scores)?, mode)?;
        let values = level.shifted(&self.value.forward(x)?, None, &offset)?;
        ops::vector_attention(&values, &self.weight_5.forward(&scores)?)
    }
}
