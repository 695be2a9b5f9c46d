//! Encoders of what a UE tells: its last beam-power reports and its position.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::layers::{Dense, Mlp, masked_softmax};

/// Numbers that describe one beam of one report: sin and cos of the beam's peak angle, power in units of 10 dB below the
/// report's strongest beam, age in seconds, and 1 (0 where nothing was measured).
pub const LINK_FEATURES: usize = 5;

/// Numbers that describe a position: x, y, z in units of 50 m, ln(1 + range in m), sin and cos of the azimuth from
/// boresight, speed in units of 10 m/s, and 1 where the speed is known.
pub const POSITION_FEATURES: usize = 8;

/// A set of any size to a fixed number of tokens: each element through an [`Mlp`], then one learned query per token
/// looks for what it wants among them.
#[derive(Clone, Debug)]
pub struct SetEncoder {
    element: Mlp,
    /// `[tokens, d]`
    queries: Tensor,
    key: Dense,
    value: Dense,
}

impl SetEncoder {
    /// Loads an encoder of elements of `features` numbers.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(features: usize, tokens: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let hint = Init::Randn { mean: 0.0, stdev: 1.0 };
        Ok(Self {
            element: Mlp::load(features, width, width, &vb.pp("element"))?,
            queries: vb.get_with_hints((tokens, width), "queries", hint)?,
            key: Dense::load(width, width, false, &vb.pp("key"))?,
            value: Dense::load(width, width, false, &vb.pp("value"))?,
        })
    }

    /// Elements `[B, S, features]`, of which those count where `mask` `[B, S]` is 1, to tokens `[B, tokens, d]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, elements: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, _, _) = elements.dims3()?;
        let (tokens, width) = self.queries.dims2()?;
        let x = self.element.forward(elements)?.relu()?;
        let queries = self.queries.broadcast_left(batch)?.contiguous()?;
        // [B, tokens, d] × [B, d, S]
        let scores = queries.matmul(&self.key.forward(&x)?.transpose(1, 2)?.contiguous()?)?;
        let scores = (scores / (width as f64).sqrt())?;
        let weights = masked_softmax(&scores, &mask.unsqueeze(1)?, 2)?;
        weights.contiguous()?.matmul(&self.value.forward(&x)?)?.reshape((batch, tokens, width))
    }
}

/// One vector to a fixed number of tokens.
#[derive(Clone, Debug)]
pub struct VectorEncoder {
    mlp: Mlp,
    tokens: usize,
}

impl VectorEncoder {
    /// Loads an encoder of `features` numbers.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(features: usize, tokens: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { mlp: Mlp::load(features, width, tokens * width, vb)?, tokens })
    }

    /// `[B, features]` to tokens `[B, tokens, d]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let batch = x.dim(0)?;
        self.mlp.forward(x)?.reshape((batch, self.tokens, ()))
    }
}
