//! Low-rank adapters (Hu et al., LoRA), in PEFT's format: y = W x + (α/r) · B A dropout(x).
//!
//! A backbone takes [`Adapters`] at load: beside its weights, to be trained, or merged into them, for inference. A folder
//! that PEFT wrote is opened by [`PeftAdapter`]; [`save_peft`] writes one. What is not implemented is refused by name.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::backbone::config::{BackboneConfig, is_neutral};
use super::checkpoint::{self, Checkpoint, CheckpointError};
use super::describe::backbone_tensors;
use super::layers::Mode;
use super::seeded::{stream, uniform};

/// PEFT's name of an adapter's configuration in its folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// PEFT's name of an adapter's weights in its folder.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// PEFT's names begin so, by the name of the text stack in memory and by that on file.
const PEFT_PREFIXES: [&str; 2] =
    ["base_model.model.model.language_model.", "base_model.model.language_model.model."];
/// A module's name on which PEFT matches its targets begins so, in the same order.
const MODULE_PREFIXES: [&str; 2] = ["model.language_model.", "language_model.model."];

/// Which linear layers are adapted, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// r, rank of B A.
    pub rank: usize,
    /// α: B A x is scaled by α/r.
    pub alpha: f64,
    /// Share of the input that is dropped in training, 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
    /// Scales by α/√r in place of α/r (rank-stabilised LoRA).
    #[serde(default)]
    pub rank_stabilised: bool,
    /// Linear layers: of one name in all layers (`q_proj`), or of one layer (`layers.3.self_attn.q_proj`).
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// What B A x is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// Whether the linear layer `module` is adapted.
    #[must_use]
    pub fn adapts(&self, module: &str) -> bool {
        self.targets.iter().any(|target| is_named(module, target))
    }

    /// What is wrong with it for a backbone: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self, backbone: &BackboneConfig) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !(1..=4096).contains(&self.rank) {
            problems.push(("rank", format!("found {}, allowed is 1 to 4096", self.rank)));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            problems.push(("alpha", format!("found {}, allowed are numbers above 0", self.alpha)));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            problems.push(("dropout", format!("found {}, allowed is 0 to below 1", self.dropout)));
        }
        let modules = modules(backbone);
        if self.targets.is_empty() {
            problems.push(("targets", "found none, allowed are names of linear layers".to_owned()));
        }
        for target in &self.targets {
            if !modules.iter().any(|module| is_named(module, target)) {
                problems.push(("targets", format!("found `{target}`, which names no linear layer; {KNOWN}")));
            }
        }
        problems
    }
}

/// What targets may name.
const KNOWN: &str = "known are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj";

