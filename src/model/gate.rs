//! The modality gate (Eq. 8 of the paper): how much each modality counts in this frame.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{Mlp, masked_softmax};

/// [w_1 … w_D] = softmax(g([z_1 … z_D])): the mean token of each modality, its age and whether it is there go through a
/// small network that gives a score each. A missing modality has weight 0 and the others sum to 1.
#[derive(Clone, Debug)]
pub struct Gate {
    scores: Mlp,
}

impl Gate {
    /// Loads a gate over `modalities` of width `d` with a compact inner vector of d.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(modalities: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { scores: Mlp::load(modalities * (width + 2), width, modalities, vb)? })
    }

    /// Weights `[R, D]` of frames: mean tokens `[R, D, d]`, ages `[R, D]` in seconds, presence `[R, D]` (1 or 0). A
    /// frame in which nothing is present has weights 0.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, means: &Tensor, ages: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (rows, modalities, width) = means.dims3()?;
        let seen = means.broadcast_mul(&present.unsqueeze(2)?)?.reshape((rows, modalities * width))?;
        let input = Tensor::cat(&[&seen, &(ages * present)?, present], 1)?;
        masked_softmax(&self.scores.forward(&input)?, present, 1)
    }
}
