//! The size of a backbone, as Hugging Face's `config.json` tells it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Rows that this family's embedding has beside its vocabulary.
const EXTRA_EMBEDDINGS: usize = 8;

/// The text stack of a Llama-3.2-Vision model: everything that its weights' shapes follow from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneConfig {
    /// Rows of the embedding: the vocabulary and, in this family, 8 more.
    pub embeddings: usize,
    /// Width of a hidden state; the cross-attention's states are as wide.
    pub hidden_size: usize,
    /// Width inside an MLP.
    pub intermediate_size: usize,
    /// Layers, self and cross.
    pub layers: usize,
    /// The layers, from 0, that look at the sensors in place of the text; rising.
    pub cross_layers: Vec<usize>,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, each shared by heads/kv_heads heads of queries.
    pub kv_heads: usize,
    /// ε of the RMS norms.
    pub rms_norm_eps: f64,
    /// Rotary position embedding.
    pub rope: RopeConfig,
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// Base of the wavelengths: pair i of head_dim/2 turns by theta^(−2i/head_dim) per position.
    pub theta: f64,
    /// "llama3" scaling of long wavelengths, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<RopeScaling>,
}

/// "llama3" scaling: wavelengths beyond original/low_freq_factor positions are stretched by factor, those within
/// original/high_freq_factor stay, those between are blended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// How much long wavelengths are stretched.
    pub factor: f64,
    /// See above.
    pub low_freq_factor: f64,
    /// See above.
    pub high_freq_factor: f64,
    /// Positions that the model was first trained on.
    pub original_max_position_embeddings: f64,
}

/// What is wrong with a backbone's configuration.
#[derive(Debug, thiserror::Error)]
pub enum BackboneConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read it: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{}: not JSON: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where it ceases to be.
        source: serde_json::Error,
    },
    /// A key is missing, contradicts another, or asks for what is not implemented.
    #[error("{}: {key}: {problem}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key, with those that it lies under.
        key: String,
        /// What was found and what is allowed.
        problem: String,
    },
}

impl BackboneConfig {
    /// Width of a head.
    #[must_use]
    pub const fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// Layers before the first cross layer: what they say depends on the prompt alone.
    #[must_use]
    pub fn prefix(&self) -> usize {
        self.cross_layers.first().copied().unwrap_or(self.layers)
    }

    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let sizes = [
            ("embeddings", self.embeddings, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("layers", self.layers, 1 << 10),
            ("heads", self.heads, 1 << 10),
            ("kv_heads", self.kv_heads, 1 << 10),
        ];
        for (key, value, most) in sizes {
            if !(1..=most).contains(&value) {
                problems.push((key, format!("found {value}, allowed is 1 to {most}")));
            }
        }
        if !problems.is_empty() {
            return problems;
        }
        if !self.hidden_size.is_multiple_of(2 * self.heads) {
            let message = "found {}, allowed are numbers that divide hidden_size = {} into even parts";
            let message = message.replacen("{}", &self.heads.to_string(), 1);
            problems.push(("heads", message.replacen("{}", &self.hidden_size.to_string(), 1)));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let message = format!("found {}, allowed are divisors of heads = {}", self.kv_heads, self.heads);
            problems.push(("kv_heads", message));
        }
        let rising = self.cross_layers.is_sorted_by(|a, b| a < b);
        if !rising
            || self.cross_layers.is_empty()
            || self.cross_layers.iter().any(|&layer| layer >= self.layers)
        {
            let message = format!(
                "found {:?}, allowed is a rising list of one or more layers from 0 to {}",
                self.cross_layers,
                self.layers - 1
            );
            problems.push(("cross_layers", message));
        }
        let mut positive = |key, value: f64| {
            if !(value.is_finite() && value > 0.0) {
                problems.push((key, format!("found {value}, allowed are numbers above 0")));
            }
        };
        positive("rms_norm_eps", self.rms_norm_eps);
        positive("rope.theta", self.rope.theta);
        if let Some(scaling) = &self.rope.scaling {
            positive("rope.scaling.factor", scaling.factor);
            positive("rope.scaling.low_freq_factor", scaling.low_freq_factor);
            positive("rope.scaling.high_freq_factor", scaling.high_freq_factor);
            positive(
                "rope.scaling.original_max_position_embeddings",
                scaling.original_max_position_embeddings,
            );
            if scaling.high_freq_factor <= scaling.low_freq_factor {
                let message = format!(
                    "found {}, allowed is more than low_freq_factor = {}",
                    scaling.high_freq_factor, scaling.low_freq_factor
                );
                problems.push(("rope.scaling.high_freq_factor", message));
            }
        }
        problems
    }

