//! Encoders of what a UE tells: its last beam-power reports and its position.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::dropout::dropout;
use super::layers::{Dense, Mlp, Mode};
use super::ops;

/// Slots of past reports, the newest first.
pub const LINK_SLOTS: usize = 8;
/// Age of the first slot and from slot to slot, seconds.
pub const LINK_SLOT_S: f32 = 0.1;
/// Bins on which the powers of a report are laid, of each of two views: by beam index and by the sine of the peak angle.
pub const LINK_BINS: usize = 64;
/// Numbers per bin: the power below the report's strongest beam on a linear and on an exponential scale.
pub const LINK_CHANNELS: usize = 2;
/// Numbers per slot that describe its report as a whole: whether there is one; its age less the slot's, in units of 0.2 s;
/// the level of its strongest beam against what the link reaches when nothing stands in its way, in units of 5 dB; how
/// much its beams have changed since the report before, as twice the logarithm of their mean change against 0.4 dB.
pub const LINK_WHOLE: usize = 4;
/// Numbers that describe the last reports: slot after slot [`LINK_CHANNELS`] × 2 × [`LINK_BINS`], then each of the
/// [`LINK_WHOLE`] for slot after slot.
pub const LINK_FEATURES: usize = LINK_SLOTS * (LINK_CHANNELS * 2 * LINK_BINS + LINK_WHOLE);

/// Numbers that describe a position: x, y, z in units of 50 m, ln(1 + range in m), sin and cos of the azimuth from
/// boresight, speed in units of 10 m/s, and 1 where the speed is known.
pub const POSITION_FEATURES: usize = 8;

/// The last reports to a fixed number of tokens: two dense layers over all of them together, then one of its own for each
/// token. Averages over beams, such as attention gives, throw away the fine shape of the powers that tells the next beam.
#[derive(Clone, Debug)]
pub struct ReportEncoder {
    first: Dense,
    second: Dense,
    /// `[tokens, SHARE, d]`
    weight: Tensor,
    /// `[tokens, 1, d]`
    bias: Tensor,
}

/// Width of the first layer.
pub(super) const LINK_HIDDEN: usize = 224;
/// Numbers of the second layer that each token is made of.
pub(super) const LINK_SHARE: usize = 32;
/// Dropout behind both layers.
const LINK_DROPOUT: f64 = 0.15;

impl ReportEncoder {
    /// Loads an encoder to `tokens` tokens of `width`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(tokens: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = Init::Randn { mean: 0.0, stdev: 1.0 / (LINK_SHARE as f64).sqrt() };
        let bias = Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            first: Dense::load(LINK_FEATURES, LINK_HIDDEN, true, &vb.pp("first"))?,
            second: Dense::load(LINK_HIDDEN, tokens * LINK_SHARE, true, &vb.pp("second"))?,
            weight: vb.get_with_hints((tokens, LINK_SHARE, width), "tokens.weight", weight)?,
            bias: vb.get_with_hints((tokens, 1, width), "tokens.bias", bias)?,
        })
    }

    /// `[B, LINK_FEATURES]` to tokens `[B, tokens, d]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let batch = x.dim(0)?;
        let tokens = self.weight.dim(0)?;
        let x = dropout(&ops::gelu(&self.first.forward(x)?)?, LINK_DROPOUT, mode, "link.first")?;
        let x = dropout(&ops::gelu(&self.second.forward(&x)?)?, LINK_DROPOUT, mode, "link.second")?;
        // [tokens, B, SHARE] × [tokens, SHARE, d]
        let x = x.reshape((batch, tokens, LINK_SHARE))?.transpose(0, 1)?.contiguous()?;
        x.matmul(&self.weight)?.broadcast_add(&self.bias)?.transpose(0, 1)?.contiguous()
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
