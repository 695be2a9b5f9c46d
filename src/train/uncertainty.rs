//! Eq. 14: the weight of each task's loss is learned (Kendall, Gal and Cipolla, CVPR 2018).
//!
//! With v_t = log σ_t², the sum over tasks of 1/(2σ_t²)·L_t + log σ_t is Σ_t ½ e^{−v_t} L_t + ½ v_t. At the optimum
//! v_t = ln L_t. A task that is absent from a batch adds neither of the two terms: else its σ would fall and fall.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use candle_nn::{VarBuilder, init};

use crate::model::tasks::Task;

/// Least and largest v: the optimum is −7.2 for poses that are 47 mm off and no loss here reaches e¹².
pub const LIMITS: (f64, f64) = (-12.0, 6.0);

/// Where the variables stand among a network's: `uncertainty.beam`, …
pub const PREFIX: &str = "uncertainty";

/// What the variable of a task is called.
#[must_use]
pub fn name(task: Task) -> String {
    format!("{PREFIX}.{}", task.name())
}

/// Whether a parameter is one of them.
#[must_use]
pub fn is_of(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('.'))
}

/// Σ ½ e^{−v} L + ½ v over pairs (L, v) of scalars or one-element tensors; `None` of no pairs.
///
/// # Errors
/// When a tensor has more than one element.
pub fn weighted_sum<'a>(pairs: impl IntoIterator<Item = (&'a Tensor, &'a Tensor)>) -> Result<Option<Tensor>> {
    let mut total: Option<Tensor> = None;
    for (loss, v) in pairs {
        let (loss, v) = (loss.reshape(())?, v.reshape(())?.to_dtype(loss.dtype())?);
        let term = (((v.neg()?.exp()? * loss)? + v)? * 0.5)?;
        total = Some(match total {
            Some(total) => (total + term)?,
            None => term,
        });
    }
    Ok(total)
}

/// v_t of each task, a variable of one element each, so that an optimiser skips those of absent tasks.
#[derive(Clone, Debug)]
pub struct Uncertainty {
    log_variances: BTreeMap<Task, Tensor>,
}

impl Uncertainty {
    /// Loads v_t, `[1]`, under the task's name; fresh ones are 0.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(tasks: &[Task], vb: &VarBuilder<'_>) -> Result<Self> {
        let load = |&task: &Task| Ok((task, vb.get_with_hints(1, task.name(), init::ZERO)?));
        Ok(Self { log_variances: tasks.iter().map(load).collect::<Result<_>>()? })
    }

    /// Eq. 14 over the tasks that have a loss in this batch; `None` when none has.
    ///
    /// # Errors
    /// When a task is not among those it was loaded for.
    pub fn joint_loss(&self, losses: &BTreeMap<Task, Tensor>) -> Result<Option<Tensor>> {
        let mut pairs = Vec::with_capacity(losses.len());
        for (task, loss) in losses {
            let Some(v) = self.log_variances.get(task) else {
                let known: Vec<&str> = self.log_variances.keys().map(|task| task.name()).collect();
                candle_core::bail!("joint loss: found task `{task}`, allowed are {known:?}");
            };
            pairs.push((loss, v));
        }
        weighted_sum(pairs)
    }

    /// Moves each v into [`LIMITS`]; to be called after each step of the optimiser. Outside of the graph: a limit inside
    /// it would have no gradient and hold v there for ever.
    ///
    /// # Errors
    /// When the device fails.
    pub fn limit(&self) -> Result<()> {
        for v in self.log_variances.values().filter(|v| v.is_variable()) {
            Var::from_tensor(v)?.set(&v.detach().clamp(LIMITS.0, LIMITS.1)?)?;
        }
        Ok(())
    }

    /// v_t of each task.
    ///
    /// # Errors
    /// When the device fails.
    pub fn log_variances(&self) -> Result<BTreeMap<Task, f64>> {
        let read = |(&task, v): (&Task, &Tensor)| {
            Ok((task, v.reshape(())?.to_dtype(candle_core::DType::F64)?.to_scalar()?))
        };
        self.log_variances.iter().map(read).collect()
    }
}