    /// Reads a `config.json`: its `text_config` where it has one, else the whole of it. The layout of the published
    /// checkpoints (`rope_theta` and `rope_scaling`) and the newer one (`rope_parameters`) give the same model.
    ///
    /// # Errors
    /// When the file cannot be read, a key is missing or contradicts another, or a key asks for something that is not
    /// implemented here: another activation or kind of RoPE, biases, tied or quantized weights, dropout.
    pub fn load(file: &Path) -> Result<Self, BackboneConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| BackboneConfigError::Read { file: file.to_path_buf(), source })?;
        Self::parse(&text, file)
    }

    /// As [`Self::load`], of a text; `file` is named in errors.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, BackboneConfigError> {
        let root: Value = serde_json::from_str(text)
            .map_err(|source| BackboneConfigError::Json { file: file.to_path_buf(), source })?;
        let Some(root) = root.as_object() else {
            let problem = "found no object".to_owned();
            return Err(BackboneConfigError::Key {
                file: file.to_path_buf(),
                key: "the whole".to_owned(),
                problem,
            });
        };
        let whole = Keys { file, under: String::new(), map: root };
        whole.neutral("quantization_config")?;
        match root.get("text_config") {
            Some(_) => whole.one_of("model_type", &["mllama"], true)?,
            None => whole.one_of("model_type", &["mllama_text_model", "mllama"], true)?,
        }
        let text = if root.contains_key("text_config") { whole.object("text_config")? } else { whole };
        if root.contains_key("text_config") {
            text.one_of("model_type", &["mllama_text_model"], true)?;
        }
        text.read()
    }
}

