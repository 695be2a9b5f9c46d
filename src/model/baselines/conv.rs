//! Convolution of three taps along a line, with channels last: one matrix product.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// y_i = b + Σ_k W_k x_{i+k−1}, k = 0, 1, 2, as torch's `Conv1d(inputs, outputs, 3, padding=1)` on channels
/// last; past the ends is zero.
#[derive(Clone, Debug)]
pub(super) struct Conv3 {
    weight: Weight,
    /// `[outputs]`
    bias: Option<Tensor>,
}

#[derive(Clone, Debug)]
enum Weight {
    /// `[3 · inputs, outputs]`, tap after tap: laid out once.
    Fixed(Tensor),
    /// `[outputs, inputs, 3]`: a variable, whose numbers change from step to step.
    Trained(Tensor),
}

fn lay_out(weight: &Tensor) -> Result<Tensor> {
    let (outputs, inputs, taps) = weight.dims3()?;
    // [out, in, 3] → [3, in, out] → [3 · in, out]
    weight.permute((2, 1, 0))?.contiguous()?.reshape((taps * inputs, outputs))
}

impl Conv3 {
    /// Loads `weight` `[outputs, inputs, 3]` and, where there is one, `bias` `[outputs]`; fresh ones are drawn like torch's,
    /// U(±1/√(3 · inputs)).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub(super) fn load(inputs: usize, outputs: usize, bias: bool, vb: &VarBuilder<'_>) -> Result<Self> {
        let bound = 1.0 / ((3 * inputs) as f64).sqrt();
        let hint = Init::Uniform { lo: -bound, up: bound };
        let weight = vb.get_with_hints((outputs, inputs, 3), "weight", hint)?;
        let weight =
            if weight.is_variable() { Weight::Trained(weight) } else { Weight::Fixed(lay_out(&weight)?) };
        Ok(Self { weight, bias: bias.then(|| vb.get_with_hints(outputs, "bias", hint)).transpose()? })
    }

    /// `[R, L, inputs]` to `[R, L, outputs]`.
    ///
    /// # Errors
    /// When the last dimension is not `inputs`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, length, inputs) = x.dims3()?;
        let weight = match &self.weight {
            Weight::Fixed(weight) => weight.clone(),
            Weight::Trained(weight) => lay_out(weight)?,
        };
        let padded = x.pad_with_zeros(1, 1, 1)?;
        let (before, after) = (padded.narrow(1, 0, length)?, padded.narrow(1, 2, length)?);
        // [R · L, 3 · in] × [3 · in, out]
        let taps = Tensor::cat(&[&before, x, &after], 2)?.reshape((rows * length, 3 * inputs))?;
        let mut y = taps.matmul(&weight)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        y.reshape((rows, length, ()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::seeded::fresh_weights;

    #[test]
    fn it_is_the_convolution_of_channels_first() {
        let vb = fresh_weights(1, &Device::Cpu);
        let draw = |shape: &[usize], name: &str| {
            vb.get_with_hints(shape, name, Init::Randn { mean: 0.0, stdev: 1.0 }).unwrap()
        };
        for length in [1, 2, 7] {
            let x = draw(&[2, length, 4], "x");
            let own = Conv3::load(4, 3, true, &vb.pp("conv")).unwrap();
            let torch = vb.get_with_hints(
                (3, 4, 3),
                "conv.weight",
                Init::Uniform { lo: -1.0 / 12f64.sqrt(), up: 1.0 / 12f64.sqrt() },
            );
            let y = x.transpose(1, 2).unwrap().conv1d(&torch.unwrap(), 1, 1, 1, 1).unwrap();
            let y = y.transpose(1, 2).unwrap().broadcast_add(own.bias.as_ref().unwrap()).unwrap();
            let apart = (own.forward(&x).unwrap() - y).unwrap().abs().unwrap().max_all().unwrap();
            assert!(apart.to_scalar::<f32>().unwrap() < 1e-6);
        }
    }
}
