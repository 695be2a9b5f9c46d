//! A network as a file: what a unit runs.
//!
//! One safetensors file holds the weights in f16 and, in its header, everything else that a unit has to know: the
//! network's configuration, what it was built to fit ([`Fit`]), and the token ids of its prompts. Of a backbone with
//! weights of its own it holds the prompts' states and the layers behind them, so that neither tokenizer nor vocabulary
//! is needed; of one from a checkpoint it holds the adapters, and the checkpoint stays where it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::build::{BuildError, Prompting, Purpose};
use super::checkpoint::{self, Checkpoint, CheckpointError};
use super::parameters::Parameters;
use super::tasks::{Sizes, Task};
use super::{Input, Network, NetworkConfig};
use crate::config::Codebook;

/// Where the header keeps what is no tensor.
const KEY: &str = "mmsense";
/// Where the prompts' states are.
pub(super) const PROMPT_STATES: &str = "prompts.states";

/// How scores are made believable: score / temperature + shift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// What they are divided by, above 0.
    pub temperature: f64,
    /// What is added then.
    #[serde(default)]
    pub shift: f64,
    /// What those of beams at later instants are divided by, instant by instant; where there are none, as the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<f64>,
}

impl Scaling {
    /// A score before it was scaled.
    #[must_use]
    pub fn undo(&self, score: f64) -> f64 {
        (score - self.shift) * self.temperature
    }

    /// What scores of an instant are divided by.
    #[must_use]
    pub fn temperature_at(&self, instant: usize) -> f64 {
        let later = instant.checked_sub(1).and_then(|later| self.later.get(later));
        later.copied().unwrap_or(self.temperature)
    }
}

/// What a network was built to fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Its sizes.
    pub sizes: Sizes,
    /// The codebook whose beams are its classes.
    pub codebook: Codebook,
    /// Its blockage horizons, ms.
    pub horizons_ms: Vec<u32>,
    /// Instants for which it chooses a beam, ms after the frame's; the first is 0.
    #[serde(default = "now")]
    pub instants_ms: Vec<u32>,
    /// Time between the slots of its window, ms.
    pub stride_ms: f64,
    /// Inputs that it never saw: a unit does not show them to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Input>,
    /// How its scores were made believable on validation: the weights of the last layers have it in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scaling: BTreeMap<Task, Scaling>,
    /// False when its weights were never fitted to data.
    pub trained: bool,
}

fn now() -> Vec<u32> {
    vec![0]
}

/// What a network in a file does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Another window.
    #[error(
        "align: found {found_slots} slots of {found_ms} ms, the network was built for {slots} of {stride_ms} ms"
    )]
    Window {
        /// Slots of the pipeline.
        found_slots: usize,
        /// Stride of the pipeline, ms.
        found_ms: f64,
        /// Slots of the network.
        slots: usize,
        /// Stride of the network, ms.
        stride_ms: f64,
    },
    /// Other horizons.
    #[error("decide.horizons_ms: found {found:?}, the network was built for {built:?}")]
    Horizons {
        /// Those of the pipeline.
        found: Vec<u32>,
        /// Those of the network.
        built: Vec<u32>,
    },
    /// Another codebook: its classes are not the unit's beams.
    #[error(
        "codebook: found {found}, the network's beams are those of {built}: it cannot be asked for `beam`, only for other tasks"
    )]
    Codebook {
        /// That of the pipeline.
        found: String,
        /// That of the network.
        built: String,
    },
}

impl Fit {
    /// Checks that the network fits a unit of this window, these horizons and this codebook.
    ///
    /// # Errors
    /// [`FitError`] with the first thing that does not fit: a codebook only where `beam` is asked for, horizons only
    /// where `blockage` is.
    pub fn check(
        &self,
        tasks: &[Task],
        window: (usize, f64),
        horizons_ms: &[u32],
        codebook: &Codebook,
    ) -> Result<(), FitError> {
        let (found_slots, found_ms) = window;
        if found_slots != self.sizes.slots || found_ms != self.stride_ms {
            let (slots, stride_ms) = (self.sizes.slots, self.stride_ms);
            return Err(FitError::Window { found_slots, found_ms, slots, stride_ms });
        }
        if tasks.contains(&Task::Blockage) && horizons_ms != self.horizons_ms {
            let (found, built) = (horizons_ms.to_vec(), self.horizons_ms.clone());
            return Err(FitError::Horizons { found, built });
        }
        if tasks.contains(&Task::Beam) && *codebook != self.codebook {
            let (found, built) = (told(codebook), told(&self.codebook));
            return Err(FitError::Codebook { found, built });
        }
        Ok(())
    }
}

/// A codebook in a few words.
#[must_use]
pub fn told(codebook: &Codebook) -> String {
    let beams = codebook.beams.map_or_else(|| "unknown".to_owned(), |beams| beams.to_string());
    let circular = if codebook.circular { ", circular" } else { "" };
    let peaks = match &codebook.peaks_deg {
        Some(peaks) => {
            let sum: f64 = peaks.iter().map(|peak| peak.abs()).sum();
            format!(", {} peak angles (mean |angle| {:.2}°)", peaks.len(), sum / peaks.len().max(1) as f64)
        }
        None => String::new(),
    };
    format!("`{}` ({beams} beams{circular}{peaks})", codebook.id)
}

