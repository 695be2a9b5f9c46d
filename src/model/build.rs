//! Building a network from its configuration: the only place of the model that reads files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::backbone::{
    Backbone, BackboneConfig, BackboneConfigError, Held, Prepared, Prompts, PromptsError, SPELLINGS, Taps,
    TapsError, is_foreign,
};
use super::checkpoint::{Checkpoint, CheckpointError};
use super::config::{BackboneChoice, CoreConfig, EncodersConfig, NetworkConfig, Precision};
use super::deployed::PROMPT_STATES;
use super::encoders::Encoders;
use super::lora::{Adapters, LoraError, PeftAdapter};
use super::mmsense::{HiddenShape, Mmsense};
use super::prior::ReportPrior;
use super::seeded::{fresh_weights, replaced};
use super::tasks::{Core, Sizes, Task};
use super::tokenizer::{Tokenizer, TokenizerError};
use super::{Network, baselines};

/// A network that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration of its backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneConfigError),
    /// The weights of its backbone.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The adapters of its backbone.
    #[error("backbone.adapter: {0}")]
    Adapter(Box<LoraError>),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Its prompts, in the tokens of its tokenizer.
    #[error("backbone.prompts: {0}")]
    Prompts(#[from] PromptsError),
    /// The layers that its tasks read.
    #[error("backbone.taps: {0}")]
    Taps(#[from] TapsError),
    /// No place for a tokenizer is named.
    #[error("backbone: found neither tokenizer nor checkpoint, allowed is either")]
    NoTokenizer,
    /// No backbone is named.
    #[error("backbone: found neither checkpoint nor size, allowed is either or both")]
    NoBackbone,
    /// The configuration and the checkpoint speak of different backbones.
    #[error("backbone.size: found {stated:?}, allowed is that of {}: {found:?}", file.display())]
    Size {
        /// The checkpoint's `config.json`.
        file: PathBuf,
        /// What it says.
        found: Box<BackboneConfig>,
        /// What the network's configuration says.
        stated: Box<BackboneConfig>,
    },
    /// A tensor, or the device.
    #[error("the network cannot be built: {0}")]
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for BuildError {
    fn from(error: candle_core::Error) -> Self {
        typed(error)
    }
}

/// What a network is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Low-rank adapters are added to the weights.
    Inference,
    /// Low-rank adapters stand beside the weights.
    Training,
}

impl Network {
    /// A network with fresh weights from its configuration's seed; those of its backbone come from the checkpoint that
    /// the configuration names, where it names one.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn fresh(config: &NetworkConfig, sizes: Sizes, device: &Device) -> Result<Self, BuildError> {
        Self::build(config, sizes, Purpose::Inference, &fresh_source(config, device)?)
    }

    /// A network of the weights of `vb`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        config: &NetworkConfig,
        sizes: Sizes,
        purpose: Purpose,
        vb: &VarBuilder<'static>,
    ) -> Result<Self, BuildError> {
        Self::build_with(config, sizes, purpose, Prompting::Tokenizer, vb)
    }

    pub(super) fn build_with(
        config: &NetworkConfig,
        sizes: Sizes,
        purpose: Purpose,
        prompting: Prompting<'_>,
        vb: &VarBuilder<'static>,
    ) -> Result<Self, BuildError> {
        let image = match &config.encoders {
            EncodersConfig::Points(points) => points.image.weights.as_ref(),
            EncodersConfig::Maps(_) => None,
        };
        // A stored network has its encoders' weights with it.
        let image = image.filter(|_| matches!(prompting, Prompting::Tokenizer));
        let image = image.map(|file| Checkpoint::open(file)).transpose()?;
        let from_file = image.as_ref().map(|image| image.builder(vb.dtype(), vb.device()));
        let encoders = Encoders::load(config, from_file.as_ref(), vb).map_err(typed)?;
        if let Some(image) = image {
            image.finish(|name| name.starts_with("fc.") || name.ends_with(".num_batches_tracked"))?;
        }
        let choice = config.backbone.as_ref().filter(|_| config.core.has_backbone());
        let backbone = choice.map(|choice| backbone_of(choice, &config.tasks, purpose, prompting, vb));
        let backbone = backbone.transpose()?;
        let prompts = backbone.as_ref().and_then(|(backbone, prepared)| {
            Some(StoredPrompts {
                ids: prepared.prompts().rows(),
                states: prepared.states()?.clone(),
                prefix: backbone.config().prefix(),
            })
        });
        let hidden = backbone.as_ref().map(|(backbone, _)| HiddenShape {
            taps: backbone.tapped().layers().len(),
            width: backbone.config().hidden_size,
        });
        let core = core_of(config, sizes, hidden, vb).map_err(typed)?;
        let core: Box<dyn Core> = match (core, backbone) {
            (AnyCore::Mmsense(core), Some((backbone, prepared))) => {
                Box::new(core.with_backbone(backbone, prepared))
            }
            (AnyCore::Mmsense(core), None) => core,
            (AnyCore::Baseline(core), _) => core,
        };
        let prior = prior_of(config, sizes, vb).map_err(typed)?;
        // A GPU has a queue for each thread, and the one that asks the network need not be this one.
        vb.device().synchronize()?;
        Ok(Self {
            config: config.clone(),
            sizes,
            device: vb.device().clone(),
            encoders,
            core,
            prior,
            prompts,
        })
    }
}

