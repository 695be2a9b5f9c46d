//! Asks the examples that validate, and chooses the weights by what they say.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;

use super::moving::Moving;
use super::{BEST, State, Trainer, Validated, is_of, training};
use crate::model::layers::statistics::{self, Moves};
use crate::model::parameters::Parameters;
use crate::model::tasks::Task;
use crate::model::{MODALITIES, Network, Purpose};
use crate::train::data::Part;
use crate::train::evaluate::{self, Answers, Asking};
use crate::train::measures::argmax;
use crate::train::recipe::Stage;
use crate::train::{TrainError, step};

/// Losses below this are as good as none.
const LEAST_LOSS: f64 = 1e-12;
/// Steps whose batches tell a running mean of weights its running statistics.
const SETTLE: u64 = 32;

impl Trainer<'_> {
    /// The weights that are judged. Running statistics of batch norms are of the weights as they moved, which are not those
    /// of the running mean: they are measured again over the last steps' batches (Izmailov et al., Averaging weights leads
    /// to wider optima and better generalization, UAI 2018).
    fn settled(
        &self,
        stage: &Stage,
        state: &State,
        moving: &Moving,
    ) -> Result<HashMap<String, Tensor>, TrainError> {
        let weights = moving.deployed();
        if moving.mean.is_none() || moving.parameters.statistics().is_empty() {
            return Ok(weights);
        }
        let (config, of_stage) = (self.config.clone(), stage.clone());
        let source = VarBuilder::from_tensors(weights.clone(), DType::F32, &self.device);
        let (vb, parameters) =
            Parameters::watch(source, move |name| !Self::is_frozen(&config, &of_stage, name));
        let network = self.network(stage.see, Purpose::Training, &vb)?;
        let mut orders = self.orders(state.stage);
        let mut all = Moves::default();
        for step in state.step.saturating_sub(SETTLE)..state.step {
            let mode = training(self.seed(state.stage, step));
            let batches = self.batches(state.stage, step, &mut orders)?;
            let of_batches = self.workers.map(&batches, |batch| {
                let (said, moves) = statistics::held_back(|| step::forward(&network, batch, mode));
                said.map(|_| moves)
            });
            for moves in of_batches {
                all.extend(moves?);
            }
        }
        all.settle()?;
        let settled = parameters.statistics().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
        Ok(weights.into_iter().chain(settled).collect())
    }

    /// Asks all validation examples, of whom it sees what the stage sees; keeps the weights when they are the best so far.
    pub(super) fn validate(
        &self,
        stage: &Stage,
        state: &mut State,
        moving: &Moving,
    ) -> Result<Validated, TrainError> {
        let weights = self.settled(stage, state, moving)?;
        let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &self.device);
        let network = self.network(stage.see, Purpose::Inference, &vb)?;
        let mut losses: BTreeMap<Task, Vec<f64>> = BTreeMap::new();
        // Of each task how many first choices are right, and how often each class is true.
        let mut right: BTreeMap<Task, (usize, BTreeMap<usize, usize>)> = BTreeMap::new();
        for part in self
            .parts
            .iter()
            .filter(|part| is_of(self.recipe, stage, part) && !part.split.validation.is_empty())
        {
            let (without, slots) = (self.recipe.hidden_in(stage), stage.slots.unwrap_or(usize::MAX));
            let answers = self.ask(&network, part, without, slots)?;
            for (&task, &loss) in &answers.losses {
                losses.entry(task).or_default().push(loss);
            }
            for (&task, rows) in &answers.tasks {
                for row in rows {
                    let Some(example) = part.data.examples.get(row.example as usize) else { continue };
                    let classes = if task == Task::Beam { self.sizes.beams } else { row.scores.len() };
                    let (Some(truth), Some(scores)) =
                        (part.data.class(example, task, 0), row.scores.get(..classes))
                    else {
                        continue;
                    };
                    let scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
                    let (right, counts) = right.entry(task).or_default();
                    *right += usize::from(argmax(&scores) == Some(truth));
                    *counts.entry(truth).or_default() += 1;
                }
            }
        }
        let losses: BTreeMap<Task, f64> = losses
            .into_iter()
            .map(|(task, all)| (task, all.iter().sum::<f64>() / all.len() as f64))
            .collect();
        if let Some((&task, &loss)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            return Err(TrainError::Validation { task, step: state.step, loss });
        }
        // Logarithms: a pose's hundredths of a square metre count as a class's nats do.
        let total: f64 = losses.values().map(|loss| loss.max(LEAST_LOSS).ln()).sum();
        let best = losses.is_empty() || state.best.is_none_or(|best| total < best);
        if best {
            state.best = Some(total);
            state.since_best = 0;
            self.folder().save(BEST, state, &weights, None)?;
        } else {
            state.since_best += 1;
        }
        let (mut top1, mut commonest) = (BTreeMap::new(), BTreeMap::new());
        for (task, (right, counts)) in right {
            let all = counts.values().sum::<usize>() as f64;
            top1.insert(task, right as f64 / all);
            commonest.insert(task, counts.into_values().max().unwrap_or(0) as f64 / all);
        }
        Ok(Validated { stage: stage.name.clone(), step: state.step, losses, top1, commonest, best })
    }

    /// Asks the examples that validate.
    pub(super) fn ask(
        &self,
        network: &Network,
        part: &Part,
        without: [bool; MODALITIES],
        slots: usize,
    ) -> Result<Answers, TrainError> {
        let (batch, losses) = (self.recipe.batch, &self.recipe.loss);
        let asking = Asking { tasks: &part.tasks, batch, losses, without, slots };
        evaluate::ask(network, &part.data, &part.split.validation, &asking)
    }
}
