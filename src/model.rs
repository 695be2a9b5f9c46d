//! The network: MMSense of arXiv 2511.12305, and its baselines.
//!
//! ```text
//!  image ──▶ ResNet ─────────────┐ z_m          f_m = w_m z_m
//!  radar ──▶ Point Transformer ──┤ [n_f, d] ──▶ gate ──▶ cross-modal ──▶ backbone ──▶ task-specific ──▶ head, for each
//!  LiDAR ──▶ Point Transformer ──┤ per sample            attention       ▲  taps      attention         of four tasks
//!  link  ──▶ report encoder ─────┤                                     prompts          (beams: + prior of reports)
//!  position ──▶ vector encoder ──┘
//! ```
//!
//! Each sample is encoded once, to n_f tokens of width d ([`Encoded`]), which its owner keeps; [`Network::forward`] takes
//! the tokens of a window for every row and gives scores. [`encoders`]: [`resnet`], [`point_transformer`], [`ue`]
//! (Eq. 7). Behind them stands a [`tasks::Core`]: [`mmsense`], made of [`gate`] (Eq. 8), [`fusion`] (Eq. 9–11),
//! [`backbone`] with [`lora`], [`task_attention`] (Eq. 12–13) and [`heads`]; or one of its baselines.
//!
//! Nothing here knows frames: tensors in, tensors out. Files are read by [`build`] alone.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

pub mod alone;
pub mod attention;
pub mod backbone;
pub mod baselines;
pub mod build;
pub mod checkpoint;
pub mod config;
pub mod deployed;
pub mod describe;
mod dropout;
pub mod encoders;
pub mod fusion;
pub mod gate;
pub mod grid;
pub mod heads;
pub mod input;
pub mod layers;
pub mod lora;
pub mod mmsense;
pub mod neighbours;
pub mod ops;
pub mod parameters;
pub mod point_transformer;
pub mod prior;
pub mod resnet;
pub mod seeded;
pub(crate) mod simd;
pub mod task_attention;
pub mod tasks;
pub mod tokenizer;
pub mod ue;

pub use build::{BuildError, Purpose};
pub use config::NetworkConfig;
pub use tasks::{Sizes, Task};

use crate::sample::Modality;
use build::StoredPrompts;
use encoders::Encoders;
use fusion::Tokens;
use input::InputError;
use layers::{Mode, check_finite};
use prior::ReportPrior;
use tasks::{Asked, Core, Said};

/// Modalities that the network takes, in the order of its tokens: camera, radar, LiDAR, link, position.
pub const MODALITIES: usize = 5;
/// Numbers that describe a radar point: x, y, z in units of 50 m; Doppler in units of 10 m/s; power in units of 100 dB;
/// whether there is Doppler; whether it stands.
pub const RADAR_FEATURES: usize = 7;
/// Numbers that describe a LiDAR point: x, y, z in units of 50 m.
pub const LIDAR_FEATURES: usize = 3;

/// The tokens of one sample.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[n_f, d]`, normalised.
    pub tokens: Tensor,
    /// The first so many of them stand for something; the rest are zero.
    pub valid: usize,
}

/// A cloud as the network takes it, thinned to the encoder's first level ([`encoders::thin`]).
#[derive(Clone, Debug, Default)]
pub struct Cloud {
    /// Unit frame, metres.
    pub positions: Vec<[f32; 3]>,
    /// [`RADAR_FEATURES`] or [`LIDAR_FEATURES`] numbers per point.
    pub features: Vec<f32>,
}

/// A kind of input, as a place among the [`MODALITIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Camera image.
    Camera,
    /// Radar points.
    Radar,
    /// LiDAR points.
    Lidar,
    /// Beam-power reports.
    Link,
    /// Position.
    Position,
}

impl Input {
    /// All of them, in the order of the network's tokens.
    pub const ALL: [Self; MODALITIES] = [Self::Camera, Self::Radar, Self::Lidar, Self::Link, Self::Position];

    /// What its samples are.
    #[must_use]
    pub const fn modality(self) -> Modality {
        match self {
            Self::Camera => Modality::Camera,
            Self::Radar => Modality::Radar,
            Self::Lidar => Modality::Lidar,
            Self::Link => Modality::Link,
            Self::Position => Modality::Position,
        }
    }

    /// Its name in configurations and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.modality().name()
    }

    /// Its place.
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }
}

/// What the network says of a batch, on the host.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Per task, numbers for each row asked, in order: see [`tasks::Said`].
    pub tasks: BTreeMap<Task, Vec<Vec<f32>>>,
    /// Gate weights of the present slot `[R][D]`; empty without a gate.
    pub gate: Vec<Vec<f32>>,
}

/// The network on a device.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    sizes: Sizes,
    device: Device,
    encoders: Encoders,
    core: Box<dyn Core>,
    /// What of beams is said by reports alone.
    prior: Option<ReportPrior>,
    /// Of its backbone, where they were prepared once and for all.
    prompts: Option<StoredPrompts>,
}

impl Network {
    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// What it was built to fit.
    #[must_use]
    pub const fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Where it runs.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Its encoders.
    #[must_use]
    pub const fn encoders(&self) -> &Encoders {
        &self.encoders
    }

    pub(crate) const fn prompts(&self) -> Option<&StoredPrompts> {
        self.prompts.as_ref()
    }

    /// What stands behind them.
    #[must_use]
    pub fn core(&self) -> &dyn Core {
        self.core.as_ref()
    }

    /// The same encoders, with another core behind them.
    #[must_use]
    pub fn with_core(self, core: Box<dyn Core>) -> Self {
        Self { core, ..self }
    }

    /// One pass over a batch of rows: what its core says, and its reports.
    ///
    /// # Errors
    /// [`Core::forward`]'s.
    pub fn scores(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said> {
        let mut said = self.core.forward(tokens, asked, mode)?;
        let rows = asked.get(&Task::Beam).filter(|rows| !rows.is_empty());
        if let (Some(prior), Some(reports), Some(rows)) = (&self.prior, &tokens.reports, rows)
            && let Some(scores) = said.tasks.get_mut(&Task::Beam)
        {
            let rows = Tensor::new(rows.as_slice(), reports.device())?;
            *scores = (&*scores + prior.forward(&reports.contiguous()?.index_select(&rows, 0)?)?)?;
        }
        Ok(said)
    }

    /// One forward pass over all rows, to the host.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape, when a row or a task is asked for that is not there, and
    /// around an [`InputError`] when a row has no token that counts, or a number is not finite.
    pub fn forward(&self, tokens: &Tokens, asked: &Asked) -> Result<Output> {
        let (rows, slots, ..) = tokens.values.dims5()?;
        let seen: Vec<f32> = tokens.mask.flatten_from(1)?.max(1)?.to_vec1()?;
        if let Some(blind) = seen.iter().position(|&seen| seen == 0.0) {
            return Err(InputError::Blind { row: blind, rows }.into());
        }
        check_finite(&tokens.values, "tokens")?;
        let said = self.scores(tokens, asked, Mode::Infer)?;
        let tasks = said.tasks.into_iter().map(|(task, scores)| Ok((task, scores.to_vec2()?)));
        let gate = said.gate.map(|gate| gate.narrow(1, slots - 1, 1)?.squeeze(1)?.to_vec2());
        Ok(Output { tasks: tasks.collect::<Result<_>>()?, gate: gate.transpose()?.unwrap_or_default() })
    }
}