/// PEFT's rule: the whole name, or the end of it after a dot.
fn is_named(module: &str, target: &str) -> bool {
    module.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The linear layers of a backbone.
#[must_use]
pub fn modules(backbone: &BackboneConfig) -> Vec<String> {
    let of_layer = |layer: usize| {
        let attention = if backbone.cross_layers.contains(&layer) { "cross_attn" } else { "self_attn" };
        let attention =
            ["q_proj", "k_proj", "v_proj", "o_proj"].map(|name| format!("layers.{layer}.{attention}.{name}"));
        let mlp = ["gate_proj", "up_proj", "down_proj"].map(|name| format!("layers.{layer}.mlp.{name}"));
        attention.into_iter().chain(mlp)
    };
    (0..backbone.layers).flat_map(of_layer).collect()
}

/// The adapters that a backbone is loaded with.
#[derive(Clone)]
pub struct Adapters {
    config: LoraConfig,
    source: VarBuilder<'static>,
    merged: bool,
}

impl Adapters {
    /// Adapters beside the weights, as they are trained. `source` has them as `layers.3.self_attn.q_proj.lora_A.weight`
    /// and so on; it may be of another type than the backbone's weights.
    #[must_use]
    pub const fn beside(config: LoraConfig, source: VarBuilder<'static>) -> Self {
        Self { config, source, merged: false }
    }

    /// Adapters added to the weights when these are loaded: no cost afterwards, and nothing to train.
    #[must_use]
    pub const fn merged(config: LoraConfig, source: VarBuilder<'static>) -> Self {
        Self { config, source, merged: true }
    }

    /// What they are.
    #[must_use]
    pub const fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Whether they are added to the weights.
    #[must_use]
    pub const fn is_merged(&self) -> bool {
        self.merged
    }

    /// That of the linear layer `module`, where it has one.
    ///
    /// # Errors
    /// When a tensor of it is missing or has another shape.
    pub fn load(&self, module: &str, inputs: usize, outputs: usize) -> Result<Option<Lora>> {
        if !self.config.adapts(module) {
            return Ok(None);
        }
        let vb = self.source.pp(module);
        let bound = 1.0 / (inputs as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let a = vb.pp("lora_A").get_with_hints((self.config.rank, inputs), "weight", init)?;
        let b = vb.pp("lora_B").get_with_hints((outputs, self.config.rank), "weight", Init::Const(0.0))?;
        let (scale, dropout) = (self.config.scale(), self.config.dropout);
        Ok(Some(Lora { a, b, scale, dropout, name: module.to_owned() }))
    }
}

/// The adapter of one linear layer.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, in]`
    a: Tensor,
    /// `[out, r]`
    b: Tensor,
    scale: f64,
    dropout: f64,
    /// Dropout draws from the seed and this.
    name: String,
}

impl Lora {
    /// What it adds: (α/r) · B A dropout(x), `[M, in]` to `[M, out]`, in x's type and computed in its own.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut own = x.to_dtype(self.a.dtype())?;
        if let Mode::Train { seed, .. } = mode
            && self.dropout > 0.0
        {
            own = (&own * self.kept(seed, &own)?)?;
        }
        let narrow = (own.matmul(&self.a.t()?)? * self.scale)?; // [M, r]
        narrow.matmul(&self.b.t()?)?.to_dtype(x.dtype())
    }

    /// 1/(1 − p) where the input is kept, 0 where it is dropped.
    fn kept(&self, seed: u64, x: &Tensor) -> Result<Tensor> {
        let mut random = stream(seed, &self.name);
        let kept = (1.0 / (1.0 - self.dropout)) as f32;
        let mut draw = || if uniform(&mut random) < self.dropout { 0.0 } else { kept };
        let mask: Vec<f32> = (0..x.elem_count()).map(|_| draw()).collect();
        Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())
    }

    /// W + (α/r) · B A, `[out, in]`, of a weight W.
    ///
    /// # Errors
    /// When the weight has another shape.
    pub fn merge(&self, weight: &Tensor) -> Result<Tensor> {
        // In f32 where the weight is narrower, and narrowed once.
        let wide = if weight.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let change = (self.b.to_dtype(wide)?.matmul(&self.a.to_dtype(wide)?)? * self.scale)?;
        (weight.to_dtype(wide)? + change)?.to_dtype(weight.dtype())
    }

    /// Whether it is trained.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        self.a.is_variable() || self.b.is_variable()
    }
}

/// What is wrong with an adapter on file.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// A file cannot be read.
    #[error("{}: cannot read it: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot write it: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration is not JSON.
    #[error("{}: not JSON: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where it ceases to be.
        source: serde_json::Error,
    },
    /// An option has a value that is wrong or not implemented.
    #[error("{}: {key}: {problem}", file.display())]
    Option {
        /// The file.
        file: PathBuf,
        /// The option.
        key: String,
        /// What was found and what is allowed.
        problem: String,
    },
    /// An adapter is of another kind than the network's configuration says.
    #[error("{}: is {found}, the network's configuration says {stated}", folder.display())]
    Differs {
        /// The adapter's folder.
        folder: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        stated: String,
    },
    /// A tensor adapts a linear layer that the configuration does not target, or none.
    #[error("{}: tensor `{name}` adapts nothing that {ADAPTER_CONFIG} targets", file.display())]
    Stray {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The weights cannot be read or written.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
}

/// An adapter that PEFT wrote, opened and checked against the backbone that it is for.
#[derive(Clone, Debug)]
pub struct PeftAdapter {
    /// What it is; its targets are the linear layers by their whole names.
    pub config: LoraConfig,
    /// Its weights, under PEFT's names.
    pub weights: Checkpoint,
}

