//! Multi-head dot-product attention (Eq. 10–11; Vaswani et al., 2017), as torch's `MultiheadAttention` computes it.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{Dense, masked_softmax};

/// softmax(Q Kᵀ / √(d/h)) V with its projections; one head is Eq. 11 to the letter.
#[derive(Clone, Debug)]
pub struct Attention {
    query: Dense,
    key: Dense,
    value: Dense,
    output: Dense,
    heads: usize,
}

impl Attention {
    /// Loads `query`, `key`, `value` and `output`, each `width` to `width`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(width: usize, heads: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let load = |name: &str| Dense::load(width, width, true, &vb.pp(name));
        Ok(Self::new(load("query")?, load("key")?, load("value")?, load("output")?, heads))
    }

    /// Attention of projections that are there already.
    #[must_use]
    pub const fn new(query: Dense, key: Dense, value: Dense, output: Dense, heads: usize) -> Self {
        Self { query, key, value, output, heads }
    }

    /// What tokens `x` `[R, T, d]` take from `states` `[R, S, d]`, of which those with `mask` `[R, S]` = 1 count, projected:
    /// `[R, T, d]`. A row in which nothing counts takes nothing but the output's bias.
    ///
    /// # Errors
    /// When shapes disagree or d is no multiple of the heads.
    pub fn forward(&self, x: &Tensor, states: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.forward_with_weights(x, states, mask).map(|(y, _)| y)
    }

    /// [`Attention::forward`], with the weights `[R, h, T, S]` that it went by.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn forward_with_weights(
        &self,
        x: &Tensor,
        states: &Tensor,
        mask: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (rows, length, width) = x.dims3()?;
        let (_, seen, _) = states.dims3()?;
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            candle_core::bail!(
                "attention: found width {width}, allowed is a multiple of {} heads",
                self.heads
            );
        }
        let split = |x: Tensor, length: usize| -> Result<Tensor> {
            // [R, T, d] → [R, h, T, d/h]
            x.reshape((rows, length, self.heads, width / self.heads))?.transpose(1, 2)?.contiguous()
        };
        let query = split(self.query.forward(x)?, length)?;
        let key = split(self.key.forward(states)?, seen)?;
        let scale = ((width / self.heads) as f64).sqrt();
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? / scale)?;
        let weights = masked_softmax(&scores, &mask.reshape((rows, 1, 1, seen))?, 3)?;
        let mixed = weights.matmul(&split(self.value.forward(states)?, seen)?)?;
        // [R, h, T, d/h] → [R, T, d]
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((rows, length, width))?;
        Ok((self.output.forward(&mixed)?, weights))
    }
}
