//! Building a network from its configuration: the only place of the model that reads files.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

use super::backbone::{
    Backbone, BackboneConfig, BackboneConfigError, Held, Prepared, Prompts, PromptsError, SPELLINGS, Taps,
    TapsError, is_foreign,
};
use super::checkpoint::{Checkpoint, CheckpointError};
use super::config::{BackboneChoice, CoreConfig, NetworkConfig, Precision};
use super::encoders::Encoders;
use super::lora::Adapters;
use super::mmsense::{HiddenShape, Mmsense};
use super::seeded::fresh_weights;
use super::tasks::{Core, Sizes, Task, TokenShape};
use super::tokenizer::{Tokenizer, TokenizerError};
use super::{MODALITIES, Network};

/// A network that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration of its backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneConfigError),
    /// The weights of its backbone.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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
        Self::Candle(error)
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
        Self::build(config, sizes, Purpose::Inference, &fresh_weights(config.seed, device))
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
        let encoders = Encoders::load(config, vb)?;
        let backbone = config.backbone.as_ref().filter(|_| config.core.has_backbone());
        let backbone = backbone.map(|choice| backbone_of(choice, &config.tasks, purpose, vb)).transpose()?;
        let hidden = backbone.as_ref().map(|(backbone, _)| HiddenShape {
            taps: backbone.tapped().layers().len(),
            width: backbone.config().hidden_size,
        });
        let core: Box<dyn Core> = match (core_of(config, sizes, hidden, vb)?, backbone) {
            (AnyCore::Mmsense(core), Some((backbone, prepared))) => {
                Box::new(core.with_backbone(backbone, prepared))
            }
            (AnyCore::Mmsense(core), None) => Box::new(core),
        };
        Ok(Self { config: config.clone(), sizes, device: vb.device().clone(), encoders, core })
    }
}

/// A core of any kind, an MMSense one still without its backbone.
pub(super) enum AnyCore {
    /// The paper's.
    Mmsense(Mmsense),
}

/// The core of a configuration, for the hidden states of its backbone.
pub(super) fn core_of(
    config: &NetworkConfig,
    sizes: Sizes,
    hidden: Option<HiddenShape>,
    vb: &VarBuilder<'_>,
) -> candle_core::Result<AnyCore> {
    let (slots, width, tokens) = (sizes.slots, config.width, config.tokens());
    let shape = TokenShape { slots, modalities: MODALITIES, tokens, width };
    let tasks: Vec<(Task, usize)> = config.tasks.iter().map(|&task| (task, sizes.outputs(task))).collect();
    match &config.core {
        CoreConfig::Mmsense(core) => Mmsense::load(core, shape, &tasks, hidden, vb).map(AnyCore::Mmsense),
    }
}

/// The backbone that was chosen, with the prompts of `tasks` in their order.
fn backbone_of(
    choice: &BackboneChoice,
    tasks: &[Task],
    purpose: Purpose,
    vb: &VarBuilder<'static>,
) -> Result<(Backbone, Prepared), BuildError> {
    let config = choice.config()?;
    let tokenizer = Tokenizer::load(&choice.tokenizer_file()?)?;
    let texts = tasks.iter().map(|task| choice.prompts.get(task).map_or("", String::as_str));
    let ids = texts.map(|text| tokenizer.encode(text, true)).collect::<Result<Vec<_>, _>>()?;
    let prompts = Prompts::new(&ids, config.embeddings)?;
    let taps = match &choice.taps {
        Some(layers) => Taps::new(&config, layers.clone())?,
        None => Taps::spread(&config, Taps::DEFAULT),
    };
    let dtype = match choice.precision {
        // What is built in f64, to check gradients, is so throughout.
        Precision::F32 => vb.dtype(),
        Precision::Bf16 => DType::BF16,
    };
    let adapters = choice.lora.clone().map(|lora| match purpose {
        Purpose::Inference => Adapters::merged(lora, vb.pp("lora")),
        Purpose::Training => Adapters::beside(lora, vb.pp("lora")),
    });
    let load = |vb: &VarBuilder<'_>| {
        Backbone::load_part(&config, &taps, Held::ToLastTap, vb, adapters.as_ref())
    };
    let backbone = match &choice.checkpoint {
        Some(folder) => {
            let checkpoint = Checkpoint::open(folder)?;
            let backbone = load(&checkpoint.builder_spelled(dtype, vb.device(), &SPELLINGS));
            let backbone = backbone.map_err(typed)?;
            checkpoint.finish(|name| is_foreign(name))?;
            backbone
        }
        None => load(&vb.pp("backbone").to_dtype(dtype))?,
    };
    let prepared = backbone.prepare(&prompts)?;
    Ok((backbone, prepared))
}

/// A checkpoint's error in its own type.
fn typed(error: candle_core::Error) -> BuildError {
    BuildError::Candle(error)
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