/// Options that say nothing of what is computed.
const INERT: [&str; 10] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "init_lora_weights",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
    "ensure_weight_tying",
];
/// Options that are implemented.
const IMPLEMENTED: [&str; 7] =
    ["peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "bias", "target_modules"];

impl PeftAdapter {
    /// Opens a folder with [`ADAPTER_CONFIG`] and [`ADAPTER_WEIGHTS`]. Adapters of a vision tower are left out: there is
    /// none here.
    ///
    /// # Errors
    /// When a file cannot be read, an option is not implemented (each is refused by name, those that are not known here
    /// included, unless it asks for nothing), a target is no linear layer of the backbone, or a targeted layer has no
    /// weights, or weights adapt something that is not targeted.
    pub fn open(folder: &Path, backbone: &BackboneConfig) -> std::result::Result<Self, LoraError> {
        let file = folder.join(ADAPTER_CONFIG);
        let text = fs::read(&file).map_err(|source| LoraError::Read { file: file.clone(), source })?;
        let options: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|source| LoraError::Json { file: file.clone(), source })?;
        let config = Options { file: &file, options: &options }.read(backbone)?;
        let weights = Checkpoint::open(&folder.join(ADAPTER_WEIGHTS))?;

        let wanted = config
            .targets
            .iter()
            .flat_map(|module| ["lora_A", "lora_B"].map(|part| format!("{module}.{part}.weight")));
        let wanted: BTreeSet<String> = wanted.collect();
        let mut found = BTreeSet::new();
        for (name, _, _) in weights.tensors().filter(|(name, _, _)| !name.contains("vision_model")) {
            let own = PEFT_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
            match own.filter(|own| wanted.contains(*own)) {
                Some(own) => found.insert(own.to_owned()),
                None => {
                    let file = weights.path().to_path_buf();
                    return Err(LoraError::Stray { file, name: name.to_owned() });
                }
            };
        }
        if let Some(missing) = wanted.difference(&found).next() {
            let name = format!("{}{missing}", PEFT_PREFIXES[0]);
            return Err(CheckpointError::Missing { name, file: weights.path().to_path_buf() }.into());
        }
        Ok(Self { config, weights })
    }

    /// Opens a folder whose adapters are of the kind that is `stated`.
    ///
    /// # Errors
    /// As [`PeftAdapter::open`], and when they are of another kind.
    pub fn open_as(
        folder: &Path,
        backbone: &BackboneConfig,
        stated: &LoraConfig,
    ) -> std::result::Result<Self, LoraError> {
        let own = Self::open(folder, backbone)?;
        let told = |config: &LoraConfig| {
            let adapted = modules(backbone).iter().filter(|module| config.adapts(module)).count();
            let stabilised = if config.rank_stabilised { ", rank-stabilised" } else { "" };
            format!("of rank {}, alpha {}{stabilised}, on {adapted} layers", config.rank, config.alpha)
        };
        let kind = |config: &LoraConfig| {
            let adapted: Vec<String> =
                modules(backbone).into_iter().filter(|module| config.adapts(module)).collect();
            (config.rank, config.alpha, config.rank_stabilised, adapted)
        };
        if kind(&own.config) != kind(stated) {
            let folder = folder.to_path_buf();
            return Err(LoraError::Differs { folder, found: told(&own.config), stated: told(stated) });
        }
        Ok(own)
    }

    /// The adapters, to stand beside the backbone's weights.
    #[must_use]
    pub fn beside(&self, dtype: DType, device: &Device) -> Adapters {
        Adapters::beside(self.config.clone(), self.builder(dtype, device))
    }

    /// The adapters, to be merged into the backbone's weights.
    #[must_use]
    pub fn merged(&self, dtype: DType, device: &Device) -> Adapters {
        Adapters::merged(self.config.clone(), self.builder(dtype, device))
    }

    /// A strict source of their tensors, named as [`Adapters::beside`] wants them.
    #[must_use]
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        self.weights.builder_spelled(dtype, device, &PEFT_PREFIXES)
    }
}

/// PEFT's options.
struct Options<'a> {
    file: &'a Path,
    options: &'a Map<String, Value>,
}