/// Weights that are fresh from the configuration's seed, but for adapters that it names a folder of.
///
/// # Errors
/// [`BuildError`] when the adapter's folder cannot be read, or does not fit.
pub fn fresh_source(config: &NetworkConfig, device: &Device) -> Result<VarBuilder<'static>, BuildError> {
    let fresh = fresh_weights(config.seed, device);
    let chosen = config.backbone.as_ref().filter(|_| config.core.has_backbone());
    let Some((choice, folder)) = chosen.and_then(|choice| Some((choice, choice.adapter.as_ref()?))) else {
        return Ok(fresh);
    };
    let Some(stated) = &choice.lora else { return Ok(fresh) };
    let adapter = PeftAdapter::open_as(folder, &choice.config()?, stated)
        .map_err(|error| BuildError::Adapter(Box::new(error)))?;
    Ok(replaced(fresh, LORA_PREFIX, adapter.builder(DType::F32, device)))
}

/// Where a network has its adapters.
pub const LORA_PREFIX: &str = "lora.";

/// A core of any kind, an MMSense one still without its backbone.
pub(super) enum AnyCore {
    /// The paper's.
    Mmsense(Box<Mmsense>),
    /// One that it is compared with.
    Baseline(Box<dyn Core>),
}

/// The core of a configuration, for the hidden states of its backbone.
pub(super) fn core_of(
    config: &NetworkConfig,
    sizes: Sizes,
    hidden: Option<HiddenShape>,
    vb: &VarBuilder<'_>,
) -> candle_core::Result<AnyCore> {
    let shape = config.shape(sizes.slots);
    let tasks: Vec<(Task, usize)> = config.tasks.iter().map(|&task| (task, sizes.outputs(task))).collect();
    let core: Box<dyn Core> = match &config.core {
        CoreConfig::Mmsense(core) => {
            return Mmsense::load(core, shape, &config.ordered(), &tasks, hidden, vb)
                .map(|core| AnyCore::Mmsense(Box::new(core)));
        }
        CoreConfig::Mlp(core) => Box::new(baselines::Mlp::load(core, shape, &tasks, &vb.pp("core"))?),
        CoreConfig::Cnn(core) => Box::new(baselines::Cnn::load(core, shape, &tasks, &vb.pp("core"))?),
        CoreConfig::Transformer(core) => {
            Box::new(baselines::Transformer::load(core, shape, &tasks, &vb.pp("core"))?)
        }
        CoreConfig::Llm4wm(core) => Box::new(baselines::Llm4Wm::load(core, shape, &tasks, &vb.pp("core"))?),
    };
    Ok(AnyCore::Baseline(core))
}

/// What of beams is said by reports alone, where the configuration asks for it.
pub(super) fn prior_of(
    config: &NetworkConfig,
    sizes: Sizes,
    vb: &VarBuilder<'_>,
) -> candle_core::Result<Option<ReportPrior>> {
    let asked = config.report_prior && config.tasks.contains(&Task::Beam);
    asked.then(|| ReportPrior::load(sizes.beams, sizes.instants, &vb.pp("prior"))).transpose()
}

/// Where the prompts come from.
#[derive(Clone, Copy)]
pub(super) enum Prompting<'a> {
    /// From the configuration's sentences, by its tokenizer.
    Tokenizer,
    /// From a stored network: the token ids of each task's prompt; their states are among its tensors.
    Stored(&'a BTreeMap<Task, Vec<u32>>),
}

/// The prompts of a built network, to be stored.
#[derive(Debug)]
pub(crate) struct StoredPrompts {
    /// Token ids per prompt.
    pub(super) ids: Vec<Vec<u32>>,
    /// What enters the first cross layer, `[P, T, hidden]`.
    pub(super) states: Tensor,
    /// Layers before the first cross layer.
    prefix: usize,
}

impl StoredPrompts {
    /// Whether a tensor of the network belongs to the backbone's embedding or to a layer that depends on prompts alone,
    /// its adapters included.
    pub(crate) fn is_prefix(&self, name: &str) -> bool {
        let own = name.strip_prefix("backbone.").or_else(|| name.strip_prefix("lora."));
        own.is_some_and(|name| is_before(name, self.prefix))
    }
}

