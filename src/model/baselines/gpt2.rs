//! GPT-2 without its vocabulary: embeddings in, last hidden states out (Radford et al. 2019), under the names
//! and in the layouts of Hugging Face's `GPT2Model`.

use std::path::Path;

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder, init};
use serde::{Deserialize, Serialize};

use super::Problems;
use super::moe_lora::{LayerExperts, MoeLora};
use crate::model::attention::{attend, causal};
use crate::model::checkpoint::Checkpoint;
use crate::model::layers::{Dense, LayerNorm, Mode};
use crate::model::ops;
use crate::model::tasks::Task;

/// Size of the backbone; by default the first half of GPT-2 small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpt2Config {
    /// Width of a hidden state; an MLP is four times as wide.
    pub width: usize,
    /// Layers, of a file's the first so many.
    pub layers: usize,
    /// Heads of the attention; they divide the width.
    pub heads: usize,
    /// Learned positions: the longest sequence.
    pub positions: usize,
}

impl Default for Gpt2Config {
    fn default() -> Self {
        Self { width: 768, layers: 6, heads: 12, positions: 1024 }
    }
}

impl Gpt2Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.within("backbone.width", self.width, 1, 8192);
        problems.within("backbone.layers", self.layers, 1, 64);
        problems.within("backbone.positions", self.positions, 1, 65_536);
        problems.divides("backbone.heads", self.heads, "backbone.width", self.width);
    }
}

/// What the experts need to know of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Experts of each layer.
    pub experts: &'a [LayerExperts],
    /// Whose shares they have.
    pub task: Task,
    /// What the pass is for.
    pub mode: Mode,
}

/// `Conv1D` of Hugging Face's GPT-2: `weight` `[inputs, outputs]`, the transpose of a torch Linear's.
fn dense(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Dense> {
    let hint = Init::Randn { mean: 0.0, stdev: 0.02 };
    let weight = vb.get_with_hints((inputs, outputs), "weight", hint)?.detach();
    Dense::new(weight.t()?, Some(vb.get_with_hints(outputs, "bias", init::ZERO)?.detach()))
}

/// x += c_proj(attention(c_attn(ln_1(x)))), x += c_proj(gelu(c_fc(ln_2(x)))).
#[derive(Clone, Debug)]
struct Layer {
    ln_1: LayerNorm,
    c_attn: Dense,
    attention: Dense,
    ln_2: LayerNorm,
    up: Dense,
    down: Dense,
    heads: usize,
}

/// A dense layer with what its experts add.
fn tuned(layer: &Dense, x: &Tensor, route: Option<Route<'_>>, experts: Option<&MoeLora>) -> Result<Tensor> {
    let y = layer.forward(x)?;
    match (route, experts) {
        (Some(Route { task, mode, .. }), Some(experts)) => y + experts.forward(x, task, mode)?,
        _ => Ok(y),
    }
}

impl Layer {
    fn load(config: &Gpt2Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width;
        Ok(Self {
            ln_1: LayerNorm::load(width, &vb.pp("ln_1"))?.frozen(),
            c_attn: dense(width, 3 * width, &vb.pp("attn.c_attn"))?,
            attention: dense(width, width, &vb.pp("attn.c_proj"))?,
            ln_2: LayerNorm::load(width, &vb.pp("ln_2"))?.frozen(),
            up: dense(width, 4 * width, &vb.pp("mlp.c_fc"))?,
            down: dense(4 * width, width, &vb.pp("mlp.c_proj"))?,
            heads: config.heads,
        })
    }

    /// `[R, T, w]` to the same.
    fn forward(
        &self,
        x: &Tensor,
        mask: &Tensor,
        route: Option<Route<'_>>,
        experts: Option<&LayerExperts>,
    ) -> Result<Tensor> {
        let all = self.c_attn.forward(&self.ln_1.forward(x)?)?.chunk(3, 2)?;
        let [query, key, value] = all.as_slice() else {
            candle_core::bail!("c_attn: found {} parts, allowed are query, key and value", all.len());
        };
        let (y, _) = attend(query, key, value, self.heads, mask)?;
        let x = (x + tuned(&self.attention, &y, route, experts.map(|experts| &experts.attention))?)?;
        let y = tuned(&self.up, &self.ln_2.forward(&x)?, route, experts.map(|experts| &experts.up))?;
        x + tuned(&self.down, &ops::gelu_tanh(&y)?, route, experts.map(|experts| &experts.down))?
    }
}

/// The backbone.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    /// `[positions, w]`
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Gpt2 {
    /// Loads `wpe`, `h.N` and `ln_f`; fresh ones are drawn like GPT-2's, N(0, 0.02²) and biases 0.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &Gpt2Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let hint = Init::Randn { mean: 0.0, stdev: 0.02 };
        let layers = (0..config.layers).map(|layer| Layer::load(config, &vb.pp("h").pp(layer)));
        Ok(Self {
            positions: vb
                .pp("wpe")
                .get_with_hints((config.positions, config.width), "weight", hint)?
                .detach(),
            layers: layers.collect::<Result<_>>()?,
            norm: LayerNorm::load(config.width, &vb.pp("ln_f"))?.frozen(),
        })
    }

    /// Loads from a safetensors file of `GPT2Model` (`h.0.ln_1.weight`) or of a model around it
    /// (`transformer.h.0.ln_1.weight`), with the number type and on the device of `like`.
    ///
    /// # Errors
    /// [`CheckpointError`](crate::model::checkpoint::CheckpointError) when the file cannot be read, or a tensor in it is missing, has another shape or no floats, or
    /// belongs to no part: but for the embedding of words, the head over it, and the masks that GPT-2 keeps as tensors.
    pub fn load_file(config: &Gpt2Config, path: &Path, like: &VarBuilder<'_>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let vb = checkpoint.builder_spelled(like.dtype(), like.device(), &["", "transformer."]);
        let backbone = Self::load(config, &vb)?;
        checkpoint.finish(|name| {
            let name = name.strip_prefix("transformer.").unwrap_or(name);
            let is_mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
            is_mask || name == "wte.weight" || name == "lm_head.weight"
        })?;
        Ok(backbone)
    }

    /// Embeddings `[R, T, w]` to last hidden states `[R, T, w]`, after the last norm. Token i sees those up
    /// to i.
    ///
    /// # Errors
    /// When shapes disagree, or the sequence is longer than there are positions.
    pub fn forward(&self, x: &Tensor, route: Option<Route<'_>>) -> Result<Tensor> {
        let length = x.dim(1)?;
        if length > self.positions.dim(0)? {
            candle_core::bail!("tokens: found {length}, allowed are {} positions", self.positions.dim(0)?);
        }
        let mask = causal(length, x)?;
        let mut x = x.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let experts = route.and_then(|route| route.experts.get(number));
            x = layer.forward(&x, &mask, route, experts)?;
        }
        self.norm.forward(&x)
    }
}
