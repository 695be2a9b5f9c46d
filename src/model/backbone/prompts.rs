//! The prompts of the tasks, and what of a pass depends on them alone.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::config::BackboneConfig;
use super::layer::Text;
use super::{Backbone, Layer};
use crate::model::layers::Mode;

/// Prompts as token ids, padded on the right to the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// `[P][T]`
    ids: Vec<u32>,
    /// Real tokens of each.
    lengths: Vec<usize>,
}

/// What is wrong with prompts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptsError {
    /// There is none.
    #[error("found no prompts, allowed are one or more")]
    None,
    /// One has no token.
    #[error("prompt {prompt} has no token")]
    Empty {
        /// Its place.
        prompt: usize,
    },
    /// One has a token that the backbone does not know.
    #[error("prompt {prompt} has token id {id}, the backbone's are 0 to {}", embeddings - 1)]
    Unknown {
        /// Its place.
        prompt: usize,
        /// The token.
        id: u32,
        /// Rows of the backbone's embedding.
        embeddings: usize,
    },
    /// What looks at the sensors for one prompt is the same as for another.
    #[error(
        "prompts {one} and {other} end in the same token, and nothing lets it see the words before it: their tasks would look at \
         the sensors alike; allowed is a self layer before the last cross layer"
    )]
    Alike {
        /// The place of one.
        one: usize,
        /// The place of the other.
        other: usize,
    },
}

impl Prompts {
    /// Prompts of these ids, for a backbone whose embedding has `embeddings` rows.
    ///
    /// # Errors
    /// When there is none, one is empty, or an id is not the backbone's.
    pub fn new(ids: &[Vec<u32>], embeddings: usize) -> std::result::Result<Self, PromptsError> {
        let longest = ids.iter().map(Vec::len).max().ok_or(PromptsError::None)?;
        for (prompt, ids) in ids.iter().enumerate() {
            if ids.is_empty() {
                return Err(PromptsError::Empty { prompt });
            }
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= embeddings) {
                return Err(PromptsError::Unknown { prompt, id, embeddings });
            }
        }
        // What pads is never looked at: it stands behind every token that looks.
        let padded = ids.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat(0)).take(longest));
        Ok(Self { ids: padded.collect(), lengths: ids.iter().map(Vec::len).collect() })
    }

    /// Checks that each looks at the sensors in a way of its own: that of a prompt is its last token's, which sees the words
    /// before it in self layers alone.
    ///
    /// # Errors
    /// When two end in the same token and the backbone has no self layer before its last cross layer.
    pub fn check_apart(&self, config: &BackboneConfig) -> std::result::Result<(), PromptsError> {
        let last = config.cross_layers.last().copied().unwrap_or_default();
        if (0..last).any(|layer| !config.cross_layers.contains(&layer)) {
            return Ok(());
        }
        let mut seen = BTreeMap::new();
        for (other, ids) in self.rows().iter().enumerate() {
            if let Some(one) = seen.insert(ids.last().copied(), other) {
                return Err(PromptsError::Alike { one, other });
            }
        }
        Ok(())
    }

    /// P, prompts.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// The ids of each, without padding.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<u32>> {
        let longest = self.longest().max(1);
        let rows = self.ids.chunks(longest).zip(&self.lengths);
        rows.map(|(ids, &length)| ids.iter().copied().take(length).collect()).collect()
    }

    /// T, tokens of the longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or_default()
    }

    /// The place of the last real token of a prompt.
    pub(super) fn last(&self, prompt: usize) -> Option<usize> {
        self.lengths.get(prompt).map(|length| length - 1)
    }

    /// `[P, T]`
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn ids(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&self.ids, (self.count(), self.longest()), device)
    }

    /// `[P, T]`: 1 for a real token, 0 for padding.
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn mask(&self, device: &Device) -> Result<Tensor> {
        let longest = self.longest();
        let row = |&length: &usize| (0..longest).map(move |place| u32::from(place < length));
        let mask: Vec<u32> = self.lengths.iter().flat_map(row).collect();
        Tensor::from_vec(mask, (self.count(), longest), device)
    }
}

/// Prompts with what was computed of them before any sensor was seen.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) prompts: Prompts,
    pub(super) text: Text,
    /// `[P, T, hidden]`, what enters the first cross layer; `None` where it is trained and computed in each pass.
    states: Option<Tensor>,
}

impl Prepared {
    /// Of states `[P, T, hidden]` that [`Self::states`] gave: a deployed backbone needs no vocabulary and no prefix.
    ///
    /// # Errors
    /// When the states have another shape.
    pub fn from_states(backbone: &Backbone, prompts: Prompts, states: &Tensor) -> Result<Self> {
        let wanted = [prompts.count(), prompts.longest(), backbone.config.hidden_size];
        if states.dims() != wanted {
            candle_core::bail!("found prompts' states {:?}, allowed is {wanted:?}", states.dims());
        }
        let states = states.to_dtype(backbone.dtype)?.to_device(&backbone.device)?;
        let text = backbone.prompt_text(&prompts)?;
        Ok(Self { prompts, text, states: Some(states) })
    }

    /// What enters the first cross layer, `[P, T, hidden]`; `None` where it is trained and computed in each pass.
    #[must_use]
    pub const fn states(&self) -> Option<&Tensor> {
        self.states.as_ref()
    }

    /// The prompts.
    #[must_use]
    pub const fn prompts(&self) -> &Prompts {
        &self.prompts
    }
}

impl Backbone {
    fn prompt_text(&self, prompts: &Prompts) -> Result<Text> {
        let positions: Vec<u32> = (0..prompts.longest() as u32).collect();
        self.text(&positions, (1, positions.len()))
    }

    /// Runs what depends on prompts alone, once and for all where nothing of it is trained.
    ///
    /// # Errors
    /// When the embedding or a layer before the first cross layer is not held.
    pub fn prepare(&self, prompts: &Prompts) -> Result<Prepared> {
        let trained = self.embedding.as_ref().is_some_and(Tensor::is_variable)
            || self.layers.iter().take(self.config.prefix()).flatten().any(Layer::is_trained);
        let text = self.prompt_text(prompts)?;
        let states = (!trained).then(|| self.prefix(prompts, &text, Mode::Infer)).transpose()?;
        Ok(Prepared { prompts: prompts.clone(), text, states })
    }

    /// What enters the first cross layer, `[P, T, hidden]`.
    pub(super) fn prompt_states(&self, prepared: &Prepared, mode: Mode) -> Result<Tensor> {
        match &prepared.states {
            Some(states) => Ok(states.clone()),
            None => self.prefix(&prepared.prompts, &prepared.text, mode),
        }
    }

    fn prefix(&self, prompts: &Prompts, text: &Text, mode: Mode) -> Result<Tensor> {
        let mut x = self.embed(&prompts.ids(&self.device)?)?;
        for (number, layer) in self.layers.iter().take(self.config.prefix()).enumerate() {
            let Some(Layer::Text(layer)) = layer else {
                candle_core::bail!("layer {number} is not held by this backbone");
            };
            x = layer.forward(&x, text, None, mode)?;
        }
        Ok(x)
    }
}
