//! Text to token ids, by a `tokenizer.json` of Hugging Face's format.

use std::path::{Path, PathBuf};

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Its file cannot be read or is not one.
    #[error("{}: not a tokenizer: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// It refuses a text.
    #[error("cannot tokenize {text:?}: {reason}")]
    Text {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
}

/// A tokenizer as its file says: normaliser, splitting, byte-pair merges and special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`. Truncation and padding that it asks for are left out: prompts are kept whole, and
    /// [`Prompts`](super::backbone::Prompts) pads them.
    ///
    /// # Errors
    /// When the file cannot be read or is not a tokenizer.
    pub fn load(file: &Path) -> Result<Self, TokenizerError> {
        let fail = |reason: String| TokenizerError::File { file: file.to_path_buf(), reason };
        let mut inner = tokenizers::Tokenizer::from_file(file).map_err(|error| fail(error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| fail(error.to_string()))?;
        Ok(Self { inner })
    }

    /// The ids of a text; with `special`, those around it that the file's post-processor adds (begin-of-text).
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, special)
            .map_err(|error| TokenizerError::Text { text: text.to_owned(), reason: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Number of ids, those of added tokens included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}
