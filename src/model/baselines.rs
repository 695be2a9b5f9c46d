//! The baselines that the paper compares with, behind the same interface as MMSense itself
//! ([`super::tasks::Core`]).
//!
//! | core | encoders | what it does with the tokens of a window |
//! |---|---|---|
//! | [`Mlp`] | [`encoders::FlatEncoder`] | flattens them: two layers per task |
//! | [`Cnn`] | [`encoders::GridCnn`] | those of a slot side by side, convolutions along the slots, heads |
//! | [`Transformer`] | [`encoders::PatchEncoder`] | a pre-norm encoder, the mean of its tokens, heads |
//! | [`Llm4Wm`] | those of MMSense | adapters around a frozen GPT-2 with a mixture of LoRA experts per task |
//!
//! Radar and LiDAR come to the image-like encoders as range–angle maps ([`super::grid`]). The first three
//! are single-task in the paper: a core answers for exactly the tasks that it was built for, one of them or
//! several.
//!
//! All have batch norms, encoders and cores: what is the same in every row, a wall or the ground, is most of what they see,
//! and without norms they learn nothing else for as long as MMSense learns.
//!
//! A masked token is a zero to each of them, however it came: what is not there changes nothing.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::fusion::Tokens;
use super::tasks::{Asked, Said, Task, TokenShape};

pub mod cnn;
mod conv;
pub mod encoders;
pub mod gpt2;
pub mod llm4wm;
pub mod mlp;
pub mod moe_lora;
pub mod transformer;

pub use cnn::{Cnn, CnnConfig};
pub use llm4wm::{Llm4Wm, Llm4WmConfig, Stage};
pub use mlp::{MlpConfig, MlpCore as Mlp};
pub use transformer::{Transformer, TransformerConfig};

/// The part of a core that answers for one task.
#[derive(Clone, Debug)]
struct Part<T> {
    outputs: usize,
    part: T,
}

/// The parts of a core by task.
type Parts<T> = BTreeMap<Task, Part<T>>;

/// Loads a part for each task, under the task's name.
fn parts<T>(
    tasks: &[(Task, usize)],
    mut load: impl FnMut(&'static str, usize) -> Result<T>,
) -> Result<Parts<T>> {
    let mut parts = Parts::new();
    for &(task, outputs) in tasks {
        let part = Part { outputs, part: load(task.name(), outputs)? };
        if parts.insert(task, part).is_some() {
            candle_core::bail!("tasks of a baseline: found `{task}` twice, allowed is once");
        }
    }
    Ok(parts)
}

/// Asks the parts of a core: `say` gets a task, its part and the rows asked for (u32, `[n]`, n > 0), and
/// gives `[n, outputs]`.
fn ask<T>(
    core: &str,
    parts: &Parts<T>,
    asked: &Asked,
    tokens: &Tensor,
    mut say: impl FnMut(Task, &T, &Tensor) -> Result<Tensor>,
) -> Result<Said> {
    let rows = tokens.dim(0)?;
    let mut said = BTreeMap::new();
    for (&task, wanted) in asked {
        let Some(Part { outputs, part }) = parts.get(&task) else {
            let built = parts.keys().map(|task| task.name()).collect::<Vec<_>>().join(", ");
            candle_core::bail!("task `{task}`: this {core} was not built for it; allowed are: {built}");
        };
        if let Some(row) = wanted.iter().find(|&&row| row as usize >= rows) {
            candle_core::bail!("task `{task}`: found row {row}, allowed are rows below {rows}");
        }
        let scores = if wanted.is_empty() {
            Tensor::zeros((0, *outputs), tokens.dtype(), tokens.device())?
        } else {
            say(task, part, &Tensor::new(wanted.as_slice(), tokens.device())?)?
        };
        said.insert(task, scores);
    }
    Ok(Said { tasks: said, gate: None })
}

/// A window as flat numbers.
struct Window {
    /// `[R, W, D, n_f, d]`, zero where masked.
    values: Tensor,
    /// `[R, W, D, n_f]`
    mask: Tensor,
    /// `[R, W, D]`, 1 where the sample has any token.
    present: Tensor,
    /// `[R, W, D]`, seconds, zero where there is no sample.
    ages: Tensor,
}

impl Window {
    fn new(tokens: &Tokens, shape: &TokenShape) -> Result<Self> {
        let tokens = tokens.with_slots(shape.slots)?;
        shape.rows(&tokens)?;
        let present = tokens.mask.max(3)?;
        Ok(Self {
            values: tokens.values.broadcast_mul(&tokens.mask.unsqueeze(4)?)?,
            ages: (&tokens.ages * &present)?,
            present,
            mask: tokens.mask,
        })
    }

    /// With `count` tokens of each reading, each the mean of those that are there of as many that follow each other.
    fn thinned(self, count: usize) -> Result<Self> {
        let (rows, slots, modalities, tokens, width) = self.values.dims5()?;
        if tokens == count {
            return Ok(self);
        }
        let samples = rows * slots * modalities;
        let there = self.mask.reshape((samples, count, tokens / count))?;
        let sums = self.values.reshape((samples, count, tokens / count, width))?.sum(2)?;
        let counts = there.sum(2)?.maximum(1f64)?.unsqueeze(2)?;
        Ok(Self {
            values: sums.broadcast_div(&counts)?.reshape((rows, slots, modalities, count, width))?,
            mask: there.max(2)?.reshape((rows, slots, modalities, count))?,
            ..self
        })
    }
}

/// Checks of configurations: the key, and what was found and allowed.
#[derive(Default)]
struct Problems(Vec<(String, String)>);

impl Problems {
    fn within(&mut self, key: &str, value: usize, low: usize, high: usize) {
        if !(low..=high).contains(&value) {
            self.0.push((key.to_owned(), format!("found {value}, allowed is {low} to {high}")));
        }
    }

    fn divides(&mut self, key: &str, divisor: usize, of: &str, whole: usize) {
        if divisor == 0 || !whole.is_multiple_of(divisor) {
            self.0.push((key.to_owned(), format!("found {divisor}, allowed are divisors of {of} = {whole}")));
        }
    }

    /// The same as an error, where there are any.
    fn refuse(&self, core: &str) -> Result<()> {
        if let Some((key, message)) = self.0.first() {
            candle_core::bail!("configuration of {core}: {key}: {message}");
        }
        Ok(())
    }
}
