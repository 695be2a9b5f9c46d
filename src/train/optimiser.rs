//! AdamW (Loshchilov and Hutter, ICLR 2019) as torch has it, with what joint training needs beside it.
//!
//! * A parameter that has no gradient in a step is left alone: no decay, no moment, and its own step count stands still,
//!   so that a task that comes every third batch is not corrected for steps that it never took.
//! * [`AdamW::state`] and [`AdamW::restore`] keep everything: steps after a restart are bit for bit those of a run that
//!   was never stopped.
//! * On the CPU one pass over the numbers updates weight and moments in place.

mod fused;
mod state;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use super::TrainError;
use fused::{Follow, Fused, Number};

/// What holds for all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root, so that a parameter whose gradients are 0 divides by something.
    pub eps: f64,
}

impl Default for AdamWConfig {
    /// torch's: 0.9, 0.999, 1e-8.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// What holds for one group of parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Learning rate.
    pub rate: f64,
    /// Weight decay: in each step a weight loses rate · decay of itself.
    pub weight_decay: f64,
}

/// The groups of MMSense: LoRA learns slower than the rest, and what is no matrix (norms, biases, gates of the
/// cross-attention, v of Eq. 14) does not decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate of LoRA's A and B.
    pub lora: f64,
    /// Learning rate of everything else.
    pub rest: f64,
    /// Weight decay of what decays.
    pub weight_decay: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { lora: 1e-4, rest: 3e-4, weight_decay: 0.01 }
    }
}

impl Rates {
    /// The group of a parameter, by its name and rank.
    #[must_use]
    pub fn group(&self, name: &str, parameter: &Var) -> Group {
        let is_lora = name.contains("lora_A") || name.contains("lora_B");
        Group {
            rate: if is_lora { self.lora } else { self.rest },
            weight_decay: if parameter.rank() >= 2 { self.weight_decay } else { 0.0 },
        }
    }
}

/// One step's factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Of every learning rate: where the schedule stands.
    pub rate: f64,
    /// Of every gradient: [`super::clip::factor`], divided by the number of batches that were accumulated.
    pub gradient: f64,
}

impl Default for Factors {
    fn default() -> Self {
        Self { rate: 1.0, gradient: 1.0 }
    }
}

/// Running means of a parameter's gradients and of their squares.
#[derive(Clone, Debug)]
enum Moments {
    F32(Vec<f32>, Vec<f32>),
    F64(Vec<f64>, Vec<f64>),
    /// Where the fused pass cannot go: another device or a 16-bit type, whose moments are kept in 32 bits.
    Tensors(Tensor, Tensor),
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    var: Var,
    group: Group,
    /// Steps in which it had a gradient.
    steps: u64,
    moments: Option<Moments>,
}

/// The optimiser.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
}

/// The scalars of one parameter's step.
#[derive(Clone, Copy, Debug)]
struct Scalars {
    /// 1 − rate · decay
    keep: f64,
    /// rate / (1 − β₁ᵗ)
    rate: f64,
    /// √(1 − β₂ᵗ)
    root_correction: f64,
    gradient: f64,
    config: AdamWConfig,
}

impl AdamW {
    /// An optimiser of these parameters, each in the group that `group` says.
    #[must_use]
    pub fn new(
        parameters: Vec<(String, Var)>,
        config: AdamWConfig,
        group: impl Fn(&str, &Var) -> Group,
    ) -> Self {
        let parameters = parameters.into_iter().map(|(name, var)| Parameter {
            group: group(&name, &var),
            name,
            var,
            steps: 0,
            moments: None,
        });
        Self { config, parameters: parameters.collect() }
    }

