//! The optimiser's state, as tensors and as a file.
//!
//! Per parameter `NAME`: `NAME.step` (i64, `[1]`), and once it has moved `NAME.exp_avg` and `NAME.exp_avg_sq`, of the
//! parameter's shape.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::{AdamW, Moments, Parameter};
use crate::train::TrainError;

const STEP: &str = "step";
const MEAN: &str = "exp_avg";
const SQUARE: &str = "exp_avg_sq";

fn wrong(reason: String) -> TrainError {
    TrainError::State { file: None, reason }
}

impl AdamW {
    /// Everything that the next steps depend on, beside the parameters themselves.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<HashMap<String, Tensor>, TrainError> {
        let mut state = HashMap::new();
        for Parameter { name, var, steps, moments, .. } in &self.parameters {
            let count = i64::try_from(*steps).map_err(|_| wrong(format!("`{name}`: found {steps} steps")))?;
            state.insert(format!("{name}.{STEP}"), Tensor::new(&[count], &Device::Cpu)?);
            let Some(moments) = moments else { continue };
            let (mean, square) = match moments {
                Moments::F32(mean, square) => (
                    Tensor::from_slice(mean, var.shape(), &Device::Cpu)?,
                    Tensor::from_slice(square, var.shape(), &Device::Cpu)?,
                ),
                Moments::F64(mean, square) => (
                    Tensor::from_slice(mean, var.shape(), &Device::Cpu)?,
                    Tensor::from_slice(square, var.shape(), &Device::Cpu)?,
                ),
                Moments::Tensors(mean, square) => (mean.clone(), square.clone()),
            };
            state.insert(format!("{name}.{MEAN}"), mean);
            state.insert(format!("{name}.{SQUARE}"), square);
        }
        Ok(state)
    }

    /// Goes on where an optimiser of the same parameters was when it gave its [`AdamW::state`].
    ///
    /// # Errors
    /// [`TrainError::State`] with the tensor that is missing, of no parameter, or of another shape or type; nothing has
    /// changed then.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>) -> Result<(), TrainError> {
        let mut unread: BTreeSet<&str> = state.keys().map(String::as_str).collect();
        let mut restored = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let mut take = |part: &str| {
                let name = format!("{}.{part}", parameter.name);
                unread.remove(name.as_str());
                state.get(&name).ok_or_else(|| wrong(format!("`{name}` is missing")))
            };
            let step = take(STEP)?;
            if step.dims() != [1] || step.dtype() != DType::I64 {
                let (name, shape, dtype) = (&parameter.name, step.dims(), step.dtype());
                return Err(wrong(format!("`{name}.{STEP}`: found {dtype:?} {shape:?}, allowed is I64 [1]")));
            }
            let steps = step.to_vec1::<i64>()?.first().copied().unwrap_or_default();
            let steps = u64::try_from(steps).map_err(|_| {
                wrong(format!("`{}.{STEP}`: found {steps}, allowed are 0 and more", parameter.name))
            })?;
            let moments =
                if steps == 0 { None } else { Some(parameter.moments_of(take(MEAN)?, take(SQUARE)?)?) };
            restored.push((steps, moments));
        }
        if let Some(name) = unread.first() {
            return Err(wrong(format!("`{name}` belongs to no parameter")));
        }
        for (parameter, (steps, moments)) in self.parameters.iter_mut().zip(restored) {
            parameter.steps = steps;
            parameter.moments = moments;
        }
        Ok(())
    }

    /// Writes the state to a safetensors file.
    ///
    /// # Errors
    /// [`TrainError::State`] with the file when it cannot be written.
    pub fn save(&self, file: &Path) -> Result<(), TrainError> {
        candle_core::safetensors::save(&self.state()?, file).map_err(|error| in_file(file, error.to_string()))
    }

    /// Reads a file of [`AdamW::save`].
    ///
    /// # Errors
    /// [`TrainError::State`] with the file, as [`AdamW::restore`].
    pub fn load(&mut self, file: &Path) -> Result<(), TrainError> {
        let state = candle_core::safetensors::load(file, &Device::Cpu)
            .map_err(|error| in_file(file, error.to_string()))?;
        self.restore(&state).map_err(|error| match error {
            TrainError::State { reason, .. } => in_file(file, reason),
            other => other,
        })
    }
}

fn in_file(file: &Path, reason: String) -> TrainError {
    TrainError::State { file: Some(file.to_owned()), reason }
}

impl Parameter {
    fn moments_of(&self, mean: &Tensor, square: &Tensor) -> Result<Moments, TrainError> {
        let fresh = Moments::zero(&self.var)?;
        let wide = match &fresh {
            Moments::F32(..) => DType::F32,
            Moments::F64(..) => DType::F64,
            Moments::Tensors(mean, _) => mean.dtype(),
        };
        for (part, tensor) in [(MEAN, mean), (SQUARE, square)] {
            if tensor.shape() != self.var.shape() || tensor.dtype() != wide {
                return Err(wrong(format!(
                    "`{}.{part}`: found {:?} {:?}, allowed is {wide:?} {:?}",
                    self.name,
                    tensor.dtype(),
                    tensor.dims(),
                    self.var.dims(),
                )));
            }
        }
        Ok(match fresh {
            Moments::F32(..) => {
                Moments::F32(mean.flatten_all()?.to_vec1()?, square.flatten_all()?.to_vec1()?)
            }
            Moments::F64(..) => {
                Moments::F64(mean.flatten_all()?.to_vec1()?, square.flatten_all()?.to_vec1()?)
            }
            Moments::Tensors(..) => {
                Moments::Tensors(mean.to_device(self.var.device())?, square.to_device(self.var.device())?)
            }
        })
    }
}
