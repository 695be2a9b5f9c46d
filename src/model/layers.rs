//! The smallest parts: dense layers, norms. Each is loaded by name and works on the last dimension.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder, init};

use super::input::InputError;
use super::ops;

pub mod statistics;

/// What a pass through the network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is random, and batch norms use their running statistics.
    Infer,
    /// Gradients are wanted.
    Train {
        /// What dropout draws from: the same seed drops the same.
        seed: u64,
        /// What batch norms go by.
        statistics: Statistics,
    },
}

impl Mode {
    /// Whether batch norms that are trained go by the batch, and their running statistics move.
    #[must_use]
    pub const fn moves_statistics(self) -> bool {
        matches!(self, Self::Train { statistics: Statistics::Batch, .. })
    }
}

/// What a batch norm goes by while the network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Mean and variance of the batch; they move the running ones.
    Batch,
    /// The running ones, which stay as they are, of all batch norms: gradients of a network as it is when it is asked.
    Running,
}

/// A fully connected layer, y = x Wᵀ + b over the last dimension.
#[derive(Clone, Debug)]
pub struct Dense {
    weight: Weight,
    bias: Option<Tensor>,
}

/// How a dense layer keeps its weight.
#[derive(Clone, Debug)]
enum Weight {
    /// `[in, out]`, contiguous: a product with `w.t()` is three times slower on the CPU.
    Fixed(Tensor),
    /// `[out, in]`: a variable, whose numbers change from step to step.
    Trained(Tensor),
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
        Self::new(weight, bias)
    }

    /// A layer of a weight `[outputs, inputs]` and a bias `[outputs]`.
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let weight = if weight.is_variable() {
            Weight::Trained(weight)
        } else {
            Weight::Fixed(weight.t()?.contiguous()?)
        };
        Ok(Self { weight, bias })
    }

    /// Weight `[in, out]` and bias `[out]`, where they do not change.
    #[must_use]
    pub fn fixed(&self) -> Option<(&Tensor, Option<&Tensor>)> {
        let varies = self.bias.as_ref().is_some_and(Tensor::is_variable);
        match &self.weight {
            Weight::Fixed(weight_t) if !varies => Some((weight_t, self.bias.as_ref())),
            _ => None,
        }
    }

    /// `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Fixed(turned) => ops::linear(x, turned, self.bias.as_ref(), true),
            Weight::Trained(weight) => ops::linear(x, weight, self.bias.as_ref(), false),
        }
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

/// Two dense layers with a batch norm and a rectifier between them.
#[derive(Clone, Debug)]
pub struct NormedMlp {
    first: Dense,
    norm: BatchNorm,
    second: Dense,
}

impl NormedMlp {
    /// Loads `0`, `1` and `3`, as in a torch `Sequential` of Linear (without a bias, of which the norm would leave nothing),
    /// BatchNorm1d, ReLU, Linear.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(inputs: usize, hidden: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            first: Dense::load(inputs, hidden, false, &vb.pp("0"))?,
            norm: BatchNorm::load(hidden, &vb.pp("1"))?,
            second: Dense::load(hidden, outputs, true, &vb.pp("3"))?,
        })
    }

    /// `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.second.forward(&self.norm.rectified(&self.first.forward(x)?, mode)?)
    }
}

/// Batch norm over the last dimension: y = (x − μ)/√(σ² + ε) · γ + β per channel.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// γ, `[channels]`
    weight: Tensor,
    /// β, `[channels]`
    bias: Tensor,
    /// Running μ, `[channels]`
    mean: Tensor,
    /// Running σ², `[channels]`
    variance: Tensor,
    /// [`BatchNorm::affine`], where it does not change.
    fixed: Option<(Tensor, Tensor)>,
}

impl BatchNorm {
    /// torch's ε.
    const EPS: f64 = 1e-5;

