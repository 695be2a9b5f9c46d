//! Running statistics of batch norms: they move as batches go through, or, where batches go through side by side, later,
//! in the batches' order.

use std::cell::RefCell;

use candle_core::{Result, Tensor, Var};

/// torch's share of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

thread_local! {
    static HELD_BACK: RefCell<Option<Moves>> = const { RefCell::new(None) };
}

/// Moves that have not been made: (running statistic, that of a batch), in order.
#[derive(Debug, Default)]
pub struct Moves(Vec<(Tensor, Tensor)>);

impl Moves {
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
