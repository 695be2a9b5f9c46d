//! MoE-LoRA of LLM4WM: low-rank experts beside a frozen dense layer, mixed by a gate that knows the task.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder, init};
use serde::{Deserialize, Serialize};

use super::Problems;
use crate::model::dropout::dropout;
use crate::model::layers::{Dense, Mode};
use crate::model::tasks::Task;

/// Experts beside each adapted layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoeLoraConfig {
    /// E, experts of a layer.
    pub experts: usize,
    /// r, rank of an expert.
    pub rank: usize,
    /// What the mixture is multiplied by.
    pub scaling: f64,
    /// Share of a layer's inputs that its experts do not see in training.
    pub dropout: f64,
    /// Width of a task's embedding.
    pub embedding: usize,
}

impl Default for MoeLoraConfig {
    fn default() -> Self {
        Self { experts: 8, rank: 8, scaling: 2.0, dropout: 0.1, embedding: 256 }
    }
}

impl MoeLoraConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.within("lora.experts", self.experts, 1, 256);
        problems.within("lora.rank", self.rank, 1, 1024);
        problems.within("lora.embedding", self.embedding, 1, 8192);
        if !(self.scaling.is_finite() && self.scaling > 0.0) {
            let message = format!("found {}, allowed is a positive number", self.scaling);
            problems.0.push(("lora.scaling".to_owned(), message));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let message = format!("found {}, allowed is 0 to less than 1", self.dropout);
            problems.0.push(("lora.dropout".to_owned(), message));
        }
    }
}

/// Δ_t(x) = s Σ_e g_te B_e A_e dropout(x), g_t = softmax(G u_t), of a task t with the embedding u_t.
///
/// The experts' matrices are kept together, A `[E·r, in]` and B `[out, E·r]`, expert after expert: a mixture
/// is two products, whatever E. All experts of a layer see the same dropout.
#[derive(Clone, Debug)]
pub struct MoeLora {
    config: MoeLoraConfig,
    down: Dense,
    up: Dense,
    /// `embedding` to E.
    gate: Dense,
    /// `[1, embedding]`
    tasks: BTreeMap<Task, Tensor>,
    name: String,
}

impl MoeLora {
    /// Loads `lora_A.weight` `[E·r, inputs]`, `lora_B.weight` `[outputs, E·r]`, `gate.weight` `[E,
    /// embedding]` and, per task, `embedding.task` `[embedding]`. Fresh ones are drawn as A ~ N(0, 0.01²), B
    /// = 0, so that a fresh mixture adds nothing; the gate as torch's Linear, embeddings ~ N(0, 1).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        config: &MoeLoraConfig,
        inputs: usize,
        outputs: usize,
        tasks: impl Iterator<Item = Task>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let inner = config.experts * config.rank;
        let normal = |stdev: f64| Init::Randn { mean: 0.0, stdev };
        let embedding = |task: Task| {
            let embedding = vb.pp("embedding").get_with_hints(config.embedding, task.name(), normal(1.0))?;
            Ok((task, embedding.reshape((1, config.embedding))?))
        };
        let down = vb.pp("lora_A").get_with_hints((inner, inputs), "weight", normal(0.01))?;
        let up = vb.pp("lora_B").get_with_hints((outputs, inner), "weight", init::ZERO)?;
        Ok(Self {
            config: config.clone(),
            down: Dense::new(down, None)?,
            up: Dense::new(up, None)?,
            gate: Dense::load(config.embedding, config.experts, false, &vb.pp("gate"))?,
            tasks: tasks.map(embedding).collect::<Result<_>>()?,
            name: vb.prefix(),
        })
    }

    /// The share of each expert in a task, `[E]`, all together 1.
    ///
    /// # Errors
    /// When there is no embedding of the task.
    pub fn shares(&self, task: Task) -> Result<Tensor> {
        let Some(embedding) = self.tasks.get(&task) else {
            candle_core::bail!("{}: found no embedding of the task `{task}`", self.name);
        };
        candle_nn::ops::softmax(&self.gate.forward(embedding)?, 1)?.squeeze(0)
    }

    /// What the experts add for inputs `[.., in]`: `[.., out]`.
    ///
    /// # Errors
    /// When shapes disagree, or there is no embedding of the task.
    pub fn forward(&self, x: &Tensor, task: Task, mode: Mode) -> Result<Tensor> {
        let MoeLoraConfig { experts, rank, scaling, .. } = self.config;
        // [E] → [E·r]
        let shares = self.shares(task)?.unsqueeze(1)?.broadcast_as((experts, rank))?.contiguous()?;
        let shares = (shares.flatten_all()? * scaling)?;
        let x = dropout(x, self.config.dropout, mode, &format!("{}.{task}", self.name))?;
        self.up.forward(&self.down.forward(&x)?.broadcast_mul(&shares)?)
    }
}

/// The experts of one layer of GPT-2.
#[derive(Clone, Debug)]
pub struct LayerExperts {
    pub(super) attention: MoeLora,
    pub(super) up: MoeLora,
    pub(super) down: MoeLora,
}

impl LayerExperts {
    /// Loads experts beside `attn.c_proj`, `mlp.c_fc` and `mlp.c_proj` of a layer of that width.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        config: &MoeLoraConfig,
        width: usize,
        tasks: impl Iterator<Item = Task> + Clone,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let load = |inputs: usize, outputs: usize, name: &str| {
            MoeLora::load(config, inputs, outputs, tasks.clone(), &vb.pp(name))
        };
        Ok(Self {
            attention: load(width, width, "attn.c_proj")?,
            up: load(width, 4 * width, "mlp.c_fc")?,
            down: load(4 * width, width, "mlp.c_proj")?,
        })
    }
}
