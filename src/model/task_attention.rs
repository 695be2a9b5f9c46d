//! Task-specific multi-layer attention (Eq. 12–13 of the paper): what a task reads off the backbone's layers.
//!
//! z_1 = A_1(H^{l_1}), z_k = A_k([z_{k−1}; H^{l_k}]). Each A_k is a two-layer MLP that learns an adaptive weighting of
//! its input features: with x its input, g = σ(W_2 relu(W_1 x)) and z = Linear(g ⊙ x).
//!
//! Nearly all of a hidden state is the same in every row, the prompt's; a norm over its width keeps that and little else.
//! Each is normalised channel by channel (batch norm, Ioffe and Szegedy, ICML 2015): what differs between rows is left.

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{BatchNorm, Dense, Mlp, Mode};

/// One A_k with the norm of its hidden state.
#[derive(Clone, Debug)]
struct Step {
    norm: BatchNorm,
    weigh: Mlp,
    mix: Dense,
}

/// The chain A_1 … A_K of one task.
#[derive(Clone, Debug)]
pub struct TaskAttention {
    steps: Vec<Step>,
}

impl TaskAttention {
    /// Loads a chain over `taps` hidden states of width `hidden` to a vector of `width`, under the names `0`, `1`, …
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(taps: usize, hidden: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let steps = (0..taps).map(|tap| {
            let vb = vb.pp(tap);
            let inputs = if tap == 0 { hidden } else { width + hidden };
            Ok(Step {
                norm: BatchNorm::load(hidden, &vb.pp("norm"))?,
                weigh: Mlp::load(inputs, width, inputs, &vb.pp("weigh"))?,
                mix: Dense::load(inputs, width, true, &vb.pp("mix"))?,
            })
        });
        Ok(Self { steps: steps.collect::<Result<_>>()? })
    }

    /// Hidden states `[R, hidden]`, one per tap, to `[R, width]`.
    ///
    /// # Errors
    /// When their number or a shape is not what was loaded.
    pub fn forward(&self, taps: &[Tensor], mode: Mode) -> Result<Tensor> {
        if taps.len() != self.steps.len() {
            candle_core::bail!("found {} hidden states, allowed are {}", taps.len(), self.steps.len());
        }
        let mut z: Option<Tensor> = None;
        for (step, hidden) in self.steps.iter().zip(taps) {
            let hidden = step.norm.forward(hidden, mode)?;
            let x = match z {
                Some(z) => Tensor::cat(&[z, hidden], D::Minus1)?,
                None => hidden,
            };
            let gate = candle_nn::ops::sigmoid(&step.weigh.forward(&x)?)?;
            z = Some(step.mix.forward(&(gate * x)?)?);
        }
        z.ok_or_else(|| candle_core::Error::Msg("found no hidden states, allowed are one or more".to_owned()))
    }
}
