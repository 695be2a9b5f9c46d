//! The variables of a network: what training changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::layers::{RUNNING_MEAN, RUNNING_VARIANCE};

type Named = Arc<Mutex<Handed>>;

/// What was handed out, by name.
#[derive(Debug, Default)]
struct Handed {
    variables: BTreeMap<String, Var>,
    fixed: BTreeMap<String, Tensor>,
}

/// The tensors of a network by name: those that an optimiser moves, the running statistics of batch norms, and those
/// that stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    named: Named,
}

/// Hands out tensors of `source`, those that are to be trained as variables.
struct Watched {
    source: VarBuilder<'static>,
    trained: Box<dyn Fn(&str) -> bool + Send + Sync>,
    named: Named,
}

/// The batch norm that a tensor is a running statistic of.
fn norm_of(name: &str) -> Option<&str> {
    let (norm, own) = name.rsplit_once('.')?;
    [RUNNING_MEAN, RUNNING_VARIANCE].contains(&own).then_some(norm)
}

fn is_statistic(name: &str) -> bool {
    norm_of(name).is_some()
}

impl Watched {
    /// Whether a tensor changes in training.
    fn moves(&self, name: &str) -> bool {
        match norm_of(name) {
            Some(norm) => (self.trained)(&format!("{norm}.weight")),
            None => (self.trained)(name),
        }
    }
}

impl Parameters {
    /// A builder whose tensors come from `source`; those whose name `trained` accepts are variables. A batch norm whose
    /// weight is none keeps its running statistics.
    #[must_use]
    pub fn watch(
        source: VarBuilder<'static>,
        trained: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> (VarBuilder<'static>, Self) {
        let parameters = Self::default();
        let (dtype, device) = (source.dtype(), source.device().clone());
        let named = Arc::clone(&parameters.named);
        let backend = Watched { source, trained: Box::new(trained), named };
        (VarBuilder::from_backend(Box::new(backend), dtype, device), parameters)
    }

    /// What an optimiser moves, in the order of names.
    #[must_use]
    pub fn trained(&self) -> Vec<(String, Var)> {
        self.select(|name| !is_statistic(name))
    }

    /// Running statistics, in the order of names.
    #[must_use]
    pub fn statistics(&self) -> Vec<(String, Var)> {
        self.select(is_statistic)
    }

    /// All tensors, in the order of names.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Tensor)> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let variables = named.variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        let fixed = named.fixed.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let all: BTreeMap<String, Tensor> = variables.chain(fixed).collect();
        all.into_iter().collect()
    }

    fn select(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Var)> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named
            .variables
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect()
    }
}

impl SimpleBackend for Watched {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        // A tensor that two parts share is one variable.
        if let Some(var) = named.variables.get(name) {
            if var.shape() != &shape {
                let (found, wanted) = (var.shape().clone(), shape);
                return Err(Error::Msg(format!("`{name}` is asked for as {wanted:?} and as {found:?}")));
            }
            return Ok(var.as_tensor().clone());
        }
        let tensor = self.source.get_with_hints_dtype(shape, name, init, dtype)?;
        if !self.moves(name) {
            named.fixed.insert(name.to_owned(), tensor.clone());
            return Ok(tensor);
        }
        let var = Var::from_tensor(&tensor)?;
        let tensor = var.as_tensor().clone();
        named.variables.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("a variable needs a shape, and `{name}` was asked for without one")))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.source.contains_tensor(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::layers::{BatchNorm, Mode, Statistics};
    use crate::model::seeded::fresh_weights;

    #[test]
    fn a_batch_norm_that_is_left_alone_stands_still() {
        let fresh = fresh_weights(1, &Device::Cpu);
        let (vb, parameters) = Parameters::watch(fresh, |name| name.starts_with("free."));
        let x = Tensor::new(&[[1.0f32], [3.0], [8.0]], &Device::Cpu).unwrap();
        let mode = Mode::Train { seed: 1, statistics: Statistics::Batch };
        let said = |norm: &str| {
            let y = BatchNorm::load(1, &vb.pp(norm)).unwrap().forward(&x, mode).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        // Its running statistics are 0 and 1, as they were.
        let still = said("left");
        assert!(still.iter().zip([1.0, 3.0, 8.0]).all(|(y, x)| (y - x).abs() < 1e-4), "{still:?}");
        assert!(parameters.statistics().is_empty() && parameters.trained().is_empty());
        let free = said("free");
        assert!(free.iter().sum::<f32>().abs() < 1e-5 && free[0] < -0.9, "{free:?}");
        let moved: Vec<f32> =
            parameters.statistics().iter().map(|(_, var)| var.to_vec1::<f32>().unwrap()[0]).collect();
        // A tenth of the way: mean 4, variance 13.
        assert!((moved[0] - 0.4).abs() < 1e-6 && (moved[1] - 2.2).abs() < 1e-5, "{moved:?}");
    }
}