    /// The parameters by name, in the order in which they were given.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.var.clone())).collect()
    }

    /// One step. With g the gradient times its factor, t the parameter's own count of steps and λ the decay,
    ///
    /// m ← m + (1 − β₁)(g − m),  v ← β₂ v + (1 − β₂) g²,
    /// w ← (1 − rate·λ) w − rate/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).
    ///
    /// # Errors
    /// [`TrainError::GradientShape`], before anything has moved; a failing device.
    pub fn step(&mut self, gradients: &GradStore, factors: Factors) -> Result<(), TrainError> {
        for parameter in &self.parameters {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            if gradient.shape() != parameter.var.shape() {
                return Err(TrainError::GradientShape {
                    name: parameter.name.clone(),
                    found: gradient.dims().to_vec(),
                    allowed: parameter.var.dims().to_vec(),
                });
            }
        }
        let config = self.config;
        for parameter in &mut self.parameters {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            parameter.steps += 1;
            let rate = parameter.group.rate * factors.rate;
            let steps = parameter.steps as f64;
            let scalars = Scalars {
                keep: 1.0 - rate * parameter.group.weight_decay,
                rate: rate / (1.0 - config.beta1.powf(steps)),
                root_correction: (1.0 - config.beta2.powf(steps)).sqrt(),
                gradient: factors.gradient,
                config,
            };
            parameter.move_by(gradient, scalars)?;
        }
        Ok(())
    }
}

impl Parameter {
    fn move_by(&mut self, gradient: &Tensor, scalars: Scalars) -> candle_core::Result<()> {
        let moments = match &mut self.moments {
            Some(moments) => moments,
            none => none.insert(Moments::zero(&self.var)?),
        };
        match moments {
            Moments::F32(mean, square) => fused_step(&self.var, gradient, mean, square, scalars),
            Moments::F64(mean, square) => fused_step(&self.var, gradient, mean, square, scalars),
            Moments::Tensors(mean, square) => {
                let wide = mean.dtype();
                let Scalars { config, .. } = scalars;
                let gradient = (gradient.detach().to_dtype(wide)? * scalars.gradient)?;
                *mean = (&*mean + ((&gradient - &*mean)? * (1.0 - config.beta1))?)?;
                *square = ((&*square * config.beta2)? + (gradient.sqr()? * (1.0 - config.beta2))?)?;
                let root = ((square.sqrt()? / scalars.root_correction)? + config.eps)?;
                let kept = (self.var.as_tensor().detach().to_dtype(wide)? * scalars.keep)?;
                let moved = (kept - (&*mean / root)? * scalars.rate)?;
                self.var.set(&moved.to_dtype(self.var.dtype())?)
            }
        }
    }
}

/// Moves a running mean of a weight: m ← k·m + (1 − k)·w; on the CPU in place.
///
/// # Errors
/// When the two are not of one shape and type, or the device fails.
pub fn follow(mean: &mut Tensor, weight: &Tensor, keep: f64) -> candle_core::Result<()> {
    let weight = weight.detach();
    match (mean.device(), mean.dtype()) {
        (Device::Cpu, DType::F32) => mean.inplace_op2(&weight.contiguous()?, &Follow::<f32>::new(keep)),
        (Device::Cpu, DType::F64) => mean.inplace_op2(&weight.contiguous()?, &Follow::<f64>::new(keep)),
        _ => {
            *mean = ((&*mean * keep)? + (weight * (1.0 - keep))?)?;
            Ok(())
        }
    }
}

fn fused_step<T: Number>(
    var: &Var,
    gradient: &Tensor,
    mean: &mut [T],
    square: &mut [T],
    scalars: Scalars,
) -> candle_core::Result<()> {
    let gradient = gradient.to_dtype(var.dtype())?.contiguous()?;
    var.as_tensor().inplace_op2(&gradient, &Fused::new(mean, square, scalars))
}

impl Moments {
    fn zero(var: &Var) -> candle_core::Result<Self> {
        let count = var.elem_count();
        Ok(match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) => Self::F32(vec![0.0; count], vec![0.0; count]),
            (Device::Cpu, DType::F64) => Self::F64(vec![0.0; count], vec![0.0; count]),
            (device, dtype) => {
                let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
                let zeros = Tensor::zeros(var.shape(), wide, device)?;
                Self::Tensors(zeros.clone(), zeros)
            }
        })
    }
}
