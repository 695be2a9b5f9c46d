//! The smallest parts: dense layers, norms. Each is loaded by name and works on the last dimension.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder, init};

/// A fully connected layer, y = x Wᵀ + b over the last dimension.
#[derive(Clone, Debug)]
pub struct Dense {
    /// `[in, out]`: stored transposed, because a product with `w.t()` is three times slower on the CPU.
    weight_t: Tensor,
    bias: Option<Tensor>,
}

impl Dense {
    /// Loads `weight` `[outputs, inputs]` and, where there is one, `bias` `[outputs]`; fresh ones are drawn like
    /// torch's, U(±1/√inputs).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(inputs: usize, outputs: usize, bias: bool, vb: &VarBuilder<'_>) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let hint = Init::Uniform { lo: -bound, up: bound };
        let weight = vb.get_with_hints((outputs, inputs), "weight", hint)?;
        let bias = bias.then(|| vb.get_with_hints(outputs, "bias", hint)).transpose()?;
        Ok(Self { weight_t: weight.t()?.contiguous()?, bias })
    }

    /// `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (inputs, outputs) = self.weight_t.dims2()?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        let y = x.reshape(((), inputs))?.matmul(&self.weight_t)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape(shape)
    }
}

/// Two dense layers with a rectifier between them.
#[derive(Clone, Debug)]
pub struct Mlp {
    first: Dense,
    second: Dense,
}

impl Mlp {
    /// Loads `0` and `2`, as in a torch `Sequential` of Linear, ReLU, Linear.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(inputs: usize, hidden: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            first: Dense::load(inputs, hidden, true, &vb.pp("0"))?,
            second: Dense::load(hidden, outputs, true, &vb.pp("2"))?,
        })
    }

    /// `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.relu()?)
    }
}

/// Batch norm with its running statistics: y = x · scale + shift per channel.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// `[channels]`, γ/√(σ² + ε)
    pub scale: Tensor,
    /// `[channels]`, β − μ · scale
    pub shift: Tensor,
}

impl BatchNorm {
    /// torch's ε.
    const EPS: f64 = 1e-5;

    /// Loads `weight`, `bias`, `running_mean` and `running_var`, all `[channels]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get_with_hints(channels, "weight", init::ONE)?;
        let bias = vb.get_with_hints(channels, "bias", init::ZERO)?;
        let mean = vb.get_with_hints(channels, "running_mean", init::ZERO)?;
        let variance = vb.get_with_hints(channels, "running_var", init::ONE)?;
        let scale = (weight / (variance + Self::EPS)?.sqrt()?)?;
        let shift = (bias - (mean * &scale)?)?;
        Ok(Self { scale, shift })
    }

    /// `[.., channels]` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `channels`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_mul(&self.scale)?.broadcast_add(&self.shift)
    }
}

/// Layer norm over the last dimension, written out: candle's fused one cuts the gradient.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    const EPS: f64 = 1e-5;

    /// Loads `weight` and `bias`, `[width]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(width, "weight", init::ONE)?,
            bias: vb.get_with_hints(width, "bias", init::ZERO)?,
        })
    }

    /// `[.., width]` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + Self::EPS)?.sqrt()?)?;
        normal.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Softmax over a dimension; `mask` is 1 where an entry counts and 0 where it does not, and broadcasts to `scores`.
/// Where nothing counts the weights are 0.
///
/// # Errors
/// When the shapes do not broadcast.
pub fn masked_softmax(scores: &Tensor, mask: &Tensor, dim: usize) -> Result<Tensor> {
    // −1e9 in place of −∞: ∞ − ∞ is NaN where nothing counts.
    let penalty = ((mask - 1.0)? * 1e9)?;
    let weights = candle_nn::ops::softmax(&scores.broadcast_add(&penalty)?, dim)?;
    weights.broadcast_mul(mask)
}
