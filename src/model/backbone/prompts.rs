//! The prompts of the tasks, and what of a pass depends on them alone.

use candle_core::{Device, Result, Tensor};

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

    /// P, prompts.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lengths.len()
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
