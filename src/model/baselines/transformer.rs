//! The Transformer baseline: an encoder over all tokens of a window.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::{Parts, Problems, Window, ask, parts};
use crate::model::attention::attend;
use crate::model::fusion::{FREQUENCIES, Tokens, age_features};
use crate::model::heads::{Head, mean_token};
use crate::model::layers::{Dense, LayerNorm, Mode};
use crate::model::ops;
use crate::model::tasks::{Asked, Core, Said, Task, TokenShape};

/// Size of the Transformer baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerConfig {
    /// Layers of the encoder.
    pub layers: usize,
    /// Heads of its attention; they divide the width of a token.
    pub heads: usize,
    /// Width of a layer's MLP between its two dense layers.
    pub hidden: usize,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self { layers: 4, heads: 4, hidden: 512 }
    }
}

impl TransformerConfig {
    fn check(&self, shape: &TokenShape) -> Problems {
        let mut problems = Problems::default();
        problems.within("layers", self.layers, 1, 64);
        problems.within("hidden", self.hidden, 1, 65_536);
        problems.divides("heads", self.heads, "the width of a token", shape.width);
        problems
    }

    /// What is wrong with it, for tokens of that shape: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self, shape: &TokenShape) -> Vec<(String, String)> {
        self.check(shape).0
    }
}

/// x += Attention(norm(x)), x += MLP(norm(x)).
#[derive(Clone, Debug)]
struct Layer {
    heads: usize,
    norm: (LayerNorm, LayerNorm),
    query: Dense,
    /// Without a bias: the same number more for every key changes no softmax.
    key: Dense,
    value: Dense,
    output: Dense,
    up: Dense,
    down: Dense,
}

impl Layer {
    fn load(config: &TransformerConfig, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            heads: config.heads,
            norm: (LayerNorm::load(width, &vb.pp("norm1"))?, LayerNorm::load(width, &vb.pp("norm2"))?),
            query: Dense::load(width, width, true, &vb.pp("query"))?,
            key: Dense::load(width, width, false, &vb.pp("key"))?,
            value: Dense::load(width, width, true, &vb.pp("value"))?,
            output: Dense::load(width, width, true, &vb.pp("output"))?,
            up: Dense::load(width, config.hidden, true, &vb.pp("up"))?,
            down: Dense::load(config.hidden, width, true, &vb.pp("down"))?,
        })
    }

    /// `[R, T, d]` to the same; `mask` broadcasts to `[R, h, T, T]`.
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let y = self.norm.0.forward(x)?;
        let (query, key, value) = (self.query.forward(&y)?, self.key.forward(&y)?, self.value.forward(&y)?);
        let (mixed, _) = attend(&query, &key, &value, self.heads, mask)?;
        let x = (x + self.output.forward(&mixed)?)?;
        let y = ops::gelu_tanh(&self.up.forward(&self.norm.1.forward(&x)?)?)?;
        x + self.down.forward(&y)?
    }
}

/// Embeddings of slot, modality, place among the sample's tokens and age are added to the tokens; pre-norm
/// layers look at those that are there; the mean of these goes to a [`Head`] per task.
#[derive(Clone, Debug)]
pub struct Transformer {
    shape: TokenShape,
    /// `[W, 1, 1, d]`
    slot: Tensor,
    /// `[D, 1, d]`
    modality: Tensor,
    /// `[n_f, d]`
    place: Tensor,
    age: Dense,
    layers: Vec<Layer>,
    heads: Parts<Head>,
}

impl Transformer {
    /// Loads a core for `tasks` with their numbers of outputs (`slot`, `modality`, `place`, `age`, `layer.N`,
    /// `head.task`).
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &TransformerConfig,
        shape: TokenShape,
        tasks: &[(Task, usize)],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check(&shape).refuse("the Transformer")?;
        let TokenShape { slots, modalities, tokens, width } = shape;
        let hint = Init::Randn { mean: 0.0, stdev: 0.02 };
        let layers = (0..config.layers).map(|layer| Layer::load(config, width, &vb.pp("layer").pp(layer)));
        Ok(Self {
            shape,
            slot: vb.get_with_hints((slots, 1, 1, width), "slot", hint)?,
            modality: vb.get_with_hints((modalities, 1, width), "modality", hint)?,
            place: vb.get_with_hints((tokens, width), "place", hint)?,
            age: Dense::load(2 * FREQUENCIES, width, true, &vb.pp("age"))?,
            layers: layers.collect::<Result<_>>()?,
            heads: parts(tasks, |task, outputs| Head::load(width, outputs, &vb.pp("head").pp(task)))?,
        })
    }
}

impl Core for Transformer {
    fn forward(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said> {
        let window = Window::new(tokens, &self.shape)?;
        let (rows, length) = (window.values.dim(0)?, self.shape.length());
        let places = self.slot.broadcast_add(&self.modality)?.broadcast_add(&self.place)?; // [W, D, n_f, d]
        let ages = self.age.forward(&age_features(&window.ages)?)?.unsqueeze(3)?; // [R, W, D, 1, d]
        let x = window.values.broadcast_add(&places)?.broadcast_add(&ages)?;
        let mut x = x.reshape((rows, length, self.shape.width))?;
        let mask = window.mask.reshape((rows, length))?;
        let seen = mask.reshape((rows, 1, 1, length))?;
        for layer in &self.layers {
            x = layer.forward(&x, &seen)?;
        }
        let state = mean_token(&x, &mask)?; // [R, d]
        let say = |_, head: &Head, rows: &Tensor| head.forward(&state.index_select(rows, 0)?, mode);
        ask("Transformer", &self.heads, asked, &state, say)
    }
}