/// The keys of one object of a configuration file.
struct Keys<'a> {
    file: &'a Path,
    under: String,
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn fail(&self, key: &str, problem: impl Into<String>) -> BackboneConfigError {
        let key = format!("{}{key}", self.under);
        BackboneConfigError::Key { file: self.file.to_path_buf(), key, problem: problem.into() }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn need(&self, key: &str) -> Result<&'a Value, BackboneConfigError> {
        self.get(key).ok_or_else(|| self.fail(key, "is missing"))
    }

    fn object(&self, key: &str) -> Result<Keys<'a>, BackboneConfigError> {
        let value = self.need(key)?;
        let map = value
            .as_object()
            .ok_or_else(|| self.fail(key, format!("found {value}, allowed is an object")))?;
        Ok(Keys { file: self.file, under: format!("{}{key}.", self.under), map })
    }

    fn count(&self, key: &str) -> Result<usize, BackboneConfigError> {
        let value = self.need(key)?;
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.fail(key, format!("found {value}, allowed are whole numbers from 0")))
    }

    fn number(&self, key: &str) -> Result<f64, BackboneConfigError> {
        let value = self.need(key)?;
        value.as_f64().ok_or_else(|| self.fail(key, format!("found {value}, allowed are numbers")))
    }

    fn one_of(&self, key: &str, allowed: &[&str], optional: bool) -> Result<(), BackboneConfigError> {
        match self.get(key) {
            None if optional => Ok(()),
            None => Err(self.fail(key, "is missing")),
            Some(found) if found.as_str().is_some_and(|found| allowed.contains(&found)) => Ok(()),
            Some(found) => {
                Err(self.fail(key, format!("found {found}, implemented is {}", allowed.join(", "))))
            }
        }
    }

    /// Refuses a key that asks for what is not implemented: absent, null, false, 0 and empty ask for nothing.
    fn neutral(&self, key: &str) -> Result<(), BackboneConfigError> {
        match self.get(key) {
            Some(found) if !is_neutral(found) => {
                Err(self.fail(key, format!("found {found}, which is not implemented; leave it out")))
            }
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<BackboneConfig, BackboneConfigError> {
        for key in [
            "attention_bias",
            "mlp_bias",
            "tie_word_embeddings",
            "dropout",
            "attention_dropout",
            "sliding_window",
            "quantization_config",
        ] {
            self.neutral(key)?;
        }
        self.one_of("hidden_act", &["silu"], false)?;
        let cross = self.need("cross_attention_layers")?;
        let cross_layers = serde_json::from_value(cross.clone()).map_err(|_| {
            self.fail("cross_attention_layers", format!("found {cross}, allowed is a list of layers"))
        })?;
        let heads = self.count("num_attention_heads")?;
        let config = BackboneConfig {
            embeddings: self.count("vocab_size")?.saturating_add(EXTRA_EMBEDDINGS),
            hidden_size: self.count("hidden_size")?,
            intermediate_size: self.count("intermediate_size")?,
            layers: self.count("num_hidden_layers")?,
            cross_layers,
            heads,
            kv_heads: if self.get("num_key_value_heads").is_some() {
                self.count("num_key_value_heads")?
            } else {
                heads
            },
            rms_norm_eps: self.number("rms_norm_eps")?,
            rope: self.rope()?,
        };
        if let Some((key, problem)) = config.problems().into_iter().next() {
            let key = match key {
                "embeddings" => "vocab_size",
                "layers" => "num_hidden_layers",
                "cross_layers" => "cross_attention_layers",
                "heads" => "num_attention_heads",
                "kv_heads" => "num_key_value_heads",
                other => other,
            };
            return Err(self.fail(key, problem));
        }
        if self.get("head_dim").is_some() && self.count("head_dim")? != config.head_dim() {
            let found = self.count("head_dim")?;
            let allowed = config.head_dim();
            let problem = format!("found {found}, allowed is hidden_size/num_attention_heads = {allowed}");
            return Err(self.fail("head_dim", problem));
        }
        Ok(config)
    }

    /// Either layout; where a file has both, they have to agree.
    fn rope(&self) -> Result<RopeConfig, BackboneConfigError> {
        let newer =
            self.get("rope_parameters").map(|_| self.object("rope_parameters")?.rope_of(self)).transpose()?;
        let older = match (self.get("rope_scaling"), &newer) {
            (Some(_), _) => Some(self.object("rope_scaling")?.rope_of(self)?),
            (None, Some(_)) => None,
            (None, None) => Some(RopeConfig { theta: self.number("rope_theta")?, scaling: None }),
        };
        match (newer, older) {
            (Some(newer), Some(older)) if newer != older => {
                Err(self.fail("rope_parameters", "contradicts rope_theta and rope_scaling"))
            }
            (Some(rope), _) | (None, Some(rope)) => Ok(rope),
            (None, None) => Err(self.fail("rope_parameters", "is missing")),
        }
    }

    /// RoPE of this object; `text` is the one around it.
    fn rope_of(&self, text: &Self) -> Result<RopeConfig, BackboneConfigError> {
        let theta = match (self.get("rope_theta"), text.get("rope_theta")) {
            (Some(_), Some(_)) if self.number("rope_theta")? != text.number("rope_theta")? => {
                return Err(text.fail("rope_theta", format!("contradicts {}rope_theta", self.under)));
            }
            (Some(_), _) => self.number("rope_theta")?,
            (None, _) => text.number("rope_theta")?,
        };
        if self.get("partial_rotary_factor").is_some() && self.number("partial_rotary_factor")? != 1.0 {
            return Err(self.fail("partial_rotary_factor", "only 1 is implemented"));
        }
        // The oldest files say `type`.
        let key = if self.get("rope_type").is_some() { "rope_type" } else { "type" };
        self.one_of(key, &["default", "llama3"], true)?;
        let scaling = match self.get(key).and_then(Value::as_str) {
            Some("llama3") => Some(RopeScaling {
                factor: self.number("factor")?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_max_position_embeddings: self.number("original_max_position_embeddings")?,
            }),
            _ => None,
        };
        Ok(RopeConfig { theta, scaling })
    }
}

/// Whether a value asks for nothing.
pub(crate) fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
    }
}
