//! What the tasks read off the fused tokens.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{BatchNorm, Mlp, Mode};

/// Mean of the tokens `[R, T, d]` that count in `mask` `[R, T]`, to `[R, d]`.
///
/// # Errors
/// When shapes disagree.
pub fn mean_token(tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let sum = tokens.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
    sum.broadcast_div(&mask.sum_keepdim(1)?.maximum(1.0)?)
}

/// A norm by channel and two layers to the scores of one task.
#[derive(Clone, Debug)]
pub struct Head {
    norm: BatchNorm,
    mlp: Mlp,
}

impl Head {
    /// Loads a head with `outputs` scores.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(width: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: BatchNorm::load(width, &vb.pp("norm"))?,
            mlp: Mlp::load(width, width, outputs, &vb.pp("mlp"))?,
        })
    }

    /// `[R, d]` to scores `[R, outputs]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.mlp.forward(&self.norm.forward(x, mode)?)
    }
}

/// Probability of a blockage within each horizon, from the scores of its intervals: the hazard of interval i is
/// h_i = σ(score_i), the probability that it has come by then p_i = 1 − Π_{j ≤ i} (1 − h_j), so it never falls.
#[must_use]
pub fn within_horizons(scores: &[f32]) -> Vec<f32> {
    let mut clear = 1.0;
    let mut probabilities = Vec::with_capacity(scores.len());
    for score in scores {
        clear *= 1.0 / (1.0 + f64::from(*score).exp());
        probabilities.push((1.0 - clear) as f32);
    }
    probabilities
}

/// Softmax of one row of scores.
#[must_use]
pub fn softmax(scores: &[f32]) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = scores.iter().map(|score| f64::from(score - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazards_add_up_to_rising_probabilities() {
        let p = within_horizons(&[0.0, 0.0, -40.0, 100.0]);
        assert!(
            (p[0] - 0.5).abs() < 1e-6 && (p[1] - 0.75).abs() < 1e-6 && (p[2] - 0.75).abs() < 1e-6,
            "{p:?}"
        );
        assert!((p[3] - 1.0).abs() < 1e-6 && p.is_sorted());
    }

    #[test]
    fn a_softmax_of_large_scores_is_finite() {
        let p = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
    }
}
