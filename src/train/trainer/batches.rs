//! The batches of each step, which follow from seed, stage and step alone.

use super::{State, Trainer, is_of};
use crate::model::seeded;
use crate::train::TrainError;
use crate::train::batch::{Batch, Making, Order, Shown};
use crate::train::data::Part;
use crate::train::recipe::Stage;

impl Trainer<'_> {
    /// Steps of a stage.
    pub(super) fn steps(&self, stage: &Stage, orders: &[Order]) -> u64 {
        let runs = self.runs_per_batch(stage);
        let longest = orders.iter().map(|order| order.runs().div_ceil(runs)).max().unwrap_or(0);
        (stage.epochs * longest as f64).ceil() as u64
    }

    /// Steps done in all stages.
    pub(super) fn total(&self, state: &State) -> u64 {
        let before = self.recipe.stage.iter().enumerate().take(state.stage);
        before.map(|(number, stage)| self.steps(stage, &self.orders(number))).sum::<u64>() + state.step
    }

    /// Examples that follow each other in a stage.
    fn run_of(&self, stage: &Stage) -> usize {
        stage.run.unwrap_or(self.recipe.batch.run)
    }

    pub(super) fn runs_per_batch(&self, stage: &Stage) -> usize {
        (stage.rows.unwrap_or(self.recipe.batch.rows) / self.run_of(stage)).max(1)
    }

    /// One for each data set; empty where the stage does not go through it.
    pub(super) fn orders(&self, stage: usize) -> Vec<Order> {
        let of_stage = self.recipe.stage.get(stage);
        let order = |part: &Part| {
            let is_of = of_stage.is_some_and(|of_stage| is_of(self.recipe, of_stage, part));
            let examples = if is_of { part.split.train.as_slice() } else { &[] };
            let run = of_stage.map_or(1, |of_stage| self.run_of(of_stage));
            Order::new(&part.data, examples, run, self.recipe.seed, stage)
        };
        self.parts.iter().map(order).collect()
    }

    /// The batches of a step, as many as there are data sets that have examples; their runs are dealt out, so that each
    /// batch has some of every one.
    pub(super) fn batches(
        &self,
        stage: usize,
        step: u64,
        orders: &mut [Order],
    ) -> Result<Vec<Batch>, TrainError> {
        let Some(of_stage) = self.recipe.stage.get(stage) else { return Ok(Vec::new()) };
        let parts = self.parts.iter().zip(orders).filter(|(_, order)| order.runs() > 0);
        let mut parts: Vec<(&Part, &mut Order)> = parts.collect();
        let names: Vec<&str> = parts.iter().map(|(part, _)| part.data.name.as_str()).collect();
        let mut shown: Vec<Vec<Shown<'_>>> = names.iter().map(|_| Vec::new()).collect();
        for (first, (part, order)) in parts.iter_mut().enumerate() {
            let runs = self.runs_per_batch(of_stage).min(order.runs()) as u64;
            // Sets of few runs begin with different batches.
            let hands = deal((0..runs).map(|run| order.run(step * runs + run)), first, names.len());
            let making = Making {
                see: of_stage.see,
                slots: of_stage.slots.unwrap_or(usize::MAX),
                augment: Some(&self.recipe.augment),
                without: self.recipe.hidden_in(of_stage),
                losses: &self.recipe.loss,
                tasks: &part.tasks,
                network: self.config,
            };
            let hands = hands.into_iter().map(|runs| Shown { data: &part.data, runs, making });
            shown.iter_mut().zip(hands).for_each(|(batch, hand)| batch.push(hand));
        }
        let batches = names.iter().zip(&shown).map(|(name, shown)| {
            let name = format!("batch {stage} {step} {name}");
            Batch::make(shown, &mut seeded::stream(self.recipe.seed, &name))
        });
        let batches: Vec<Batch> = batches.collect::<Result<_, _>>()?;
        Ok(batches.into_iter().filter(|batch| batch.rows() > 0).collect())
    }
}

/// Gives each of `hands` one after the other, beginning with hand `first`.
fn deal<T>(items: impl Iterator<Item = T>, first: usize, hands: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for (at, item) in items.enumerate() {
        if let Some(hand) = dealt.get_mut((first + at) % hands) {
            hand.push(item);
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dealt_out_is_one_of_each_for_everybody() {
        assert_eq!(deal(0..5, 0, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(deal(0..2, 2, 3), [vec![1], vec![], vec![0]]);
        assert_eq!(deal(0..3, 0, 1), [[0, 1, 2]]);
    }
}