/// Everything of the file that is no tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    network: NetworkConfig,
    fit: Fit,
    /// Token ids of each task's prompt.
    prompts: BTreeMap<Task, Vec<u32>>,
}

/// A file that holds no network, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Its tensors.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its header says nothing of a network, or what cannot be.
    #[error("{}: {reason}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What was found and what is allowed.
        reason: String,
    },
    /// The network cannot be built.
    #[error("{}: {source}", file.display())]
    Build {
        /// The file.
        file: PathBuf,
        /// Why.
        source: BuildError,
    },
}

/// Writes the network of the weights of `source` as a file.
///
/// # Errors
/// [`DeployError`] when the network cannot be built or the file not be written.
pub fn save(
    path: &Path,
    config: &NetworkConfig,
    fit: &Fit,
    source: &VarBuilder<'static>,
) -> Result<(), DeployError> {
    let build = |source| DeployError::Build { file: path.to_owned(), source };
    let (watched, parameters) = Parameters::watch(source.clone(), |_| false);
    let network = Network::build(config, fit.sizes, Purpose::Inference, &watched).map_err(build)?;
    let mut tensors: BTreeMap<String, Tensor> = parameters.all().into_iter().collect();
    let mut prompts = BTreeMap::new();
    if let Some(stored) = network.prompts() {
        prompts = config.tasks.iter().copied().zip(stored.ids.clone()).collect();
        tensors.retain(|name, _| !stored.is_prefix(name));
        tensors.insert(PROMPT_STATES.to_owned(), stored.states.clone());
    }
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F16).map_err(|error| build(error.into()))?;
    }
    let mut network = config.clone();
    if let Some(backbone) = &mut network.backbone {
        // Neither is read again: of the tokenizer its name alone, whatever folder it stood in here.
        backbone.tokenizer = backbone.tokenizer.take().and_then(|file| Some(file.file_name()?.into()));
        backbone.adapter = None;
    }
    let header = Header { network, fit: fit.clone(), prompts };
    let header = serde_json::to_string(&header)
        .map_err(|error| DeployError::Header { file: path.to_owned(), reason: error.to_string() })?;
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    checkpoint::save(path, named, &BTreeMap::from([(KEY.to_owned(), header)]))?;
    Ok(())
}

/// Numbers that the file of a network holds.
///
/// # Errors
/// [`DeployError`] when it is no safetensors file.
pub fn parameters(path: &Path) -> Result<usize, DeployError> {
    let checkpoint = Checkpoint::open(path)?;
    Ok(checkpoint.tensors().map(|(_, shape, _)| shape.iter().product::<usize>()).sum())
}

/// The header of a network's file.
fn header(checkpoint: &Checkpoint, path: &Path) -> Result<Header, DeployError> {
    let wrong = |reason: String| DeployError::Header { file: path.to_owned(), reason };
    let header = checkpoint.metadata().remove(KEY);
    let header = header.ok_or_else(|| wrong(format!("its header has no `{KEY}`: not a network's file")))?;
    let header: Header =
        serde_json::from_str(&header).map_err(|error| wrong(format!("header `{KEY}`: {error}")))?;
    let Header { network, fit, .. } = &header;
    if let Some((key, problem)) = network.problems().into_iter().next() {
        return Err(wrong(format!("network.{key}: {problem}")));
    }
    let is_wrong = |scaling: &Scaling| {
        let mut temperatures = std::iter::once(&scaling.temperature).chain(&scaling.later);
        !(temperatures.all(|one| *one > 0.0 && one.is_finite()) && scaling.shift.is_finite())
    };
    if let Some((task, scaling)) = fit.scaling.iter().find(|(_, scaling)| is_wrong(scaling)) {
        let Scaling { temperature, shift, later } = scaling;
        return Err(wrong(format!(
            "fit.scaling.{task}: found temperatures {temperature}, {later:?} and shift {shift}, allowed are finite numbers, temperatures above 0"
        )));
    }
    Ok(header)
}

/// What the network in a file is, and what it fits, without its weights.
///
/// # Errors
/// [`DeployError`] when the file is not one of a network.
pub fn describe(path: &Path) -> Result<(NetworkConfig, Fit), DeployError> {
    let Header { network, fit, .. } = header(&Checkpoint::open(path)?, path)?;
    Ok((network, fit))
}

/// Reads a network from a file.
///
/// # Errors
/// [`DeployError`] when the file is not one of a network, or a tensor is missing, of another shape, or of no use.
pub fn load(path: &Path, device: &Device) -> Result<(Network, Fit), DeployError> {
    let checkpoint = Checkpoint::open(path)?;
    let Header { network, fit, prompts } = header(&checkpoint, path)?;
    let prompting = Prompting::Stored(&prompts);
    let vb = checkpoint.builder(DType::F32, device);
    let network =
        Network::build_with(&network, fit.sizes, Purpose::Inference, prompting, &vb).map_err(|source| {
            match source {
                // It names the file itself.
                BuildError::Checkpoint(error) => DeployError::Checkpoint(error),
                source => DeployError::Build { file: path.to_owned(), source },
            }
        })?;
    checkpoint.finish(|_| false)?;
    Ok((network, fit))
}
