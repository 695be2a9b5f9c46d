//! The MLP baseline: the whole window as one flat vector.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::{Parts, Problems, Window, ask, parts};
use crate::model::fusion::Tokens;
use crate::model::layers::{Mode, NormedMlp};
use crate::model::tasks::{Asked, Core, Said, Task, TokenShape};

/// Size of the MLP baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Width of the layer between the window and the scores.
    pub hidden: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: 256 }
    }
}

impl MlpConfig {
    fn check(&self) -> Problems {
        let mut problems = Problems::default();
        problems.within("hidden", self.hidden, 1, 65_536);
        problems
    }

    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        self.check().0
    }
}

/// scores_t = W₂ relu(norm(W₁ [tokens; presence; ages])) + b₂, with weights of its own for every task.
#[derive(Clone, Debug)]
pub struct MlpCore {
    shape: TokenShape,
    parts: Parts<NormedMlp>,
}

impl MlpCore {
    /// Loads a core for `tasks` with their numbers of outputs (`task.0`, `task.1`, `task.3`, as [`NormedMlp`] names
    /// them).
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &MlpConfig,
        shape: TokenShape,
        tasks: &[(Task, usize)],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().refuse("the MLP")?;
        let inputs = shape.length() * shape.width + 2 * shape.samples();
        let parts =
            parts(tasks, |task, outputs| NormedMlp::load(inputs, config.hidden, outputs, &vb.pp(task)))?;
        Ok(Self { shape, parts })
    }
}

impl Core for MlpCore {
    fn forward(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said> {
        let window = Window::new(tokens, &self.shape)?;
        // [R, W·D·n_f·d + 2·W·D]
        let flat =
            [&window.values, &window.present, &window.ages].map(|part| part.flatten_from(1)).into_iter();
        let flat = Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 1)?;
        ask("MLP", &self.parts, asked, &flat, |_, mlp, rows| mlp.forward(&flat.index_select(rows, 0)?, mode))
    }
}
