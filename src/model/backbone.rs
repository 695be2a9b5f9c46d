//! The text stack of Llama-3.2-Vision ("mllama"), for inference and for training: prompts go in as text, the sensors'
//! fused tokens b_mm stand where the vision tower's states would.
//!
//! ```text
//!  prompt ids ─▶ embedding ─▶ self layers … ─▶ cross layer ─▶ self layers … ─▶ … ─▶ last layer ─▶ norm
//!                └── prefix: the same for ───┘      ▲                 │ H^{l1}              │ H^{lK}
//!                    every frame ([`Prepared`])     └─ K, V of b_mm ([`CrossStates`]): once per sample
//! ```
//!
//! * A self layer is h += SelfAttn(RMS(h)), h += MLP(RMS(h)), with grouped queries, rotary positions and a causal mask; a
//!   cross layer is h += tanh(g_a) · CrossAttn(RMS(h), b_mm), h += tanh(g_m) · MLP(RMS(h)), with RMS norms on each head's
//!   queries and keys. There is no vision tower, no `lm_head` and no generation.
//! * Rows are (sample, prompt) pairs: [`Backbone::taps`] gives the hidden state of each tapped layer ([`Taps`]) at a row's
//!   last real token, for Eq. 12–13. What depends on the prompt alone is computed once ([`Backbone::prepare`]), keys and
//!   values of the sensors once per sample ([`Backbone::states`]), and of the last layer that one token alone.
//! * [`Backbone::forward`] is the plain whole, for parity with the reference.
//! * Weights that are no variables are frozen: no gradient of them is computed or kept ([`ops::Frozen`]).
//!   [`Adapters`] make a frozen backbone trainable.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::layers::Mode;
use super::lora::Adapters;

pub mod config;
mod layer;
mod norm;
pub mod ops;
mod projection;
mod prompts;
mod rope;
mod rows;
mod taps;

pub use config::{BackboneConfig, BackboneConfigError, RopeConfig, RopeScaling};
pub use norm::RmsNorm;
pub use projection::Projection;
pub use prompts::{Prepared, Prompts, PromptsError};
pub use rope::{Rotation, inverse_frequencies};
pub use taps::{Taps, TapsError};

use layer::{CrossLayer, KeysValues, SelfLayer, Sensors, Text};

/// What a backbone's names begin with: in the published files, in memory, and in a checkpoint of its own. For
/// [`Checkpoint::builder_spelled`](super::checkpoint::Checkpoint::builder_spelled).
pub const SPELLINGS: [&str; 3] = ["language_model.model.", "model.language_model.", ""];

/// Whether a tensor of a published checkpoint belongs to a part that this backbone does not have: the vision tower, its
/// projector and the head over the vocabulary.
#[must_use]
pub fn is_foreign(name: &str) -> bool {
    ["vision_model.", "multi_modal_projector.", "lm_head."]
        .iter()
        .any(|part| name.starts_with(part) || name.contains(&format!(".{part}")))
}

/// Added to the score of what is not to be looked at.
const MASKED: f64 = -1e9;

#[derive(Clone, Debug)]
enum Layer {
    Text(SelfLayer),
    Sensors(CrossLayer),
}

impl Layer {
    fn is_trained(&self) -> bool {
        match self {
            Self::Text(layer) => layer.is_trained(),
            Self::Sensors(layer) => layer.is_trained(),
        }
    }
}

/// How much of a backbone is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Everything, for [`Backbone::forward`] as well.
    Whole,
    /// The embedding and the layers up to the last tapped one.
    ToLastTap,
    /// The layers from the first cross layer to the last tapped one: the prompts' states are given
    /// ([`Prepared::from_states`]).
    AfterPrefix,
}

/// The backbone on a device.
#[derive(Clone, Debug)]
pub struct Backbone {
    config: BackboneConfig,
    taps: Taps,
    dtype: DType,
    device: Device,
    inverse_frequencies: Vec<f32>,
    /// `[embeddings, hidden]`
    embedding: Option<Tensor>,
    /// By layer; `None` where it is not held.
    layers: Vec<Option<Layer>>,
    /// The final norm, where the last layer is held.
    norm: Option<RmsNorm>,
}

/// Keys and values of a batch of samples, and which of their tokens count.
#[derive(Clone, Debug)]
pub struct CrossStates {
    samples: usize,
    /// By layer; `None` where there is no cross layer.
    layers: Vec<Option<KeysValues>>,
    /// Additive, `[S, 1, N]`.
    mask: Option<Tensor>,
    /// `[S]`: 0 where no token counts; where there is none, at least one token of each sample does.
    rows: Option<Tensor>,
}

