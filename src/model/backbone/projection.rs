//! Linear layers that look at the same input, as one product, each with its adapter.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::ops::Frozen;
use crate::model::layers::Mode;
use crate::model::lora::{Adapters, Lora};

/// One or more linear layers without biases that have the same input; their outputs stand side by side.
#[derive(Clone, Debug)]
pub struct Projection {
    base: Base,
    /// Width of each output, and its adapter.
    parts: Vec<(usize, Option<Lora>)>,
}

/// The weights.
#[derive(Clone, Debug)]
enum Base {
    /// All in one, laid out once.
    Frozen(Frozen),
    /// `[out, in]` each: variables, whose numbers change from step to step.
    Trained(Vec<Tensor>),
}

/// Standard deviation of fresh weights, that of this family.
pub(super) const DEVIATION: f64 = 0.02;

impl Projection {
    /// Loads `NAME.weight` `[outputs, inputs]` of each part; `module` is the name of what they are parts of.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        parts: &[(&str, usize)],
        inputs: usize,
        module: &str,
        vb: &VarBuilder<'_>,
        adapters: Option<&Adapters>,
    ) -> Result<Self> {
        let init = Init::Randn { mean: 0.0, stdev: DEVIATION };
        let (mut weights, mut loaded) = (Vec::new(), Vec::new());
        for &(name, outputs) in parts {
            let weight = vb.pp(name).get_with_hints((outputs, inputs), "weight", init)?;
            let lora = adapters.map(|adapters| adapters.load(&format!("{module}.{name}"), inputs, outputs));
            let lora = lora.transpose()?.flatten();
            match lora {
                Some(lora) if adapters.is_some_and(Adapters::is_merged) => {
                    weights.push(lora.merge(&weight)?);
                    loaded.push((outputs, None));
                }
                lora => {
                    weights.push(weight);
                    loaded.push((outputs, lora));
                }
            }
        }
        let base = if weights.iter().any(Tensor::is_variable) {
            Base::Trained(weights)
        } else {
            Base::Frozen(Frozen::new(&Tensor::cat(&weights, 0)?)?)
        };
        Ok(Self { base, parts: loaded })
    }

    /// `[.., in]` to `[.., Σ out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or(1);
        shape.push(self.parts.iter().map(|(outputs, _)| outputs).sum());
        let x = x.reshape(((), inputs))?;
        let mut y = match &self.base {
            Base::Frozen(frozen) => frozen.forward(&x)?,
            Base::Trained(weights) => {
                let parts = weights.iter().map(|weight| x.matmul(&weight.t()?));
                side_by_side(parts.collect::<Result<_>>()?)?
            }
        };
        if self.parts.iter().any(|(_, lora)| lora.is_some()) {
            let rows = x.dim(0)?;
            let added = self.parts.iter().map(|(outputs, lora)| match lora {
                Some(lora) => lora.forward(&x, mode),
                None => Tensor::zeros((rows, *outputs), x.dtype(), x.device()),
            });
            y = (y + side_by_side(added.collect::<Result<_>>()?)?)?;
        }
        y.reshape(shape)
    }

    /// Whether anything of it is trained.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        matches!(self.base, Base::Trained(_))
            || self.parts.iter().any(|(_, lora)| lora.as_ref().is_some_and(Lora::is_trained))
    }
}

fn side_by_side(parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.as_slice() {
        [only] => Ok(only.clone()),
        parts => Tensor::cat(parts, 1),
    }
}