impl Options<'_> {
    fn fail(&self, key: &str, problem: impl Into<String>) -> LoraError {
        LoraError::Option { file: self.file.to_path_buf(), key: key.to_owned(), problem: problem.into() }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.options.get(key).filter(|value| !value.is_null())
    }

    fn number(&self, key: &str) -> std::result::Result<f64, LoraError> {
        let value = self.get(key).ok_or_else(|| self.fail(key, "is missing"))?;
        value.as_f64().ok_or_else(|| self.fail(key, format!("found {value}, allowed are numbers")))
    }

    fn read(&self, backbone: &BackboneConfig) -> std::result::Result<LoraConfig, LoraError> {
        for (key, value) in self.options {
            let known = IMPLEMENTED.contains(&key.as_str()) || INERT.contains(&key.as_str());
            if !known && !is_neutral(value) {
                return Err(self.fail(key, format!("found {value}, which is not implemented")));
            }
        }
        for (key, allowed) in [("peft_type", "LORA"), ("bias", "none")] {
            if let Some(found) = self.get(key).filter(|found| found.as_str() != Some(allowed)) {
                return Err(self.fail(key, format!("found {found}, implemented is \"{allowed}\"")));
            }
        }
        // Others change the weights that the adapter stands beside.
        if let Some(found) = self.get("init_lora_weights")
            && !found.is_boolean()
            && found.as_str() != Some("gaussian")
        {
            let problem = format!("found {found}, implemented are true, false and \"gaussian\"");
            return Err(self.fail("init_lora_weights", problem));
        }
        let rank = self.number("r")?;
        if rank.fract() != 0.0 || rank < 1.0 {
            return Err(self.fail("r", format!("found {rank}, allowed are whole numbers from 1")));
        }
        let config = LoraConfig {
            rank: rank as usize,
            alpha: self.number("lora_alpha")?,
            dropout: if self.get("lora_dropout").is_some() { self.number("lora_dropout")? } else { 0.0 },
            rank_stabilised: match self.get("use_rslora") {
                None => false,
                Some(found) => found.as_bool().ok_or_else(|| {
                    self.fail("use_rslora", format!("found {found}, allowed are true and false"))
                })?,
            },
            targets: self.targets(backbone)?,
        };
        match config.problems(backbone).into_iter().next() {
            Some((key, problem)) => {
                let key = match key {
                    "rank" => "r",
                    "alpha" => "lora_alpha",
                    "dropout" => "lora_dropout",
                    _ => "target_modules",
                };
                Err(self.fail(key, problem))
            }
            None => Ok(config),
        }
    }

    /// The linear layers that `target_modules` names: all, by a list of names or of ends of names, or by a regular
    /// expression that the whole name has to match.
    fn targets(&self, backbone: &BackboneConfig) -> std::result::Result<Vec<String>, LoraError> {
        const KEY: &str = "target_modules";
        let all = modules(backbone);
        let found = self.get(KEY).ok_or_else(|| self.fail(KEY, "is missing"))?;
        let wanted = |is: &dyn Fn(&str) -> bool| {
            let spelt = |module: &str| MODULE_PREFIXES.iter().any(|prefix| is(&format!("{prefix}{module}")));
            all.iter().filter(|module| spelt(module)).cloned().collect::<Vec<String>>()
        };
        match found {
            Value::String(text) if text == "all-linear" => Ok(all.clone()),
            Value::String(pattern) => {
                let whole = regex::Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|error| self.fail(KEY, format!("found {pattern:?}: {error}")))?;
                let targets = wanted(&|module| whole.is_match(module));
                if targets.is_empty() {
                    return Err(self.fail(KEY, format!("found {pattern:?}, which matches no linear layer")));
                }
                Ok(targets)
            }
            Value::Array(names) => {
                let mut targets = BTreeSet::new();
                for name in names {
                    let name = name.as_str().ok_or_else(|| {
                        self.fail(KEY, format!("found {name} in the list, allowed are names"))
                    })?;
                    let own = wanted(&|module| is_named(module, name));
                    if own.is_empty() {
                        let problem = format!("found `{name}`, which names no linear layer; {KNOWN}");
                        return Err(self.fail(KEY, problem));
                    }
                    targets.extend(own);
                }
                // In the order of the layers.
                Ok(all.iter().filter(|module| targets.contains(*module)).cloned().collect())
            }
            other => Err(self.fail(KEY, format!("found {other}, allowed are a list and a pattern"))),
        }
    }
}

/// Adds adapters that add nothing to those linear layers that are adapted and have none: nobody asks what stands behind the
/// last tap, and PEFT wants all.
///
/// # Errors
/// When the device refuses memory.
pub fn complete(
    tensors: &mut BTreeMap<String, Tensor>,
    config: &LoraConfig,
    backbone: &BackboneConfig,
) -> Result<()> {
    for (name, shape) in backbone_tensors(backbone, backbone.layers) {
        let Some(module) = name.strip_suffix(".weight").filter(|module| config.adapts(module)) else {
            continue;
        };
        let &[outputs, inputs] = shape.as_slice() else { continue };
        for (part, shape) in [("lora_A", (config.rank, inputs)), ("lora_B", (outputs, config.rank))] {
            let name = format!("{module}.{part}.weight");
            if let Entry::Vacant(missing) = tensors.entry(name) {
                missing.insert(Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
            }
        }
    }
    Ok(())
}

/// Writes a folder that PEFT reads: `tensors` are named as [`Adapters::beside`] wants them.
///
/// # Errors
/// When the disk refuses.
pub fn save_peft<'a>(
    folder: &Path,
    config: &LoraConfig,
    backbone: &BackboneConfig,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> std::result::Result<(), LoraError> {
    fs::create_dir_all(folder).map_err(|source| LoraError::Write { file: folder.to_path_buf(), source })?;
    // By pattern, as a bare `q_proj` would name the vision tower's as well.
    let adapted: Vec<String> = modules(backbone)
        .iter()
        .filter(|module| config.adapts(module))
        .map(|name| regex::escape(name))
        .collect();
    let options = json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "target_modules": format!(".*language_model\\.(?:{})", adapted.join("|")),
    });
    let named: Vec<(String, &Tensor)> =
        tensors.into_iter().map(|(name, tensor)| (format!("{}{name}", PEFT_PREFIXES[0]), tensor)).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let named = named.iter().map(|(name, tensor)| (name.as_str(), *tensor));
    checkpoint::save(&folder.join(ADAPTER_WEIGHTS), named, &metadata)?;
    let file = folder.join(ADAPTER_CONFIG);
    let text = format!("{options:#}\n");
    fs::write(&file, text).map_err(|source| LoraError::Write { file, source })
}