    /// Loads `weight`, `bias`, `running_mean` and `running_var`, all `[channels]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut norm = Self {
            weight: vb.get_with_hints(channels, "weight", init::ONE)?,
            bias: vb.get_with_hints(channels, "bias", init::ZERO)?,
            mean: vb.get_with_hints(channels, RUNNING_MEAN, init::ZERO)?,
            variance: vb.get_with_hints(channels, RUNNING_VARIANCE, init::ONE)?,
            fixed: None,
        };
        if [&norm.weight, &norm.bias, &norm.mean, &norm.variance].iter().all(|part| !part.is_variable()) {
            norm.fixed = Some(norm.affine()?);
        }
        Ok(norm)
    }

    /// Whether none of it is a variable.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Whether it goes by mean and variance of the batch, and its running ones move. One that is not trained stands still,
    /// whatever else of the network is.
    #[must_use]
    pub const fn goes_by_batch(&self, mode: Mode) -> bool {
        mode.moves_statistics() && !self.is_fixed()
    }

    /// With the running statistics: (scale, shift), both `[channels]`, of y = x · scale + shift.
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn affine(&self) -> Result<(Tensor, Tensor)> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let scale = (&self.weight / (self.variance.detach() + Self::EPS)?.sqrt()?)?;
        let shift = (&self.bias - (self.mean.detach() * &scale)?)?;
        Ok((scale, shift))
    }

    /// [`BatchNorm::affine`], where it does not change.
    #[must_use]
    pub fn fixed(&self) -> Option<(&Tensor, &Tensor)> {
        self.fixed.as_ref().map(|(scale, shift)| (scale, shift))
    }

    /// `[.., channels]` to the same. A single row, which has no variance, goes by the running statistics in training, too.
    ///
    /// # Errors
    /// When the last dimension is not `channels`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.rows(x, mode, false)
    }

    /// [`BatchNorm::forward`], and negative numbers become 0.
    ///
    /// # Errors
    /// As there.
    pub fn rectified(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.rows(x, mode, true)
    }

    fn rows(&self, x: &Tensor, mode: Mode, rectify: bool) -> Result<Tensor> {
        let rows = x.elem_count() / self.weight.dim(0)?.max(1);
        if self.goes_by_batch(mode) && rows > 1 {
            let (y, moments) = ops::norm_rows(x, &self.weight, &self.bias, Self::EPS, rectify)?;
            self.move_statistics(&moments.mean, &moments.variance, rows)?;
            return Ok(y);
        }
        let (scale, shift) = self.affine()?;
        let y = x.broadcast_mul(&scale)?.broadcast_add(&shift)?;
        if rectify { y.relu() } else { Ok(y) }
    }

    /// `[B, channels, H, W]` to the same; negative numbers become 0 where it is to `rectify`.
    ///
    /// # Errors
    /// When there are other channels, or in training on a single pixel.
    pub fn forward_maps(&self, x: &Tensor, mode: Mode, rectify: bool) -> Result<Tensor> {
        let batch = if self.goes_by_batch(mode) {
            let (mean, variance) = ops::channels::moments(x)?;
            self.move_statistics(&mean, &variance, x.elem_count() / self.weight.dim(0)?)?;
            Some((mean, variance))
        } else {
            None
        };
        let of_batch = batch.is_some();
        let (mean, variance) = batch.unwrap_or_else(|| (self.mean.clone(), self.variance.clone()));
        let moments = ops::channels::Moments { mean: &mean, variance: &variance, of_batch };
        ops::norm_maps(x, &self.weight, &self.bias, moments, Self::EPS, rectify)
    }

    /// Running statistics a tenth of the way to those of a batch of so many rows; its variance comes biased.
    fn move_statistics(&self, mean: &Tensor, variance: &Tensor, rows: usize) -> Result<()> {
        if rows < 2 {
            candle_core::bail!("batch statistics: found {rows} row, allowed are 2 and more");
        }
        let unbiased = (variance.detach() * (rows as f64 / (rows - 1) as f64))?;
        for (running, batch) in [(&self.mean, mean.detach()), (&self.variance, unbiased)] {
            // A running statistic that is no variable cannot move: it was loaded for inference.
            if running.is_variable() {
                statistics::moves(running, batch)?;
            }
        }
        Ok(())
    }
}

/// Checks that there is no NaN and nothing infinite in a tensor. The rectifiers of heads would make 0 of it.
///
/// # Errors
/// [`InputError::NotFinite`] when there is; `what` names the tensor.
pub fn check_finite(x: &Tensor, what: &'static str) -> Result<()> {
    let sum = x.to_dtype(DType::F32)?.flatten_all()?.sum(0)?.to_scalar::<f32>()?;
    if !sum.is_finite() {
        return Err(InputError::NotFinite { what }.into());
    }
    Ok(())
}

/// Name of a batch norm's running mean.
pub const RUNNING_MEAN: &str = "running_mean";
/// Name of a batch norm's running variance.
pub const RUNNING_VARIANCE: &str = "running_var";

/// Layer norm over the last dimension.
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

    /// The same, never trained: no gradient of its weight and bias is computed.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.detach() }
    }

    /// `[.., width]` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, Self::EPS)
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
    let scores = scores.broadcast_add(&penalty)?;
    let weights = if dim + 1 == scores.rank() {
        ops::softmax_last(&scores)?
    } else {
        candle_nn::ops::softmax(&scores, dim)?
    };
    weights.broadcast_mul(mask)
}
