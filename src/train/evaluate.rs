//! What a network says of held-out examples.

use std::collections::BTreeMap;

use super::TrainError;
use super::batch::{Batch, Making, Shown};
use super::data::DataSet;
use super::recipe::{Batching, Losses, See};
use super::step;
use crate::model::layers::Mode;
use crate::model::seeded;
use crate::model::tasks::Task;
use crate::model::{MODALITIES, Network};
use crate::time::Span;

/// What a network says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its example.
    pub example: u32,
    /// Scores, as [`crate::model::tasks::Said`] has them.
    pub scores: Vec<f32>,
    /// Gate weights of the present slot; empty without a gate.
    pub gate: Vec<f32>,
    /// How long after its instant it was said: nothing, where nobody waited for it.
    pub delay: Span,
}

/// What a network says of many examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// Per task, in the order of examples.
    pub tasks: BTreeMap<Task, Vec<Row>>,
    /// Mean loss of each task.
    pub losses: BTreeMap<Task, f64>,
}

/// How examples are asked.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// What is asked.
    pub tasks: &'a [Task],
    /// Rows of a batch.
    pub batch: Batching,
    /// Of losses.
    pub losses: &'a Losses,
    /// Modalities that are hidden, in the order of [`crate::model::Input::ALL`].
    pub without: [bool; MODALITIES],
    /// Newest slots that are looked at.
    pub slots: usize,
}

/// Asks a network of `examples` of a data set, in their order.
///
/// # Errors
/// [`TrainError`] when a reading cannot be looked up, or the device fails.
pub fn ask(
    network: &Network,
    data: &DataSet,
    examples: &[u32],
    asking: &Asking<'_>,
) -> Result<Answers, TrainError> {
    let making = Making {
        see: See::All,
        slots: asking.slots,
        augment: None,
        without: asking.without,
        losses: asking.losses,
        tasks: asking.tasks,
        network: network.config(),
    };
    let mut answers = Answers::default();
    let mut sums: BTreeMap<Task, (f64, f64)> = BTreeMap::new();
    let mut random = seeded::stream(0, "nothing is drawn");
    for examples in examples.chunks(asking.batch.evaluate_rows.max(1)) {
        let batch = Batch::make(&[Shown { data, runs: vec![examples.to_vec()], making }], &mut random)?;
        if batch.rows() == 0 {
            continue;
        }
        let said = step::forward(network, &batch, Mode::Infer)?;
        for (task, loss) in step::losses(&said, &batch.targets, network.sizes(), asking.losses)? {
            let rows = batch.asked.get(&task).map_or(0, Vec::len) as f64;
            let sum = sums.entry(task).or_default();
            sum.0 += rows * f64::from(loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?);
            sum.1 += rows;
        }
        let gate: Vec<Vec<f32>> = match &said.gate {
            Some(gate) => {
                let slots = gate.dim(1)?;
                gate.narrow(1, slots - 1, 1)?.squeeze(1)?.to_vec2()?
            }
            None => Vec::new(),
        };
        for (task, scores) in said.tasks {
            let rows = batch.asked.get(&task).map(Vec::as_slice).unwrap_or_default();
            let scores = scores.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?;
            for (&row, scores) in rows.iter().zip(scores) {
                answers.tasks.entry(task).or_default().push(Row {
                    example: batch.examples.get(row as usize).copied().unwrap_or_default(),
                    scores,
                    gate: gate.get(row as usize).cloned().unwrap_or_default(),
                    delay: Span::ZERO,
                });
            }
        }
    }
    answers.losses = sums.into_iter().map(|(task, (sum, rows))| (task, sum / rows)).collect();
    Ok(answers)
}
