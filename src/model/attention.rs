//! Multi-head dot-product attention (Eq. 10–11; Vaswani et al., 2017), as torch's `MultiheadAttention` computes it.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::backbone::ops::softmax;
use super::layers::Dense;

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
        let (rows, _, width) = x.dims3()?;
        let (_, seen, _) = states.dims3()?;
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            candle_core::bail!(
                "attention: found width {width}, allowed is a multiple of {} heads",
                self.heads
            );
        }
        let (query, key) = (self.query.forward(x)?, self.key.forward(states)?);
        let mask = mask.reshape((rows, 1, 1, seen))?;
        let (mixed, weights) = attend(&query, &key, &self.value.forward(states)?, self.heads, &mask)?;
        Ok((self.output.forward(&mixed)?, weights))
    }
}

/// softmax(Q Kᵀ / √(d/h)) V per head, of queries `[R, T, d]`, keys and values `[R, S, d]`: `[R, T, d]`, with the weights
/// `[R, h, T, S]` that it went by. `mask` `[R or 1, 1, T or 1, S]` is 1 where a key counts.
///
/// # Errors
/// When shapes disagree.
pub(super) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    mask: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (rows, length, width) = query.dims3()?;
    let split = |x: &Tensor| -> Result<Tensor> {
        // [R, T, d] → [R, h, T, d/h]
        x.reshape((rows, x.dim(1)?, heads, width / heads))?.transpose(1, 2)?.contiguous()
    };
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let scores = split(query)?.matmul(&split(key)?.transpose(2, 3)?.contiguous()?)?;
    // [R or 1, 1, T or 1, S] → [R or 1, T or 1, S]; 0 where a key counts.
    let penalty = ((mask.squeeze(1)? - 1.0)? * 1e9)?;
    let weights = softmax(&scores, scale, Some(&penalty))?;
    let weights = if scores.device().is_cpu() && scores.dtype() == DType::F32 {
        weights
    } else {
        weights.broadcast_mul(mask)?
    };
    // [R, h, T, d/h] → [R, T, d]
    let mixed =
        weights.matmul(&split(value)?)?.transpose(1, 2)?.contiguous()?.reshape((rows, length, width))?;
    Ok((mixed, weights))
}

/// `[1, 1, T, T]`, 1 where a token may look: at itself and at those before it.
///
/// # Errors
/// When the device refuses memory.
pub(super) fn causal(length: usize, like: &Tensor) -> Result<Tensor> {
    let places = (0..length).flat_map(|query| (0..length).map(move |key| f32::from(u8::from(key <= query))));
    let mask = Tensor::from_vec(places.collect::<Vec<f32>>(), (1, 1, length, length), like.device())?;
    mask.to_dtype(like.dtype())
}
