//! Running statistics of batch norms: they move as batches go through, or, where batches go through side by side, later,
//! in the batches' order.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{Result, Tensor, TensorId, Var};

/// torch's share of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

thread_local! {
    static HELD_BACK: RefCell<Option<Moves>> = const { RefCell::new(None) };
}

/// Moves that have not been made: (running statistic, that of a batch), in order.
#[derive(Debug, Default)]
pub struct Moves(Vec<(Tensor, Tensor)>);

impl Moves {
    /// Adds those of a later batch.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Sets every statistic to the mean of those of all batches (`update_bn` of torch's stochastic weight averaging).
    ///
    /// # Errors
    /// When the device fails.
    pub fn settle(self) -> Result<()> {
        let mut sums: HashMap<TensorId, (Tensor, Tensor, f64)> = HashMap::new();
        for (running, batch) in self.0 {
            match sums.get_mut(&running.id()) {
                Some((_, sum, count)) => {
                    *sum = (&*sum + batch)?;
                    *count += 1.0;
                }
                None => {
                    sums.insert(running.id(), (running, batch, 1.0));
                }
            }
        }
        sums.values().try_for_each(|(running, sum, count)| Var::from_tensor(running)?.set(&(sum / *count)?))
    }

    /// Makes them.
    ///
    /// # Errors
    /// When the device fails.
    pub fn make(self) -> Result<()> {
        self.0.iter().try_for_each(|(running, batch)| make(running, batch))
    }
}

fn make(running: &Tensor, batch: &Tensor) -> Result<()> {
    let moved = ((running.detach() * (1.0 - MOMENTUM))? + (batch * MOMENTUM)?)?;
    Var::from_tensor(running)?.set(&moved)
}

/// Moves a statistic, or notes that it is to be moved.
pub(super) fn moves(running: &Tensor, batch: Tensor) -> Result<()> {
    HELD_BACK.with_borrow_mut(|held| match held {
        Some(Moves(moves)) => {
            moves.push((running.clone(), batch));
            Ok(())
        }
        None => make(running, &batch),
    })
}

/// What `pass` says, and the moves of the batch norms that it went through on this thread: none has been made.
pub fn held_back<R>(pass: impl FnOnce() -> R) -> (R, Moves) {
    HELD_BACK.set(Some(Moves::default()));
    let said = pass();
    (said, HELD_BACK.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};

    use super::*;
    use crate::model::layers::{BatchNorm, Mode, Statistics};

    #[test]
    fn settled_statistics_are_the_mean_of_the_batches() {
        let mode = Mode::Train { seed: 1, statistics: Statistics::Batch };
        let known = VarMap::new();
        let norm = BatchNorm::load(1, &VarBuilder::from_varmap(&known, DType::F32, &Device::Cpu)).unwrap();
        let mut all = Moves::default();
        for batch in [[1.0f32, 3.0], [4.0, 10.0]] {
            let x = Tensor::new(&batch, &Device::Cpu).unwrap().reshape((2, 1)).unwrap();
            let (said, moves) = held_back(|| norm.forward(&x, mode));
            said.unwrap();
            all.extend(moves);
        }
        all.settle().unwrap();
        let known = known.data().lock().unwrap();
        let numbers = |name: &str| known[name].to_vec1::<f32>().unwrap();
        // Means 2 and 7; unbiased variances 2 and 18.
        assert_eq!((numbers("running_mean"), numbers("running_var")), (vec![4.5], vec![10.0]));
    }

    #[test]
    fn moves_that_are_held_back_come_to_the_same() {
        let mode = Mode::Train { seed: 1, statistics: Statistics::Batch };
        let batches = [1.0f32, -3.0].map(|by| {
            let numbers: Vec<f32> = (0..24).map(|at| by * (at * at % 7) as f32).collect();
            Tensor::from_vec(numbers, (6, 4), &Device::Cpu).unwrap()
        });
        let made = |held: bool| {
            let known = VarMap::new();
            let norm =
                BatchNorm::load(4, &VarBuilder::from_varmap(&known, DType::F32, &Device::Cpu)).unwrap();
            let mut moves = Vec::new();
            for batch in &batches {
                let before = known.data().lock().unwrap()["running_mean"].to_vec1::<f32>().unwrap();
                let (said, own) = if held {
                    held_back(|| norm.forward(batch, mode))
                } else {
                    (norm.forward(batch, mode), Moves::default())
                };
                said.unwrap();
                let after = known.data().lock().unwrap()["running_mean"].to_vec1::<f32>().unwrap();
                assert_eq!(held, before == after);
                moves.push(own);
            }
            moves.into_iter().for_each(|own| own.make().unwrap());
            let known = known.data().lock().unwrap();
            ["running_mean", "running_var"].map(|name| known[name].to_vec1::<f32>().unwrap())
        };
        assert_eq!(made(true), made(false));
    }
}