/// What [`Backbone::forward`] runs on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `[B, T, hidden]`, of [`Backbone::embed`].
    pub embeddings: &'a Tensor,
    /// `[B, T]`: 1 for a real token, 0 for padding.
    pub mask: Option<&'a Tensor>,
    /// `[B, T]`; where there are none, 0, 1, 2, …
    pub positions: Option<&'a Tensor>,
    /// The sensors, sample b for row b; where there are none, cross layers are left out.
    pub states: Option<&'a CrossStates>,
}

/// What [`Backbone::forward`] gives.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Number of each layer that ran and the residual stream after it, `[B, T, hidden]`.
    pub layers: Vec<(usize, Tensor)>,
    /// The last of them after the final norm.
    pub last: Tensor,
}

impl Backbone {
    /// Loads all of it, in the type of `vb`. Names are `embed_tokens.weight`, `layers.N.…`, `norm.weight`: the root of
    /// `vb` is what files call `language_model.model`. Weights that are drawn are N(0, 0.02²), gates of cross layers 0.5.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &BackboneConfig, vb: &VarBuilder<'_>, adapters: Option<&Adapters>) -> Result<Self> {
        Self::load_part(config, &Taps::spread(config, Taps::DEFAULT), Held::Whole, vb, adapters)
    }

    /// Loads what is to be held of it.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load_part(
        config: &BackboneConfig,
        taps: &Taps,
        held: Held,
        vb: &VarBuilder<'_>,
        adapters: Option<&Adapters>,
    ) -> Result<Self> {
        let until = if held == Held::Whole { config.layers } else { taps.last() + 1 };
        let from = if held == Held::AfterPrefix { config.prefix() } else { 0 };
        let mut layers = Vec::with_capacity(config.layers);
        for number in 0..config.layers {
            if !(from..until).contains(&number) {
                layers.push(None);
                continue;
            }
            let (module, vb) = (format!("layers.{number}"), vb.pp("layers").pp(number));
            layers.push(Some(if config.cross_layers.contains(&number) {
                Layer::Sensors(CrossLayer::load(config, &module, &vb, adapters)?)
            } else {
                Layer::Text(SelfLayer::load(config, &module, &vb, adapters)?)
            }));
        }
        let hint = Init::Randn { mean: 0.0, stdev: projection::DEVIATION };
        let shape = (config.embeddings, config.hidden_size);
        let embedding = || vb.pp("embed_tokens").get_with_hints(shape, "weight", hint);
        let norm = || RmsNorm::load(config.hidden_size, config.rms_norm_eps, &vb.pp("norm"));
        Ok(Self {
            config: config.clone(),
            taps: taps.clone(),
            dtype: vb.dtype(),
            device: vb.device().clone(),
            inverse_frequencies: inverse_frequencies(&config.rope, config.head_dim()),
            embedding: (held != Held::AfterPrefix).then(embedding).transpose()?,
            norm: (until == config.layers).then(norm).transpose()?,
            layers,
        })
    }

    /// Lets go of what is needed for prompts alone, once they are [prepared](Self::prepare): the embedding and the layers
    /// before the first cross layer.
    pub fn forget_prefix(&mut self) {
        self.embedding = None;
        let prefix = self.config.prefix();
        self.layers.iter_mut().take(prefix).for_each(|layer| *layer = None);
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// The layers whose hidden states it gives.
    #[must_use]
    pub const fn tapped(&self) -> &Taps {
        &self.taps
    }

    /// The type in which it computes.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Token ids `[B, T]` (or of any shape) to embeddings `[.., hidden]`.
    ///
    /// # Errors
    /// When the embedding is not held, or an id is not in the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let Some(embedding) = &self.embedding else {
            candle_core::bail!("the embedding is not held by this backbone");
        };
        let flat = ids.flatten_all()?.to_dtype(DType::U32)?;
        let largest = flat.max(0)?.to_scalar::<u32>()? as usize;
        if largest >= self.config.embeddings {
            candle_core::bail!("found token id {largest}, allowed are 0 to {}", self.config.embeddings - 1);
        }
        let mut shape = ids.dims().to_vec();
        shape.push(self.config.hidden_size);
        embedding.index_select(&flat, 0)?.reshape(shape)
    }

    /// Keys and values of the sensors' tokens `[S, N, hidden]` in every cross layer that is held; tokens count where
    /// `mask` `[S, N]` is 1. Where none of a sample does, the reference leaves its scores unmasked and takes nothing of
    /// the cross layers' MLPs, and so does this.
    ///
    /// # Errors
    /// When the tokens are not as wide as a hidden state, or the mask has another shape.
    pub fn states(&self, tokens: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Result<CrossStates> {
        let (samples, count, width) = tokens.dims3()?;
        if width != self.config.hidden_size || mask.is_some_and(|mask| mask.dims() != [samples, count]) {
            candle_core::bail!(
                "found tokens {:?} and mask {:?}, allowed are [S, N, {}] and [S, N]",
                tokens.dims(),
                mask.map(Tensor::dims),
                self.config.hidden_size
            );
        }
        let tokens = tokens.to_dtype(self.dtype)?;
        let layers = self.layers.iter().map(|layer| match layer {
            Some(Layer::Sensors(layer)) => layer.look(&tokens, mode).map(Some),
            _ => Ok(None),
        });
        let layers = layers.collect::<Result<_>>()?;
        let Some(mask) = mask else { return Ok(CrossStates { samples, layers, mask: None, rows: None }) };
        let dtype = if self.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let keep = mask.to_dtype(dtype)?;
        let rows = keep.max(1)?; // [S]
        let additive = ((keep - 1.0)? * -MASKED)?;
        let additive = additive.broadcast_mul(&rows.unsqueeze(1)?)?.unsqueeze(1)?;
        // On the CPU it costs nothing to see that all of them count, and saves a product over every cross layer.
        let all = self.device.is_cpu() && rows.min(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()? == 1.0;
        let rows = (!all).then(|| rows.to_dtype(self.dtype)).transpose()?;
        Ok(CrossStates { samples, layers, mask: Some(additive), rows })
    }

    /// The plain whole: every layer over every token.
    ///
    /// # Errors
    /// When part of the backbone is not held, or shapes disagree.
    pub fn forward(&self, inputs: &Inputs<'_>, mode: Mode) -> Result<Outputs> {
        let (rows, length, _) = inputs.embeddings.dims3()?;
        let shape = if inputs.positions.is_some() { (rows, length) } else { (1, length) };
        let positions = match inputs.positions {
            Some(positions) => positions.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?,
            None => (0..length as u32).collect(),
        };
        let mut text = self.text(&positions, shape)?;
        if let Some(mask) = inputs.mask {
            // [B, 1, T] over [1, T, T]
            let padding = ((mask.to_dtype(text.mask.dtype())? - 1.0)? * -MASKED)?.unsqueeze(1)?;
            text.mask = text.mask.broadcast_add(&padding)?;
        }
        let sensors = inputs.states.map(|states| {
            if states.samples != rows {
                candle_core::bail!("found {} samples for {rows} rows, allowed is one each", states.samples);
            }
            let rows = states.rows.as_ref().map(|rows| rows.reshape((states.samples, 1, 1))).transpose()?;
            Ok((states, Sensors { per_sample: 1, mask: states.mask.clone(), rows }))
        });
        let sensors = sensors.transpose()?;
        let mut x = inputs.embeddings.clone();
        let mut layers = Vec::with_capacity(self.layers.len());
        for (number, layer) in self.layers.iter().enumerate() {
            x = match (layer, &sensors) {
                (Some(Layer::Text(layer)), _) => layer.forward(&x, &text, None, mode)?,
                (Some(Layer::Sensors(layer)), Some((states, sensors))) => {
                    layer.forward(&x, states.of(number)?, sensors, None, mode)?
                }
                (Some(Layer::Sensors(_)), None) => continue,
                (None, _) => candle_core::bail!("layer {number} is not held by this backbone"),
            };
            layers.push((number, x.clone()));
        }
        let last = self.final_norm(&x)?;
        Ok(Outputs { layers, last })
    }

    fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => candle_core::bail!("the final norm is not held by this backbone"),
        }
    }

    /// Rotation of positions and the causal mask.
    fn text(&self, positions: &[u32], shape: (usize, usize)) -> Result<Text> {
        let dtype = if self.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let length = shape.1;
        let ahead = |place: usize| if place % length > place / length { MASKED as f32 } else { 0.0 };
        let mask: Vec<f32> = (0..length * length).map(ahead).collect();
        Ok(Text {
            rotation: Rotation::new(&self.inverse_frequencies, positions, shape, dtype, &self.device)?,
            mask: Tensor::from_vec(mask, (1, length, length), &self.device)?.to_dtype(dtype)?,
        })
    }
}

impl CrossStates {
    fn of(&self, layer: usize) -> Result<&KeysValues> {
        match self.layers.get(layer) {
            Some(Some(seen)) => Ok(seen),
            _ => candle_core::bail!("these states were made without cross layer {layer}"),
        }
    }

    /// S, samples.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.samples
    }
}