/// The backbone that was chosen, with the prompts of `tasks` in their order.
fn backbone_of(
    choice: &BackboneChoice,
    tasks: &[Task],
    purpose: Purpose,
    prompting: Prompting<'_>,
    vb: &VarBuilder<'static>,
) -> Result<(Backbone, Prepared), BuildError> {
    let config = choice.config()?;
    let ids = match prompting {
        Prompting::Tokenizer => {
            let tokenizer = Tokenizer::load(&choice.tokenizer_file()?)?;
            let texts = tasks.iter().map(|task| choice.prompts.get(task).map_or("", String::as_str));
            texts.map(|text| tokenizer.encode(text, true)).collect::<Result<Vec<_>, _>>()?
        }
        Prompting::Stored(ids) => {
            tasks.iter().map(|task| ids.get(task).cloned().unwrap_or_default()).collect()
        }
    };
    let prompts = Prompts::new(&ids, config.embeddings)?;
    // A network that was trained is what it is.
    if matches!(prompting, Prompting::Tokenizer) {
        prompts.check_apart(&config)?;
    }
    let taps = match &choice.taps {
        Some(layers) => Taps::new(&config, layers.clone())?,
        None => Taps::spread(&config, Taps::DEFAULT),
    };
    // What is trained itself is kept in full: a step is often less than bf16 tells apart.
    let is_trained = purpose == Purpose::Training && choice.checkpoint.is_none() && choice.lora.is_none();
    let dtype = match choice.precision {
        Precision::Bf16 if !is_trained => DType::BF16,
        // What is built in f64, to check gradients, is so throughout.
        _ => vb.dtype(),
    };
    let adapters = choice.lora.clone().map(|lora| match purpose {
        Purpose::Inference => Adapters::merged(lora, vb.pp("lora")),
        Purpose::Training => Adapters::beside(lora, vb.pp("lora")),
    });
    let stored = matches!(prompting, Prompting::Stored(_));
    let load = |vb: &VarBuilder<'_>| {
        let held = if stored { Held::AfterPrefix } else { Held::ToLastTap };
        Backbone::load_part(&config, &taps, held, vb, adapters.as_ref()).map_err(typed)
    };
    let mut backbone = match &choice.checkpoint {
        Some(folder) => {
            let checkpoint = Checkpoint::open(folder)?;
            let backbone = load(&checkpoint.builder_spelled(dtype, vb.device(), &SPELLINGS))?;
            let behind = |name: &str| is_behind(name, taps.last(), config.layers);
            let before = |name: &str| stored && is_before(name, config.prefix());
            checkpoint.finish(|name| is_foreign(name) || behind(name) || before(name))?;
            backbone
        }
        None => load(&vb.pp("backbone").to_dtype(dtype))?,
    };
    if stored {
        let shape = (prompts.count(), prompts.longest(), config.hidden_size);
        let states = vb.get(shape, PROMPT_STATES).map_err(typed)?;
        let prepared = Prepared::from_states(&backbone, prompts, &states).map_err(typed)?;
        return Ok((backbone, prepared));
    }
    let prepared = backbone.prepare(&prompts).map_err(typed)?;
    if prepared.states().is_some() {
        backbone.forget_prefix();
    }
    Ok((backbone, prepared))
}

/// The number of the layer that a tensor of a backbone belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.split("layers.").nth(1)?.split('.').next()?.parse().ok()
}

/// Whether a tensor of a backbone stands behind the last tap: nothing of it is used.
fn is_behind(name: &str, last: usize, layers: usize) -> bool {
    last + 1 < layers
        && match layer_of(name) {
            Some(layer) => layer > last,
            None => name.ends_with("norm.weight"),
        }
}

/// Whether a tensor of a backbone stands before the first cross layer: prompts' states take its place.
fn is_before(name: &str, prefix: usize) -> bool {
    layer_of(name).map_or_else(|| name.ends_with("embed_tokens.weight"), |layer| layer < prefix)
}

/// A checkpoint's error in its own type, where it is one.
fn typed(error: candle_core::Error) -> BuildError {
    match CheckpointError::take(error) {
        Ok(error) => BuildError::Checkpoint(error),
        Err(error) => BuildError::Candle(error),
    }
}

impl BackboneChoice {
    /// The size of the backbone.
    ///
    /// # Errors
    /// [`BuildError`] when the checkpoint's `config.json` is missing or wrong.
    pub fn config(&self) -> Result<BackboneConfig, BuildError> {
        let Some(folder) = &self.checkpoint else { return self.size.clone().ok_or(BuildError::NoBackbone) };
        let file = folder.join("config.json");
        let found = BackboneConfig::load(&file)?;
        match &self.size {
            Some(stated) if *stated != found => {
                Err(BuildError::Size { file, found: Box::new(found), stated: Box::new(stated.clone()) })
            }
            _ => Ok(found),
        }
    }

    fn tokenizer_file(&self) -> Result<PathBuf, BuildError> {
        let beside = || self.checkpoint.as_deref().map(|folder: &Path| folder.join("tokenizer.json"));
        self.tokenizer.clone().or_else(beside).ok_or(BuildError::NoTokenizer)
    }
}
